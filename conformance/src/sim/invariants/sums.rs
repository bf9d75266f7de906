//! Every entry under the root of a source is copied, named, or left out by a rule that is named: what a complete run says
//! that it listed is at least what stood there all the while, its sum adds up, and no space is passed over without a word.

use mill_model::{ItemAddress, Monotonic, StoreAddress};
use mill_producer::{SessionEnd, SessionReport};

use super::Invariant;
use crate::sim::event::Event;
use crate::sim::people::DISK;
use crate::sim::truth::{Life, ShelfTruth, Truth, back};
use crate::sim::wishes::Wish;

pub(super) struct SumsAddUp;

impl Invariant for SumsAddUp {
    fn name(&self) -> &'static str {
        "every entry is accounted for"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Session { by, report } = event else { return Ok(()) };
        report.survey.check().map_err(|why| format!("the sum of {by}'s session is wrong: {why}"))?;
        let SessionEnd::Finished { .. } = &report.ended else { return Ok(()) };
        if report.failed() || truth.policies_troubled.is_some() {
            return Ok(());
        }
        let mut listed_least = 0;
        for (account, began) in truth.runs_of_session(by) {
            // Policies must have been the same all the while, as every process knows them.
            let mut wishes = truth.wishes_since(back(began, truth.terms.refresh + truth.terms.tries_age));
            let (Some(wishes), None) = (wishes.next(), wishes.next()) else { continue };
            let Some(wish) = wishes.0.get(account) else { continue };
            for (store, shelf) in truth.shelves.iter().filter(|(store, _)| store.account == *account) {
                spaces_are_named(report, (wish, store, shelf), began).map_err(|why| format!("{by}: {why}"))?;
                listed_least += standing_since(shelf, began).map(|item| copies(wish, store, item)).sum::<u64>();
            }
        }
        let listed = report.survey.listed;
        if listed < listed_least {
            return Err(format!(
                "{by} ended a run that listed {listed} entries, where {listed_least} stood all the while"
            ));
        }
        Ok(())
    }
}

/// The items that stand there without a change since before a run began, but for those that an unmounted disk may hide.
fn standing_since(shelf: &ShelfTruth, began: Monotonic) -> impl Iterator<Item = &ItemAddress> {
    let stood = move |(item, life): &(&ItemAddress, &Life)| life.since < began && !item.id.as_str().starts_with(DISK);
    shelf.standing().filter(stood).map(|(item, _)| item)
}

/// How many pairs copy an item of a store.
fn copies(wish: &Wish, store: &StoreAddress, item: &ItemAddress) -> u64 {
    wish.of_space(&item.space).iter().filter(|copying| copying.source == store.store).count() as u64
}

/// A space of a store that default policies read is covered, or is named with the rule that leaves it out.
fn spaces_are_named(
    report: &SessionReport,
    (wish, store, shelf): (&Wish, &StoreAddress, &ShelfTruth),
    began: Monotonic,
) -> Result<(), String> {
    if report.resumed || !wish.defaults.iter().any(|copying| copying.source == store.store) {
        return Ok(());
    }
    for (space, (here, since)) in &shelf.spaces {
        if !*here || *since >= began || !wish.ignored.contains(space) {
            continue;
        }
        let named = report.left_out.first.iter().any(|entry| {
            entry.account == store.account
                && entry.store.as_ref() == Some(&store.store)
                && entry.shown == space.to_string()
        });
        if !named {
            return Err(format!("the run says nothing of space {space} of {store}, which a rule leaves out"));
        }
    }
    Ok(())
}
