//! Wires the rooms of one process together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use mill_hooks::crash_point;
use mill_local::folder::Layout;
use mill_local::process;
use mill_model::{AccountId, QueueName, SpaceId, StoreAddress, StoreId};
use mill_ports::{
    Engine, EngineExt as _, NoCaps, PollingProfile, Registry, SourceStore, Statistics, StoreCaps, Stores,
};
use mill_processors::{ProcessorDeps, Refusals};
use mill_producer::{DuplicationProducer, QueueSizing};
use mill_records::account_counts::AccountCounts;
use mill_records::dead_letters::DeadLetters;
use mill_records::delete_lists::{DeleteLists, DeleteThresholds};
use mill_records::owners::Owners;
use mill_records::permits::PermitRepository;
use mill_records::places::{PlaceChange, RootPlace};
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;
use mill_records::tables;
use mill_run::until_done::RunDeps;
use mill_workman::{DeadLetterDrain, DrainSettings, Heartbeat, Workman, WorkmanDeps, WorkmanSettings};
use mill_wrappers::{TrackedStore, TrackedStores};
use tokio_util::task::AbortOnDropHandle;

use crate::audit_parts::{self, StoreAuditor};
use crate::config::{Config, ProducerConfig, QueueMax, WorkmanConfig};
use crate::crash_points;
use crate::destination_places::DestinationPlaces;
use crate::engine_choice;
use crate::local_state::OpenedState;
#[cfg(feature = "aws")]
use crate::notifications::NotificationHandler;
use crate::placement_checks::PlacementChecks;
use crate::run_events::RunEvents;
use crate::store_choice;
use crate::store_registry::{FolderOpener, InstallationIdentity, StoreRegistry};
use crate::wait_limit::WaitLimit;

/// Everything that a process works with.
#[derive(Debug)]
pub struct Installation {
    /// Its queues and tables.
    pub engine: Arc<dyn Engine>,
    /// The policies: what is copied where.
    pub policies: Arc<PolicyRepository>,
    /// Its stores.
    pub stores: Arc<dyn Stores>,
    /// The counters of this process.
    pub statistics: Arc<Statistics>,
    /// The items that were refused.
    pub refusals: Arc<Refusals>,
    /// The stores that may not be used where they are.
    pub misplaced: Arc<PlacementChecks>,
    /// Where its destinations are.
    pub places: Arc<DestinationPlaces>,
    /// The stores of the policy files, if there are policy files.
    pub configured: Option<Arc<StoreRegistry>>,
    /// Where relative paths of signing keys begin; `None` for a mirror, which records no changes.
    pub audit_base: Option<PathBuf>,
    /// The program that is called for each new space.
    pub new_space_command: Option<String>,
    /// Whether its processors end just before they would change anything.
    pub dry_run: bool,
    /// How long an item waits whose store throttles it while it serves others.
    pub item_patience: Duration,
    /// How the source of a mirror differs from what was there at the last run.
    pub source_change: Option<SourceChange>,
}

/// Another place than at the last run, where the source of a mirror was.
#[derive(Debug, Clone)]
pub struct SourceChange {
    /// How it differs.
    pub(crate) change: PlaceChange,
    /// Whether it is the source from now on.
    pub(crate) accepted: bool,
    /// What is there now.
    pub(crate) found: (StoreAddress, RootPlace),
}

/// How long work waits for the first look at what lost writers left.
const SETTLE_FIRST: Duration = Duration::from_secs(5);

/// How often what lost writers left is looked up.
const SETTLE_EVERY: Duration = Duration::from_mins(5);

/// After so many of these times the logs are published in which events wait: to look costs 16 requests an account.
const PUBLISH_WAITING_EVERY: u64 = 12;

/// The same as a run's default time limit for a store.
const ITEM_PATIENCE: Duration = Duration::from_mins(5);

/// The address under which Mill's own folders, such as the folder of policies, are opened.
fn own_folder(name: &str) -> Result<StoreAddress> {
    Ok(StoreAddress { account: AccountId::new("mill")?, store: StoreId::new(name)? })
}

impl Installation {
    /// Opens the installation of a configuration, for a command that a signal ends at once.
    pub async fn configured(config: &Config) -> Result<Self> {
        Self::opened(config, false, &WaitLimit::endless()).await
    }

    /// The same. `works`: whether the process does queued work.
    pub async fn opened(config: &Config, works: bool, wait_limit: &WaitLimit) -> Result<Self> {
        let engine = engine_choice::open_engine(config, works, wait_limit).await?;
        let of = config.clone();
        let identity = wait_limit.look(config.base(), move || Ok(engine_choice::identity(&of))).await?;
        Self::on(engine, config, identity).await
    }

    async fn on(engine: Arc<dyn Engine>, config: &Config, identity: InstallationIdentity) -> Result<Self> {
        let folders = FolderOpener::of(&*engine);
        let space = SpaceId::new("policies")?;
        let own = own_folder("policies")?;
        let statistics = Arc::<Statistics>::default();
        let files: Arc<dyn SourceStore> = match &config.policies.bucket {
            None => folders.open(own.clone(), config.policies.folder.clone(), Layout::Single(space.clone())),
            Some(bucket) => store_choice::open_policy_bucket((config, bucket), own.clone(), &space).await?,
        };
        let files = Arc::new(TrackedStore::new(files, own, statistics.clone(), engine.clock()));
        let policies = Arc::new(PolicyRepository::of_store(files, space, engine.clock(), config.policies.refresh));
        let misplaced = Arc::<PlacementChecks>::default();
        let places = Arc::new(DestinationPlaces::of(&*engine));
        let stores = Arc::new(StoreRegistry::new(
            (policies.clone(), config.base().to_owned()),
            folders,
            (misplaced.clone(), places.clone()),
            (Some(StoreAuditor::of(&*engine)), identity),
        ));
        let configured = Some(stores.clone());
        let clock = engine.clock();
        let stores = Arc::new(TrackedStores { stores, statistics: statistics.clone(), clock });
        let (audit_base, new_space_command) =
            (Some(config.base().to_owned()), config.workman.new_space_command.clone());
        Ok(Self {
            configured,
            audit_base,
            new_space_command,
            ..Self::of(engine, policies, (stores, statistics), (misplaced, places))
        })
    }

    /// Makes an installation of its parts. The stores record their calls in these statistics.
    pub fn of(
        engine: Arc<dyn Engine>,
        policies: Arc<PolicyRepository>,
        (stores, statistics): (Arc<dyn Stores>, Arc<Statistics>),
        (misplaced, places): (Arc<PlacementChecks>, Arc<DestinationPlaces>),
    ) -> Self {
        crash_point(crash_points::CLI_OPENED);
        let refusals = Arc::default();
        Self {
            engine,
            policies,
            stores,
            statistics,
            refusals,
            misplaced,
            places,
            configured: None,
            audit_base: None,
            new_space_command: None,
            dry_run: false,
            item_patience: ITEM_PATIENCE,
            source_change: None,
        }
    }

    /// Empties all queues, if the engine can do that at once.
    ///
    /// # Errors
    /// They cannot be emptied.
    pub async fn purge_queues(&self) -> Result<()> {
        let purged = self.engine.purge_queues().await.map_err(|error| anyhow!(error));
        purged.context("the queue of the last run cannot be emptied")
    }

    /// Sets who learns what became of each entry.
    pub fn listen(&self, events: &Arc<RunEvents>) {
        self.statistics.listen(events.clone());
    }

    /// Makes snoozed tasks visible now, if the engine can do that.
    ///
    /// # Errors
    /// When it fails.
    pub async fn make_delayed_due(&self) -> Result<()> {
        let made = self.engine.make_delayed_due().await.map_err(|error| anyhow!(error));
        made.context("the snoozed tasks cannot be made ready")
    }

    /// Logs the number of requests to the services, if requests cost.
    pub fn log_requests(&self) {
        let requests = self.engine.requests();
        if !requests.is_empty() {
            let asked: Vec<String> =
                requests.into_iter().map(|(operation, count)| format!("{operation} {count}")).collect();
            tracing::info!(requests = asked.join(", "), "asked of the services");
        }
    }

    /// The sync proofs.
    pub fn sync_proofs(&self) -> SyncProofs {
        SyncProofs::new(self.engine.table(tables::SYNC_PROOFS))
    }

    /// The delete lists.
    pub fn delete_lists(&self) -> DeleteLists {
        DeleteLists::new(self.engine.table(DeleteLists::TABLE))
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.engine.table(DeadLetters::TABLE))
    }

    /// The drain: it moves dead letters from their queue, which forgets them, into their table.
    pub fn drain(&self) -> DeadLetterDrain {
        DeadLetterDrain {
            queue: self.engine.queue(QueueName::DeadLetter),
            dead_letters: self.dead_letters(),
            registry: self.registry(),
            clock: self.engine.clock(),
            settings: DrainSettings { visibility: Duration::from_mins(1), poll_wait: Duration::from_secs(20) },
        }
    }

    /// Moves the dead letters that are in the queue now, and returns their number.
    pub async fn drain_dead_letters(&self) -> Result<u64> {
        Ok(self.drain().once().await?)
    }

    /// Settles what lost writers left of audited stores, and has published what waits: now, for a short time, and now and then
    /// from now on. Ends when the handle is dropped.
    pub async fn settle_changes(&self) -> AbortOnDropHandle<()> {
        let (stores, clock) = (self.configured.clone(), self.engine.clock());
        let (policies, sender) = (self.policies.clone(), audit_parts::audit_sender(&*self.engine));
        let (first, settled) = tokio::sync::oneshot::channel::<()>();
        let settling = AbortOnDropHandle::new(tokio::spawn(async move {
            let Some(stores) = stores else { return };
            let mut first = Some(first);
            for round in 0_u64.. {
                if let Err(error) = stores.settle_audited().await {
                    let error = mill_ports::error_chain(&*error);
                    tracing::warn!(error, "changes of lost writers are not all looked up; that is done again later");
                }
                if round % PUBLISH_WAITING_EVERY == 0
                    && let Err(error) = audit_parts::publish_waiting(&policies, &sender).await
                {
                    let error = mill_ports::error_chain(&*error);
                    tracing::warn!(
                        error,
                        "it is not known whether changes wait to be published; that is asked again later"
                    );
                }
                drop(first.take());
                clock.sleep(SETTLE_EVERY).await;
            }
        }));
        let clock = self.engine.clock();
        let late = clock.sleep(SETTLE_FIRST);
        futures::future::select(std::pin::pin!(settled), std::pin::pin!(late)).await;
        settling
    }

    /// The kinds of task that this process can run.
    fn registry(&self) -> Registry {
        let registry = mill_processors::registry(&ProcessorDeps {
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            delete_lists: self.delete_lists(),
            sync_proofs: self.sync_proofs(),
            owners: Owners::new(self.engine.table(tables::OWNERS)),
            clock: self.engine.clock(),
            chance: self.engine.rng(),
            statistics: self.statistics.clone(),
            refusals: self.refusals.clone(),
            dry_run: self.dry_run,
            another_source: self.source_change.as_ref().is_some_and(|change| !change.accepted),
            give_up_after: self.item_patience,
            audit: self
                .audit_base
                .as_deref()
                .map(|base| audit_parts::audit_deps(&*self.engine, base, self.new_space_command.as_deref())),
        });
        #[cfg(feature = "aws")]
        if self.audit_base.is_some() {
            return registry.register(NotificationHandler {
                policies: self.policies.clone(),
                stores: self.stores.clone(),
                sender: audit_parts::audit_sender(&*self.engine),
            });
        }
        registry
    }

    /// The duplication producer.
    pub fn producer(&self, settings: mill_producer::ProducerSettings) -> DuplicationProducer {
        let looping = mill_producer::LoopingDeps {
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            queue: self.engine.queue(QueueName::DuplicationLow),
            state: self.engine.table(tables::PRODUCER_STATE),
            counts: self.counts(),
            clock: self.engine.clock(),
            chance: self.engine.rng(),
            statistics: self.statistics.clone(),
            holder_is_dead: Arc::new(process::is_dead),
        };
        let deps = mill_producer::ProducerDeps {
            looping,
            sync_proofs: self.sync_proofs(),
            delete_lists: self.delete_lists(),
            owners: Owners::new(self.engine.table(tables::OWNERS)),
        };
        DuplicationProducer::new(deps, settings)
    }

    /// The dependencies of a run that ends once these queues are empty.
    pub fn run_deps(&self, queues: &[QueueName]) -> RunDeps {
        RunDeps {
            clock: self.engine.clock(),
            statistics: self.statistics.clone(),
            queues: queues.iter().map(|name| self.engine.queue(*name)).collect(),
            polling: self.engine.polling(),
            state: Arc::new(OpenedState),
        }
    }

    /// The table in which workmen count, if the queue does not report its depth by account.
    fn counts(&self) -> Option<AccountCounts> {
        if self.engine.reports_depth_by_account() {
            return None;
        }
        let (table, clock) = (self.engine.table(AccountCounts::TABLE), self.engine.clock());
        Some(AccountCounts { table, clock, queue: QueueName::DuplicationLow })
    }

    /// The table by which workmen share the permits of stores.
    fn permits(&self, timeout: Duration) -> PermitRepository {
        PermitRepository {
            table: self.engine.table(PermitRepository::TABLE),
            clock: self.engine.clock(),
            timeout,
            holder_is_dead: Arc::new(process::is_dead),
        }
    }

    /// The caps of stores, from the policy files.
    fn caps(&self) -> Arc<dyn StoreCaps> {
        match &self.configured {
            Some(stores) => stores.clone(),
            None => Arc::new(NoCaps),
        }
    }

    /// Makes a workman for `queues`, highest priority first, and its heartbeat.
    pub fn workman(&self, queues: &[QueueName], settings: WorkmanSettings) -> (Workman, Heartbeat) {
        if !self.dry_run {
            self.misplaced.will_write();
        }
        let deps = WorkmanDeps {
            queues: queues.iter().map(|name| self.engine.queue(*name)).collect(),
            all_queues: self.engine.queues(),
            dead_letter: self.engine.queue(QueueName::DeadLetter),
            registry: self.registry(),
            clock: self.engine.clock(),
            chance: self.engine.rng(),
            statistics: self.statistics.clone(),
            caps: self.caps(),
            permits: self.configured.is_some().then(|| self.permits(settings.visibility)),
            counts: self.counts(),
        };
        let PollingProfile { linger, recheck, .. } = self.engine.polling();
        Workman::new(deps, WorkmanSettings { batch_linger: linger, recheck, ..settings })
    }
}

/// How many tasks the queue may hold while the speed of its workmen is unknown.
const QUEUE_MAX_FIRST: u64 = 10_000;

/// How long a full queue should last at the rate at which it is worked off.
const QUEUE_LASTS: Duration = Duration::from_mins(2);

/// The producer's settings by configuration.
pub fn producer_settings(config: &Config) -> Result<mill_producer::ProducerSettings> {
    producer_with(&config.producer)
}

/// The producer's default settings.
pub fn producer_defaults() -> Result<mill_producer::ProducerSettings> {
    producer_with(&ProducerConfig::defaults()?)
}

fn producer_with(producer: &ProducerConfig) -> Result<mill_producer::ProducerSettings> {
    let (queue_max, queue_sizing) = match producer.queue_max {
        QueueMax::Auto => (QUEUE_MAX_FIRST, QueueSizing::Lasting(QUEUE_LASTS)),
        QueueMax::Tasks(tasks) => (tasks, QueueSizing::Fixed),
    };
    let looping = mill_producer::LoopingSettings {
        holder: process::this_process(),
        lease_timeout: Duration::from_mins(1),
        queue_max,
        queue_sizing,
        nibble: producer.nibble,
        frequency: producer.frequency,
        when_full: mill_producer::WhenFull::Leave,
        run_start: mill_producer::RunStart::WhenDue,
        listings_open_max: 16,
        give_up_after: Duration::ZERO,
        silence_max: Duration::from_mins(5),
        sends_at_once: 8.try_into()?,
    };
    let (thresholds, absent_source) = (DeleteThresholds::default(), mill_producer::AbsentSource::Retire);
    Ok(mill_producer::ProducerSettings { looping, thresholds, absent_source })
}

/// The workman's settings by configuration. `workers` is the command line's, if it is given.
pub fn workman_settings(config: &Config, workers: Option<u32>) -> WorkmanSettings {
    let settings = workman_with(&config.workman);
    WorkmanSettings { workers: workers.map_or(settings.workers, unlimited), ..settings }
}

/// The workman's default settings. The engine decides how it polls its queues.
pub fn workman_defaults() -> Result<WorkmanSettings> {
    Ok(workman_with(&WorkmanConfig::defaults()?))
}

fn workman_with(workman: &WorkmanConfig) -> WorkmanSettings {
    let share = |percent: u8| f32::from(percent) / 100.0;
    WorkmanSettings {
        name: process::this_process(),
        workers: unlimited(workman.workers),
        visibility: workman.visibility,
        failures_max: workman.failures_max,
        retry_delays: vec![Duration::from_secs(1), Duration::from_secs(5)],
        idle_backoff: workman.idle_backoff.clone(),
        poll_wait: Duration::from_secs(20),
        // How it asks its queues is the engine's to say.
        batch_linger: Duration::ZERO,
        recheck: Duration::ZERO,
        reserved_low: share(workman.reserved_low),
        reserved_high: share(workman.reserved_high),
        on_final_failure: mill_workman::OnFinalFailure::Drain,
        on_unavailable: mill_workman::OnUnavailable::Wait,
        grace: workman.grace,
    }
}

/// Zero means no limit: as many as the longest queue could need.
fn unlimited(workers: u32) -> u32 {
    const NO_LIMIT: u32 = 100_000;
    if workers == 0 { NO_LIMIT } else { workers }
}
