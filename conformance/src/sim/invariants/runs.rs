//! A run that says it is complete has queued everything that was out of step from its beginning to its end; and none waits
//! for that of another account.

use mill_model::{AccountId, ContentId, Monotonic, StoreAddress, StoreId};
use mill_producer::{SessionEnd, SessionReport};
use mill_records::sync_proofs::SpacePair;

use super::Invariant;
use crate::sim::event::Event;
use crate::sim::truth::{Truth, back};
use crate::sim::wishes::Wish;

pub(super) struct CompleteRuns;

impl Invariant for CompleteRuns {
    fn name(&self) -> &'static str {
        "a complete run has queued everything"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Session { by, report } = event else { return Ok(()) };
        let SessionEnd::Finished { .. } = &report.ended else { return Ok(()) };
        if truth.policies_troubled.is_some() {
            return Ok(());
        }
        for (account, began) in truth.runs_of_session(by) {
            // Policies must have been the same all the while, as every process knows them.
            let mut wishes = truth.wishes_since(back(began, truth.terms.refresh + truth.terms.tries_age));
            let (Some(wishes), None) = (wishes.next(), wishes.next()) else { continue };
            if let Some(wish) = wishes.0.get(account) {
                has_queued_all(report, (account, wish), began, truth).map_err(|why| format!("{by} {why}"))?;
            }
        }
        Ok(())
    }
}

fn has_queued_all(
    report: &SessionReport,
    (account, wish): (&AccountId, &Wish),
    began: Monotonic,
    truth: &Truth,
) -> Result<(), String> {
    for (store, shelf) in truth.shelves.iter().filter(|(store, _)| store.account == *account) {
        for (item, life) in shelf.standing().filter(|(_, life)| life.since < began) {
            for copying in wish.of_space(&item.space).iter().filter(|copying| copying.source == store.store) {
                let pair = SpacePair {
                    account: account.clone(),
                    source: copying.source.clone(),
                    destination: copying.destination.clone(),
                    space: item.space.clone(),
                };
                if failed(report, &pair) || was_in_sync(truth, &pair, &item.id, began, life.holds) {
                    continue;
                }
                let queued = truth.queued.get(&(pair, Some(item.id.clone())));
                if queued.is_none_or(|queued| *queued < began) {
                    let destination = &copying.destination;
                    return Err(format!("ended a run that never queued {item} of {store} for {destination}"));
                }
            }
        }
    }
    Ok(())
}

/// Where each session may begin runs, it begins those of all accounts whose last ones were over before, whatever goes on of
/// others.
pub(super) struct RunsWaitForNoOther;

impl Invariant for RunsWaitForNoOther {
    fn name(&self) -> &'static str {
        "an account's next loop waits for no other's"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Session { by, report } = event else { return Ok(()) };
        let (SessionEnd::Finished { .. } | SessionEnd::QueueFull | SessionEnd::NotDue { .. }) = &report.ended else {
            return Ok(());
        };
        // Where the list of accounts could not be read, none begins.
        if !truth.terms.each_session_begins || report.accounts == 0 {
            return Ok(());
        }
        let begun = truth.session_runs.get(*by);
        for (account, over) in truth.over_before.get(*by).into_iter().flatten() {
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

/// Whether both sides held the same at any moment since.
pub(super) fn was_in_sync(
    truth: &Truth,
    pair: &SpacePair,
    id: &ContentId,
    since: Monotonic,
    wanted: Option<crate::sim::event::Print>,
) -> bool {
    let address = |store: &StoreId| StoreAddress { account: pair.account.clone(), store: store.clone() };
    let item = mill_model::ItemAddress { space: pair.space.clone(), id: id.clone() };
    let lives = truth.shelves.get(&address(&pair.destination)).map_or(&[][..], |shelf| shelf.lives(&item));
    let mut over = false;
    // The state at the beginning, and all since.
    lives
        .iter()
        .rev()
        .take_while(|life| !std::mem::replace(&mut over, life.since <= since))
        .any(|life| life.holds == wanted)
}
