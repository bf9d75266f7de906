//! Within one life of a destination's item, no older state of its source ever takes the place of a newer one.

use mill_model::{StoreAddress, StoreId};

use super::Invariant;
use crate::sim::event::{Event, PEOPLE};
use crate::sim::truth::Truth;

pub(super) struct NeverBack;

impl Invariant for NeverBack {
    fn name(&self) -> &'static str {
        "newer is never overwritten by older"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Item { by, store, item, holds: Some(print), .. } = event else { return Ok(()) };
        if *by == PEOPLE {
            return Ok(());
        }
        let [.., before, _] = truth.shelves.get(*store).map_or(&[][..], |shelf| shelf.lives(item)) else {
            return Ok(());
        };
        let Some(stood) = before.holds else { return Ok(()) };
        let mut sources: Vec<&StoreId> = truth
            .wishes
            .iter()
            .flat_map(|(_, wishes)| wishes.arriving_in(store, &item.space))
            .map(|copying| &copying.source)
            .collect();
        sources.sort();
        sources.dedup();
        // With several sources over time there is no one order.
        let [source] = sources[..] else { return Ok(()) };
        let address = StoreAddress { account: store.account.clone(), store: source.clone() };
        let lives = truth.shelves.get(&address).map_or(&[][..], |shelf| shelf.lives(item));
        let newest = lives.iter().rposition(|life| life.holds == Some(*print));
        let oldest = lives.iter().position(|life| life.holds == Some(stood));
        match (newest, oldest) {
            (Some(newest), Some(oldest)) if newest < oldest => Err(format!(
                "{by} wrote state {newest} of {item} in {store} over state {oldest} of its source {source}"
            )),
            _ => Ok(()),
        }
    }
}
