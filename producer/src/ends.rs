//! The two ends of a morsel, opened to be read.

use std::sync::Arc;

use mill_model::{ContentId, StoreAddress, SumMismatch};
use mill_policy::{Compare, StorePolicy};
use mill_ports::{Presence, RefusalReason, SourceStore, StoreError, StoreErrorKind};
use mill_records::delete_lists::DeleteListError;
use mill_records::owners::{DestinationSpace, OwnerError, Owners};
use mill_records::sync_proofs::{SpacePair, SyncProofs};

use crate::copies::Nibble;
use crate::listing::{ListingError, OrderedListing};
use crate::merge::{Merge, MergeError};
use crate::paths::Paths;
use crate::report::Trouble;
use crate::session::{Basis, Broke};
use crate::stores::{ReadStores, Silence};

/// Why a space is passed over in this session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpaceError {
    #[error("it cannot be looked at")]
    Store(#[from] StoreError),
    #[error("its destination cannot be listed")]
    Listing(#[from] ListingError),
    #[error("its comparison broke off")]
    Merge(#[from] MergeError),
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
    Broke(#[from] Broke),
    #[error("the policy contradicts itself: {reason}")]
    Stopped { reason: String },
}

impl SpaceError {
    /// What a store answered, if that is why.
    pub(crate) fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error)
            | Self::Listing(ListingError::Store(error))
            | Self::Merge(
                MergeError::Source(ListingError::Store(error)) | MergeError::Destination(ListingError::Store(error)),
            ) => Some(error),
            _ => None,
        }
    }

    /// What is the matter, as others act on it.
    pub(crate) fn trouble(&self) -> Trouble {
        let is_refused = |error: &StoreError| error.kind == StoreErrorKind::Refused(RefusalReason::Unreadable);
        match self {
            Self::SourceAbsent => Trouble::SourceAbsent,
            _ if self.of_store().is_some_and(is_refused) => Trouble::Refused,
            _ if self.is_silence() => Trouble::Silent,
            _ if self.may_pass() => Trouble::MayPass,
            _ => Trouble::Stays,
        }
    }

    /// Whether it is tried again in this session. Who waited in vain for an answer has waited long enough.
    pub(crate) fn is_tried_again(&self) -> bool {
        self.may_pass() && !self.is_silence()
    }

    fn is_silence(&self) -> bool {
        self.of_store().is_some_and(Silence::is_why)
    }

    /// Whether it may well pass by itself.
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
            | Self::DeleteLists(_)
            | Self::Broke(_)
            | Self::Stopped { .. } => false,
        }
    }
}

/// Both stores of a morsel, and which of its spaces are there.
///
/// The destination is held by the type that cannot write: a producer changes nothing at either end.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) pair: SpacePair,
    pub(crate) policy: StorePolicy,
    pub(crate) source: Arc<dyn SourceStore>,
    pub(crate) destination: Arc<dyn SourceStore>,
    pub(crate) source_here: bool,
    pub(crate) destination_here: bool,
    /// Whether the destination's owner is surely this source.
    pub(crate) owned: bool,
}

impl Ends {
    /// What a reading of both is begun by, behind `marker`.
    pub(crate) fn basis(&self, marker: Option<&ContentId>) -> Basis {
        let found = Some([self.source_here, self.destination_here, self.owned]);
        Basis::SpacePair { policy: self.policy.clone(), found, marker: marker.cloned() }
    }

    /// Opens both stores and looks whether the space is there.
    pub(crate) async fn look(
        pair: &SpacePair,
        policy: StorePolicy,
        stores: &ReadStores,
        owners: &Owners,
    ) -> Result<Self, SpaceError> {
        // Before the destination is opened: what is refused is not tidied either.
        stores.ensure_apart(pair).await?;
        let source = stores.source(&pair.account, &pair.source).await?;
        let destination = stores.destination(&pair.account, &pair.destination).await?;
        stores.is_kept(pair).await?;
        let source_here = is_here(&*source, pair).await?;
        let destination_here = is_here(&*destination, pair).await?;
        let store = |store: &_| StoreAddress { account: pair.account.clone(), store: Clone::clone(store) };
        let place = DestinationSpace { store: store(&pair.destination), space: pair.space.clone() };
        let owned = match owners.owner(&place).await? {
            Some(owner) if owner == store(&pair.source) => true,
            Some(owner) => return Err(SpaceError::OwnedByAnother { owner }),
            None => false,
        };
        Ok(Self { pair: pair.clone(), policy, source, destination, source_here, destination_here, owned })
    }

    /// What is to be copied behind `after`, with all that can prove an item to be in sync. Where everything is queued anyway,
    /// no trouble with the proofs keeps it from that.
    pub(crate) fn to_copy(&self, seals: &SyncProofs, after: Option<&ContentId>) -> Merge {
        let destination = self.destination_here.then(|| self.list_destination(after));
        let seals = self.destination_here.then(|| seals.stream(&self.pair, after));
        let merge = Merge::new(self.list_source(after), destination, seals).with(self.paths(after));
        match self.policy.compare {
            Compare::Everything => merge.without_need_of_proofs(),
            Compare::Differences => merge,
        }
    }

    /// A nibble of its copies, with nothing in it.
    pub(crate) fn nibble(&self) -> Nibble {
        Nibble::new(&self.pair, self.policy.compare)
    }

    /// Both sides and what is known of their items, to find what only the destination has.
    pub(crate) fn both(&self, seals: &SyncProofs) -> Merge {
        let seals = seals.stream(&self.pair, None);
        Merge::new(self.list_source(None), Some(self.list_destination(None)), Some(seals)).with(self.paths(None))
    }

    /// Both sides and what is known of their items, where the destination is there.
    pub(crate) fn to_close(&self, seals: &SyncProofs) -> Merge {
        if self.destination_here {
            return self.both(seals);
        }
        Merge::new(self.list_source(None), None, None).with(self.paths(None))
    }

    /// All that the destination has, of a source space that is not there.
    pub(crate) fn all_at_destination(&self) -> Merge {
        let nothing = OrderedListing::of_nothing(&self.pair.space);
        Merge::new(nothing, Some(self.list_destination(None)), None)
    }

    fn paths(&self, after: Option<&ContentId>) -> Paths {
        Paths::of((&self.source, &self.destination), self.destination_here, &self.pair.space, after)
    }

    fn list_source(&self, after: Option<&ContentId>) -> OrderedListing {
        OrderedListing::open(&*self.source, &self.pair.space, after)
    }

    fn list_destination(&self, after: Option<&ContentId>) -> OrderedListing {
        OrderedListing::open(&*self.destination, &self.pair.space, after)
    }
}

async fn is_here(store: &dyn SourceStore, pair: &SpacePair) -> Result<bool, StoreError> {
    Ok(matches!(store.space(&pair.space).await?, Presence::Present(_)))
}
