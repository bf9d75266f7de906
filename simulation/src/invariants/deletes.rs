//! Nothing is deleted at a destination without positive proof: a policy asks for it, the source does not have the item, the
//! deleted version is the one that was seen, and a missing space was gone for a day and a person confirmed it.

use std::time::Duration;

use mill_model::{ItemAddress, Monotonic, StoreAddress, StoreId};

use super::Invariant;
use crate::event::{Event, USERS};
use crate::model::{WorldModel, back};

/// How long a space must be gone before its copy may be deleted: a day, less the errors of wall clocks, which may be off by an
/// hour and step by another.
const GONE_FOR: Duration = Duration::from_hours(21);

pub(super) struct ProvenDeletes;

struct DeletedItem<'e> {
    store: &'e StoreAddress,
    item: &'e ItemAddress,
    called: Monotonic,
    first: bool,
}

impl Invariant for ProvenDeletes {
    fn name(&self) -> &'static str {
        "deletes are proven"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Item { by, store, item, holds: None, called, first, .. } = event else { return Ok(()) };
        if *by == USERS {
            return Ok(());
        }
        let deleted = DeletedItem { store, item, called: *called, first: *first };
        if deleted.written(model).is_some_and(|written| written > *called) {
            return Err(format!("{by} deleted {item} in {store}: it was written anew after the delete was on its way"));
        }
        let age = if deleted.first { model.tolerances.proof_age } else { model.tolerances.tries_age };
        let from = model.policies_from(deleted.called, age);
        let asking =
            model.policies_since(from).flat_map(|desired_policies| desired_policies.copies_into(store, &item.space));
        let mut why = "no policy asked for it".to_owned();
        for desired_copy in asking.filter(|desired_copy| desired_copy.remove) {
            match deleted.proven(&desired_copy.source, age, model) {
                Ok(()) => return Ok(()),
                Err(because) => why = because,
            }
        }
        Err(format!("{by} deleted {item} in {store}: {why}"))
    }
}

impl DeletedItem<'_> {
    /// When the deleted version was written.
    fn written(&self, model: &WorldModel) -> Option<Monotonic> {
        let snapshots = model.stores.get(self.store)?.snapshots(self.item);
        snapshots.iter().rev().nth(1).map(|snapshot| snapshot.since)
    }

    fn proven(&self, source: &StoreId, age: Duration, model: &WorldModel) -> Result<(), String> {
        let address = StoreAddress::of(&self.store.account, source);
        if let Some(gone) = model.space_absent_since(&address, &self.item.space)
            && gone < back(self.called, age)
        {
            let long = self.called.since(gone) >= GONE_FOR;
            let confirmed = model.confirmed.is_some_and(|(at, _)| at.since(gone) >= GONE_FOR);
            return match (long, confirmed) {
                (true, true) => Ok(()),
                _ => Err(format!("its source space in {source} was gone, but nobody confirmed that after a day")),
            };
        }
        let present = model.stores.get(&address).and_then(|there| there.present_since(self.item));
        let Some(present) = present else { return Ok(()) };
        if present < back(self.called, age) {
            return Err(format!("the source {source} has had it since {present:?}"));
        }
        if self.written(model).is_some_and(|written| written > present) {
            return Err(format!("what was deleted was written after it came back to the source {source}"));
        }
        Ok(())
    }
}
