//! Nothing is deleted at a destination without positive proof: a policy asks for it, the source does not have it, what
//! is deleted is what was seen, and a space that is gone was gone for a day and a person said so.

use std::time::Duration;

use mill_model::{ItemAddress, Monotonic, StoreAddress, StoreId};

use super::Invariant;
use crate::sim::event::{Event, PEOPLE};
use crate::sim::truth::{Truth, back};

/// How long a space must be gone before its copy may go; wall clocks may be off by an hour, and step by another.
const GONE_FOR: Duration = Duration::from_hours(21);

pub(super) struct ProvenDeletes;

struct Deleted<'e> {
    store: &'e StoreAddress,
    item: &'e ItemAddress,
    called: Monotonic,
    first: bool,
}

impl Invariant for ProvenDeletes {
    fn name(&self) -> &'static str {
        "deletes are proven"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Item { by, store, item, holds: None, called, first, .. } = event else { return Ok(()) };
        if *by == PEOPLE {
            return Ok(());
        }
        let deleted = Deleted { store, item, called: *called, first: *first };
        if deleted.written(truth).is_some_and(|written| written > *called) {
            return Err(format!("{by} deleted {item} in {store}: it was written anew after the delete was on its way"));
        }
        let age = if deleted.first { truth.terms.proof_age } else { truth.terms.tries_age };
        let from = truth.policies_from(deleted.called, age);
        let asking = truth.wishes_since(from).flat_map(|wishes| wishes.arriving_in(store, &item.space));
        let mut why = "no policy asked for it".to_owned();
        for copying in asking.filter(|copying| copying.remove) {
            match deleted.proven(&copying.source, age, truth) {
                Ok(()) => return Ok(()),
                Err(because) => why = because,
            }
        }
        Err(format!("{by} deleted {item} in {store}: {why}"))
    }
}

impl Deleted<'_> {
    /// When the state was written that was deleted.
    fn written(&self, truth: &Truth) -> Option<Monotonic> {
        let lives = truth.shelves.get(self.store)?.lives(self.item);
        lives.iter().rev().nth(1).map(|life| life.since)
    }

    fn proven(&self, source: &StoreId, age: Duration, truth: &Truth) -> Result<(), String> {
        let address = StoreAddress { account: self.store.account.clone(), store: source.clone() };
        if let Some(gone) = truth.space_absent_since(&address, &self.item.space)
            && gone < back(self.called, age)
        {
            let long = self.called.since(gone) >= GONE_FOR;
            let confirmed = truth.confirmed.is_some_and(|(at, _)| at.since(gone) >= GONE_FOR);
            return match (long, confirmed) {
                (true, true) => Ok(()),
                _ => Err(format!("its source space in {source} was gone, but nobody confirmed that after a day")),
            };
        }
        let live = truth.shelves.get(&address).and_then(|there| there.live_since(self.item));
        let Some(live) = live else { return Ok(()) };
        if live < back(self.called, age) {
            return Err(format!("the source {source} has had it since {live:?}"));
        }
        if self.written(truth).is_some_and(|written| written > live) {
            return Err(format!("what was deleted was written after it came back to the source {source}"));
        }
        Ok(())
    }
}
