//! One row of a delete list: each of its ids deleted, or kept, and the result written down once.

use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::{ContentId, EntryFate, EventSubject, ItemAddress, ItemEvent, ItemFacts, SubjectSort};
use mill_ports::{
    DeedCheck, FailureClass, Place, Precondition, Presence, SourceStore, StoreError, StoreErrorKind, with_deed_check,
};
use mill_records::delete_lists::{DeleteListHead, DeletionScope, ListedId, RowResult};
use mill_records::sync_proofs::VersionDigest;
use tracing::{debug, info, warn};

use super::{Removal, list_exit, removing_policy};
use crate::crash_points;
use crate::early_exit::EarlyExit;
use crate::failure;
use crate::refusals::{Refusal, RefusedDeed};
use crate::retry::lease_check;

/// The result for one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeleteResult {
    Deleted,
    Gone,
    Kept,
}

/// Why the copy of a damaged source stays.
const DAMAGED_SOURCE: &str = "a verification found that the disk of the source damaged it before it went away, so this copy may be \
                              the last with the right bytes; delete it by hand if it is not wanted";

/// How many ids are processed at once.
const AT_ONCE: usize = 8;

impl Removal<'_> {
    /// Deletes the items of a row that are still gone at the source.
    pub(super) async fn process_row(&self, number: u32) -> Result<(), EarlyExit> {
        let lists = &self.shared.deps.delete_lists;
        if lists.result(self.pair, self.remove.list, number).await.map_err(list_exit)?.is_some() {
            return Err(EarlyExit::discard("its row of the delete list has its result already"));
        }
        let Some(row) = lists.row(self.pair, self.remove.list, number).await.map_err(list_exit)? else {
            let missing = format!("row {number} of the delete list `{}` is not there", self.remove.list);
            return Err(EarlyExit::Failed { class: FailureClass::Retryable, source: missing.into() });
        };
        let mut result = RowResult::default();
        let mut failure = None;
        let mut results = stream::iter(row.ids).map(|listed| self.process_id(listed)).buffered(AT_ONCE);
        while let Some(processed) = results.next().await {
            match processed {
                Ok(DeleteResult::Deleted) => result.deleted += 1,
                Ok(DeleteResult::Gone) => result.gone += 1,
                Ok(DeleteResult::Kept) => result.kept += 1,
                Err((id, stop)) if is_of_one_id(&stop) => {
                    result.failed += 1;
                    if self.attempt.is_last() {
                        self.note_kept(&id, &reason_of(&stop)).await;
                    }
                    failure.get_or_insert(stop);
                }
                // The policy changed, the lease is lost, or a store cannot be used: this concerns the whole task.
                Err((_, stop)) => return Err(stop),
            }
        }
        if let Some(failure) = failure.take_if(|_| !self.attempt.is_last()) {
            return Err(failure);
        }
        self.attempt.may_act()?;
        crash_point(crash_points::REMOVE_BEFORE_RESULT);
        lists.record(self.pair, self.remove.list, number, &result).await.map_err(list_exit)?;
        crash_point(crash_points::REMOVE_RESULT);
        let RowResult { deleted, gone, kept, failed } = result;
        let (account, destination, space) = (&self.pair.account, &self.pair.destination, &self.pair.space);
        info!(%account, %destination, %space, deleted, gone, kept, failed, "a row of a delete list is settled");
        failure.map_or(Ok(()), Err)
    }

    async fn process_id(&self, listed: ListedId) -> Result<DeleteResult, (ContentId, EarlyExit)> {
        match self.decide(&listed).await {
            Err(EarlyExit::Store(error)) if matches!(error.kind, StoreErrorKind::Precondition) => {
                Ok(self.keep(&listed.id, "it changed at the destination meanwhile").await)
            }
            Err(EarlyExit::Store(error)) if matches!(error.kind, StoreErrorKind::Refused(_)) => {
                Ok(self.refuse(&listed.id, &refusal_reason(&error)).await)
            }
            Ok(DeleteResult::Gone) => {
                self.keep_event(&listed.id, EntryFate::Gone, None).await;
                Ok(DeleteResult::Gone)
            }
            other => other.map_err(|stop| (listed.id, stop)),
        }
    }

    async fn decide(&self, listed: &ListedId) -> Result<DeleteResult, EarlyExit> {
        let Some(found) = self.destination_head(&listed.id).await? else {
            self.forget(&listed.id).await;
            return Ok(DeleteResult::Gone);
        };
        if VersionDigest::of(&found.version) != listed.seen && !is_planted(PlantedBug::UnconditionalDelete) {
            return Ok(self.keep(&listed.id, "it is not in the state that the delete list saw").await);
        }
        if !self.is_gone(&listed.id).await? {
            return Ok(DeleteResult::Kept);
        }
        match removing_policy(&self.shared.deps, self.pair, &self.pair.space.to_string()).await {
            Err(stop) if !is_planted(PlantedBug::PolicyNotAskedAgain) => return Err(stop),
            _ => {}
        }
        if self.had_damaged_source(&listed.id).await? && !is_planted(PlantedBug::DamagedSourceDeleted) {
            return Ok(self.refuse(&listed.id, DAMAGED_SOURCE).await);
        }
        self.delete(&listed.id, found).await
    }

    /// Whether a verification found that the source of the item is damaged: then its copy may be the last with the right bytes,
    /// whatever became of the source since. A table that fails may know of it.
    async fn had_damaged_source(&self, id: &ContentId) -> Result<bool, EarlyExit> {
        let proof = self.shared.deps.sync_proofs.get(self.pair, id).await;
        let proof =
            proof.map_err(|error| EarlyExit::Failed { class: FailureClass::Retryable, source: error.into() })?;
        Ok(proof.is_some_and(|proof| proof.damaged_source().is_some()))
    }

    /// The facts of an item at the destination. An absent space has no item.
    async fn destination_head(&self, id: &ContentId) -> Result<Option<ItemFacts>, EarlyExit> {
        Ok(self.shared.retry.destination_head(&*self.destination, &self.item(id)).await?.present())
    }

    /// Whether the item is surely gone at the source: the places above it are those of the survey, before and after the look, and
    /// a space or store that answers says that the item is absent.
    async fn is_gone(&self, id: &ContentId) -> Result<bool, EarlyExit> {
        if !self.has_same_places(id).await? {
            self.keep(id, "a place of its source is not the one that the survey saw").await;
            return Ok(false);
        }
        let absent = match self.head.record.of {
            DeletionScope::Items => match self.shared.retry.source_head(&*self.source, &self.item(id)).await {
                Ok(found) => found.present().is_none(),
                Err(error) if error.kind == StoreErrorKind::SpaceAbsent => {
                    if is_planted(PlantedBug::AbsentSpaceReadAsGone) {
                        return Ok(true);
                    }
                    self.keep(id, "its source space is not there").await;
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            },
            DeletionScope::Space => self.source_space().await? == Presence::Absent,
        };
        if !absent {
            self.keep(id, "it is back at the source").await;
            return Ok(false);
        }
        let same = self.has_same_places(id).await?;
        if !same {
            self.keep(id, "a place of its source changed while it was looked for").await;
        }
        Ok(same)
    }

    async fn has_same_places(&self, id: &ContentId) -> Result<bool, EarlyExit> {
        let item = self.item(id);
        let places: Vec<Place> = self.shared.retry.run(|| self.source.places(&item)).await?;
        Ok(self.head.record.has_same_places(id.as_str(), &places))
    }

    async fn delete(&self, id: &ContentId, found: ItemFacts) -> Result<DeleteResult, EarlyExit> {
        let item = self.item(id);
        let seen = Precondition::VersionIs(found.version);
        let when = if is_planted(PlantedBug::UnconditionalDelete) { Precondition::Always } else { seen };
        crash_point(crash_points::REMOVE_BEFORE_DELETE);
        let deleted = if self.shared.deps.dry_run {
            Presence::Present(())
        } else {
            let check = self.deed_check(&item);
            let delete = || with_deed_check(check.clone(), self.destination.delete(&item, &when));
            self.shared.retry.run_effect(self.attempt, delete).await?
        };
        crash_point(crash_points::REMOVE_DELETED);
        let result = match deleted {
            Presence::Present(()) => {
                let (account, destination) = (&self.pair.account, &self.pair.destination);
                debug!(%account, %destination, %item, "deleted, gone at the source");
                self.keep_event(id, EntryFate::Deleted, None).await;
                self.shared.deps.statistics.count(|work| work.deleted += 1);
                self.tell_event(id, EntryFate::Deleted, None);
                DeleteResult::Deleted
            }
            Presence::Absent => DeleteResult::Gone,
        };
        self.forget(id).await;
        crash_point(crash_points::REMOVE_FORGOTTEN);
        Ok(result)
    }

    /// The check that a store may ask right before the delete: the lease holds, and the item is still gone at the same places.
    fn deed_check(&self, item: &ItemAddress) -> DeedCheck {
        let (lease, source) = (lease_check(self.attempt), self.source.clone());
        let (head, item) = (Arc::new(self.head.record.clone()), item.clone());
        Arc::new(move || {
            let (lease, source, head, item) = (lease.clone(), source.clone(), head.clone(), item.clone());
            Box::pin(async move { lease().await && is_still_gone(&*source, &head, &item).await })
        })
    }

    /// Deletes the sync proof of an item that is gone. One that is left proves nothing.
    async fn forget(&self, id: &ContentId) {
        if let Err(error) = self.shared.deps.sync_proofs.remove(self.pair, id).await {
            debug!(error = %mill_ports::error_chain(&error), "what was known of a deleted item could not be removed");
        }
    }

    /// Keeps an item whose delete is refused, and names it in the summary of the run.
    async fn refuse(&self, id: &ContentId, reason: &str) -> DeleteResult {
        warn!(target: mill_ports::REPORTED, item = %id, reason, "not deleted");
        let subject = format!("{}/{}", self.pair.account, self.item(id));
        self.shared.deps.refusals.note(Refusal { subject, reason: reason.to_owned(), deed: RefusedDeed::Delete });
        self.note_kept(id, reason).await;
        DeleteResult::Kept
    }

    async fn keep(&self, id: &ContentId, why: &'static str) -> DeleteResult {
        info!(account = %self.pair.account, space = %self.pair.space, item = %id, why, "kept");
        self.note_kept(id, why).await;
        DeleteResult::Kept
    }

    /// Has kept and told that an id of the list was not deleted.
    async fn note_kept(&self, id: &ContentId, why: &str) {
        self.keep_event(id, EntryFate::Kept, Some(why)).await;
        self.tell_event(id, EntryFate::Kept, Some(why));
    }

    /// Has kept what became of an id of the list, if somebody wants to know that.
    async fn keep_event(&self, id: &ContentId, fate: EntryFate, why: Option<&str>) {
        if let Some(events) = self.shared.deps.statistics.events() {
            events.keep(&[self.event(id, fate, why)]).await;
        }
    }

    fn tell_event(&self, id: &ContentId, fate: EntryFate, why: Option<&str>) {
        if let Some(events) = self.shared.deps.statistics.events() {
            events.tell(&[self.event(id, fate, why)]);
        }
    }

    fn event(&self, id: &ContentId, fate: EntryFate, why: Option<&str>) -> ItemEvent {
        let subject = EventSubject::of(self.pair, id.as_str(), SubjectSort::Destination);
        ItemEvent { reason: why.map(str::to_owned), ..ItemEvent::new(subject, fate) }
    }
}

/// Whether an item, or its whole space, is gone at the places of the survey, before and after the look. An error is no absence.
async fn is_still_gone(source: &dyn SourceStore, head: &DeleteListHead, item: &ItemAddress) -> bool {
    let same_places =
        || async { source.places(item).await.is_ok_and(|places| head.has_same_places(item.id.as_str(), &places)) };
    let gone = match head.of {
        DeletionScope::Items => same_places().await && matches!(source.head(item).await, Ok(Presence::Absent)),
        DeletionScope::Space => same_places().await && matches!(source.space(&item.space).await, Ok(Presence::Absent)),
    };
    gone && same_places().await
}

/// Whether a failure concerns one id: the other ids of the row are processed all the same.
fn is_of_one_id(stop: &EarlyExit) -> bool {
    match stop {
        EarlyExit::Store(error) => failure::failure_class(error) == Some(FailureClass::Retryable),
        EarlyExit::Failed { class, .. } => *class == FailureClass::Retryable,
        EarlyExit::TaskOutcome(_) | EarlyExit::Refused { .. } => false,
    }
}

/// Why a store refused an item.
fn refusal_reason(error: &StoreError) -> String {
    match &error.kind {
        StoreErrorKind::Refused(reason) => reason.to_string(),
        _ => mill_ports::error_chain(error),
    }
}

fn reason_of(stop: &EarlyExit) -> String {
    match stop {
        EarlyExit::Store(error) => mill_ports::error_chain(error),
        EarlyExit::Failed { source, .. } => mill_ports::error_chain(&**source),
        EarlyExit::Refused { reason, .. } => reason.clone(),
        EarlyExit::TaskOutcome(_) => String::new(),
    }
}
