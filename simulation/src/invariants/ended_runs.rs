//! A run that ends by itself says what is so: its sums add up, and where it says that all is in sync, each item that stood at a
//! source since before it began was at the destination, or was named.

use mill_model::{AccountId, Evidence, SpacePair, StoreAddress};
use mill_producer::SpaceFailureKind;
use mill_run::{InSync, Remedy};

use super::Invariant;
use super::runs::was_in_sync;
use crate::desired_policies::DesiredPolicy;
use crate::event::Event;
use crate::model::WorldModel;
use crate::sim_run::EndedRun;
use crate::users::DISK;

pub(super) struct EndedRunsSayWhatIsSo;

impl Invariant for EndedRunsSayWhatIsSo {
    fn name(&self) -> &'static str {
        "what a run says at its end is so"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::RunEnded { run } = event else { return Ok(()) };
        let EndedRun { by, report, in_sync, stopped, .. } = run;
        if let Evidence::SumMismatch(why) = report.evidence() {
            return Err(format!("the sum of {by} is wrong: {why}"));
        }
        if *stopped && report.cut_short.is_none() {
            return Err(format!("{by} was stopped, and says nothing of it"));
        }
        if report.remedy == Remedy::GoOn && !stopped {
            return Err(format!("{by} says that it was stopped, and nobody stopped it"));
        }
        match in_sync {
            InSync::No => Ok(()),
            InSync::Sum | InSync::ClosingSurvey => all_is_in_sync(run, model),
        }
    }
}

/// Whether a space was refused as a whole: it waits for a person, and was named.
fn is_refused(run: &EndedRun, pair: &SpacePair) -> bool {
    run.report.produced.spaces_failed.iter().any(|failed| {
        failed.failure_kind == SpaceFailureKind::Refused
            && failed.account == pair.account
            && failed.source == pair.source
            && failed.space.as_ref().is_none_or(|space| *space == pair.space)
            && failed.destination.as_ref().is_none_or(|destination| *destination == pair.destination)
    })
}

fn all_is_in_sync(run: &EndedRun, model: &WorldModel) -> Result<(), String> {
    let produced = &run.report.produced;
    if produced.failed_in_part() {
        return Err(format!(
            "{} says that all is in sync by {:?}, and skipped a space or an account",
            run.by, run.in_sync
        ));
    }
    let survey = produced.survey;
    // Entries that are named as not copied are exempt, and the survey does not say which items these are.
    if survey.refused + survey.hidden + survey.ignored > 0 {
        return Ok(());
    }
    // A run reads the policies anew. Judged only if they were the same all the time.
    let mut desired_policies = model.policies_since(run.began);
    let (Some(desired_policies), None) = (desired_policies.next(), desired_policies.next()) else { return Ok(()) };
    desired_policies.0.iter().try_for_each(|(account, policy)| account_is_in_sync(run, (account, policy), model))
}

fn account_is_in_sync(
    run: &EndedRun,
    (account, desired_policy): (&AccountId, &DesiredPolicy),
    model: &WorldModel,
) -> Result<(), String> {
    for (store, store_model) in model.stores.iter().filter(|(store, _)| store.account == *account) {
        let stood = store_model.standing().filter(|(_, snapshot)| snapshot.since < run.began);
        for (item, snapshot) in stood.filter(|(item, _)| !item.id.as_str().starts_with(DISK)) {
            if run.refusals.contains(&format!("{account}/{item}")) {
                continue;
            }
            let copies = desired_policy.of_space(&item.space).iter();
            for desired_copy in copies.filter(|desired_copy| desired_copy.source == store.store) {
                let pair = SpacePair {
                    account: account.clone(),
                    source: desired_copy.source.clone(),
                    destination: desired_copy.destination.clone(),
                    space: item.space.clone(),
                };
                if !is_refused(run, &pair) && !was_in_sync(model, &pair, &item.id, run.began, snapshot.holds) {
                    let destination = StoreAddress { account: account.clone(), store: pair.destination };
                    return Err(format!(
                        "{} says that all is in sync by {:?}, while {destination} lacks {item} of {store}",
                        run.by, run.in_sync
                    ));
                }
            }
        }
    }
    Ok(())
}
