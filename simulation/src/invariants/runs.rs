//! A run that reports itself complete has queued every item that was out of sync from its beginning to its end. No run waits
//! for the run of another account.

use mill_model::{AccountId, ContentId, Monotonic, SpacePair, StoreAddress, StoreId};
use mill_producer::{SessionEnd, SessionReport};

use super::Invariant;
use crate::desired_policies::DesiredPolicy;
use crate::event::Event;
use crate::model::{WorldModel, back};

pub(super) struct CompleteRuns;

impl Invariant for CompleteRuns {
    fn name(&self) -> &'static str {
        "a complete run has queued everything"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Session { by, report } = event else { return Ok(()) };
        let SessionEnd::Finished { .. } = &report.ended else { return Ok(()) };
        if model.policies_troubled.is_some() {
            return Ok(());
        }
        for (account, began) in model.runs_of_session(by) {
            // Judged only if the policies were the same all the time, as every process knows them.
            let mut desired_policies =
                model.policies_since(back(began, model.tolerances.refresh + model.tolerances.tries_age));
            let (Some(desired_policies), None) = (desired_policies.next(), desired_policies.next()) else { continue };
            if let Some(desired_policy) = desired_policies.0.get(account) {
                has_queued_all(report, (account, desired_policy), began, model).map_err(|why| format!("{by} {why}"))?;
            }
        }
        Ok(())
    }
}

fn has_queued_all(
    report: &SessionReport,
    (account, desired_policy): (&AccountId, &DesiredPolicy),
    began: Monotonic,
    model: &WorldModel,
) -> Result<(), String> {
    for (store, store_model) in model.stores.iter().filter(|(store, _)| store.account == *account) {
        for (item, snapshot) in store_model.standing().filter(|(_, snapshot)| snapshot.since < began) {
            for desired_copy in
                desired_policy.of_space(&item.space).iter().filter(|desired_copy| desired_copy.source == store.store)
            {
                let pair = SpacePair {
                    account: account.clone(),
                    source: desired_copy.source.clone(),
                    destination: desired_copy.destination.clone(),
                    space: item.space.clone(),
                };
                if failed(report, &pair) || was_in_sync(model, &pair, &item.id, began, snapshot.holds) {
                    continue;
                }
                let queued = model.queued.get(&(pair, Some(item.id.clone())));
                if queued.is_none_or(|queued| *queued < began) {
                    let destination = &desired_copy.destination;
                    return Err(format!("ended a run that never queued {item} of {store} for {destination}"));
                }
            }
        }
    }
    Ok(())
}

/// If each session may begin runs, it begins one for each account whose last run was finished before, whatever other runs are in
/// progress.
pub(super) struct RunsWaitForNoOther;

impl Invariant for RunsWaitForNoOther {
    fn name(&self) -> &'static str {
        "an account's next loop waits for no other's"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Session { by, report } = event else { return Ok(()) };
        let (SessionEnd::Finished { .. } | SessionEnd::QueueFull | SessionEnd::NotDue { .. }) = &report.ended else {
            return Ok(());
        };
        // If the list of accounts could not be read, no run begins.
        if !model.tolerances.each_session_begins || report.accounts == 0 {
            return Ok(());
        }
        let begun = model.session_runs.get(*by);
        for (account, over) in model.over_before.get(*by).into_iter().flatten() {
            if begun.and_then(|begun| begun.get(account)).is_none_or(|number| number == over) {
                return Err(format!("{by} began no run of {account}, whose last one was over before"));
            }
        }
        Ok(())
    }
}

fn failed(report: &SessionReport, pair: &SpacePair) -> bool {
    let same = |space: &Option<_>| space.as_ref().is_none_or(|space| *space == pair.space);
    report.accounts_failed.iter().any(|(account, _)| *account == pair.account)
        || report.spaces_failed.iter().any(|failed| failed.account == pair.account && same(&failed.space))
}

/// Whether the destination held `wanted` at any moment since.
pub(super) fn was_in_sync(
    model: &WorldModel,
    pair: &SpacePair,
    id: &ContentId,
    since: Monotonic,
    wanted: Option<crate::event::ContentFingerprint>,
) -> bool {
    let address = |store: &StoreId| StoreAddress::of(&pair.account, store);
    let item = mill_model::ItemAddress { space: pair.space.clone(), id: id.clone() };
    let snapshots =
        model.stores.get(&address(&pair.destination)).map_or(&[][..], |store_model| store_model.snapshots(&item));
    let mut over = false;
    // The state at the beginning, and all since.
    snapshots
        .iter()
        .rev()
        .take_while(|snapshot| !std::mem::replace(&mut over, snapshot.since <= since))
        .any(|snapshot| snapshot.holds == wanted)
}
