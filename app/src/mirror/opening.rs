//! Opens both ends of a mirror as the stores of an installation.

use std::sync::Arc;

use anyhow::{Result, bail};
use mill_model::{SpaceId, SpacePair, StoreAddress, StoreId};
use mill_policy::{AccountPolicy, Compare};
use mill_ports::{
    DeletableStore, DestinationStore as _, Engine, PlacedStore, Presence, RefusalReason, SourceStore as _, Statistics,
    StoreErrorKind,
};
use mill_records::destinations::DestinationKeeper;
use mill_records::owners::{DestinationSpace, Owners};
use mill_records::policies::PolicyRepository;
use mill_records::tables;
use mill_wrappers::{TrackedStore, TrackedStores};

use super::endpoint::Endpoint;
use super::known_pair::space_pair;
use super::pair::MirrorPair;
use super::{MirrorRequest, dry_run};
use crate::destination_places::{Advice, DestinationPlaces, MovedDestination};
use crate::installation::{Installation, SourceChange};
use crate::placement_checks::PlacementChecks;
use crate::store_choice::OpenedStore;
use crate::store_registry::{DestinationAccess, FolderOpener, MirrorStores, TAKE_OVER};
use crate::wait_limit::WaitLimit;

/// What both ends of a mirror are opened with.
pub(super) struct MirrorOpener<'m> {
    pub(super) pair: &'m MirrorPair,
    pub(super) request: &'m MirrorRequest,
    /// Whether the pair was mirrored before in this direction.
    pub(super) goes_on: bool,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) access: DestinationAccess,
    pub(super) wait_limit: &'m WaitLimit,
}

/// Both ends, and who keeps the destination.
struct OpenedMirror {
    from: OpenedStore,
    to: OpenedStore,
    keeper: DestinationKeeper,
}

impl MirrorOpener<'_> {
    /// Opens both ends, and checks that the destination is the remembered one and nobody else's.
    ///
    /// # Errors
    /// One of them cannot be used, or there is nothing at the source where something must be.
    pub(super) async fn open(self) -> Result<Installation> {
        let spaces = space_pair()?;
        let folders = FolderOpener::of(&*self.engine);
        let [source, destination] = [&spaces.source, &spaces.destination].map(|store| address(&spaces, store));
        let from = self.pair.source.open(&folders, source.clone(), &spaces.space).await?;
        let source_asked = self.tracked(&from, &source);
        let looks = (self.wait_limit, self.request.remove_vanished);
        let holds_something = self.pair.source.holds_something(&source_asked, &folders, looks).await?;
        let to = self.pair.destination.open(&folders, destination.clone(), &spaces.space).await?;
        let destination_asked = self.tracked(&to, &destination);
        self.ensure_bucket_is_there(&destination_asked, &spaces).await?;
        let places = Arc::new(match self.access {
            DestinationAccess::Write => DestinationPlaces::of(&*self.engine),
            DestinationAccess::Read { .. } | DestinationAccess::Missing => DestinationPlaces::scratch(&*self.engine),
        });
        let asked = self.statistics.begin_call(&source);
        let source_change = self.compare_source(&places, (&source, &*from.placed)).await?;
        let mut keeper = self.pair.keeper(self.request, &*from.placed).await?;
        if source_change.as_ref().is_some_and(|change| !change.accepted) && self.access != DestinationAccess::Missing {
            // The copy does not learn the names of a disk that is not its source yet: at another path that one would count as it.
            let known = places.known_keeper((&*to.placed, &spaces.space), &keeper).await?;
            keeper = known.unwrap_or(keeper);
        }
        // With `--create`, what is at the destination is not what the pair knows.
        let is_known = self.goes_on && !self.request.take_over && !self.request.create;
        if self.access != DestinationAccess::Missing && !is_known {
            let ends = (&*from.placed, &*to.placed);
            self.pair.ensure_not_kept_by_destination(ends, &places, (self.request, self.wait_limit)).await?;
        }
        asked.answered();
        // For S3, an overlap is found only right before the first write.
        let claim = holds_something && !to.placed.is_known_by_name();
        let asked = self.statistics.begin_call(&destination);
        if self.access != DestinationAccess::Missing {
            let checked = (&destination, &*to.placed, &spaces.space);
            check_destination(&places, checked, (&keeper, claim), self.request).await?;
        }
        asked.answered();
        if self.access == DestinationAccess::Write {
            destination_asked.remove_stale_uploads().await;
        }
        let installation = self.installation(spaces, OpenedMirror { from, to, keeper }, places);
        Ok(Installation { source_change, ..installation })
    }

    /// Whether another place is where the source was at the last run. It is remembered once a person says so, or the copy has all of it.
    async fn compare_source(
        &self,
        places: &DestinationPlaces,
        (store, source): (&StoreAddress, &dyn PlacedStore),
    ) -> Result<Option<SourceChange>> {
        let Some((change, now)) = places.compare_source(store, source).await? else { return Ok(None) };
        let change = SourceChange { change, accepted: self.request.accept_source, found: (store.clone(), now) };
        if change.accepted {
            places.remember_source(&change).await?;
        }
        Ok(Some(change))
    }

    /// A store whose calls are counted and timed.
    fn tracked(&self, opened: &OpenedStore, at: &StoreAddress) -> TrackedStore<dyn DeletableStore> {
        TrackedStore::new(opened.store.clone(), at.clone(), self.statistics.clone(), self.engine.clock())
    }

    /// Checks that the destination's bucket is there, unless it may be made.
    async fn ensure_bucket_is_there(&self, to: &TrackedStore<dyn DeletableStore>, spaces: &SpacePair) -> Result<()> {
        let destination = &self.pair.destination;
        if !matches!(destination, Endpoint::S3(_)) || self.request.create {
            return Ok(());
        }
        if matches!(self.wait_limit.wait_for(async || to.space(&spaces.space).await).await?, Presence::Present(_)) {
            return Ok(());
        }
        let owner = DestinationSpace { store: address(spaces, &spaces.destination), space: spaces.space.clone() };
        let was_there = Owners::new(self.engine.table(tables::OWNERS)).owner(&owner).await?.is_some();
        if was_there {
            bail!(
                "the bucket of the destination `{destination}` is not there, and an earlier run of this mirror wrote there or began to; \
                 bring it back, or pass --create to make it anew"
            );
        }
        bail!(destination.no_bucket());
    }

    /// The installation of both ends.
    fn installation(self, spaces: SpacePair, opened: OpenedMirror, places: Arc<DestinationPlaces>) -> Installation {
        let OpenedMirror { from, to, keeper } = opened;
        let misplaced = Arc::<PlacementChecks>::default();
        let ends: (Arc<dyn DeletableStore>, Arc<dyn DeletableStore>) = if self.access == DestinationAccess::Write {
            (from.store, to.store)
        } else {
            let addresses = (address(&spaces, &spaces.source), address(&spaces, &spaces.destination));
            let (from, to) = dry_run::read_only((&from, &to), addresses, self.access);
            (from, to)
        };
        let stores = MirrorStores {
            source: ends.0,
            destination: ends.1,
            source_placed: from.placed,
            destination_placed: to.placed,
            access: self.access,
            misplaced: misplaced.clone(),
            places: places.clone(),
            keeper,
            source_id: spaces.source.clone(),
        };
        let MirrorRequest { remove_vanished, dry_run, .. } = *self.request;
        let SpacePair { account, source, destination, space } = spaces;
        let policy = AccountPolicy::mirror(account, space, source, destination, Compare::Differences, remove_vanished);
        let policies = Arc::new(PolicyRepository::fixed(vec![policy]));
        let (clock, statistics) = (self.engine.clock(), self.statistics);
        let stores = Arc::new(TrackedStores { stores: Arc::new(stores), statistics: statistics.clone(), clock });
        let installation = Installation::of(self.engine, policies, (stores, statistics), (misplaced, places));
        Installation { dry_run, ..installation }
    }
}

fn address(spaces: &SpacePair, store: &StoreId) -> StoreAddress {
    StoreAddress::of(&spaces.account, store)
}

impl MirrorPair {
    /// The identity of this mirror for others that would write its destination: its source, by its path on this host
    /// and by its identity.
    async fn keeper(&self, request: &MirrorRequest, source: &dyn PlacedStore) -> Result<DestinationKeeper> {
        let names = self.source.keeper_names(source).await?;
        let original = source.space_location(&space_pair()?.space).await?.map(|location| location.as_original());
        Ok(DestinationKeeper { names, shown: format!("the mirror of `{}`", request.source.display()), original })
    }
}

/// Checks that the destination is at its remembered place and that no other Mill owns it, before anything is written
/// there. With `claim`, this mirror owns it from now on, else from the first write on.
async fn check_destination(
    places: &DestinationPlaces,
    (store, destination, space): (&StoreAddress, &dyn PlacedStore, &SpaceId),
    (keeper, claim): (&DestinationKeeper, bool),
    request: &MirrorRequest,
) -> Result<()> {
    if let Err(error) = places.check_and_remember_root(store, destination).await {
        match MovedDestination::of(&error) {
            Some(_) if request.create => drop(places.accept(store, destination).await?),
            // One of several disks that take turns at one place.
            Some(_) if places.keeps((destination, space), keeper).await? => {
                let shown = request.destination.display();
                tracing::info!(
                    "another disk is at `{shown}` than at the last run: one that bears the mark of this mirror"
                );
                drop(places.accept(store, destination).await?);
            }
            Some(elsewhere) => bail!(
                "the destination {elsewhere}. Nothing was written there. Mount what was there, or pass --create to begin \
                 with what is there now"
            ),
            None => return Err(error.into()),
        }
    }
    if request.dry_run && request.take_over {
        // A run would release it from its keeper first.
        return Ok(());
    }
    if request.take_over {
        for before in places.take_over(destination, space).await? {
            tracing::warn!("`{}` was taken over; {before} kept it in sync before", request.destination.display());
        }
    }
    let claim = claim && !request.dry_run;
    let kept = places.ensure_owned(store, (destination, space), keeper, (claim, Advice(TAKE_OVER))).await;
    match kept.map_err(|error| (error.kind.clone(), error)) {
        Err((StoreErrorKind::Refused(RefusalReason::ForeignDestination(words)), _)) => bail!(words),
        other => other.map(drop).map_err(|(_, error)| error.into()),
    }
}
