//! A survey that reports a pair in sync is right: the items of the source since the run began were at the destination.

use std::collections::BTreeMap;

use mill_model::{AccountId, ItemAddress, Monotonic, StoreAddress};
use mill_records::producer_state::{PairSurvey, Record as _};

use super::Invariant;
use super::runs::was_in_sync;
use crate::event::Event;
use crate::model::{ItemSnapshot, WorldModel};
use crate::users::DISK;

/// The run of each pair that was last judged: a row that is written again is not judged again.
#[derive(Default)]
pub(super) struct InSyncIsSo(BTreeMap<String, u64>);

impl Invariant for InSyncIsSo {
    fn name(&self) -> &'static str {
        "what is said to be in sync is"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Row { by, table: "producer-state", sort, value: Some(value), .. } = event else { return Ok(()) };
        let Some(survey) = PairSurvey::read(sort, value) else { return Ok(()) };
        if survey.in_sync.is_none() || self.0.insert((*sort).to_owned(), survey.run) == Some(survey.run) {
            return Ok(());
        }
        let Some(began) = began(model, &survey.pair.account, survey.run) else { return Ok(()) };
        is_so(&survey, began, model).map_err(|item| {
            format!("{by} says that {sort} is in sync, while {item} has differed since before the loop began")
        })
    }
}

fn began(model: &WorldModel, account: &AccountId, run: u64) -> Option<Monotonic> {
    model.runs.get(&(account.clone(), run)).copied()
}

/// Looks for a source item that is unchanged since before the run began, and that the destination never held in that state.
fn is_so(PairSurvey { pair, sum, .. }: &PairSurvey, began: Monotonic, model: &WorldModel) -> Result<(), ItemAddress> {
    // Entries that are named as not copied are exempt, and the row does not say which items these are.
    if sum.refused + sum.hidden + sum.ignored > 0 {
        return Ok(());
    }
    let source = StoreAddress::of(&pair.account, &pair.source);
    let Some(store_model) = model.stores.get(&source) else { return Ok(()) };
    let stood = |(item, snapshot): &(&ItemAddress, &ItemSnapshot)| {
        item.space == pair.space && snapshot.since < began && !item.id.as_str().starts_with(DISK)
    };
    let differs =
        |(item, snapshot): &(&ItemAddress, &ItemSnapshot)| !was_in_sync(model, pair, &item.id, began, snapshot.holds);
    store_model.standing().filter(stood).find(differs).map_or(Ok(()), |(item, _)| Err(item.clone()))
}
