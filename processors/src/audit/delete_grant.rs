//! Whether the delete of an event is granted: a delete list of one id, by the same rule as the lists of surveys.
//!
//! Granted unasked are few deletes a day, however they are found: the event counts with what surveys granted, and never more than
//! the rule's few. What is beyond that, or in any doubt, is left to the next survey, which may hold it for a person.

use futures::TryStreamExt as _;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{AuditEvent, DeleteListId, ItemAddress, RemoveTask, SpacePair};
use mill_ports::{FailureClass, ListEntry, Place, Presence, SourceStore, StoreErrorKind};
use mill_records::delete_lists::rows::IdsDigest;
use mill_records::delete_lists::{
    DeleteListError, DeleteListHead, DeleteListRow, DeleteListState, DeleteThresholds, DeletionScope, GrantedBy,
    ListedId,
};
use mill_records::sync_proofs::VersionDigest;
use tracing::{debug, info, warn};

use super::Recording;
use crate::early_exit::EarlyExit;

impl Recording<'_> {
    /// The task that deletes the copy of an item, if the rule grants it.
    pub(super) async fn granted_delete(
        &self,
        pair: &SpacePair,
        event: &AuditEvent,
    ) -> Result<Option<RemoveTask>, EarlyExit> {
        let Some(id) = &event.item else { return Ok(None) };
        let lists = &self.shared.deps.delete_lists;
        let facts = [&*event.id.to_string(), pair.source.as_str(), pair.destination.as_str()];
        let list = DeleteListId::of_facts(event.happened_at(), &facts);
        let task = RemoveTask { pair: pair.clone(), list, row: Some(0) };
        if let Some(head) = lists.head(pair, list).await.map_err(of_lists)? {
            return Ok(head.record.is_granted().then_some(task));
        }
        let item = ItemAddress { space: pair.space.clone(), id: id.clone() };
        let Some((seen, places)) = self.gone_at_source(pair, &item).await? else { return Ok(None) };
        let mut state = lists.pair(pair).await.map_err(of_lists)?;
        let why = if state.record.list().is_some() {
            Some("a list of deletes is open")
        } else if !state.record.knows_places() {
            Some("no run has compared both sides yet")
        } else if !state.record.changed_places(&places).is_empty() {
            Some("the places of the source are not those of the last survey")
        } else {
            None
        };
        let unasked = state.record.unasked_today(&*self.shared.deps.clock);
        let items_total = self.count_items(pair, 3 * (unasked + 1) + RULE_MARGIN).await?;
        let why = why.or_else(|| {
            exceeds(&self.shared.audit.thresholds, unasked, items_total).then_some("enough was deleted unasked today")
        });
        if let Some(why) = why {
            self.say_postponed(pair, &item, why);
            return Ok(None);
        }
        self.attempt.may_act()?;
        if !is_planted(PlantedBug::EventDeleteUncounted) {
            state.record.grant_unasked(1);
        }
        lists.save_pair(pair, &mut state).await.map_err(of_lists)?;
        let row = DeleteListRow { ids: vec![ListedId { id: id.clone(), seen }] };
        lists.put_row(pair, list, 0, &row).await.map_err(of_lists)?;
        let mut digest = IdsDigest::default();
        digest.add(id);
        let at = self.shared.deps.clock.now().as_millis();
        let head = DeleteListHead {
            of: DeletionScope::Items,
            made: at,
            count: 1,
            items_total,
            rows: 1,
            digest: digest.finish(),
            places: places.into_iter().map(|Place { path, identity }| (path, identity)).collect(),
            state: DeleteListState::Granted { by: GrantedBy::Rule, at },
        };
        lists.add_head(pair, list, head).await.map_err(of_lists)?;
        Ok(Some(task))
    }

    /// Says that a copy stays for now, once for many: an operator must know that a producer's run is needed.
    fn say_postponed(&self, pair: &SpacePair, item: &ItemAddress, why: &str) {
        let destination = &pair.destination;
        match self.shared.postponed.admit(self.shared.deps.clock.monotonic()) {
            Some(others) => {
                warn!(account = %self.account, %item, %destination, why, others, "an item is gone and its copy stays until a run has compared both sides");
            }
            None => {
                debug!(account = %self.account, %item, %destination, why, "its copy stays until a run has compared both sides");
            }
        }
    }

    /// The state of the copy that this pair wrote, and the places of the source, if the item is surely gone there.
    async fn gone_at_source(
        &self,
        pair: &SpacePair,
        item: &ItemAddress,
    ) -> Result<Option<(VersionDigest, Vec<Place>)>, EarlyExit> {
        let (deps, retry) = (&self.shared.deps, &self.shared.retry);
        deps.stores.ensure_no_overlap(&pair.account, &pair.source, &pair.destination).await?;
        let destination = deps.stores.destination(&pair.account, &pair.destination).await?;
        let Presence::Present(copy) = retry.destination_head(&*destination, item).await? else { return Ok(None) };
        let source = deps.stores.source(&pair.account, &pair.source).await?;
        let gone = match retry.source_head(&*source, item).await {
            Ok(found) => found.present().is_none(),
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => false,
            Err(error) => return Err(error.into()),
        };
        if !gone {
            debug!(%item, "it is back at the source");
            return Ok(None);
        }
        let known = deps.sync_proofs.row(pair, &item.id).await;
        let known =
            known.map_err(|error| EarlyExit::Failed { class: FailureClass::Retryable, source: error.into() })?;
        if !known.is_some_and(|row| row.is_ours(&copy.version)) {
            info!(%item, destination = %pair.destination, "its copy is not known to be this pair's; the next survey decides");
            return Ok(None);
        }
        // A store that folds names may have it under another spelling.
        if destination.folds_names(&item.space).await? {
            return Ok(None);
        }
        let places = retry.run(|| source.places(item)).await?;
        Ok(Some((VersionDigest::of(&copy.version), places)))
    }

    /// How many items the copy has: at least as many as are counted, up to `enough`.
    async fn count_items(&self, pair: &SpacePair, enough: u64) -> Result<u64, EarlyExit> {
        let destination = self.shared.deps.stores.destination(&pair.account, &pair.destination).await?;
        let mut listing = SourceStore::list(&*destination, &pair.space, None);
        let mut count = 0;
        while let Some(page) = listing.try_next().await? {
            count += page.entries.iter().filter(|entry| matches!(entry, ListEntry::Item(..))).count() as u64;
            if count >= enough || page.end {
                break;
            }
        }
        Ok(count)
    }
}

/// So many items are counted beyond those that the rule needs.
const RULE_MARGIN: u64 = 4;

/// Whether the rule's few are exceeded by one more delete. The number of items may be larger than `items_total`.
fn exceeds(thresholds: &DeleteThresholds, unasked_today: u64, items_total: u64) -> bool {
    // What was granted may still be there: it does not count as a part of the space that stays.
    let staying = items_total.saturating_sub(unasked_today);
    unasked_today + 1 > thresholds.few || thresholds.are_exceeded(1, unasked_today, staying)
}

fn of_lists(error: DeleteListError) -> EarlyExit {
    EarlyExit::Failed { class: FailureClass::Retryable, source: error.into() }
}
