//! Verification: reads copies again and compares them with their sources.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use mill_local::folder::Layout;
use mill_local::{OsClock, OsRng};
use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use mill_policy::AccountPolicy;
use mill_ports::{LeftOutEntries, SourceStore, SpaceList, error_chain};
use mill_processors::verify::{Verification, VerificationReport};
use mill_producer::LeftOutEntry;
use serde::Serialize;

use crate::installation::Installation;
use crate::mirror::{self, MirrorRequest};
use crate::result_code::ResultCode;
use crate::store_registry::open_plain;
use crate::subject_names::SubjectNames;
use crate::wait_limit::WaitLimit;

/// Items read at once.
const AT_ONCE: usize = 16;

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Items of sources that were examined.
    pub examined: u64,
    /// Items that were read at both sides and are equal.
    pub equal: u64,
    /// Bytes read at destinations.
    pub bytes: u64,
    /// Items, spaces and accounts that are not as they should be.
    pub faults: u64,
    /// The equal items whose properties are not known.
    pub properties_unknown: u64,
    /// Entries that are not copied because of a rule, or because they are in no space.
    pub left_out: u64,
    /// Pairs of stores and spaces that were examined.
    pub pairs: u64,
}

impl VerifyReport {
    /// How the verification ended.
    pub fn result(&self) -> ResultCode {
        if self.faults > 0 {
            ResultCode::Partial
        } else if self.left_out + self.properties_unknown > 0 || self.pairs == 0 {
            ResultCode::Warnings
        } else {
            ResultCode::Done
        }
    }
}

/// A running verification. Each remark is a sentence about something that is wrong or not copied; it is reported at
/// once.
#[derive(Debug)]
pub struct Verifier<R> {
    /// Per cent of the items whose bytes are read; for the others only presence is checked.
    sample: u8,
    report: VerifyReport,
    remark: R,
}

impl<R: FnMut(String)> Verifier<R> {
    /// Begins a verification.
    pub fn new(sample: u8, remark: R) -> Self {
        Self { sample, report: VerifyReport::default(), remark }
    }

    /// Compares two folders, without an installation.
    ///
    /// # Errors
    /// When a folder cannot be used or listed.
    pub async fn folders(mut self, source: &Path, destination: &Path) -> Result<VerifyReport> {
        let space = SpaceId::new(SubjectNames::MIRROR_SPACE)?;
        let request = MirrorRequest {
            source: source.to_owned(),
            destination: destination.to_owned(),
            ..MirrorRequest::default()
        };
        // The mirror has stored the properties that the destination's file system cannot (such as permissions on
        // exFAT).
        let mirrored = mirror::destination_of(&request).await.unwrap_or_else(|error| {
            tracing::warn!("what a mirror of these folders wrote down cannot be used: {error:#}");
            None
        });
        let verification = Verification {
            source: open_folder("source", source, &space).await?,
            destination: match mirrored {
                Some(destination) => destination,
                None => open_folder("destination", destination, &space).await?,
            },
            space,
            sample: self.sample,
            concurrency: AT_ONCE.try_into()?,
        };
        let findings = verification.run(&OsRng).await?;
        self.report.pairs += 1;
        self.add("", &findings);
        Ok(self.report)
    }

    /// Compares all that policies have copied, or only one account or space if it is given.
    ///
    /// # Errors
    /// When policies or stores cannot be read, or the account named is none.
    pub async fn installation(
        mut self,
        installation: &Installation,
        only_account: Option<&AccountId>,
        only_space: Option<&SpaceId>,
    ) -> Result<VerifyReport> {
        let accounts = installation.policies.accounts().await?;
        if let Some(only) = only_account {
            anyhow::ensure!(accounts.iter().any(|(account, _)| account == only), "there is no account `{only}`");
        }
        for (account, policy) in accounts {
            if only_account.is_some_and(|only| *only != account) {
                continue;
            }
            match policy {
                Ok(policy) => self.account(installation, (&account, &policy), only_space).await?,
                Err(error) => self.failed(&account.to_string(), &error_chain(&error)),
            }
        }
        Ok(self.report)
    }

    async fn account(
        &mut self,
        installation: &Installation,
        (account, policy): (&AccountId, &AccountPolicy),
        only_space: Option<&SpaceId>,
    ) -> Result<()> {
        let defaults: BTreeSet<StoreId> = policy.default_sources().into_iter().cloned().collect();
        let sources: BTreeSet<StoreId> = policy.stores().iter().map(|store| store.id.clone()).collect();
        for source in sources {
            let store = installation.stores.source(account, &source).await?;
            let SpaceList { spaces, left_out } = match only_space {
                Some(space) => SpaceList { spaces: vec![space.clone()], left_out: LeftOutEntries::default() },
                None => store.list_spaces().await?,
            };
            if defaults.contains(&source) {
                self.left_out(account, &source, &left_out);
            }
            for space in spaces {
                let decision = policy.for_space(&space);
                if decision.rule.leaves_out() && defaults.contains(&source) {
                    let (account, store) = (account.clone(), Some(source.clone()));
                    let (shown, rule) = (space.to_string(), decision.rule.to_string());
                    self.leave_out(&LeftOutEntry { account, store, shown, is_space: true, rule });
                }
                for pair in decision.policies.iter().filter(|pair| pair.source == source) {
                    let name = format!("{account}/{space} (store {} → {})", pair.source, pair.destination);
                    let verification = Verification {
                        source: store.clone(),
                        destination: installation.stores.destination(account, &pair.destination).await?,
                        space: space.clone(),
                        sample: self.sample,
                        concurrency: AT_ONCE.try_into()?,
                    };
                    self.report.pairs += 1;
                    match verification.run(&*installation.engine.rng()).await {
                        Ok(findings) => self.add(&name, &findings),
                        Err(error) => self.failed(&name, &error_chain(&error)),
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, findings: &VerificationReport) {
        self.report.examined += findings.examined;
        self.report.equal += findings.equal;
        self.report.properties_unknown += findings.properties_unknown;
        self.report.bytes += findings.bytes;
        self.report.faults += findings.faults.len() as u64;
        for fault in &findings.faults {
            let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
            (self.remark)(format!("{name}{}: {}", fault.item, fault.what));
        }
    }

    fn left_out(&mut self, account: &AccountId, store: &StoreId, LeftOutEntries { first, count }: &LeftOutEntries) {
        for (shown, reason) in first {
            let (account, store, shown) = (account.clone(), Some(store.clone()), shown.clone());
            self.leave_out(&LeftOutEntry { account, store, shown, is_space: false, rule: reason.to_string() });
        }
        let more = count - first.len() as u64;
        if more > 0 {
            self.report.left_out += more;
            (self.remark)(format!(
                "not copied: {more} more entries of store {store} of account `{account}` that lie in no space"
            ));
        }
    }

    fn leave_out(&mut self, entry: &LeftOutEntry) {
        self.report.left_out += 1;
        (self.remark)(SubjectNames::left_out(entry));
    }

    fn failed(&mut self, name: &str, why: &str) {
        self.report.faults += 1;
        (self.remark)(format!("{name}: could not be verified: {why}"));
    }
}

async fn open_folder(name: &str, root: &Path, space: &SpaceId) -> Result<Arc<dyn SourceStore>> {
    let typed = root.to_owned();
    let look = move || std::fs::canonicalize(&typed).with_context(|| format!("`{}` cannot be used", typed.display()));
    let root = WaitLimit::endless().look(root, look).await?;
    let address = StoreAddress { account: AccountId::new("verify")?, store: StoreId::new(name)? };
    Ok(open_plain(Arc::new(OsClock), address, root, Layout::Single(space.clone())))
}
