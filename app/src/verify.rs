//! Verification: reads copies again and compares them with their sources.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use anyhow::Result;
use mill_local::OsRng;
use mill_model::{AccountId, SpaceId, SpacePair, StoreId};
use mill_policy::{AccountPolicy, StoreKind};
use mill_ports::{Engine, LeftOutEntries, SpaceList, error_chain};
use mill_processors::verify::{CopyFault, Verification, VerificationReport, Witness};
use mill_producer::LeftOutEntry;
use mill_records::run_log::VerifiedScope;
use mill_records::sync_proofs::SyncProofs;
use mill_records::tables;
use serde::Serialize;

use crate::installation::Installation;
use crate::mirror::{MirrorRequest, OpenedEnds};
use crate::result_code::ResultCode;
use crate::run_events::RunEvents;
use crate::run_record::RunRecord;
use crate::subject_names::SubjectNames;

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
    /// Entries that can have no copy, such as links, and items that could not be compared, such as those in an archive.
    pub not_compared: u64,
    /// Items of which the copy alone is damaged. The next run compares them again.
    pub damaged_copies: u64,
    /// Items of which the source alone is damaged. No run copies their bytes.
    pub damaged_sources: u64,
    /// Items whose bytes differ, where it is not known whether a side is damaged.
    pub unknown_sides: u64,
    /// Pairs of stores and spaces that were examined.
    pub pairs: u64,
    /// What kinds of store they are in.
    #[serde(skip)]
    pub types: ComparedTypes,
}

/// The name of a copy in remarks and records.
pub(crate) fn copy_name(
    (account, space): (impl fmt::Display, impl fmt::Display),
    (source, destination): (impl fmt::Display, impl fmt::Display),
) -> String {
    format!("{account}/{space} (store {source} → {destination})")
}

/// The kinds of store that were compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ComparedTypes {
    /// One of them is in S3.
    pub s3: bool,
    /// One of them is a folder.
    pub folder: bool,
}

impl ComparedTypes {
    /// Both kinds together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { s3: self.s3 || other.s3, folder: self.folder || other.folder }
    }

    fn of(kind: &StoreKind) -> Self {
        let folder = kind.folder_root().is_some();
        Self { s3: !folder, folder }
    }

    /// What is not compared of any item, in words.
    pub fn not_compared(self) -> Option<String> {
        let of_objects = "the tags, storage classes, encryption, locks, access lists and earlier versions of objects";
        let of_files = "the owners, the access lists and other programs' attributes of files";
        let words: Vec<&str> =
            [(self.s3, of_objects), (self.folder, of_files)].into_iter().filter(|(is, _)| *is).map(|it| it.1).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

impl VerifyReport {
    /// How the verification ended.
    pub fn result(&self) -> ResultCode {
        if self.faults > 0 {
            ResultCode::Partial
        } else if self.left_out + self.properties_unknown + self.not_compared > 0 || self.pairs == 0 {
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
    names: SubjectNames,
    report: VerifyReport,
    remark: R,
    record: Option<RunRecord>,
    /// The first remarks, for the record.
    found: Vec<String>,
    /// What is compared, and how many faults each copy has.
    scope: VerifiedScope,
}

/// A verification that is over, before its record is written.
#[derive(Debug)]
pub struct Verified {
    /// What it found.
    pub report: VerifyReport,
    record: Option<RunRecord>,
    found: Vec<String>,
    scope: VerifiedScope,
}

impl Verified {
    /// Writes the record, for `mill runs` and `mill status`. Returns whether there is a state to keep it in: two ends that were
    /// never mirrored have none.
    pub async fn write_down(self, sentence: String) -> bool {
        let Self { report, record, found, scope } = self;
        let Some(record) = record else { return false };
        let VerifyReport { examined, equal, bytes, faults, properties_unknown, left_out, not_compared, .. } = report;
        let sums = [
            ("examined", examined),
            ("equal", equal),
            ("bytes", bytes),
            ("faults", faults),
            ("properties_unknown", properties_unknown),
            ("left_out", left_out),
            ("not_compared", not_compared),
        ];
        let sums = sums.into_iter().filter(|(_, count)| *count > 0);
        let sums = sums.map(|(name, count)| (name.to_owned(), count)).collect();
        record.end_verification((report.result(), sentence), sums, (found, scope)).await;
        true
    }
}

impl<R: FnMut(String)> Verifier<R> {
    /// How many remarks the record names at most.
    const FOUND_MAX: usize = 1_000;

    /// Begins a verification. `names` are the names of the stores in its remarks.
    pub fn new(sample: u8, names: SubjectNames, remark: R) -> Self {
        let (report, found) = (VerifyReport::default(), Vec::new());
        Self {
            sample,
            names,
            report,
            remark,
            record: None,
            found,
            scope: VerifiedScope { sample, ..VerifiedScope::default() },
        }
    }

    async fn begin_record(&mut self, engine: &Arc<dyn Engine>, (account, space): (Option<String>, Option<String>)) {
        self.scope = VerifiedScope { account, space, ..self.scope.clone() };
        let record = RunRecord::of_verification(engine, self.scope.clone());
        record.begin().await;
        self.record = Some(record);
    }

    /// The result, or the error with a record of it.
    async fn end(self, compared: Result<()>) -> Result<Verified> {
        let Self { names, report, record, found, scope, .. } = self;
        if let (Err(error), Some(record)) = (&compared, &record) {
            record.fail(error, &names, &RunEvents::default()).await;
        }
        compared.map(|()| Verified { report, record, found, scope })
    }

    /// Compares the two ends of a mirror: folders or parts of buckets, mirrored or not.
    ///
    /// # Errors
    /// When an end cannot be used or listed, or both are one place.
    pub async fn ends(mut self, request: &MirrorRequest) -> Result<Verified> {
        let ends = OpenedEnds::open(request).await?;
        if let Some(engine) = &ends.state {
            self.begin_record(engine, (None, None)).await;
        }
        let compared = self.compare_ends(ends).await;
        self.end(compared).await
    }

    async fn compare_ends(&mut self, ends: OpenedEnds) -> Result<()> {
        let proofs = ends.state.map(|engine| SyncProofs::new(engine.table(tables::SYNC_PROOFS)));
        let verification = Verification {
            source: ends.source.store,
            destination: ends.destination.store,
            space: ends.pair.space.clone(),
            sample: self.sample,
            concurrency: AT_ONCE.try_into()?,
            witness: proofs.map(|proofs| Witness { proofs, pair: ends.pair }),
        };
        let findings = verification.run(&OsRng).await?;
        self.report.types = ends.types;
        // Two ends with nothing in them are most often mistyped.
        self.report.pairs += u64::from(findings.examined > 0 || !findings.faults.is_empty());
        self.add("", &findings);
        Ok(())
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
    ) -> Result<Verified> {
        let of = |id: &str| id.to_owned();
        let scope = (only_account.map(|id| of(id.as_str())), only_space.map(|id| of(id.as_str())));
        self.begin_record(&installation.engine, scope).await;
        let compared = self.compare_accounts(installation, only_account, only_space).await;
        self.end(compared).await
    }

    async fn compare_accounts(
        &mut self,
        installation: &Installation,
        only_account: Option<&AccountId>,
        only_space: Option<&SpaceId>,
    ) -> Result<()> {
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
        Ok(())
    }

    /// Reports a remark, and keeps the first ones for the record.
    fn say(&mut self, remark: String) {
        if self.found.len() < Self::FOUND_MAX {
            self.found.push(remark.clone());
        }
        (self.remark)(remark);
    }

    async fn account(
        &mut self,
        installation: &Installation,
        (account, policy): (&AccountId, &AccountPolicy),
        only_space: Option<&SpaceId>,
    ) -> Result<()> {
        let defaults: BTreeSet<StoreId> = policy.default_sources().into_iter().cloned().collect();
        let sources: BTreeSet<StoreId> = policy.stores().iter().map(|store| store.id.clone()).collect();
        let types = policy.stores().iter().map(|store| ComparedTypes::of(&store.kind));
        self.report.types = types.fold(self.report.types, ComparedTypes::and);
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
                    let name = copy_name((account, &space), (&pair.source, &pair.destination));
                    let (account, space) = (account.clone(), space.clone());
                    let of_pair = SpacePair {
                        account,
                        source: pair.source.clone(),
                        destination: pair.destination.clone(),
                        space,
                    };
                    let verification = Verification {
                        witness: Some(Witness { proofs: installation.sync_proofs(), pair: of_pair.clone() }),
                        source: store.clone(),
                        destination: installation.stores.destination(&of_pair.account, &pair.destination).await?,
                        space: of_pair.space,
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
        self.report.damaged_copies += findings.damaged_copies;
        self.report.damaged_sources += findings.damaged_sources;
        self.report.unknown_sides += findings.unknown_sides;
        self.report.faults += findings.faults.len() as u64;
        self.report.not_compared += findings.not_compared.len() as u64;
        // What is only at the copy may be meant to stay there: no run says that it goes, unless it is asked to.
        let of_copy = findings.faults.iter().filter(|fault| fault.what != CopyFault::OnlyAtDestination).count();
        if of_copy > 0 {
            self.scope.damaged.insert(name.to_owned(), of_copy as u64);
            self.scope.mended_by_a_run.insert(name.to_owned(), findings.mended_by_a_run);
        }
        for fault in findings.faults.iter().chain(&findings.not_compared) {
            let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
            let what = self.names.text(&fault.what.to_string());
            self.say(format!("{name}{}: {what}", fault.item));
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
            self.say(format!(
                "not copied: {more} more entries of store {store} of account `{account}` that lie in no space"
            ));
        }
    }

    fn leave_out(&mut self, entry: &LeftOutEntry) {
        self.report.left_out += 1;
        self.say(SubjectNames::left_out(entry));
    }

    fn failed(&mut self, name: &str, why: &str) {
        self.report.faults += 1;
        *self.scope.damaged.entry(name.to_owned()).or_default() += 1;
        self.say(format!("{name}: could not be verified: {why}"));
    }
}
