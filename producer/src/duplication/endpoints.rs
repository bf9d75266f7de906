//! The source and the destination of a morsel, opened for reading.

use std::sync::Arc;

use mill_model::{ContentId, SpacePair, StoreAddress, SumMismatch};
use mill_policy::{Compare, StorePolicy};
use mill_ports::{ListingError, Presence, RefusalReason, SourceStore, StoreError, StoreErrorKind};
use mill_records::delete_lists::DeleteListError;
use mill_records::owners::{DestinationSpace, OwnerError, Owners};
use mill_records::sync_proofs::SyncProofs;

use super::merge::{Merge, MergeError};
use super::nibble::Nibble;
use super::paths::PathRules;
use super::plan::PairBasis;
use crate::listing::OrderedListing;
use crate::looping::report::SpaceFailureKind;
use crate::looping::{MorselError, ReadBasis, ReaderPanicked};
use crate::timed_stores::{SilenceError, TimedStores};

/// Why a space is skipped in this session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpaceError {
    #[error("it cannot be looked at")]
    Store(#[from] StoreError),
    #[error("its destination cannot be listed")]
    Listing(#[from] ListingError),
    #[error("its comparison broke off")]
    Merge(#[from] MergeError),
    #[error("{0}")]
    OfAnotherMill(String),
    #[error("its destination may not be written")]
    Owner(#[from] OwnerError),
    #[error("its source is not there; whether it is gone or only not reachable is unknown")]
    SourceAbsent,
    #[error("its destination belongs to the source `{owner}`")]
    OwnedByAnother { owner: StoreAddress },
    #[error("its delete lists cannot be read or written")]
    DeleteLists(#[from] DeleteListError),
    #[error("the sum does not add up, so that something may have been passed over")]
    SumMismatch(#[from] SumMismatch),
    #[error("it cannot be looked at")]
    ReaderPanicked(#[from] ReaderPanicked),
    #[error("the policy contradicts itself: {reason}")]
    Stopped { reason: String },
}

impl MorselError for SpaceError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error)
            | Self::Listing(ListingError::Store(error))
            | Self::Merge(
                MergeError::Source(ListingError::Store(error)) | MergeError::Destination(ListingError::Store(error)),
            ) => Some(error),
            _ => None,
        }
    }

    fn failure_kind(&self) -> SpaceFailureKind {
        let is_refused = |error: &StoreError| error.kind == StoreErrorKind::Refused(RefusalReason::Unreadable);
        match self {
            Self::SourceAbsent => SpaceFailureKind::SourceAbsent,
            _ if self.of_store().is_some_and(is_refused) => SpaceFailureKind::Refused,
            _ if self.is_silence() => SpaceFailureKind::Silent,
            _ if self.may_pass() => SpaceFailureKind::MayPass,
            _ => SpaceFailureKind::Stays,
        }
    }

    /// A silent store is not tried again: the session has waited for it long enough.
    fn is_tried_again(&self) -> bool {
        self.may_pass() && !self.is_silence()
    }
}

impl SpaceError {
    /// The error of a destination that cannot be claimed. A refusal says all that a person needs to know.
    fn of_claim(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Refused(RefusalReason::ForeignDestination(why)) => Self::OfAnotherMill(why),
            _ => Self::Store(error),
        }
    }

    fn is_silence(&self) -> bool {
        self.of_store().is_some_and(SilenceError::is_why)
    }

    /// Whether the failure may pass by itself.
    fn may_pass(&self) -> bool {
        let listing = |error: &ListingError| match error {
            ListingError::Store(error) => error.kind.may_pass(),
            ListingError::BrokenOff { .. } => true,
            ListingError::OutOfOrder { .. } => false,
        };
        match self {
            Self::Store(error) => error.kind.may_pass(),
            Self::Listing(error) | Self::Merge(MergeError::Source(error) | MergeError::Destination(error)) => {
                listing(error)
            }
            Self::Merge(MergeError::SyncProofs(_))
            | Self::Owner(OwnerError::Table(_))
            | Self::DeleteLists(DeleteListError::Table(_) | DeleteListError::Changed { .. }) => true,
            Self::Owner(_)
            | Self::SourceAbsent
            | Self::SumMismatch(_)
            | Self::OwnedByAnother { .. }
            | Self::OfAnotherMill(_)
            | Self::DeleteLists(_)
            | Self::ReaderPanicked(_)
            | Self::Stopped { .. } => false,
        }
    }
}

/// Both stores of a morsel, and on which side its space is present.
///
/// The destination has the type that cannot write: a producer changes neither store.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    pub(crate) pair: SpacePair,
    pub(crate) policy: StorePolicy,
    pub(crate) source: Arc<dyn SourceStore>,
    pub(crate) destination: Arc<dyn SourceStore>,
    pub(crate) source_present: bool,
    pub(crate) destination_present: bool,
    /// Whether this source owns the destination space.
    pub(crate) owned: bool,
}

impl Endpoints {
    /// The basis of a read of both sides after `marker`.
    pub(crate) fn read_basis(&self, marker: Option<&ContentId>) -> ReadBasis<PairBasis> {
        let found = Some([self.source_present, self.destination_present, self.owned]);
        ReadBasis::Morsel(PairBasis { policy: self.policy.clone(), found, marker: marker.cloned() })
    }

    /// Opens both stores and checks on which side the space is present.
    pub(crate) async fn open(
        pair: &SpacePair,
        policy: StorePolicy,
        stores: &TimedStores,
        owners: &Owners,
    ) -> Result<Self, SpaceError> {
        // This check comes before the destination is opened, so that a refused destination is not cleaned up either.
        stores.ensure_no_overlap(pair).await?;
        let source = stores.source(&pair.account, &pair.source).await?;
        let destination = stores.destination(&pair.account, &pair.destination).await?;
        stores.is_kept(pair).await.map_err(SpaceError::of_claim)?;
        let source_present = is_present(&*source, pair).await?;
        let destination_present = is_present(&*destination, pair).await?;
        let place = DestinationSpace::of(pair);
        let owned = match owners.owner(&place).await? {
            Some(owner) if owner == pair.source_address() => true,
            Some(owner) => return Err(SpaceError::OwnedByAnother { owner }),
            None => {
                owners.ensure_no_original(&place, &pair.source_address()).await?;
                false
            }
        };
        Ok(Self { pair: pair.clone(), policy, source, destination, source_present, destination_present, owned })
    }

    /// The merge that finds the items to copy after `after`, with everything that can prove an item in sync. Where everything is
    /// queued anyway, failing proofs do not fail the merge.
    pub(crate) fn merge_for_copies(&self, sync_proofs: &SyncProofs, after: Option<&ContentId>) -> Merge {
        let destination = self.destination_present.then(|| self.list_destination(after));
        let sync_proofs = self.destination_present.then(|| sync_proofs.stream(&self.pair, after));
        let merge = Merge::new(self.list_source(after), destination, sync_proofs).with(self.paths(after));
        match self.policy.compare {
            Compare::Everything => merge.without_need_of_proofs(),
            Compare::Differences => merge,
        }
    }

    /// An empty nibble of its copies. `names_all`: whether every entry is to be kept by name.
    pub(crate) fn nibble(&self, names_all: bool) -> Nibble {
        Nibble::new(&self.pair, self.policy.compare).naming_all(names_all)
    }

    /// The merge of both sides and all proofs, to find items that only the destination has.
    pub(crate) fn merge_both_sides(&self, sync_proofs: &SyncProofs) -> Merge {
        let sync_proofs = sync_proofs.stream(&self.pair, None);
        Merge::new(self.list_source(None), Some(self.list_destination(None)), Some(sync_proofs)).with(self.paths(None))
    }

    /// The merge for a closing survey: the destination and the proofs take part only if the destination space is present.
    pub(crate) fn merge_for_closing(&self, sync_proofs: &SyncProofs) -> Merge {
        if self.destination_present {
            return self.merge_both_sides(sync_proofs);
        }
        Merge::new(self.list_source(None), None, None).with(self.paths(None))
    }

    /// The merge of the destination alone, for a source space that is missing.
    pub(crate) fn merge_destination_alone(&self) -> Merge {
        let nothing = OrderedListing::empty(&self.pair.space);
        Merge::new(nothing, Some(self.list_destination(None)), None)
    }

    fn paths(&self, after: Option<&ContentId>) -> PathRules {
        PathRules::of((&self.source, &self.destination), self.destination_present, &self.pair.space, after)
    }

    fn list_source(&self, after: Option<&ContentId>) -> OrderedListing {
        OrderedListing::open(&*self.source, &self.pair.space, after)
    }

    fn list_destination(&self, after: Option<&ContentId>) -> OrderedListing {
        OrderedListing::open(&*self.destination, &self.pair.space, after)
    }
}

async fn is_present(store: &dyn SourceStore, pair: &SpacePair) -> Result<bool, StoreError> {
    Ok(matches!(store.space(&pair.space).await?, Presence::Present(_)))
}
