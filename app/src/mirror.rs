//! A mirror: makes one folder or bucket a faithful copy of another, without a configuration.

mod dry_run;
mod endpoint;
mod known_pair;
mod pair_state;
mod source;
mod swapped_ends;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mill_local::folder::mode_for_copy;
use mill_local::{Identity, RememberedDatabase};
use mill_model::{Algorithm, Checksum, SpaceId, SpacePair, StoreAddress, StoreId};
use mill_policy::{AccountPolicy, Compare};
use mill_ports::{
    DeletableStore, DestinationStore as _, Engine, PlacedStore, Presence, RefusalReason, SourceStore as _, Statistics,
    StoreErrorKind,
};
use mill_producer::{AbsentSource, QueueSizing, WhenFull};
use mill_records::destinations::DestinationKeeper;
use mill_records::owners::{DestinationSpace, Owners};
use mill_records::policies::PolicyRepository;
use mill_records::tables;
use mill_run::silence::{one_answer_max, unless_silent};
use mill_workman::{OnFinalFailure, OnUnavailable, WorkmanSettings};
use mill_wrappers::{TrackedStore, TrackedStores};
use sha2::{Digest, Sha256};

pub use self::endpoint::EndpointOptions;
pub(crate) use self::endpoint::{Endpoint, FolderPath};
use self::known_pair::space_pair;
pub(crate) use self::known_pair::{OpenedEnds, RememberedMirror};
pub use self::known_pair::{engine_of, queues_of};
use self::pair_state::PairState;
use crate::UsageError;
use crate::destination_places::{Advice, DestinationPlaces, MovedDestination};
use crate::files::{create_folder, create_folder_with};
use crate::host;
use crate::installation::{Installation, producer_defaults, workman_defaults};
use crate::placement_checks::PlacementChecks;
use crate::result_code::ResultCode;
use crate::run_record::RunRecord;
use crate::run_summary::RunSummary;
use crate::stop_tokens::{StopTokens, StoppedError};
use crate::store_registry::{DestinationAccess, FolderOpener, MirrorStores, TAKE_OVER};
use crate::subject_names::SubjectNames;
use crate::wait_limit::WaitLimit;

/// A person's request for a mirror.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of the command line
pub struct MirrorRequest {
    /// The folder to copy, or `s3://BUCKET/PREFIX`, as it was typed.
    pub source: PathBuf,
    /// The folder to bring in sync, or `s3://BUCKET/PREFIX`, as it was typed.
    pub destination: PathBuf,
    /// How to reach the source in S3.
    pub source_options: EndpointOptions,
    /// How to reach the destination in S3.
    pub destination_options: EndpointOptions,
    /// Whether items that are certainly gone from the source are deleted at the destination.
    pub remove_vanished: bool,
    /// Whether to start again with a destination that is missing or has changed.
    pub create: bool,
    /// Whether to take over a destination that was kept in sync with another source, or of which the source was the copy.
    pub take_over: bool,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
}

/// A pair that only this process mirrors while this value exists. A dry run keeps no other away.
#[derive(Debug)]
pub struct LockedMirror {
    request: MirrorRequest,
    pair: MirrorPair,
    remembered: RememberedDatabase,
    _lock: Option<File>,
}

impl LockedMirror {
    /// Locks the pair.
    ///
    /// # Errors
    /// Another process mirrors it, an end cannot be used, the ends overlap or are those of a known mirror swapped, or an end
    /// contains Mill's own state.
    pub async fn lock(request: MirrorRequest, wait_limit: &WaitLimit) -> Result<Self> {
        let pair = match MirrorPair::of(&request, wait_limit).await {
            Ok(pair) => pair,
            Err(error) => {
                if !request.dry_run {
                    note_failed_start(&request, wait_limit, &error).await;
                }
                return Err(error);
            }
        };
        if !request.take_over
            && let Err(swapped) = pair.ensure_not_swapped(wait_limit).await
        {
            // `--take-over`, which that error offers, would not help against this one.
            pair.ensure_state_is_outside(wait_limit).await?;
            return Err(swapped);
        }
        let dry_run = request.dry_run;
        let begin = move |state: &PairState| {
            let lock = if dry_run { state.ensure_idle().map(|()| None)? } else { Some(state.lock()?) };
            Ok((lock, state.remembered()?))
        };
        let (lock, remembered) = pair.look_at_state(wait_limit, begin).await?;
        pair.ensure_state_is_outside(wait_limit).await?;
        Ok(Self { request, pair, remembered, _lock: lock })
    }

    /// Whether this pair was never mirrored before, as far as is known.
    pub fn is_first_run(&self) -> bool {
        self.remembered == RememberedDatabase::Nothing
    }

    /// The folder of the pair's state.
    pub fn state_folder(&self) -> &Path {
        self.pair.state.folder()
    }

    /// Opens the state and both ends. `wait_limit` is also the time that an item waits for its store.
    ///
    /// # Errors
    /// When one of them cannot be used, does not answer in time, or this is stopped.
    pub async fn open(&self, stopping: &StopTokens, wait_limit: &WaitLimit) -> Result<Installation> {
        let Self { request, pair, .. } = self;
        let may_create = self.is_first_run() || request.create;
        let (engine, access) = if request.dry_run {
            let engine = pair.open_scratch(wait_limit).await?;
            stopping.when_damaged();
            (engine, pair.look_at_destination((request, may_create), wait_limit).await?)
        } else {
            let (engine, identity, remembered) = pair.open_state(wait_limit, self.remembered.clone()).await?;
            stopping.when_damaged();
            let made = pair.make_destination(may_create, wait_limit).await;
            recorded_unless_dry(made, (&engine, request)).await?;
            pair.remember_state(wait_limit, (remembered, identity)).await?;
            (engine, DestinationAccess::Write)
        };
        let opened = self.open_ends((engine.clone(), access), wait_limit).await;
        recorded_unless_dry(opened, (&engine, request)).await
    }

    /// Opens both ends with the engine that has the state.
    async fn open_ends(
        &self,
        (engine, access): (Arc<dyn Engine>, DestinationAccess),
        wait_limit: &WaitLimit,
    ) -> Result<Installation> {
        let Self { request, pair, .. } = self;
        // A stop also works while a server accepts a call and never answers.
        let statistics = Arc::<Statistics>::default();
        let clock = engine.clock();
        let installation = pair.installation((engine, statistics.clone()), (request, access), wait_limit);
        let installation = unless_silent(installation, (&*statistics, &*clock), wait_limit.give_up_after);
        let Some(installation) = wait_limit.stop.run_until_cancelled(installation).await else {
            return Err(StoppedError(String::new()).into());
        };
        Ok(Installation { item_patience: wait_limit.give_up_after, ..installation?? })
    }

    /// The result of a run that found nothing at the source.
    pub fn judge_nothing(&self, names: &SubjectNames, exit: ResultCode, summary: &mut RunSummary) -> ResultCode {
        self.pair.source.judge_nothing(names, exit, summary)
    }
}

/// Writes down why a run could not begin, if it could not. A dry run writes nothing down.
async fn recorded_unless_dry<T>(begun: Result<T>, (engine, request): (&Arc<dyn Engine>, &MirrorRequest)) -> Result<T> {
    if let Err(error) = &begun
        && !request.dry_run
    {
        RunRecord::failed_at_start(engine, error, &SubjectNames::of_mirror(request)).await;
    }
    begun
}

/// Writes down that an end of a known pair could not be used at all. What was never mirrored has no state to write to.
async fn note_failed_start(request: &MirrorRequest, wait_limit: &WaitLimit, error: &anyhow::Error) {
    let known = async { MirrorPair::remembered(request, wait_limit).await?.known_state(wait_limit).await };
    match known.await {
        Ok(Some(engine)) => RunRecord::failed_at_start(&engine, error, &SubjectNames::of_mirror(request)).await,
        Ok(None) => {}
        Err(why) => tracing::debug!("the failure could not be written down: {why:#}"),
    }
}

/// The settings of a mirror's workman.
pub fn workman_settings(
    installation: &Installation,
    workers: u32,
    on_final_failure: OnFinalFailure,
) -> Result<WorkmanSettings> {
    Ok(WorkmanSettings {
        workers,
        on_final_failure,
        on_unavailable: OnUnavailable::Stop,
        poll_wait: installation.engine.polling().poll_wait,
        ..workman_defaults()?
    })
}

/// The settings of a mirror's producer.
pub fn producer_settings(give_up_after: Duration) -> Result<mill_producer::ProducerSettings> {
    let defaults = producer_defaults()?;
    let looping = mill_producer::LoopingSettings {
        when_full: WhenFull::Wait { poll: Duration::from_millis(20), poll_most: Duration::from_millis(20) },
        run_start: mill_producer::RunStart::Together,
        queue_sizing: QueueSizing::Fixed,
        frequency: Duration::ZERO,
        give_up_after,
        silence_max: one_answer_max(give_up_after),
        ..defaults.looping
    };
    Ok(mill_producer::ProducerSettings { looping, absent_source: AbsentSource::Unknown, ..defaults })
}

/// The two ends, and the state of their pair.
#[derive(Debug)]
struct MirrorPair {
    source: Endpoint,
    destination: Endpoint,
    state: PairState,
}

impl MirrorPair {
    async fn of(request: &MirrorRequest, wait_limit: &WaitLimit) -> Result<Self> {
        let MirrorRequest { source, destination, source_options, destination_options, .. } = request;
        let source = match source_options.end_in_s3(source, "source").await? {
            Some(end) => end,
            None => Endpoint::Folder(FolderPath::source(source, wait_limit).await?),
        };
        let destination = match destination_options.end_in_s3(destination, "destination").await? {
            Some(end) => end,
            None => Endpoint::Folder(FolderPath::destination(destination, wait_limit).await?),
        };
        if let Some(why) = source.overlap(&destination, wait_limit).await? {
            return Err(UsageError(why).into());
        }
        let state = state_folder(&source, &destination, wait_limit).await?;
        let state = PairState::new(state, &source, &destination);
        Ok(Self { source, destination, state })
    }

    /// Reads the folder of the state.
    async fn look_at_state<T: Send + 'static>(
        &self,
        wait_limit: &WaitLimit,
        look: impl FnOnce(&PairState) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = self.state.clone();
        wait_limit.look(self.state.folder(), move || look(&state)).await
    }

    /// Opens the state, which must be the remembered one. Checking a large state may take long.
    async fn open_state(
        &self,
        wait_limit: &WaitLimit,
        remembered: RememberedDatabase,
    ) -> Result<(Arc<dyn Engine>, Identity, RememberedDatabase)> {
        let open = |state: &PairState| {
            let (engine, identity) = state.open(&remembered)?;
            Ok((Arc::new(engine) as Arc<dyn Engine>, identity, remembered))
        };
        self.look_at_state(&wait_limit.unlimited(), open).await
    }

    /// Remembers the identity of the pair's state.
    async fn remember_state(
        &self,
        wait_limit: &WaitLimit,
        (remembered, identity): (RememberedDatabase, Identity),
    ) -> Result<()> {
        self.look_at_state(&wait_limit.unlimited(), move |state| state.remember(&remembered, identity)).await
    }

    /// Checks that Mill does not overwrite or delete its own state while it is in use.
    async fn ensure_state_is_outside(&self, wait_limit: &WaitLimit) -> Result<()> {
        let path = host::state_folder()?;
        let mut state = FolderPath { typed: path.clone(), path };
        let is_missing = state.look(wait_limit, |path| Ok(!path.is_dir())).await?;
        if is_missing {
            // Only a dry run meets it: its paths alone say where it would be.
            state = FolderPath::remembered(&state.typed, wait_limit).await?;
        }
        let lies_within = |end: &Endpoint| matches!(end, Endpoint::Folder(end) if state.path.starts_with(&end.path));
        let [in_destination, in_source] = [&self.destination, &self.source].map(lies_within);
        let state = Endpoint::Folder(state);
        let overlaps = async |end: &Endpoint, lies_within: bool| {
            let known = if is_missing { lies_within } else { state.overlap(end, wait_limit).await?.is_some() };
            Ok::<_, anyhow::Error>(known)
        };
        if overlaps(&self.destination, in_destination).await? {
            return Err(UsageError(format!(
                "the destination `{}` holds Mill's own state, `{state}`, which is in use; let XDG_STATE_HOME name a \
                 folder elsewhere",
                self.destination
            ))
            .into());
        }
        if overlaps(&self.source, in_source).await? {
            tracing::warn!(
                "the source holds Mill's own state, `{state}`, which changes while it is copied: its copy is of no use"
            );
        }
        Ok(())
    }

    /// Creates the destination, unless it existed before: then its disk may just not be mounted.
    async fn make_destination(&self, create: bool, wait_limit: &WaitLimit) -> Result<()> {
        let Endpoint::Folder(destination) = &self.destination else { return Ok(()) };
        let source = match &self.source {
            Endpoint::Folder(source) => Some(source.path.clone()),
            Endpoint::S3(_) => None,
        };
        let make = move |path: &Path| {
            let shown = path.display();
            if path.is_dir() {
                return Ok(());
            }
            if !create {
                bail!(missing_destination(path));
            }
            let made = match &source {
                // It is as private as its original.
                Some(source) => {
                    let mode = mode_for_copy(source)
                        .with_context(|| format!("the source `{}` cannot be read", source.display()))?;
                    create_folder_with(path, mode)
                }
                None => create_folder(path),
            };
            made.with_context(|| format!("the destination `{shown}` cannot be made"))
        };
        destination.look(wait_limit, make).await
    }

    async fn installation(
        &self,
        (engine, statistics): (Arc<dyn Engine>, Arc<Statistics>),
        (request, access): (&MirrorRequest, DestinationAccess),
        wait_limit: &WaitLimit,
    ) -> Result<Installation> {
        let SpacePair { account, source, destination, space } = space_pair()?;
        let folders = FolderOpener::of(&*engine);
        let address = |store: &StoreId| StoreAddress::of(&account, store);
        let misplaced = Arc::<PlacementChecks>::default();
        let opened_from = self.source.open(&folders, address(&source), &space).await?;
        let from = TrackedStore::new(opened_from.store.clone(), address(&source), statistics.clone(), engine.clock());
        let looks = (wait_limit, request.remove_vanished);
        let holds_something = self.source.holds_something(&from, &folders, looks).await?;
        let opened_to = self.destination.open(&folders, address(&destination), &space).await?;
        let to = TrackedStore::new(opened_to.store.clone(), address(&destination), statistics.clone(), engine.clock());
        if let Endpoint::S3(_) = &self.destination
            && !request.create
            && matches!(wait_limit.wait_for(async || to.space(&space).await).await?, Presence::Absent)
        {
            let owner = DestinationSpace { store: address(&destination), space: space.clone() };
            let was_there = Owners::new(engine.table(tables::OWNERS)).owner(&owner).await?.is_some();
            if was_there {
                bail!(
                    "the destination `{}` was there at the last run and is missing now; bring the bucket back, or pass \
                     --create to make it anew",
                    self.destination
                );
            }
            bail!(self.destination.no_bucket());
        }
        let places = Arc::new(match access {
            DestinationAccess::Write => DestinationPlaces::of(&*engine),
            DestinationAccess::Read { .. } | DestinationAccess::Missing => DestinationPlaces::scratch(&*engine),
        });
        let asked = statistics.begin_call(&address(&source));
        let keeper = self.keeper(request, &*opened_from.placed).await?;
        asked.answered();
        // For S3, an overlap is found only right before the first write.
        let claim = holds_something && !opened_to.placed.is_known_by_name();
        let asked = statistics.begin_call(&address(&destination));
        if access != DestinationAccess::Missing {
            let destination = (&address(&destination), &*opened_to.placed, &space);
            check_destination(&places, destination, (&keeper, claim), request).await?;
        }
        asked.answered();
        let ends: (Arc<dyn DeletableStore>, Arc<dyn DeletableStore>) = if access == DestinationAccess::Write {
            (opened_from.store, opened_to.store)
        } else {
            let addresses = (address(&source), address(&destination));
            let (from, to) = dry_run::read_only((&opened_from, &opened_to), addresses, access);
            (from, to)
        };
        let stores = MirrorStores {
            source: ends.0,
            destination: ends.1,
            source_placed: opened_from.placed,
            destination_placed: opened_to.placed,
            access,
            misplaced: misplaced.clone(),
            places: places.clone(),
            keeper,
            source_id: source.clone(),
        };
        if access == DestinationAccess::Write {
            to.remove_stale_uploads().await;
        }
        let policy =
            AccountPolicy::mirror(account, space, source, destination, Compare::Differences, request.remove_vanished);
        let policies = Arc::new(PolicyRepository::fixed(vec![policy]));
        let clock = engine.clock();
        let stores = Arc::new(TrackedStores { stores: Arc::new(stores), statistics: statistics.clone(), clock });
        let installation = Installation::of(engine, policies, (stores, statistics), (misplaced, places));
        Ok(Installation { dry_run: request.dry_run, ..installation })
    }

    /// The identity of this mirror for others that would write its destination: its source, by its path on this host
    /// and by its identity.
    async fn keeper(&self, request: &MirrorRequest, source: &dyn PlacedStore) -> Result<DestinationKeeper> {
        let mut names = match &self.source {
            Endpoint::Folder(folder) => vec![format!("mirror|{}|{}", host::name(), folder.path.display())],
            // The second is how it was named before 2026-11-30.
            Endpoint::S3(remote) => vec![format!("mirror|{}", remote.identity()), format!("mirror|{remote}")],
        };
        names.dedup();
        if let Some(facts) = source.root_facts().await? {
            names.push(format!("mirror|{}", facts.identity));
        }
        Ok(DestinationKeeper { names, shown: format!("the mirror of `{}`", request.source.display()) })
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
    if request.take_over
        && let Some(before) = places.release(destination, space).await?
    {
        tracing::warn!("`{}` was taken over; {before} kept it in sync before", request.destination.display());
    }
    let claim = claim && !request.dry_run;
    let kept = places.ensure_owned(store, (destination, space), keeper, (claim, Advice(TAKE_OVER))).await;
    match kept.map_err(|error| (error.kind.clone(), error)) {
        Err((StoreErrorKind::Refused(RefusalReason::ForeignDestination(words)), _)) => bail!(words),
        other => other.map(drop).map_err(|(_, error)| error.into()),
    }
}

/// The message where a destination that was there is missing: its disk may just not be mounted.
fn missing_destination(path: &Path) -> String {
    format!(
        "the destination `{}` was there at the last run and is missing now; mount it, or pass --create to make it anew",
        path.display()
    )
}

/// The folder of a pair's state: under the user's state folder, so that neither end contains anything of Mill's.
///
/// A pair whose state stands where Mill put it before, by the address as it was typed, keeps it there.
async fn state_folder(source: &Endpoint, destination: &Endpoint, wait_limit: &WaitLimit) -> Result<PathBuf> {
    let all = host::state_folder()?.join("mirror");
    let here = all.join(folder_name(&source.bytes(), &destination.bytes()));
    let before = all.join(folder_name(&source.typed_bytes(), &destination.typed_bytes()));
    if here == before {
        return Ok(here);
    }
    let stands = |path: &Path| {
        path.try_exists().with_context(|| format!("whether there is a state `{}` is not known", path.display()))
    };
    wait_limit.look(&all, move || Ok(if !stands(&here)? && stands(&before)? { before } else { here })).await
}

fn folder_name(source: &[u8], destination: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(source);
    hasher.update([0]);
    hasher.update(destination);
    let value = hasher.finalize()[..8].into();
    Checksum { algorithm: Algorithm::Sha256, value }.hex()
}
