//! `mill verify`: read copies again and compare them with their sources.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use mill_app::config::Config;
use mill_app::exit::Exit;
use mill_app::installation::Works;
use mill_app::mirror::{self, MirrorRequest};
use mill_app::names::Names;
use mill_app::patience::Patience;
use mill_app::store_registry::open_plain;
use mill_local::folder::Layout;
use mill_local::{OsClock, OsRng};
use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use mill_ports::{LeftOutEntries, SourceStore, SpaceList, error_chain};
use mill_processors::verify::{Verification, VerificationReport};
use mill_producer::LeftOutEntry;
use serde_json::json;

use crate::args::Verify;
use crate::output::{bytes, line};

/// Items read at once.
const AT_ONCE: usize = 16;

#[derive(Default)]
struct Sum {
    examined: u64,
    equal: u64,
    bytes: u64,
    faults: u64,
    /// Of the equal ones: those whose properties are not known.
    properties_unknown: u64,
    /// What is not copied because of a rule, or because it lies in no space.
    left_out: u64,
    /// Pairs of stores and spaces that were looked at.
    pairs: u64,
}

/// Runs it.
pub(super) async fn run(args: Verify, config: impl AsyncFn() -> Result<Config>) -> Result<Exit> {
    let began = Instant::now();
    let mut sum = Sum::default();
    if let [source, destination] = args.folders.as_slice() {
        let clock = Arc::new(OsClock);
        let space = SpaceId::new(Names::MIRROR_SPACE)?;
        let open = async |name: &str, root: &Path| -> Result<Arc<dyn SourceStore>> {
            let typed = root.to_owned();
            let look =
                move || std::fs::canonicalize(&typed).with_context(|| format!("`{}` cannot be used", typed.display()));
            let root = Patience::endless().look(root, look).await?;
            let address = StoreAddress { account: AccountId::new("verify")?, store: StoreId::new(name)? };
            let store: Arc<dyn SourceStore> = open_plain(clock.clone(), address, root, Layout::Single(space.clone()));
            Ok(store)
        };
        let request =
            MirrorRequest { source: source.clone(), destination: destination.clone(), ..MirrorRequest::default() };
        // What the destination's file system cannot keep, an exFAT disk the permissions, say, the mirror has written down.
        let mirrored = mirror::destination_of(&request).await.unwrap_or_else(|error| {
            tracing::warn!("what a mirror of these folders wrote down cannot be used: {error:#}");
            None
        });
        let verification = Verification {
            source: open("source", source).await?,
            destination: match mirrored {
                Some(destination) => destination,
                None => open("destination", destination).await?,
            },
            space: space.clone(),
            sample: args.sample,
            concurrency: AT_ONCE.try_into()?,
        };
        let findings = verification.run(&OsRng).await?;
        sum.pairs += 1;
        sum.add("", &findings);
    } else {
        configured(&args, &config().await?, &mut sum).await?;
    }
    let exit = if sum.faults > 0 {
        Exit::Partial
    } else if sum.left_out + sum.properties_unknown > 0 || sum.pairs == 0 {
        Exit::Warnings
    } else {
        Exit::Done
    };
    sum.print(&args, began.elapsed().as_secs_f64(), exit);
    Ok(exit)
}

async fn configured(args: &Verify, config: &Config, sum: &mut Sum) -> Result<()> {
    let works = Works::configured(config).await?;
    let only_account = args.account.as_deref().map(AccountId::new).transpose()?;
    let only_space = args.space.as_deref().map(SpaceId::new).transpose()?;
    let accounts = works.policies.accounts().await?;
    if let Some(only) = &only_account {
        anyhow::ensure!(accounts.iter().any(|(account, _)| account == only), "there is no account `{only}`");
    }
    for (account, policy) in accounts {
        if only_account.as_ref().is_some_and(|only| *only != account) {
            continue;
        }
        let policy = match policy {
            Ok(policy) => policy,
            Err(error) => {
                sum.failed(&account.to_string(), &error_chain(&error));
                continue;
            }
        };
        let defaults: BTreeSet<StoreId> = policy.default_sources().into_iter().cloned().collect();
        let sources: BTreeSet<StoreId> = policy.stores().iter().map(|store| store.id.clone()).collect();
        for source in sources {
            let store = works.stores.source(&account, &source).await?;
            let SpaceList { spaces, left_out } = match &only_space {
                Some(space) => SpaceList { spaces: vec![space.clone()], left_out: LeftOutEntries::default() },
                None => store.list_spaces().await?,
            };
            if defaults.contains(&source) {
                sum.left_out(&account, &source, &left_out);
            }
            for space in spaces {
                let rule = policy.for_space(&space).rule;
                if rule.leaves_out() && defaults.contains(&source) {
                    let (account, store) = (account.clone(), Some(source.clone()));
                    let (shown, rule) = (space.to_string(), rule.to_string());
                    sum.leave_out(&LeftOutEntry { account, store, shown, is_space: true, rule });
                }
                for pair in policy.for_space(&space).policies.iter().filter(|pair| pair.source == source) {
                    let name = format!("{account}/{space} (store {} → {})", pair.source, pair.destination);
                    let verification = Verification {
                        source: store.clone(),
                        destination: works.stores.destination(&account, &pair.destination).await?,
                        space: space.clone(),
                        sample: args.sample,
                        concurrency: AT_ONCE.try_into()?,
                    };
                    sum.pairs += 1;
                    match verification.run(&*works.engine.chance).await {
                        Ok(findings) => sum.add(&name, &findings),
                        Err(error) => sum.failed(&name, &error_chain(&error)),
                    }
                }
            }
        }
    }
    Ok(())
}

impl Sum {
    fn add(&mut self, name: &str, findings: &VerificationReport) {
        self.examined += findings.examined;
        self.equal += findings.equal;
        self.properties_unknown += findings.properties_unknown;
        self.bytes += findings.bytes;
        self.faults += findings.faults.len() as u64;
        for fault in &findings.faults {
            let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
            line(format!("! {name}{}: {}", fault.item, fault.what));
        }
    }

    fn left_out(&mut self, account: &AccountId, store: &StoreId, LeftOutEntries { first, count }: &LeftOutEntries) {
        for (shown, reason) in first {
            let (account, store, shown) = (account.clone(), Some(store.clone()), shown.clone());
            self.leave_out(&LeftOutEntry { account, store, shown, is_space: false, rule: reason.to_string() });
        }
        let more = count - first.len() as u64;
        if more > 0 {
            self.left_out += more;
            line(format!(
                "! not copied: {more} more entries of store {store} of account `{account}` that lie in no space"
            ));
        }
    }

    fn leave_out(&mut self, entry: &LeftOutEntry) {
        self.left_out += 1;
        line(format!("! {}", Names::left_out(entry)));
    }

    fn failed(&mut self, name: &str, why: &str) {
        self.faults += 1;
        line(format!("! {name}: could not be verified: {why}"));
    }

    fn print(&self, args: &Verify, seconds: f64, exit: Exit) {
        if args.json {
            line(
                json!({ "examined": self.examined, "equal": self.equal, "faults": self.faults, "bytes": self.bytes,
                    "left_out": self.left_out, "properties_unknown": self.properties_unknown,
                    "seconds": (seconds * 1000.0).round() / 1000.0, "exit_code": exit.code() })
                .to_string(),
            );
            return;
        }
        let how = match exit {
            Exit::Warnings if self.pairs == 0 => "There was nothing to verify",
            Exit::Warnings => "Every item looked at is as it should be, but for what is told here",
            Exit::Done => "Every item looked at is as it should be",
            _ => "Not all is as it should be",
        };
        line(format!(
            "{how}: {} examined, {} read and equal, {} faults; {} in {seconds:.1} s.",
            self.examined,
            self.equal,
            self.faults,
            bytes(self.bytes)
        ));
        if self.properties_unknown > 0 {
            line(format!(
                "Of {} the bytes are equal, and the mode and time are not known: the disk does not keep them, and what Mill \
                 wrote down is of another state of these files. The next mirror writes it down anew.",
                self.properties_unknown
            ));
        }
    }
}
