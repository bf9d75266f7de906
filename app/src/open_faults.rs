//! What verifications found of copies, and no later one has found gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use mill_model::Timestamp;
use mill_ports::Engine;
use mill_records::run_log::{RunHead, RunId, VerifiedScope};

use crate::counted::counted;
use crate::result_code::ResultCode;
use crate::run_record::log_of;
use crate::status_report::VerificationStatus;
use crate::subject_names::SubjectNames;

/// The verifications of an installation or a mirror that came to an end, the last one first, and what runs mended since.
#[derive(Clone)]
pub(crate) struct Verifications {
    all: Vec<(RunId, RunHead, VerifiedScope)>,
    /// When the last run began that left all copies in sync.
    in_sync_since: Option<u64>,
}

impl Verifications {
    /// Reads them.
    ///
    /// # Errors
    /// The table of the runs cannot be read.
    pub(crate) async fn read(engine: &Arc<dyn Engine>) -> Result<Self> {
        let runs = log_of(engine).list().await?;
        let ended_within = |head: &RunHead, worst: ResultCode| head.exit_code.is_some_and(|code| code <= worst.code());
        let is_in_sync = |head: &RunHead| head.verified.is_none() && ended_within(head, ResultCode::Warnings);
        let in_sync_since = runs.iter().find(|(_, head)| is_in_sync(head)).map(|(_, head)| head.began);
        let over = runs.into_iter().filter(|(_, head)| ended_within(head, ResultCode::Partial));
        let all = over.filter_map(|(id, head)| Some((id, head.clone(), head.verified?))).collect();
        Ok(Self { all, in_sync_since })
    }

    /// The same once a run that began now leaves all copies in sync.
    #[must_use]
    pub(crate) fn after_run(self, began: u64) -> Self {
        Self { in_sync_since: Some(began), ..self }
    }

    /// The verification of a copy that counts: the last one, but one that read a part of the items clears no earlier finding.
    pub(crate) fn of_copy(&self, copy: &str) -> Option<VerificationStatus> {
        let of_copy = || self.all.iter().filter(|(.., scope)| covers(scope, copy));
        let faults = |(_, head, scope): &(RunId, RunHead, VerifiedScope)| {
            let found = |counts: &BTreeMap<String, u64>| counts.get(copy).copied().unwrap_or(0);
            let ended = head.ended.unwrap_or(head.began);
            let mended =
                self.in_sync_since.filter(|began| *began >= ended).map_or(0, |_| found(&scope.mended_by_a_run));
            found(&scope.damaged).saturating_sub(mended)
        };
        let decides =
            |verification: &&(RunId, RunHead, VerifiedScope)| faults(verification) > 0 || verification.2.sample == 100;
        let counts = of_copy().find(decides).or_else(|| of_copy().next())?;
        let (id, head, scope) = counts;
        let ended = Timestamp::from_millis(head.ended.unwrap_or(head.began)).to_string();
        Some(VerificationStatus { run: id.as_str().to_owned(), ended, sample: scope.sample, faults: faults(counts) })
    }

    /// A remark for each copy with faults that nothing has mended, and that no later verification has found gone.
    pub(crate) fn remarks(&self, names: &SubjectNames) -> Vec<String> {
        let copies: BTreeSet<&String> = self.all.iter().flat_map(|(.., scope)| scope.damaged.keys()).collect();
        let remark = |copy: &String| {
            let VerificationStatus { run, ended, faults, .. } = self.of_copy(copy).filter(|found| found.faults > 0)?;
            let (found, of) = (counted(faults, "fault"), if copy.is_empty() { "this copy" } else { copy });
            let option = names.mirror_option();
            Some(format!(
                "the verification of {ended} found {found} in {of}, and no later one has found them gone: `mill runs show \
                 {run}{option}` names them; no run mends these: set them right, and verify again"
            ))
        };
        copies.into_iter().filter_map(remark).collect()
    }
}

/// Whether a verification was about a copy, which is named `account/space (…)`. The copy of a mirror has no name.
fn covers(VerifiedScope { account, space, .. }: &VerifiedScope, copy: &str) -> bool {
    let within = match (account, space) {
        (None, _) => return true,
        (Some(account), None) => format!("{account}/"),
        (Some(account), Some(space)) => format!("{account}/{space} ("),
    };
    copy.starts_with(&within)
}
