//! Both sides of a store policy during one attempt, and the calls on them, each with its few tries.

use std::sync::Arc;

use mill_hooks::crash_point;
use mill_model::{Checksum, ContentId, ItemAddress, ItemFacts, ItemState, SpacePair, Version};
use mill_ports::{
    Attempt, BoxError, DestinationStore, Presence, RefusalReason, SourceStore, SpaceFacts, StoreError, StoreErrorKind,
    TableError, error_chain,
};
use mill_records::owners::DestinationSpace;
use mill_records::sync_proofs::SyncProof;
use tracing::{debug, warn};

use super::DuplicateHandler;
use super::ownership_cache::CreationCount;
use crate::crash_points;
use crate::early_exit::EarlyExit;
use mill_policy::StorePolicy;

/// The context of one attempt.
pub(super) struct AttemptContext<'a> {
    pub(super) shared: &'a DuplicateHandler,
    pub(super) pair: &'a SpacePair,
    pub(super) attempt: &'a Attempt,
    pub(super) policy: StorePolicy,
    pub(super) source: Arc<dyn SourceStore>,
    pub(super) destination: Arc<dyn DestinationStore>,
}

impl AttemptContext<'_> {
    /// The facts of an item at the source. `Absent` is a definite no.
    pub(super) async fn source_head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, EarlyExit> {
        self.shared.retry.source_head(&*self.source, item).await.map_err(source_exit)
    }

    /// Whether the source space exists. `Absent` only if its store answers.
    pub(super) async fn source_space(&self) -> Result<Presence<SpaceFacts>, EarlyExit> {
        Ok(self.shared.retry.run(|| self.source.space(&self.pair.space)).await?)
    }

    /// The facts of an item at the destination. An absent space has no item.
    pub(super) async fn destination_head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, EarlyExit> {
        Ok(self.shared.retry.destination_head(&*self.destination, item).await?)
    }

    /// Makes sure that the destination space belongs to this source and exists, before anything in it is written.
    ///
    /// One task claims and creates the space for all tasks under way. Otherwise each of them would be refused by the absent
    /// space, and would read its item once more.
    pub(super) async fn claim(&self) -> Result<(), EarlyExit> {
        let now = || self.shared.deps.clock.monotonic();
        if self.shared.ownership.holds(self.pair, now()) {
            return Ok(());
        }
        let _lock = self.shared.ownership.lock_space(self.pair).await;
        let now = now();
        if self.shared.ownership.holds(self.pair, now) {
            return Ok(());
        }
        self.claim_ownership().await?;
        if self.is_kept_and_exists().await? || self.create_if_absent().await? {
            self.shared.ownership.note(self.pair, now);
        }
        Ok(())
    }

    async fn claim_ownership(&self) -> Result<(), EarlyExit> {
        self.attempt.may_act()?;
        let source = self.pair.source_address();
        self.shared.deps.owners.claim(&DestinationSpace::of(self.pair), &source).await?;
        crash_point(crash_points::DUPLICATE_CLAIMED);
        Ok(())
    }

    /// `false` if the space does not exist. A space that cannot be looked at may exist: the write finds out.
    async fn is_kept_and_exists(&self) -> Result<bool, EarlyExit> {
        if !self.keep_space().await? {
            return Ok(false);
        }
        let known = self.shared.ownership.was_claimed(self.pair);
        Ok(known || !matches!(self.destination.space(&self.pair.space).await, Ok(Presence::Absent)))
    }

    /// Makes sure that no other Mill of this host keeps the same place in sync under another name. `false` if there is no such
    /// place yet.
    async fn keep_space(&self) -> Result<bool, EarlyExit> {
        Ok(self.shared.deps.stores.ensure_owned(self.pair, true).await?)
    }

    /// Claims and creates the destination space, unless another task created it since the count was `before`.
    pub(super) async fn create_space(&self, before: CreationCount) -> Result<(), EarlyExit> {
        let _lock = self.shared.ownership.lock_space(self.pair).await;
        if self.creations() != before {
            return Ok(());
        }
        let now = self.shared.deps.clock.monotonic();
        // A space that was removed lost its owner; the cached claim does not show that.
        self.claim_ownership().await?;
        self.keep_space().await?;
        if self.create_if_absent().await? {
            self.shared.ownership.note(self.pair, now);
        }
        Ok(())
    }

    /// How often this process created the destination space.
    pub(super) fn creations(&self) -> CreationCount {
        self.shared.ownership.creations(self.pair)
    }

    /// Creates the destination space if it is absent, and makes sure once more that no other Mill keeps it.
    async fn create_if_absent(&self) -> Result<bool, EarlyExit> {
        if !self.was_created_and_exists().await {
            let create = || self.destination.create_space(&self.pair.space);
            self.shared.retry.run_effect(self.attempt, create).await?;
            crash_point(crash_points::DUPLICATE_SPACE_CREATED);
            self.shared.ownership.note_created(self.pair);
        }
        self.keep_space().await
    }

    /// Whether this process created the space and it still exists: the space's own task may come after one of its items.
    async fn was_created_and_exists(&self) -> bool {
        self.creations() != CreationCount::default()
            && matches!(self.destination.space(&self.pair.space).await, Ok(Presence::Present(_)))
    }

    /// The sync proof of an item. One that cannot be read counts as none.
    pub(super) async fn sync_proof(&self, id: &ContentId) -> Option<SyncProof> {
        self.shared.deps.sync_proofs.get(self.pair, id).await.unwrap_or_else(|error| {
            self.warn_sync_proofs_failed(&error);
            None
        })
    }

    /// Remembers that both sides are proven equal. If the sync proof cannot be written, the items are read once more
    /// later.
    pub(super) async fn remember(&self, id: &ContentId, proven: VerifiedPair<'_>) {
        let Some(sync_proof) = SyncProof::of(proven.source, proven.destination, proven.checksum) else {
            // An older sync proof would make the new bytes look damaged. And Mill may delete only copies that it
            // remembers.
            let VerifiedPair { source, destination, .. } = proven;
            if let Err(error) = self.shared.deps.sync_proofs.put_copied(self.pair, id, source, destination).await {
                self.warn_sync_proofs_failed(&error);
            }
            return;
        };
        crash_point(crash_points::DUPLICATE_BEFORE_SEAL);
        if let Err(error) = self.shared.deps.sync_proofs.put(self.pair, id, &sync_proof).await {
            self.warn_sync_proofs_failed(&error);
        }
        crash_point(crash_points::DUPLICATE_SEALED);
    }

    /// Remembers that a copy is not a copy of the source's item with another spelling of its name.
    pub(super) async fn remember_no_twin(&self, id: &ContentId, destination: &Version) {
        if let Err(error) = self.shared.deps.sync_proofs.put_no_twin(self.pair, id, destination).await {
            self.warn_sync_proofs_failed(&error);
        }
    }

    fn warn_sync_proofs_failed(&self, error: &TableError) {
        if let Some(left_out) = self.shared.seal_warnings.admit(self.shared.deps.clock.monotonic()) {
            warn!(error = %error_chain(error), left_out, "the table of sync proofs fails; items will be read again");
        }
    }

    /// Refuses an item whose bytes a person must first restore from their archive tier. No task waits for that: it takes hours,
    /// and may never be requested.
    pub(super) fn ensure_online(&self, item: &ItemAddress, facts: &ItemFacts, side: Side) -> Result<(), EarlyExit> {
        let ItemState::Archived(tier) = &facts.state else { return Ok(()) };
        let kind = StoreErrorKind::Refused(RefusalReason::Archived(tier.clone()));
        Err(self.store_error(side, item, kind, "its store says so").into())
    }

    /// An error that Mill itself found while it read `item` in the store of `side`.
    pub(super) fn store_error(
        &self,
        side: Side,
        item: &ItemAddress,
        kind: StoreErrorKind,
        why: impl Into<BoxError>,
    ) -> StoreError {
        let store = match side {
            Side::Source => self.pair.source_address(),
            Side::Destination => self.pair.destination_address(),
        };
        StoreError { kind, op: "read", store, subject: item.to_string(), source: Some(why.into()) }
    }

    pub(super) fn log_left_in_place(&self, subject: &dyn std::fmt::Display, why: &'static str) {
        debug!(account = %self.pair.account, %subject, why, "left in place");
    }
}

/// Both sides of an item, proven equal.
#[derive(Debug, Clone, Copy)]
pub(super) struct VerifiedPair<'p> {
    /// The version at the source.
    pub(super) source: &'p Version,
    /// The version at the destination.
    pub(super) destination: &'p Version,
    /// The checksum of the bytes of both.
    pub(super) checksum: &'p Checksum,
}

/// One end of a store policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The side that is read.
    Source,
    /// The side that is written.
    Destination,
}

/// What an error of the source means for an item's task. If the source space is absent in a store that answers, nothing is done:
/// whether the space is deleted at the destination too is for a person to decide. The outcome of the item is not known.
pub(super) fn source_exit(error: StoreError) -> EarlyExit {
    match error.kind {
        StoreErrorKind::SpaceAbsent => EarlyExit::discard("its source space is not there; nothing is deleted for that"),
        _ => EarlyExit::Store(error),
    }
}
