//! Where destinations are, and who owns them: the remembered roots, and the claims on destinations.

mod originals;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use mill_local::{Database, OsClock, OsRng, RememberedDatabase, SqliteTable};
use mill_model::{SpaceId, StoreAddress};
use mill_ports::{
    BoxError, Engine, OwnerMark, PlaceInHolder, PlacedStore, RefusalReason, RootFacts, SpaceLocation, StoreError,
    StoreErrorKind, Table,
};
use mill_records::destinations::{ClaimOutcome, DestinationKeeper, DestinationPlace, Destinations};
use mill_records::places::{PlaceChange, PlaceRepository, RootPlace};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

pub(crate) use self::originals::FoundCopy;
use crate::host;
use crate::installation::SourceChange;
use crate::local_state;

/// The places of destinations, as a process knows them.
#[derive(Debug)]
pub struct DestinationPlaces {
    /// The remembered roots; opened when first needed.
    memory: OnceCell<PlaceRepository>,
    /// The table of the remembered roots, if it is not part of this user's state.
    table: Option<Arc<dyn Table>>,
    /// The register of all installations; opened when first needed.
    register: OnceCell<Destinations>,
    /// Whether the register is a scratch copy, to be changed in vain.
    is_scratch: bool,
    /// The destinations that were found at their remembered places, and whether that is remembered.
    found: Mutex<BTreeMap<StoreAddress, bool>>,
}

/// What to do about another's claim, for a message.
#[derive(Debug, Clone, Copy)]
pub struct Advice<'w>(pub(crate) &'w str);

impl DestinationPlaces {
    /// Stores the roots in the table of an engine on this host, else in this user's state.
    pub(crate) fn of(engine: &dyn Engine) -> Self {
        let table = (!engine.is_shared_by_hosts()).then(|| engine.table(PlaceRepository::TABLE));
        Self { table, ..Self::of_this_host() }
    }

    /// The same for a dry run, whose engine is a scratch copy: the register of all installations is one too.
    pub(crate) fn scratch(engine: &dyn Engine) -> Self {
        Self { is_scratch: true, ..Self::of(engine) }
    }

    /// The claims on destinations that this host knows of, without remembered roots of an installation.
    pub(crate) fn of_this_host() -> Self {
        let (memory, register, found) = (OnceCell::new(), OnceCell::new(), Mutex::default());
        Self { memory, table: None, register, is_scratch: false, found }
    }

    async fn memory(&self) -> anyhow::Result<&PlaceRepository> {
        let open = async || match &self.table {
            Some(table) => Ok(PlaceRepository::new(table.clone(), host::name())),
            None => Ok(PlaceRepository::new(self.shared(PlaceRepository::TABLE).await?, host::name())),
        };
        self.memory.get_or_try_init(open).await
    }

    async fn register(&self) -> anyhow::Result<&Destinations> {
        self.register.get_or_try_init(async || Ok(Destinations::new(self.shared(Destinations::TABLE).await?))).await
    }

    /// A table of what all installations of this host share.
    async fn shared(&self, table: &'static str) -> anyhow::Result<Arc<dyn Table>> {
        let is_scratch = self.is_scratch;
        // Its disk may take long to answer, and must not block other tasks.
        let opening = tokio::task::spawn_blocking(move || open_shared(table, is_scratch));
        opening.await.context("the register's opening broke off")?
    }

    /// Checks that a destination is at its remembered place, before anything is written there.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] with a [`MovedDestination`] when it is not, or with the error of the table.
    pub(crate) async fn check_root(&self, store: &StoreAddress, placed: &dyn PlacedStore) -> Result<(), StoreError> {
        self.check_root_place(store, placed, false).await
    }

    /// The same, and remembers its place for the next time.
    pub(crate) async fn check_and_remember_root(
        &self,
        store: &StoreAddress,
        placed: &dyn PlacedStore,
    ) -> Result<(), StoreError> {
        self.check_root_place(store, placed, true).await
    }

    async fn check_root_place(
        &self,
        store: &StoreAddress,
        placed: &dyn PlacedStore,
        remember: bool,
    ) -> Result<(), StoreError> {
        let found = self.found.lock().get(store).copied();
        if found.is_some_and(|remembered| remembered || !remember) {
            return Ok(());
        }
        let Some(now) = root_place(placed).await? else { return Ok(()) };
        let failed = |source: BoxError| StoreError {
            kind: StoreErrorKind::Unavailable,
            op: "use",
            store: store.clone(),
            subject: now.path.clone(),
            source: Some(source),
        };
        let memory = self.memory().await.map_err(|error| failed(error.into()))?;
        let met =
            if remember { memory.compare_and_remember(store, &now).await } else { memory.compare(store, &now).await };
        match met.map_err(|error| failed(error.into()))? {
            Ok(()) => {
                self.found.lock().insert(store.clone(), remember);
                Ok(())
            }
            Err(moved) => {
                // The right disk may be mounted there later.
                placed.forget_root();
                Err(failed(MovedDestination { path: now.path.clone(), moved }.into()))
            }
        }
    }

    /// The same for a space, which may be its own mount.
    async fn check_space_root(
        &self,
        store: &StoreAddress,
        (placed, space): (&dyn PlacedStore, &SpaceId),
    ) -> Result<(), StoreError> {
        let Some(now) = space_place(placed, space).await? else { return Ok(()) };
        let met = async { anyhow::Ok(self.memory().await?.compare_and_remember_space((store, space), &now).await?) };
        match met.await.map_err(|error| placed.unavailable(space, error.into()))? {
            Ok(()) => Ok(()),
            Err(moved) => Err(placed.unavailable(space, MovedDestination { path: now.path, moved }.into())),
        }
    }

    /// How the root of a source differs from the remembered one, and what is there now, if it does. The first is remembered.
    pub(crate) async fn compare_source(
        &self,
        store: &StoreAddress,
        placed: &dyn PlacedStore,
    ) -> anyhow::Result<Option<(PlaceChange, RootPlace)>> {
        let Some(now) = root_place(placed).await? else { return Ok(None) };
        let compared = self.memory().await?.compare_and_remember(store, &now).await?;
        Ok(compared.err().map(|change| (change, now)))
    }

    /// Remembers another root of a source, unless nothing is mounted there now.
    pub(crate) async fn remember_source(
        &self,
        SourceChange { change, found, .. }: &SourceChange,
    ) -> anyhow::Result<()> {
        if *change != PlaceChange::NotMounted {
            self.memory().await?.remember(&found.0, &found.1).await?;
        }
        Ok(())
    }

    /// Accepts what is at a destination's root and at its spaces now as the place of that store.
    pub async fn accept(&self, store: &StoreAddress, placed: &dyn PlacedStore) -> anyhow::Result<RootPlace> {
        let now = root_place(placed).await?;
        let now = now.with_context(|| format!("store `{store}` is where its name says"))?;
        let memory = self.memory().await?;
        memory.remember(store, &now).await?;
        for space in memory.spaces(store).await? {
            let there = space_place(placed, &space).await?;
            memory.accept_space((store, &space), there.as_ref()).await?;
        }
        Ok(now)
    }

    /// The remembered root of a store, and the result of the comparison with what is there now.
    pub async fn look(
        &self,
        store: &StoreAddress,
        placed: &dyn PlacedStore,
    ) -> anyhow::Result<(Option<RootPlace>, Result<(), String>)> {
        let remembered = self.memory().await?.root(store).await?;
        let mut now = match root_place(placed).await {
            Ok(now) => {
                remembered.as_ref().zip(now).and_then(|(before, now)| before.moved(&now)).map(|moved| moved.to_string())
            }
            Err(error) => Some(mill_ports::error_chain(&error)),
        };
        for space in self.memory().await?.spaces(store).await? {
            if let (None, Err(error)) = (&now, self.check_space_root(store, (placed, &space)).await) {
                now = Some(mill_ports::error_chain(&error));
            }
        }
        Ok((remembered, now.map_or(Ok(()), Err)))
    }

    /// Checks that no other Mill owns a space of a destination. With `claim`, this keeper becomes the owner. Returns
    /// `false` if the place does not exist yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] when another Mill owns it.
    pub(crate) async fn ensure_owned(
        &self,
        store: &StoreAddress,
        (placed, space): (&dyn PlacedStore, &SpaceId),
        keeper: &DestinationKeeper,
        (claim, way_out): (bool, Advice<'_>),
    ) -> Result<bool, StoreError> {
        self.check_space_root(store, (placed, space)).await?;
        let Some(location) = placed.space_location(space).await? else { return Ok(true) };
        if let Some((path, mark)) = location.marks.iter().find(|mark| !is_own(&location, mark, keeper)) {
            return Err(foreign(placed, &path.to_string_lossy(), &mark.shown, way_out));
        }
        if is_marked(&location, keeper) || (location.bears_marks && !claim) {
            return Ok(true);
        }
        match self.in_register(placed, &location, keeper, claim).await {
            Ok(ClaimOutcome::Ours) => {}
            Ok(ClaimOutcome::OwnedByAnother { keeper, place }) => {
                return Err(foreign(placed, &place.shown, &keeper.shown, way_out));
            }
            // The mark covers the place itself; the register is only needed for places inside one another.
            Err(error) if location.bears_marks => tracing::warn!("the register of destinations fails: {error:#}"),
            // Only the register of this host knows, so there is no promise anyway: other hosts may write there too.
            Err(error) if placed.is_known_by_name() => tracing::warn!(
                "whether another writes `{}` is not known: the register of destinations fails: {error:#}",
                location.path.display()
            ),
            Err(error) => return Err(placed.unavailable(space, error.into())),
        }
        if !claim || location.identity.is_none() || !location.bears_marks {
            return Ok(location.identity.is_some());
        }
        let known = location.marks.first().is_some_and(|(path, _)| *path == location.path);
        let DestinationKeeper { names, shown, original } = keeper.clone();
        let mark = OwnerMark { names, shown, original };
        if !placed.mark(space, mark, known).await? {
            let marks = placed.space_location(space).await?.map(|location| location.marks).unwrap_or_default();
            if let Some((path, mark)) = marks.iter().find(|(_, mark)| !keeper.is(&keeper_of(mark))) {
                return Err(foreign(placed, &path.to_string_lossy(), &mark.shown, way_out));
            }
        }
        Ok(true)
    }

    async fn in_register(
        &self,
        placed: &dyn PlacedStore,
        location: &SpaceLocation,
        keeper: &DestinationKeeper,
        claim: bool,
    ) -> anyhow::Result<ClaimOutcome> {
        let register = self.register().await?;
        let gone = |theirs: &DestinationPlace| {
            placed.is_gone(location, PlaceInHolder { within: &theirs.within, identity: &theirs.identity })
        };
        let place = registered(location);
        Ok(match (&location.identity, claim) {
            (Some(_), true) => register.claim(&place, keeper, gone).await?,
            _ => register.preview_claim(&place, keeper, gone).await?,
        })
    }

    /// Who keeps a place, or one around it or inside it, in sync: the place and its keeper's name.
    pub(crate) async fn keeper_around(
        &self,
        placed: &dyn PlacedStore,
        space: &SpaceId,
    ) -> anyhow::Result<Option<(String, String)>> {
        let Some(location) = placed.space_location(space).await? else { return Ok(None) };
        if let Some((path, mark)) = location.marks.first() {
            return Ok(Some((path.display().to_string(), mark.shown.clone())));
        }
        let nobody = DestinationKeeper { names: Vec::new(), shown: String::new(), original: None };
        Ok(match self.in_register(placed, &location, &nobody, false).await {
            Ok(ClaimOutcome::OwnedByAnother { keeper, place }) => Some((place.shown, keeper.shown)),
            Ok(ClaimOutcome::Ours) => None,
            // A rescue must not fail because Mill's own state does.
            Err(error) => {
                tracing::warn!(
                    "whether another keeps `{}` in sync is not known: the register of destinations fails: {error:#}",
                    location.path.display()
                );
                None
            }
        })
    }

    /// Releases a space of a destination. Returns the name of its keeper.
    pub async fn release(&self, placed: &dyn PlacedStore, space: &SpaceId) -> anyhow::Result<Option<String>> {
        let Some(location) = placed.space_location(space).await? else { return Ok(None) };
        let marked = location.marks.iter().find(|(path, _)| *path == location.path).map(|(_, mark)| mark.shown.clone());
        if location.identity.is_some() {
            placed.unmark(space).await?;
        }
        let released = self.register().await?.release(&registered(&location)).await?;
        Ok(marked.or(released.map(|keeper| keeper.shown)))
    }

    /// Whether exactly this place bears the mark of a keeper.
    pub(crate) async fn keeps(
        &self,
        (placed, space): (&dyn PlacedStore, &SpaceId),
        keeper: &DestinationKeeper,
    ) -> anyhow::Result<bool> {
        let Some(location) = placed.space_location(space).await? else { return Ok(false) };
        Ok(location.marks.first().is_some_and(|mark| is_own(&location, mark, keeper)))
    }

    /// What exactly this place knows a keeper as, if it is its keeper.
    pub(crate) async fn known_keeper(
        &self,
        (placed, space): (&dyn PlacedStore, &SpaceId),
        keeper: &DestinationKeeper,
    ) -> anyhow::Result<Option<DestinationKeeper>> {
        let Some(location) = placed.space_location(space).await? else { return Ok(None) };
        let known = match location.marks.first() {
            Some((path, mark)) if *path == location.path => Some(keeper_of(mark)),
            _ => self.register().await?.keeper(&registered(&location)).await?,
        };
        Ok(known.filter(|known| known.is(keeper)))
    }

    /// Releases a space and all places inside it. Returns the names of their keepers.
    pub(crate) async fn take_over(&self, placed: &dyn PlacedStore, space: &SpaceId) -> anyhow::Result<Vec<String>> {
        let Some(location) = placed.space_location(space).await? else { return Ok(Vec::new()) };
        let own = self.release(placed, space).await?;
        let inside = self.register().await?.release_inside(&registered(&location)).await?;
        Ok(own.into_iter().chain(inside.into_iter().map(|keeper| keeper.shown)).collect())
    }

    /// Who keeps a space of a destination in sync: the places and their keepers.
    pub async fn keepers(
        &self,
        placed: &dyn PlacedStore,
        space: &SpaceId,
    ) -> anyhow::Result<Vec<(String, DestinationKeeper)>> {
        let Some(location) = placed.space_location(space).await? else { return Ok(Vec::new()) };
        let marks = location.marks.iter().map(|(path, mark)| (path.display().to_string(), keeper_of(mark)));
        let mut keepers: Vec<_> = marks.collect();
        // What bears no mark itself may lie in a directory that does.
        if !location.bears_marks {
            let keeper = self.register().await?.keeper(&registered(&location)).await?;
            keepers.extend(keeper.map(|keeper| (location.path.display().to_string(), keeper)));
        }
        Ok(keepers)
    }
}

fn open_shared(table: &'static str, is_scratch: bool) -> anyhow::Result<Arc<dyn Table>> {
    let path = host::shared_folder()?.join("destinations.db");
    let (clock, rng) = (Arc::new(OsClock), Arc::new(OsRng));
    let database = if is_scratch {
        Database::scratch(&path, &RememberedDatabase::Nothing, clock, rng)
    } else {
        Database::open(&path, clock, rng)
    };
    let database = database
        .with_context(|| format!("the register of this host's destinations `{}` cannot be opened", path.display()))?;
    local_state::watch(
        &database,
        format!(
            "bring it back from a backup, or delete `{}`: what stands in it is asked of the destinations again",
            path.display()
        ),
    );
    Ok(Arc::new(SqliteTable::new(database, table)))
}

async fn root_place(placed: &dyn PlacedStore) -> Result<Option<RootPlace>, StoreError> {
    Ok(placed.root_facts().await?.map(remembered))
}

async fn space_place(placed: &dyn PlacedStore, space: &SpaceId) -> Result<Option<RootPlace>, StoreError> {
    Ok(placed.space_root_facts(space).await?.map(remembered))
}

/// The facts to remember of a directory.
fn remembered(facts: RootFacts) -> RootPlace {
    let RootFacts { path, identity, file_system, mounted } = facts;
    RootPlace { identity, file_system, mounted, path: path.display().to_string() }
}

fn registered(location: &SpaceLocation) -> DestinationPlace {
    DestinationPlace {
        holder: location.holder.clone(),
        within: location.within.clone(),
        identity: location.identity.clone().unwrap_or_default(),
        shown: location.path.display().to_string(),
    }
}

fn keeper_of(mark: &OwnerMark) -> DestinationKeeper {
    let OwnerMark { names, shown, original } = mark.clone();
    DestinationKeeper { names, shown, original }
}

/// Whether a mark is this keeper's, and on the space itself.
fn is_own(location: &SpaceLocation, (path, mark): &(PathBuf, OwnerMark), keeper: &DestinationKeeper) -> bool {
    *path == location.path && keeper.is(&keeper_of(mark))
}

/// Whether a space has this keeper's mark, with exactly its current names and original.
fn is_marked(location: &SpaceLocation, keeper: &DestinationKeeper) -> bool {
    location.marks.first().is_some_and(|(path, mark)| {
        *path == location.path && mark.names == keeper.names && mark.original == keeper.original
    })
}

/// The error for a place that another Mill owns.
fn foreign(placed: &dyn PlacedStore, place: &str, keeper: &str, way_out: Advice<'_>) -> StoreError {
    placed.refused("claim", place, anothers(place, keeper, way_out))
}

fn anothers(place: &str, keeper: &str, Advice(way_out): Advice<'_>) -> RefusalReason {
    RefusalReason::ForeignDestination(format!(
        "`{place}` is kept in sync by {keeper}, and two mirrors would remove each other's copies. Nothing was changed. Use another \
         place, neither in that one nor around it. Only if that mirror is not used any more: {way_out}"
    ))
}

/// A destination that is not at its remembered place.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is not what it was: {moved}")]
pub struct MovedDestination {
    path: String,
    moved: PlaceChange,
}

impl MovedDestination {
    /// The moved destination, if `error` is about one.
    pub(crate) fn of(error: &StoreError) -> Option<&Self> {
        error.source.as_ref()?.downcast_ref()
    }
}
