//! The conclusion of a run: its messages and its exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use mill_hooks::crash_point;
use mill_model::{Evidence, ItemOutcomes, RunTotals, SpacePair, SurveySum, Uncarried, WorkCounts};
use mill_processors::{ANOTHER_SOURCE, Refusal, RefusedDeed};
use mill_producer::{ClosingReport, DuplicationProducer, SessionEnd, SessionReport, SpaceFailureKind};
use mill_run::in_sync::{ClosingCheck, ProofNeeded, by_closing_survey};
use mill_run::{InSync, Remedy, RunReport};
use tokio_util::sync::CancellationToken;

use crate::closing_events;
use crate::counted::counted;
use crate::crash_points;
use crate::dead_letters;
use crate::installation::{Installation, SourceChange};
use crate::open_faults::Verifications;
use crate::result_code::ResultCode;
use crate::run_summary::RunSummary;
use crate::subject_names::SubjectNames;

/// What is needed to conclude a run.
#[derive(Debug)]
pub struct RunConclusion<'a> {
    /// The installation.
    pub installation: &'a Installation,
    /// The producer of the run.
    pub producer: &'a DuplicationProducer,
    /// The names of things in its remarks.
    pub names: &'a SubjectNames,
    /// Cancelled when the run is to stop.
    pub stop: CancellationToken,
    /// Whether a run that changed nothing has its own exit code.
    pub detailed: bool,
    /// How long to wait for a store that does not answer.
    pub give_up_after: Duration,
}

impl RunConclusion<'_> {
    /// Concludes a run: returns its exit code and its summary.
    ///
    /// # Errors
    /// The tables of the installation cannot be read.
    pub async fn of(self, ran: RunReport) -> Result<(ResultCode, RunSummary)> {
        crash_point(crash_points::CLI_CONCLUDING);
        let (partial, evidence, proof_needed) = (ran.is_partial(), ran.evidence(), ran.proof_needed());
        let (dry_run, sum_is_known) =
            (self.installation.dry_run, matches!(evidence, Evidence::Complete | Evidence::NotAll));
        let RunReport { totals, earlier, exact, took, produced, cut_short, for_stores, remedy } = ran;
        closing_events::note_findings(self.installation, &produced).await?;
        let mut remarks = self.of_survey(&produced);
        remarks.extend(self.installation.refusals.named().iter().map(|it| self.names.refused(it)));
        let of_entries = self.of_entries(&produced);
        remarks.extend(produced.findings.held.iter().map(|held| self.names.held(held, !dry_run)));
        // This includes the dead letters of a run that was killed before it could report them.
        if self.installation.drain_dead_letters().await? + totals.dead_lettered() > 0 {
            remarks.extend(dead_letters::open_remarks(self.installation, self.names).await?);
        }
        let source_absent =
            produced.spaces_failed.iter().any(|failed| failed.failure_kind == SpaceFailureKind::SourceAbsent);
        remarks.extend(cut_short.iter().map(|why| self.names.text(why)));
        remarks.extend(self.installation.misplaced.remarks());
        let verifications = Verifications::read(&self.installation.engine).await?;
        let of_another_source = self.of_another_source(&totals);
        let is_another_source = of_another_source.is_some();
        remarks.extend(of_another_source);
        // What is known to be otherwise than at the source, or could be there and is not, is not in sync by being named.
        let now = self.installation.engine.clock().now().as_millis();
        let began = now.saturating_sub(took.as_millis().try_into().unwrap_or(u64::MAX));
        let lasting = verifications.clone().after_run(began).remarks(self.names);
        let is_wrong = !lasting.is_empty() || self.installation.refusals.has_pending();
        let in_sync = match proof_needed {
            ProofNeeded::Nothing if dry_run && !totals.changed() => InSync::Sum,
            _ if dry_run => InSync::No,
            ProofNeeded::Nothing if is_wrong => InSync::No,
            ProofNeeded::Nothing => {
                self.note_in_sync().await;
                InSync::Sum
            }
            ProofNeeded::ClosingSurvey => {
                let found = self.closing_survey(&mut remarks).await?;
                if is_wrong { InSync::No } else { found }
            }
            ProofNeeded::AnotherRun => InSync::No,
        };
        remarks.extend(if in_sync == InSync::No && !dry_run { verifications.remarks(self.names) } else { lasting });
        if !dry_run && in_sync != InSync::No {
            dead_letters::settle(self.installation, took).await;
            self.remember_source(&produced, &totals).await;
        }
        if let Evidence::SumMismatch(why) = evidence {
            remarks.push(format!("the run's sum does not add up: {why}; run it again, and report this"));
        }
        remarks.extend(of_fates(&totals.sum.outcomes));
        remarks.extend(left_behind(totals.work));
        let hindered = (produced.failed() || for_stores) && !self.stop.is_cancelled();
        let exit = if source_absent && matches!(self.names, SubjectNames::Mirror { .. })
            || hindered && came_to_nothing(&totals, &earlier, exact)
        {
            ResultCode::Error
        } else if partial || is_wrong || in_sync == InSync::No && !(dry_run && sum_is_known) {
            ResultCode::Partial
        } else if is_another_source || is_warned(&totals, &produced, self.installation.refusals.count()) {
            ResultCode::Warnings
        } else if self.detailed && !totals.changed() {
            ResultCode::Unchanged
        } else {
            ResultCode::Done
        };
        let exit = self.installation.misplaced.exit(exit);
        let remedy = remedy.max(if is_wrong { Remedy::SetRight } else { of_parts(&totals, &produced) });
        let remarks = without_repetitions(remarks);
        let earlier = earlier.copied + earlier.updated;
        let only_in_copies = produced.findings.only_in_copies;
        let outcome =
            RunSummary { totals, earlier, took, remarks, of_entries, only_in_copies, ..RunSummary::default() };
        Ok((exit, RunSummary { dry_run, in_sync, at_least: !exact, remedy, ..outcome }))
    }

    /// The remark that another disk than before is at the source, if it has replaced items of the copy or would. Two disks may have
    /// items of the same names.
    fn of_another_source(&self, totals: &RunTotals) -> Option<String> {
        let SourceChange { change, accepted, .. } = self.installation.source_change.as_ref()?;
        let SubjectNames::Mirror { source, .. } = self.names else { return None };
        let is_kept = |refusal: &Refusal| refusal.reason == ANOTHER_SOURCE;
        let kept = self.installation.refusals.named().iter().filter(|refusal| is_kept(refusal)).count();
        let (updated, what) =
            (totals.sum.outcomes.updated, format!("the source `{source}` is not what it was: {change}"));
        if kept > 0 {
            let items = counted(kept as u64, "item");
            return Some(format!(
                "{what}. {items} in the copy have the names of others on it, and are kept; if this is the right disk, pass \
                 --accept-source once"
            ));
        }
        let verb = if self.installation.dry_run { "would replace" } else { "replaced" };
        (updated > 0 && *accepted)
            .then(|| format!("{what}; {} of it {verb} those of the same names in the copy", counted(updated, "item")))
    }

    /// Takes another disk at the source for the source from now on, if it has all that the copy has: nothing of it can be lost then.
    async fn remember_source(&self, produced: &SessionReport, totals: &RunTotals) {
        let Some(change) = &self.installation.source_change else { return };
        let has_all = produced.findings.only_in_copies + totals.work.deleted == 0 && produced.findings.held.is_empty();
        if has_all && let Err(error) = self.installation.places.remember_source(change).await {
            tracing::warn!("which disk is at the source could not be written down: {error:#}");
        }
    }

    /// The remarks about one entry each of which an event may tell, with the entry's name.
    fn of_entries(&self, produced: &SessionReport) -> BTreeMap<String, String> {
        let named = produced.findings.named_first.iter().map(|entry| (self.names.entry(entry), entry.shown.clone()));
        let refusals = self.installation.refusals.named();
        // What is copied in part has a line that does not say so.
        let refused = refusals.iter().filter(|refusal| refusal.deed != RefusedDeed::PartOfCopy);
        let refused = refused.map(|refusal| (self.names.refused(refusal), refusal.item().to_owned()));
        named.chain(refused).collect()
    }

    /// The remarks of a run's survey.
    fn of_survey(&self, produced: &SessionReport) -> Vec<String> {
        let mut remarks: Vec<String> = Vec::new();
        if produced.no_account() {
            remarks.push(
                "no account is configured: `duplication-accounts.json` in the folder of policies names none".into(),
            );
        }
        let idle = |(account, why): &(_, String)| format!("nothing to do for {}: {why}", self.names.account(account));
        remarks.extend(produced.accounts_idle.iter().map(idle));
        remarks.extend(produced.findings.named_first.iter().map(|entry| self.names.entry(entry)));
        let SurveySum { refused, hidden, ignored, .. } = produced.survey;
        let more = (refused + hidden + ignored).saturating_sub(produced.findings.named_first.len() as u64);
        if more > 0 {
            remarks.push(format!("not copied: {more} more entries of sources; `--log warn` names them all"));
        }
        remarks.extend(produced.findings.left_out.first.iter().map(SubjectNames::left_out));
        let more = produced.findings.left_out.count.saturating_sub(produced.findings.left_out.first.len() as u64);
        if more > 0 {
            remarks.push(format!("not copied: {more} more entries that lie in no space or that a rule leaves out"));
        }
        remarks.extend(produced.findings.sources_absent.iter().map(|absent| self.names.absent(absent)));
        for (account, why) in &produced.accounts_failed {
            remarks.push(format!("{} was passed over: {}", self.names.account(account), self.names.text(why)));
        }
        remarks.extend(produced.spaces_failed.iter().map(|failed| self.names.failed(failed)));
        remarks
    }

    /// For `mill status`, and for a mirror's dead letters, which are out of date then.
    async fn note_in_sync(&self) {
        let refused = self.refused_by_space();
        let of_pair = |pair: &SpacePair| refused.get(&format!("{}/{}", pair.account, pair.space)).copied().unwrap_or(0);
        if let Err(error) = self.producer.note_in_sync(&of_pair).await {
            tracing::warn!(error = mill_ports::error_chain(&error), "that all is in sync could not be written down");
        }
    }

    /// The number of refused items by account and space, the part of the subject before the item's id.
    fn refused_by_space(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for refused in self.installation.refusals.named().into_iter().filter(|refused| refused.deed.is_of_item()) {
            if let Some((end, _)) = refused.subject.match_indices('/').nth(1) {
                *counts.entry(refused.subject[..end].to_owned()).or_default() += 1;
            }
        }
        counts
    }

    async fn closing_survey(&self, remarks: &mut Vec<String>) -> Result<InSync> {
        let refusals = &self.installation.refusals;
        let is_refused = |pair: &SpacePair, id: &mill_model::ContentId| {
            let item = mill_model::ItemAddress { space: pair.space.clone(), id: id.clone() };
            refusals.contains(&format!("{}/{item}", pair.account))
        };
        let check = ClosingCheck {
            producer: self.producer,
            statistics: &self.installation.statistics,
            clock: &*self.installation.engine.clock(),
            stop: &self.stop,
            give_up_after: self.give_up_after,
        };
        let closing = match check.survey(&is_refused).await {
            Ok(closing) => closing?,
            Err(silent) => {
                let why = self.names.text(&silent.to_string());
                remarks.push(format!("whether all is in sync is not known: {why}"));
                return Ok(InSync::No);
            }
        };
        remarks.extend(closing.missing_first.iter().map(|missing| self.names.missing(missing)));
        let more = closing.sum.queued.saturating_sub(closing.missing_first.len() as u64);
        if more > 0 {
            remarks.push(format!("not in sync: {more} more items; run it again"));
        }
        if closing.extra > 0 {
            remarks.push(format!(
                "not in sync: {} items are at destinations alone; they vanished after the confirmed deletes were decided, or \
                 were changed there; run it again",
                closing.extra
            ));
        }
        let ClosingReport { session, .. } = &closing;
        let in_sync = by_closing_survey(&closing, |failed| !remarks.contains(&self.names.failed(failed)));
        let failed = session.spaces_failed.iter().map(|failed| self.names.failed(failed));
        let failed: Vec<String> = failed.filter(|failed| !remarks.contains(failed)).collect();
        remarks.extend(failed);
        for (account, why) in &session.accounts_failed {
            remarks.push(format!("{} could not be surveyed: {}", self.names.account(account), self.names.text(why)));
        }
        match &session.ended {
            SessionEnd::HeldByAnother { holder } => remarks.push(format!(
                "whether all is in sync is not known: another producer is at work by now ({holder}); `mill status` tells"
            )),
            SessionEnd::Stopped => remarks.push("it was stopped before it knew whether all is in sync".to_owned()),
            _ => {}
        }
        Ok(in_sync)
    }
}

/// What to do about skipped accounts and dead letters: a skipped account has an unreadable policy, and a dead-lettered
/// task has failed at each of several tries.
fn of_parts(totals: &RunTotals, produced: &SessionReport) -> Remedy {
    let stays = produced.spaces_failed.iter().any(|failed| !failed.failure_kind.may_pass());
    if stays || !produced.accounts_failed.is_empty() || totals.dead_lettered() > 0 {
        Remedy::SetRight
    } else {
        Remedy::RunAgain
    }
}

/// Whether nothing at all is known of any item. Then the run is not done in part, and running it again would not help.
/// Inexact counts cannot show that: listed items may have been found equal.
fn came_to_nothing(totals: &RunTotals, earlier: &ItemOutcomes, exact: bool) -> bool {
    let listed = if exact { 0 } else { totals.sum.survey.listed };
    totals.examined() + totals.dead_lettered() + earlier.items() + listed == 0 && !totals.changed()
}

/// Whether something was not copied that a person may have wanted, or waits for a person.
fn is_warned(totals: &RunTotals, produced: &SessionReport, refusals: u64) -> bool {
    let ItemOutcomes { vanished, dropped, refused, .. } = totals.sum.outcomes;
    produced.failed()
        || produced.leaves_out()
        || produced.no_account()
        || vanished + dropped + refused + refusals + totals.work.held > 0
        || !produced.findings.held.is_empty()
}

/// Removes repeated remarks: what cannot be copied to one destination usually cannot be copied to the next either.
fn without_repetitions(remarks: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    remarks.into_iter().filter(|remark| seen.insert(remark.clone())).collect()
}

fn of_fates(outcomes: &ItemOutcomes) -> Vec<String> {
    let mut remarks = Vec::new();
    if outcomes.vanished > 0 {
        remarks.push(format!(
            "{} items were listed at the source, and gone when their turn came; they were not copied",
            outcomes.vanished
        ));
    }
    if outcomes.dropped > 0 {
        remarks.push(format!("{} items were not copied, since no policy asks for them any more", outcomes.dropped));
    }
    remarks
}

/// What the copies of this run did not get of their originals. It is no warning: no copy of Mill's has these.
fn left_behind(mut work: WorkCounts) -> Option<String> {
    let counted = Uncarried::ALL.into_iter().filter_map(|what| match *what.counter(&mut work) {
        0 => None,
        count => Some(format!("{} of {}", what.as_str(), counted(count, "item"))),
    });
    let counted = counted.collect::<Vec<_>>().join(", ");
    (!counted.is_empty()).then(|| {
        format!("copied without all that the originals have: {counted}; this is no fault (docs/what-is-carried.md)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_behind_is_said_in_one_sentence() {
        let work = WorkCounts { owners_left: 2, storage_classes_left: 1, ..WorkCounts::default() };
        let said = "copied without all that the originals have: storage class of 1 item, owner of 2 items; this is no fault \
             (docs/what-is-carried.md)";
        assert_eq!(left_behind(work).as_deref(), Some(said));
        assert_eq!(left_behind(WorkCounts { bytes: 1, ..WorkCounts::default() }), None);
    }

    #[test]
    fn counts_that_are_not_exact_do_not_tell_that_nothing_was_done() {
        let listed = |listed| {
            let mut totals = RunTotals::default();
            (totals.sum.survey.listed, totals.sum.survey.queued) = (listed, listed);
            totals
        };
        let earlier = ItemOutcomes { unchanged: 1, ..ItemOutcomes::default() };
        for (totals, earlier, exact, nothing) in [
            (listed(3), ItemOutcomes::default(), true, true),
            (listed(3), ItemOutcomes::default(), false, false),
            (listed(0), ItemOutcomes::default(), false, true),
            (listed(3), earlier, true, false),
        ] {
            assert_eq!(came_to_nothing(&totals, &earlier, exact), nothing, "{totals:?} {earlier:?} {exact}");
        }
    }
}
