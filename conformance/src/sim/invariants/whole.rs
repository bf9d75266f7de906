//! A destination's item is some state of the source's that really was, bytes and properties, whole.

use std::collections::BTreeSet;

use mill_model::{StoreAddress, StoreId};

use super::Invariant;
use crate::sim::event::{Event, PEOPLE, Print};
use crate::sim::truth::{ShelfTruth, Truth};

pub(super) struct WholeItems;

impl Invariant for WholeItems {
    fn name(&self) -> &'static str {
        "items are whole"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Item { by, store, item, holds: Some(print), damaged: false, .. } = event else { return Ok(()) };
        if *by == PEOPLE {
            return Ok(());
        }
        let wishes = truth.wishes.iter().flat_map(|(_, wishes)| wishes.arriving_in(store, &item.space));
        let sources: BTreeSet<&StoreId> = wishes.map(|copying| &copying.source).collect();
        let known = |source: &StoreId| {
            let address = StoreAddress { account: store.account.clone(), store: source.clone() };
            truth.shelves.get(&address).is_some_and(|shelf| once_held(shelf, item, print))
        };
        if sources.iter().any(|source| known(source)) {
            return Ok(());
        }
        Err(format!("{by} left {print} as {item} in {store}; no source of it ({sources:?}) ever held that"))
    }
}

fn once_held(shelf: &ShelfTruth, item: &mill_model::ItemAddress, print: &Print) -> bool {
    // A change of properties alone may meet bytes of an earlier state that are the same as now.
    shelf.lives(item).iter().any(|life| life.holds.as_ref() == Some(print))
}
