//! A run that says it is complete has queued everything that was out of step from its beginning to its end.

use mill_model::{ContentId, Monotonic, StoreAddress, StoreId};
use mill_producer::{Ended, SessionReport};
use mill_records::seals::Pair;

use super::Invariant;
use crate::sim::event::Event;
use crate::sim::truth::{Truth, back};

pub(super) struct CompleteRuns;

impl Invariant for CompleteRuns {
    fn name(&self) -> &'static str {
        "a complete run has queued everything"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Session { by, report } = event else { return Ok(()) };
        let (Ended::Finished { .. }, Some(began)) = (&report.ended, truth.runs.get(&truth.run)) else { return Ok(()) };
        let began = *began;
        // Policies must have been the same all the while, as every process knows them.
        let mut wishes = truth.wishes_since(back(began, truth.terms.refresh + truth.terms.tries_age));
        let (Some(wishes), None) = (wishes.next(), wishes.next()) else { return Ok(()) };
        if truth.policies_troubled.is_some() {
            return Ok(());
        }
        for (account, wish) in &wishes.0 {
            for (store, shelf) in truth.shelves.iter().filter(|(store, _)| store.account == *account) {
                for (item, life) in shelf.standing().filter(|(_, life)| life.since < began) {
                    for copying in wish.of_space(&item.space).iter().filter(|copying| copying.source == store.store) {
                        let pair = Pair {
                            account: account.clone(),
                            source: copying.source.clone(),
                            destination: copying.destination.clone(),
                            space: item.space.clone(),
                        };
                        if failed(report, &pair) || was_in_step(truth, &pair, &item.id, began, life.holds) {
                            continue;
                        }
                        let queued = truth.queued.get(&(pair, Some(item.id.clone())));
                        if queued.is_none_or(|queued| *queued < began) {
                            let destination = &copying.destination;
                            return Err(format!(
                                "{by} ended a run that never queued {item} of {store} for {destination}"
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn failed(report: &SessionReport, pair: &Pair) -> bool {
    let same = |space: &Option<_>| space.as_ref().is_none_or(|space| *space == pair.space);
    report.accounts_failed.iter().any(|(account, _)| *account == pair.account)
        || report.spaces_failed.iter().any(|failed| failed.account == pair.account && same(&failed.space))
}

/// Whether both sides held the same at any moment since.
fn was_in_step(
    truth: &Truth,
    pair: &Pair,
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
