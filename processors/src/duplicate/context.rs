//! Both sides of a store policy during one attempt, and the calls on them, each with its few tries.

use std::sync::Arc;

use mill_model::{Checksum, ContentId, ItemAddress, ItemFacts, ItemState, Version};
use mill_ports::{
    Attempt, CrashPoint, DestinationStore, FailureClass, PlantedBug, Presence, RefusalReason, SourceStore, SpaceFacts,
    StoreError, StoreErrorKind, TableError, crash_point, error_chain, planted,
};
use mill_records::owners::{DestinationSpace, OwnerError};
use mill_records::sync_proofs::{SpacePair, SyncProof};
use tracing::{debug, warn};

use super::ownership_cache::CreationCount;
use super::{DuplicateShared, address};
use crate::early_exit::EarlyExit;
use mill_policy::StorePolicy;

/// What one attempt works with.
pub(super) struct AttemptContext<'a> {
    pub(super) room: &'a DuplicateShared,
    pub(super) pair: &'a SpacePair,
    pub(super) attempt: &'a Attempt,
    pub(super) policy: StorePolicy,
    pub(super) source: Arc<dyn SourceStore>,
    pub(super) destination: Arc<dyn DestinationStore>,
}

impl AttemptContext<'_> {
    /// What the source says of an item. `Absent` is a definite no.
    pub(super) async fn source_head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, EarlyExit> {
        match self.room.tries.of(|| self.source.head(item)).await {
            Err(error) if planted(PlantedBug::DeniedReadAsAbsent) && error.kind == StoreErrorKind::Unavailable => {
                Ok(Presence::Absent)
            }
            other => other.map_err(of_source),
        }
    }

    /// Whether the source space is there. `Absent` only where its store answers.
    pub(super) async fn source_space(&self) -> Result<Presence<SpaceFacts>, EarlyExit> {
        Ok(self.room.tries.of(|| self.source.space(&self.pair.space)).await?)
    }

    /// What the destination says of an item; in a space that is not there, there is none.
    pub(super) async fn destination_head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, EarlyExit> {
        match self.room.tries.of(|| self.destination.head(item)).await {
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => Ok(Presence::Absent),
            other => Ok(other?),
        }
    }

    /// Makes sure that the destination space is this source's, and is there, before anything in it is written.
    ///
    /// One task asks and makes for all that are under way: each of them would be refused by a space that is not there, and
    /// would read its item once more.
    pub(super) async fn claim(&self) -> Result<(), EarlyExit> {
        let now = || self.room.deps.clock.monotonic();
        if self.room.claims.holds(self.pair, now()) {
            return Ok(());
        }
        let _turn = self.room.claims.turn(self.pair).await;
        let now = now();
        if self.room.claims.holds(self.pair, now) {
            return Ok(());
        }
        self.claim_in_book().await?;
        if self.is_kept_and_there().await? || self.make_space().await? {
            self.room.claims.note(self.pair, now);
        }
        Ok(())
    }

    async fn claim_in_book(&self) -> Result<(), EarlyExit> {
        self.attempt.may_act()?;
        let source = address(&self.pair.account, &self.pair.source);
        match self.room.deps.owners.claim(&self.place(), &source).await {
            Ok(()) => {
                crash_point(CrashPoint::DuplicateClaimed);
                Ok(())
            }
            Err(OwnerError::Table(error)) => Err(of_book(error)),
            Err(refusal) => Err(EarlyExit::Refused { reason: error_chain(&refusal) }),
        }
    }

    /// `false` where there is no such space. One that cannot be looked at may be there: the write tells.
    async fn is_kept_and_there(&self) -> Result<bool, EarlyExit> {
        if !self.keep().await? {
            return Ok(false);
        }
        let known = self.room.claims.held_before(self.pair);
        Ok(known || !matches!(self.destination.space(&self.pair.space).await, Ok(Presence::Absent)))
    }

    /// Makes sure that no other Mill of this host keeps the same place in sync under another name. `false` where there is no
    /// such place yet.
    async fn keep(&self) -> Result<bool, EarlyExit> {
        let SpacePair { account, destination, space, .. } = self.pair;
        Ok(self.room.deps.stores.keep(account, destination, space, true).await?)
    }

    /// Claims the destination space and creates it, unless another task did so since it had been made `before`.
    pub(super) async fn create_space(&self, before: CreationCount) -> Result<(), EarlyExit> {
        let _turn = self.room.claims.turn(self.pair).await;
        if self.made() != before {
            return Ok(());
        }
        let now = self.room.deps.clock.monotonic();
        // One that was removed lost its owner, which a claim known from before does not tell.
        self.claim_in_book().await?;
        self.keep().await?;
        if self.make_space().await? {
            self.room.claims.note(self.pair, now);
        }
        Ok(())
    }

    /// How often the destination space was made.
    pub(super) fn made(&self) -> CreationCount {
        self.room.claims.made(self.pair)
    }

    /// Creates the destination space, if there is none, and makes sure once more that it is no other's.
    async fn make_space(&self) -> Result<bool, EarlyExit> {
        if !self.made_and_there().await {
            self.attempt.may_act()?;
            self.room.tries.of(|| self.destination.create_space(&self.pair.space)).await?;
            crash_point(CrashPoint::DuplicateSpaceCreated);
            self.room.claims.note_made(self.pair);
        }
        self.keep().await
    }

    /// Whether this process made the space, and it is still there: the space's own task may come after one of its items.
    async fn made_and_there(&self) -> bool {
        self.made() != CreationCount::default()
            && matches!(self.destination.space(&self.pair.space).await, Ok(Presence::Present(_)))
    }

    pub(super) fn place(&self) -> DestinationSpace {
        DestinationSpace { store: address(&self.pair.account, &self.pair.destination), space: self.pair.space.clone() }
    }

    /// The seal on an item, where one could prove anything. One that cannot be had is one that was lost.
    pub(super) async fn seal(&self, id: &ContentId) -> Option<SyncProof> {
        self.room.deps.seals.get(self.pair, id).await.unwrap_or_else(|error| {
            self.warn_of_seals(&error);
            None
        })
    }

    /// Remembers that both sides were proven alike. A seal that is not written costs a re-read later.
    pub(super) async fn remember(&self, id: &ContentId, proven: VerifiedPair<'_>) {
        let Some(seal) = SyncProof::of(proven.source, proven.destination, proven.checksum) else {
            // A seal left from before would have other bytes taken for damaged; and what Mill wrote it may delete.
            let VerifiedPair { source, destination, .. } = proven;
            if let Err(error) = self.room.deps.seals.put_copied(self.pair, id, source, destination).await {
                self.warn_of_seals(&error);
            }
            return;
        };
        crash_point(CrashPoint::DuplicateBeforeSeal);
        if let Err(error) = self.room.deps.seals.put(self.pair, id, &seal).await {
            self.warn_of_seals(&error);
        }
        crash_point(CrashPoint::DuplicateSealed);
    }

    /// Remembers that a copy is no copy of what the source has under another spelling of its name.
    pub(super) async fn remember_no_twin(&self, id: &ContentId, destination: &Version) {
        if let Err(error) = self.room.deps.seals.put_no_twin(self.pair, id, destination).await {
            self.warn_of_seals(&error);
        }
    }

    fn warn_of_seals(&self, error: &TableError) {
        if let Some(left_out) = self.room.seal_warnings.pass(self.room.deps.clock.monotonic()) {
            warn!(error = %error_chain(error), left_out, "the book of seals fails; items will be read again");
        }
    }

    /// Refuses to read an item whose bytes a person must bring back from their archive tier first. No task waits for that: it
    /// takes hours, and is asked for or not.
    pub(super) fn readable(&self, item: &ItemAddress, facts: &ItemFacts, side: Side) -> Result<(), EarlyExit> {
        let ItemState::Archived(tier) = &facts.state else { return Ok(()) };
        let kind = StoreErrorKind::Refused(RefusalReason::Archived(tier.clone()));
        Err(self.found(side, item, kind, "its store says so").into())
    }

    /// A failure found by Mill itself while it read `item` in the store `side`.
    pub(super) fn found(&self, side: Side, item: &ItemAddress, kind: StoreErrorKind, why: &'static str) -> StoreError {
        let store = match side {
            Side::Source => &self.pair.source,
            Side::Destination => &self.pair.destination,
        };
        StoreError {
            kind,
            op: "read",
            store: address(&self.pair.account, store),
            subject: item.to_string(),
            source: Some(why.into()),
        }
    }

    pub(super) fn left_in_place(&self, subject: &dyn std::fmt::Display, why: &'static str) {
        debug!(account = %self.pair.account, %subject, why, "left in place");
    }
}

/// Both sides of an item, proven alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct VerifiedPair<'p> {
    /// The source's state.
    pub(super) source: &'p Version,
    /// The destination's state.
    pub(super) destination: &'p Version,
    /// What the bytes of both come to.
    pub(super) checksum: &'p Checksum,
}

/// One end of a store policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that is read.
    Source,
    /// The one that is written.
    Destination,
}

/// What a failure of the source means for an item's task. A source space that is not there, in a store that answers, asks
/// for nothing: whether it goes at the destination too is for a person to decide. What became of the item is not known.
pub(super) fn of_source(error: StoreError) -> EarlyExit {
    match error.kind {
        StoreErrorKind::SpaceAbsent => EarlyExit::discard("its source space is not there; nothing is deleted for that"),
        _ => EarlyExit::Store(error),
    }
}

/// A book that fails, where going on without it is not safe.
pub(super) fn of_book(error: TableError) -> EarlyExit {
    EarlyExit::Failed { class: FailureClass::Retryable, source: error.into() }
}
