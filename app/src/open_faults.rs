//! What verifications found of copies, and no later one has found gone.

use std::collections::BTreeSet;
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

/// The verifications of an installation or a mirror that came to an end, the last one first.
pub(crate) struct Verifications(Vec<(RunId, RunHead, VerifiedScope)>);

impl Verifications {
    /// Reads them.
    ///
    /// # Errors
    /// The table of the runs cannot be read.
    pub(crate) async fn read(engine: &Arc<dyn Engine>) -> Result<Self> {
        let is_over = |head: &RunHead| head.exit_code.is_some_and(|code| code <= ResultCode::Partial.code());
        let over = log_of(engine).list().await?.into_iter().filter(|(_, head)| is_over(head));
        Ok(Self(over.filter_map(|(id, head)| Some((id, head.clone(), head.verified?))).collect()))
    }

    /// The verification of a copy that counts: the last one, but one that read a part of the items clears no earlier finding.
    pub(crate) fn of_copy(&self, copy: &str) -> Option<VerificationStatus> {
        let of_copy = || self.0.iter().filter(|(.., scope)| covers(scope, copy));
        let faults = |scope: &VerifiedScope| scope.damaged.get(copy).copied().unwrap_or(0);
        let decides = |(.., scope): &&(RunId, RunHead, VerifiedScope)| faults(scope) > 0 || scope.sample == 100;
        let (id, head, scope) = of_copy().find(decides).or_else(|| of_copy().next())?;
        let ended = Timestamp::from_millis(head.ended.unwrap_or(head.began)).to_string();
        Some(VerificationStatus { run: id.as_str().to_owned(), ended, sample: scope.sample, faults: faults(scope) })
    }

    /// A remark for each copy with faults that no later verification has found gone.
    pub(crate) fn remarks(&self, names: &SubjectNames) -> Vec<String> {
        let copies: BTreeSet<&String> = self.0.iter().flat_map(|(.., scope)| scope.damaged.keys()).collect();
        let remark = |copy: &String| {
            let VerificationStatus { run, ended, faults, .. } = self.of_copy(copy).filter(|found| found.faults > 0)?;
            let (found, of) = (counted(faults, "fault"), if copy.is_empty() { "this copy" } else { copy });
            let option = names.mirror_option();
            Some(format!(
                "the verification of {ended} found {found} in {of}, and no later one has found them gone: `mill runs show \
                 {run}{option}` names them; verify again once they are set right"
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
