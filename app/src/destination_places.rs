//! Where destinations are, and whose: the memory of their roots, and the claims on what they write.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use mill_local::folder::{FolderStore, OwnerMark, RootFacts, SpaceLocation, identity_at};
use mill_local::{Database, OsClock, OsRng, SqliteTable};
use mill_model::{SpaceId, StoreAddress};
use mill_ports::{BoxError, Engine, RefusalReason, StoreError, StoreErrorKind, Table};
use mill_records::destinations::{ClaimOutcome, DestinationKeeper, DestinationPlace, Destinations};
use mill_records::places::{PlaceChange, PlaceRepository, RootPlace};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::host;
use crate::local_state;
use crate::store_registry::StoreHandle;

/// What a process knows of the places of destinations.
#[derive(Debug)]
pub struct DestinationPlaces {
    /// The memory of roots; opened when first needed.
    memory: OnceCell<PlaceRepository>,
    /// Where it is kept, if not among this user's state.
    table: Option<Arc<dyn Table>>,
    /// The register of all installations; opened when first needed.
    register: OnceCell<Destinations>,
    /// The destinations that were found where they had been, and whether that is remembered.
    found: Mutex<BTreeMap<StoreAddress, bool>>,
}

/// What is to be done about another's claim, for a message.
#[derive(Debug, Clone, Copy)]
pub struct Advice<'w>(pub(crate) &'w str);

impl DestinationPlaces {
    /// Kept in the table of an engine on this host, else among this user's state.
    pub(crate) fn of(engine: &dyn Engine) -> Self {
        let table = (!engine.is_shared_by_hosts()).then(|| engine.table(PlaceRepository::TABLE));
        Self { memory: OnceCell::new(), table, register: OnceCell::new(), found: Mutex::default() }
    }

    async fn memory(&self) -> anyhow::Result<&PlaceRepository> {
        let open = async || match &self.table {
            Some(table) => Ok(PlaceRepository::new(table.clone(), host::name())),
            None => Ok(PlaceRepository::new(shared(PlaceRepository::TABLE).await?, host::name())),
        };
        self.memory.get_or_try_init(open).await
    }

    async fn register(&self) -> anyhow::Result<&Destinations> {
        self.register.get_or_try_init(async || Ok(Destinations::new(shared(Destinations::TABLE).await?))).await
    }

    /// Makes sure that a destination stands where it stood, before anything is written there.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] with a [`MovedDestination`] when it does not, or with what the memory said.
    pub(crate) async fn is_where_it_was(&self, store: &StoreAddress, folder: &FolderStore) -> Result<(), StoreError> {
        self.look_for(store, folder, false).await
    }

    /// The same; and what stands there is remembered, so that it is known the next time.
    pub(crate) async fn stands_there(&self, store: &StoreAddress, folder: &FolderStore) -> Result<(), StoreError> {
        self.look_for(store, folder, true).await
    }

    async fn look_for(&self, store: &StoreAddress, folder: &FolderStore, remember: bool) -> Result<(), StoreError> {
        let found = self.found.lock().get(store).copied();
        if found.is_some_and(|remembered| remembered || !remember) {
            return Ok(());
        }
        let now = root_place(folder).await?;
        let failed = |source: BoxError| StoreError {
            kind: StoreErrorKind::Unavailable,
            op: "use",
            store: store.clone(),
            subject: now.path.clone(),
            source: Some(source),
        };
        let memory = self.memory().await.map_err(|error| failed(error.into()))?;
        let met = if remember { memory.meet(store, &now).await } else { memory.look(store, &now).await };
        match met.map_err(|error| failed(error.into()))? {
            Ok(()) => {
                self.found.lock().insert(store.clone(), remember);
                Ok(())
            }
            Err(moved) => {
                // What is mounted there later may be it.
                folder.forget_root();
                Err(failed(MovedDestination { path: now.path.clone(), moved }.into()))
            }
        }
    }

    /// The same of a space, which may be a mount of its own.
    async fn space_is_where_it_was(
        &self,
        store: &StoreAddress,
        (folder, space): (&FolderStore, &SpaceId),
    ) -> Result<(), StoreError> {
        let Some(now) = space_place(folder, space).await? else { return Ok(()) };
        let met = async { anyhow::Ok(self.memory().await?.meet_space((store, space), &now).await?) };
        match met.await.map_err(|error| folder.unavailable(space, error.into()))? {
            Ok(()) => Ok(()),
            Err(moved) => Err(folder.unavailable(space, MovedDestination { path: now.path, moved }.into())),
        }
    }

    /// Remembers what stands at a destination's root now, and at its spaces, as the place of that store.
    pub async fn accept(&self, store: &StoreAddress, folder: &FolderStore) -> anyhow::Result<RootPlace> {
        let now = root_place(folder).await?;
        let memory = self.memory().await?;
        memory.remember(store, &now).await?;
        for space in memory.spaces(store).await? {
            let there = space_place(folder, &space).await?;
            memory.accept_space((store, &space), there.as_ref()).await?;
        }
        Ok(now)
    }

    /// What is remembered of a store's root, and what is to be said of what stands there now.
    pub async fn look(
        &self,
        store: &StoreAddress,
        folder: &FolderStore,
    ) -> anyhow::Result<(Option<RootPlace>, Result<(), String>)> {
        let remembered = self.memory().await?.root(store).await?;
        let mut now = match root_place(folder).await {
            Ok(now) => remembered.as_ref().and_then(|before| before.moved(&now)).map(|moved| moved.to_string()),
            Err(error) => Some(mill_ports::error_chain(&error)),
        };
        for space in self.memory().await?.spaces(store).await? {
            if let (None, Err(error)) = (&now, self.space_is_where_it_was(store, (folder, &space)).await) {
                now = Some(mill_ports::error_chain(&error));
            }
        }
        Ok((remembered, now.map_or(Ok(()), Err)))
    }

    /// Makes sure that a space of a destination is no other Mill's; with `claim`, it becomes this keeper's, or it is `false`
    /// where there is no such place yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] when it is another's.
    pub(crate) async fn keep(
        &self,
        store: &StoreAddress,
        (itself, space): (&StoreHandle, &SpaceId),
        keeper: &DestinationKeeper,
        claim: (bool, Advice<'_>),
    ) -> Result<bool, StoreError> {
        match itself {
            StoreHandle::Folder(folder) => self.keep_folder(store, (folder, space), keeper, claim).await,
            StoreHandle::S3(remote) => match remote.ground(space) {
                Some(ground) => self.keep_remote(store, &ground, keeper, claim).await,
                None => Ok(true),
            },
        }
    }

    /// In S3 there is no mark: only the register of this host knows.
    async fn keep_remote(
        &self,
        store: &StoreAddress,
        ground: &DestinationPlace,
        keeper: &DestinationKeeper,
        (claim, way_out): (bool, Advice<'_>),
    ) -> Result<bool, StoreError> {
        let asked = async {
            let register = self.register().await?;
            let gone = |_: &DestinationPlace| false;
            anyhow::Ok(if claim {
                register.claim(ground, keeper, gone).await?
            } else {
                register.look(ground, keeper, gone).await?
            })
        };
        match asked.await {
            Ok(ClaimOutcome::Ours) => Ok(true),
            Ok(ClaimOutcome::Anothers { keeper, ground }) => Err(StoreError {
                kind: StoreErrorKind::Refused(anothers(&ground.shown, &keeper.shown, way_out)),
                op: "claim",
                store: store.clone(),
                subject: ground.shown,
                source: None,
            }),
            Err(error) => {
                let place = &ground.shown;
                tracing::warn!(
                    "whether another writes `{place}` is not known: the register of destinations fails: {error:#}"
                );
                Ok(true)
            }
        }
    }

    async fn keep_folder(
        &self,
        store: &StoreAddress,
        (folder, space): (&FolderStore, &SpaceId),
        keeper: &DestinationKeeper,
        (claim, way_out): (bool, Advice<'_>),
    ) -> Result<bool, StoreError> {
        self.space_is_where_it_was(store, (folder, space)).await?;
        let ground = folder.space_location(space).await?;
        let other = ground.marks.iter().find(|(_, mark)| !keeper.is(&keeper_of(mark)));
        if let Some((path, mark)) = other {
            let refusal = anothers(&path.to_string_lossy(), &mark.shown, way_out);
            return Err(folder.refused("claim", refusal));
        }
        if is_marked(&ground, keeper) || (ground.bears_marks && !claim) {
            return Ok(true);
        }
        match self.in_register(&ground, keeper, claim).await {
            Ok(ClaimOutcome::Ours) => {}
            Ok(ClaimOutcome::Anothers { keeper, ground }) => {
                return Err(folder.refused("claim", anothers(&ground.shown, &keeper.shown, way_out)));
            }
            // The mark is about the place itself; only the register knows of places that lie in one another.
            Err(error) if ground.bears_marks => tracing::warn!("the register of destinations fails: {error:#}"),
            Err(error) => return Err(folder.unavailable(space, error.into())),
        }
        if !claim || ground.identity.is_none() || !ground.bears_marks {
            return Ok(ground.identity.is_some());
        }
        let known = ground.marks.first().is_some_and(|(path, _)| *path == ground.path);
        let mark = OwnerMark { names: keeper.names.clone(), shown: keeper.shown.clone() };
        if !folder.mark(space, mark, known).await? {
            let marks = folder.space_location(space).await?.marks;
            if let Some((path, mark)) = marks.iter().find(|(_, mark)| !keeper.is(&keeper_of(mark))) {
                let refusal = anothers(&path.to_string_lossy(), &mark.shown, way_out);
                return Err(folder.refused("claim", refusal));
            }
        }
        Ok(true)
    }

    async fn in_register(
        &self,
        ground: &SpaceLocation,
        keeper: &DestinationKeeper,
        claim: bool,
    ) -> anyhow::Result<ClaimOutcome> {
        let register = self.register().await?;
        let gone = |theirs: &DestinationPlace| is_gone(theirs, ground);
        let place = registered(ground);
        Ok(match (&ground.identity, claim) {
            (Some(_), true) => register.claim(&place, keeper, gone).await?,
            _ => register.look(&place, keeper, gone).await?,
        })
    }

    /// Makes a space of a destination nobody's. Gives what its keeper was called.
    pub async fn release(&self, itself: &StoreHandle, space: &SpaceId) -> anyhow::Result<Option<String>> {
        let folder = match itself {
            StoreHandle::Folder(folder) => folder,
            StoreHandle::S3(remote) => {
                let Some(ground) = remote.ground(space) else { return Ok(None) };
                return Ok(self.register().await?.release(&ground).await?.map(|keeper| keeper.shown));
            }
        };
        let ground = folder.space_location(space).await?;
        let marked = ground.marks.iter().find(|(path, _)| *path == ground.path).map(|(_, mark)| mark.shown.clone());
        if ground.identity.is_some() {
            folder.unmark(space).await?;
        }
        let released = self.register().await?.release(&registered(&ground)).await?;
        Ok(marked.or(released.map(|keeper| keeper.shown)))
    }

    /// Who keeps a space of a destination in sync: the places and their keepers.
    pub async fn keepers(&self, itself: &StoreHandle, space: &SpaceId) -> anyhow::Result<Vec<(String, String)>> {
        Ok(match itself {
            StoreHandle::Folder(folder) => {
                let marks = folder.space_location(space).await?.marks.into_iter();
                marks.map(|(path, mark)| (path.display().to_string(), mark.shown)).collect()
            }
            StoreHandle::S3(remote) => {
                let Some(ground) = remote.ground(space) else { return Ok(Vec::new()) };
                let keeper = self.register().await?.keeper(&ground).await?;
                keeper.map(|keeper| (ground.shown, keeper.shown)).into_iter().collect()
            }
        })
    }
}

/// A table of what all installations of this host share.
async fn shared(table: &'static str) -> anyhow::Result<Arc<dyn Table>> {
    // Its disk may take long to answer, and others are to be heard meanwhile.
    tokio::task::spawn_blocking(move || open_shared(table)).await.context("the register's opening broke off")?
}

fn open_shared(table: &'static str) -> anyhow::Result<Arc<dyn Table>> {
    let path = host::shared_folder()?.join("destinations.db");
    let database = Database::open(&path, Arc::new(OsClock), Arc::new(OsRng))
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

async fn root_place(folder: &FolderStore) -> Result<RootPlace, StoreError> {
    let RootFacts { identity, file_system, mounted } = folder.root_facts().await?;
    Ok(RootPlace { identity, file_system, mounted, path: folder.root_path().display().to_string() })
}

async fn space_place(folder: &FolderStore, space: &SpaceId) -> Result<Option<RootPlace>, StoreError> {
    let path = folder.root_path().join(space.as_str()).display().to_string();
    let facts = folder.space_root_facts(space).await?;
    Ok(facts.map(|RootFacts { identity, file_system, mounted }| RootPlace { identity, file_system, mounted, path }))
}

fn registered(ground: &SpaceLocation) -> DestinationPlace {
    DestinationPlace {
        holder: ground.file_system.clone(),
        within: ground.within.clone(),
        identity: ground.identity.clone().unwrap_or_default(),
        shown: ground.path.display().to_string(),
    }
}

/// Whether a place of the same file system, which lies in `ground` or around it, is surely not there any more.
fn is_gone(theirs: &DestinationPlace, ground: &SpaceLocation) -> bool {
    let beneath = theirs.within.strip_prefix(&ground.within).ok().map(|inner| ground.path.join(inner));
    let around = || {
        let inner = ground.within.strip_prefix(&theirs.within).ok()?;
        ground.path.ancestors().nth(inner.components().count()).map(Path::to_owned)
    };
    let Some(path) = beneath.or_else(around) else { return false };
    match identity_at(&path) {
        Ok(now) => now != theirs.identity,
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

fn keeper_of(mark: &OwnerMark) -> DestinationKeeper {
    DestinationKeeper { names: mark.names.clone(), shown: mark.shown.clone() }
}

/// Whether a space bears this keeper's mark, under all its names of today.
fn is_marked(ground: &SpaceLocation, keeper: &DestinationKeeper) -> bool {
    ground.marks.first().is_some_and(|(path, mark)| *path == ground.path && mark.names == keeper.names)
}

fn anothers(place: &str, keeper: &str, Advice(way_out): Advice<'_>) -> RefusalReason {
    RefusalReason::ForeignDestination(format!(
        "`{place}` is kept in sync by {keeper}, and two sources would remove each other's copies; if that is not to \
         write there any more: {way_out}"
    ))
}

/// A destination that does not stand where it stood.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` may not be what it was: {moved}")]
pub struct MovedDestination {
    path: String,
    moved: PlaceChange,
}

impl MovedDestination {
    /// It, if that is what failed.
    pub(crate) fn of(error: &StoreError) -> Option<&Self> {
        error.source.as_ref()?.downcast_ref()
    }
}
