//! `mill mirror`: one folder or bucket made a faithful copy of another, with no configuration.

mod end;
mod source;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::MultiProgress;
use mill_engine::{AskedStore, AskedStores};
use mill_local::folder::{FolderStore, Layout};
use mill_local::{Identity, Remembered};
use mill_model::{AccountId, Algorithm, Checksum, QueueName, SpaceId, StoreAddress, StoreId};
use mill_policy::{AccountPolicy, Compare};
use mill_ports::{
    CrashPoint, DestinationStore as _, Presence, Refusal, SourceStore as _, Statistics, StoreErrorKind, crash_point,
};
use mill_producer::{AbsentSource, WhenFull};
use mill_records::destinations::Keeper;
use mill_records::owners::{DestinationSpace, Owners};
use mill_records::policies::PolicyBook;
use mill_workman::{OnFinalFailure, OnUnavailable};
use sha2::{Digest, Sha256};

use self::end::{End, Folder, Given};
use self::state::PairState;
use crate::Usage;
use crate::args::{Ends, Mirror};
use crate::conclude::Conclusion;
use crate::engine::Engine;
use crate::exit::Exit;
use crate::files::create_folder;
use crate::host;
use crate::misplaced::Misplaced;
use crate::names::Names;
use crate::output::line;
use crate::patience::Patience;
use crate::places::{DestinationPlaces, NotWhereItWas, WayOut};
use crate::running::silence::{one_answer_max, unless_silent};
use crate::running::{Hands, Run};
use crate::stop::{self, StoppedEarly};
use crate::stores::{FolderOpener, MirrorStores, OpenedAs, TAKE_OVER};
use crate::works::{Works, producer_defaults, workman_defaults};

/// The two ends, and where the state of their pair is kept.
struct Pair {
    source: End,
    destination: End,
    state: PairState,
}

/// Runs it.
pub(super) async fn run(args: Mirror, bars: MultiProgress) -> Result<Exit> {
    // Before anything is looked at: it may lie on a mount that hangs.
    let stopping = stop::on_signals()?;
    let (stop, names) = (stopping.gentle.clone(), args.names());
    let patience = Patience { give_up_after: args.ending.give_up_after, stop: stop.clone() };
    let pair = Pair::between(&args.source, &args.destination, args.ends.clone(), &patience).await?;
    let (_alone, remembered) = pair.look_at_state(&patience, |state| Ok((state.lock()?, state.remembered()?))).await?;
    pair.state_lies_elsewhere(&patience).await?;
    let first = remembered == Remembered::Nothing;
    if first && !args.ending.json {
        // Also said to whoever knows better: then the state was lost.
        let folder = pair.state.folder().display();
        line(format!("First run: nothing is known of an earlier one of this pair; its state is kept in `{folder}`."));
    }
    let (engine, identity, remembered) = pair.open_state(&patience, remembered).await?;
    stopping.when_damaged();
    pair.make_destination(first || args.create, &patience).await?;
    pair.remember_state(&patience, (remembered, identity)).await?;
    // Also a server that takes the call and never answers holds nobody up who stops it.
    let statistics = Arc::<Statistics>::default();
    let works = pair.works((engine, statistics.clone()), &args, first || args.create, &patience);
    let works = unless_silent(works, &statistics, args.ending.give_up_after);
    let Some(works) = stop.run_until_cancelled(works).await else { return Err(StoppedEarly(String::new()).into()) };
    let works = Works { item_patience: args.ending.give_up_after, ..works?? };
    super::held::confirm(&works.delete_lists(), args.confirm_deletes.as_ref(), &*works.engine.clock).await?;
    works.engine.purge_queues().await?;
    crash_point(CrashPoint::MirrorPurged);
    let workman = works.workman(
        &[QueueName::DuplicationLow],
        mill_workman::WorkmanSettings {
            workers: args.workers,
            on_final_failure: if args.ending.fail_fast { OnFinalFailure::FailFast } else { OnFinalFailure::Drain },
            on_unavailable: OnUnavailable::Stop,
            poll_wait: works.engine.pace.poll_wait,
            ..workman_defaults()
        },
    );
    let producer = works.producer(mill_producer::Settings {
        when_full: WhenFull::Wait { poll: Duration::from_millis(20), poll_most: Duration::from_millis(20) },
        begins: mill_producer::Begins::Together,
        absent_source: AbsentSource::Unknown,
        give_up_after: args.ending.give_up_after,
        silence_max: one_answer_max(args.ending.give_up_after),
        ..producer_defaults()?
    });
    producer.reset().await.context("the state of the last run cannot be cleared")?;
    crash_point(CrashPoint::MirrorReset);
    let ran = Run {
        works: &works,
        producer: &producer,
        hands: Hands::Here(Box::new(workman)),
        queues: vec![QueueName::DuplicationLow],
        stopping,
        bars,
        names: &names,
        quiet: args.ending.quiet,
        give_up_after: args.ending.give_up_after,
    }
    .until_in_sync()
    .await?;
    let conclusion = Conclusion {
        works: &works,
        producer: &producer,
        names: &names,
        stop,
        detailed: args.ending.detailed_exit_code,
        give_up_after: args.ending.give_up_after,
    };
    let (exit, mut summary) = conclusion.of(ran).await?;
    summary.first_run = Some(first);
    let exit = pair.source.judge_nothing(&names, exit, &mut summary);
    summary.print(args.ending.json, exit);
    Ok(exit)
}

/// The engine that keeps the state of a mirror.
pub(super) async fn engine_of(source: &Path, destination: &Path, ends: Ends) -> Result<Engine> {
    let patience = Patience::endless();
    let pair = Pair::between(source, destination, ends, &patience).await?;
    let Some(remembered) = pair.look_at_state(&patience, PairState::known).await? else {
        bail!("there was no `mill mirror` from `{}` to `{}` yet", pair.source, pair.destination);
    };
    let (engine, identity, remembered) = pair.open_state(&patience, remembered).await?;
    pair.remember_state(&patience, (remembered, identity)).await?;
    Ok(engine)
}

/// The destination of a mirror as the mirror itself sees it, with what its file system cannot keep; `None` if nothing is
/// known of such a mirror.
pub(super) async fn destination_of(source: &Path, destination: &Path) -> Result<Option<Arc<FolderStore>>> {
    let patience = Patience::endless();
    let pair = Pair::between(source, destination, Ends::default(), &patience).await?;
    let known = pair.look_at_state(&patience, PairState::known).await?;
    let (Some(remembered), End::Folder(root)) = (known, &pair.destination) else { return Ok(None) };
    let (engine, ..) = pair.open_state(&patience, remembered).await?;
    let folders = FolderOpener { clock: engine.clock.clone(), sidecars: engine.table("folder-properties") };
    let store = StoreId::new(Names::MIRROR_DESTINATION)?;
    let address = StoreAddress { account: AccountId::new(Names::MIRROR_ACCOUNT)?, store };
    Ok(Some(folders.open(address, root.path.clone(), Layout::Single(SpaceId::new(Names::MIRROR_SPACE)?))))
}

impl Pair {
    async fn between(source: &Path, destination: &Path, ends: Ends, patience: &Patience) -> Result<Self> {
        let given = |endpoint, region, profile| Given { endpoint, region, profile };
        let remote = given(ends.source_endpoint, ends.source_region, ends.source_profile);
        let source = match remote.remote(source, "source")? {
            Some(remote) => End::Remote(remote),
            None => End::Folder(Folder::source(source, patience).await?),
        };
        let remote = given(ends.destination_endpoint, ends.destination_region, ends.destination_profile);
        let destination = match remote.remote(destination, "destination")? {
            Some(remote) => End::Remote(remote),
            None => End::Folder(Folder::destination(destination, patience).await?),
        };
        if let Some(why) = source.overlap(&destination, patience).await? {
            return Err(Usage(why).into());
        }
        let state = PairState::new(state_folder(&source, &destination)?, &source, &destination);
        Ok(Self { source, destination, state })
    }

    /// What a look at the folder of the state tells.
    async fn look_at_state<T: Send + 'static>(
        &self,
        patience: &Patience,
        look: impl FnOnce(&PairState) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = self.state.clone();
        patience.look(self.state.folder(), move || look(&state)).await
    }

    /// Opens the state, of which this is remembered. That may take long: a large one is looked through.
    async fn open_state(&self, patience: &Patience, remembered: Remembered) -> Result<(Engine, Identity, Remembered)> {
        let open = |state: &PairState| {
            let (engine, identity) = state.open(&remembered)?;
            Ok((engine, identity, remembered))
        };
        self.look_at_state(&patience.unlimited(), open).await
    }

    /// Remembers which state is the pair's own.
    async fn remember_state(&self, patience: &Patience, (remembered, identity): (Remembered, Identity)) -> Result<()> {
        self.look_at_state(&patience.unlimited(), move |state| state.remember(&remembered, identity)).await
    }

    /// Makes sure that Mill does not write over its own state, or delete it, while it is in use.
    async fn state_lies_elsewhere(&self, patience: &Patience) -> Result<()> {
        let path = host::state_folder()?;
        let state = End::Folder(Folder { typed: path.clone(), path });
        if state.overlap(&self.destination, patience).await?.is_some() {
            return Err(Usage(format!(
                "the destination `{}` holds Mill's own state, `{state}`, which is in use; let XDG_STATE_HOME name a \
                 folder elsewhere",
                self.destination
            ))
            .into());
        }
        if state.overlap(&self.source, patience).await?.is_some() {
            tracing::warn!(
                "the source holds Mill's own state, `{state}`, which changes while it is copied: its copy is of no use"
            );
        }
        Ok(())
    }

    /// Makes the destination, but not one that was there before: it may only not be mounted.
    async fn make_destination(&self, create: bool, patience: &Patience) -> Result<()> {
        let End::Folder(destination) = &self.destination else { return Ok(()) };
        let make = move |path: &Path| {
            let shown = path.display();
            if path.is_dir() {
                return Ok(());
            }
            if !create {
                bail!(
                    "the destination `{shown}` was there at the last run and is missing now; mount it, or pass --create to \
                     make it anew"
                );
            }
            create_folder(path).with_context(|| format!("the destination `{shown}` cannot be made"))
        };
        destination.look(patience, make).await
    }

    async fn works(
        &self,
        (engine, statistics): (Engine, Arc<Statistics>),
        args: &Mirror,
        may_create: bool,
        patience: &Patience,
    ) -> Result<Works> {
        let account = AccountId::new(Names::MIRROR_ACCOUNT)?;
        let (source, destination) = (StoreId::new(Names::MIRROR_SOURCE)?, StoreId::new(Names::MIRROR_DESTINATION)?);
        let space = SpaceId::new(Names::MIRROR_SPACE)?;
        let folders = FolderOpener { clock: engine.clock.clone(), sidecars: engine.table("folder-properties") };
        let address = |store: &StoreId| StoreAddress { account: account.clone(), store: store.clone() };
        let misplaced = Arc::<Misplaced>::default();
        let (plain_from, source_itself) = self.source.open(&folders, address(&source), &space).await?;
        let from = AskedStore::new(plain_from.clone(), address(&source), statistics.clone(), engine.clock.clone());
        let looks = (patience, args.remove_vanished);
        let holds_something = self.source.holds_something(&from, &engine.clock, looks).await?;
        let (plain_to, destination_itself) = self.destination.open(&folders, address(&destination), &space).await?;
        let to = AskedStore::new(plain_to.clone(), address(&destination), statistics.clone(), engine.clock.clone());
        let owner = DestinationSpace { store: address(&destination), space: space.clone() };
        if let End::Remote(_) = &self.destination
            && !may_create
            && Owners::new(engine.table("owners")).owner(&owner).await?.is_some()
            && matches!(patience.wait_for(async || to.space(&space).await).await?, Presence::Absent)
        {
            bail!(
                "the destination `{}` was there at the last run and is missing now; bring the bucket back, or pass --create \
                 to make it anew",
                self.destination
            );
        }
        let places = Arc::new(DestinationPlaces::of(&engine));
        let asked = statistics.ask(&address(&source));
        let keeper = self.keeper(args, source_itself.folder().map(|folder| &**folder)).await?;
        asked.answered();
        // Whether places in S3 are apart is known only before the first write.
        let claim = holds_something && destination_itself.folder().is_some();
        let asked = statistics.ask(&address(&destination));
        settle(&places, (&address(&destination), &destination_itself, &space), (&keeper, claim), args).await?;
        asked.answered();
        let stores = MirrorStores {
            source: plain_from,
            destination: plain_to,
            source_itself,
            destination_itself,
            misplaced: misplaced.clone(),
            places: places.clone(),
            keeper,
            source_id: source.clone(),
        };
        to.tidy().await;
        let policy =
            AccountPolicy::mirror(account, space, source, destination, Compare::Differences, args.remove_vanished);
        let policies = Arc::new(PolicyBook::fixed(vec![policy]));
        let clock = engine.clock.clone();
        let stores = Arc::new(AskedStores { stores: Arc::new(stores), statistics: statistics.clone(), clock });
        Ok(Works::of(engine, policies, (stores, statistics), (misplaced, places)))
    }

    /// What this mirror is known by to others that would write its destination: its source, by its path on this host and
    /// by what it is.
    async fn keeper(&self, args: &Mirror, source: Option<&FolderStore>) -> Result<Keeper> {
        let mut names = match &self.source {
            End::Folder(folder) => vec![format!("mirror|{}|{}", host::name(), folder.path.display())],
            End::Remote(remote) => vec![format!("mirror|{remote}")],
        };
        if let Some(source) = source {
            names.push(format!("mirror|{}", source.root_facts().await?.identity));
        }
        Ok(Keeper { names, shown: format!("the mirror of `{}`", args.source.display()) })
    }
}

/// Makes sure that the destination is where it was, and no other Mill's, before anything is written there. With `claim` it is
/// this mirror's from now on, else from the first write on.
async fn settle(
    places: &DestinationPlaces,
    (store, itself, space): (&StoreAddress, &OpenedAs, &SpaceId),
    (keeper, claim): (&Keeper, bool),
    args: &Mirror,
) -> Result<()> {
    if let Some(folder) = itself.folder()
        && let Err(error) = places.stands_there(store, folder).await
    {
        match NotWhereItWas::of(&error) {
            Some(_) if args.create => drop(places.accept(store, folder).await?),
            Some(elsewhere) => bail!(
                "the destination {elsewhere}. Nothing was written there. Mount what was there, or pass --create to begin \
                 with what is there now"
            ),
            None => return Err(error.into()),
        }
    }
    if args.take_over
        && let Some(before) = places.release(itself, space).await?
    {
        tracing::warn!("`{}` was taken over; {before} kept it in sync before", args.destination.display());
    }
    let kept = places.keep(store, (itself, space), keeper, (claim, WayOut(TAKE_OVER))).await;
    match kept.map_err(|error| (error.kind.clone(), error)) {
        Err((StoreErrorKind::Refused(Refusal::AnothersDestination(words)), _)) => bail!(words),
        other => other.map(drop).map_err(|(_, error)| error.into()),
    }
}

/// Where the state of a pair is kept: under the user's state folder, so that neither folder holds anything of Mill's.
fn state_folder(source: &End, destination: &End) -> Result<PathBuf> {
    let mut hasher = Sha256::new();
    hasher.update(source.bytes());
    hasher.update([0]);
    hasher.update(destination.bytes());
    let value = hasher.finalize()[..8].into();
    Ok(host::state_folder()?.join("mirror").join(Checksum { algorithm: Algorithm::Sha256, value }.hex()))
}
