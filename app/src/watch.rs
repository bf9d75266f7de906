//! Watches the folders that are sources of store policies, and queues what changes in them as audit tasks.
//!
//! **Promise.** A hint of a watch is a reason to look: what is sent says what was there at the look. What cannot be looked at, and
//! what may have changed unseen, is said in one line to be left to the loop. A queue that does not take the changes gets
//! them again until it does.
//!
//! Reading order: this file (which folders are watched today), `reporter` (from hints to events).

mod reporter;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mill_local::folder::{FolderWatch, Layout, WantedSpaces, WatchLimits, WatchPace, WatchSettings};
use mill_model::{SpaceId, StoreAddress, StoreId};
use mill_policy::AccountPolicy;
use mill_ports::{Clock, Rng, Stores};
use mill_records::audit_sender::AuditSender;
use mill_records::policies::PolicyRepository;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::audit_parts::audit_sender;
use crate::config::Config;
use crate::installation::Installation;
use reporter::HintReporter;

/// How often today's policies are asked for, at most.
const POLICIES_EVERY: Duration = Duration::from_secs(10);

/// How long a watch that ended by a defect waits before it begins anew.
const BEGIN_ANEW_AFTER: Duration = Duration::from_secs(30);

/// Watches the sources of all accounts.
#[derive(Debug)]
pub struct SourceWatches {
    policies: Arc<PolicyRepository>,
    stores: Arc<dyn Stores>,
    sender: AuditSender,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Rng>,
    /// The folder that relative roots are relative to.
    base: PathBuf,
    policies_every: Duration,
    pace: WatchPace,
}

/// One source that is watched.
#[derive(Debug)]
struct WatchedSource {
    root: PathBuf,
    spaces: Arc<CoveredSpaces>,
    changed: Arc<Notify>,
    task: AbortHandle,
}

/// The spaces for which a store is a source today.
#[derive(Debug)]
struct CoveredSpaces {
    store: StoreId,
    today: Mutex<(Arc<AccountPolicy>, BTreeMap<SpaceId, bool>)>,
}

impl CoveredSpaces {
    /// How many answers are kept.
    const ANSWERS_MAX: usize = 10_000;

    /// Takes today's policy. `true` if it is another one.
    fn update(&self, policy: &Arc<AccountPolicy>) -> bool {
        let mut today = self.today.lock();
        if Arc::ptr_eq(&today.0, policy) {
            return false;
        }
        *today = (Arc::clone(policy), BTreeMap::new());
        true
    }
}

impl WantedSpaces for CoveredSpaces {
    fn wants(&self, space: &SpaceId) -> bool {
        let mut today = self.today.lock();
        if let Some(known) = today.1.get(space) {
            return *known;
        }
        let covered = today.0.for_space(space).policies.iter().any(|policy| policy.source == self.store);
        if today.1.len() < Self::ANSWERS_MAX {
            today.1.insert(space.clone(), covered);
        }
        covered
    }
}

impl SourceWatches {
    /// The watches of an installation.
    pub fn of(installation: &Installation, config: &Config) -> Self {
        let engine = &installation.engine;
        Self {
            policies: installation.policies.clone(),
            stores: installation.stores.clone(),
            sender: audit_sender(&**engine),
            clock: engine.clock(),
            chance: engine.rng(),
            base: config.base().to_owned(),
            policies_every: config.policies.refresh.min(POLICIES_EVERY),
            pace: WatchPace::USUAL,
        }
    }

    /// Watches until told to stop. Changes that are not queued by then are left to the loop, which is said.
    pub async fn run(self, stop: CancellationToken) {
        let shared = Arc::new(self);
        let mut tasks = JoinSet::new();
        let mut watched = BTreeMap::new();
        while !stop.is_cancelled() {
            shared.update(&mut watched, &mut tasks, &stop).await;
            while let Some(ended) = tasks.try_join_next() {
                if let Err(ended) = ended
                    && !ended.is_cancelled()
                {
                    error!("a watch ended by a defect ({ended}); what changes there is left to the loop");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = shared.clock.sleep(shared.policies_every) => {}
            }
        }
        while tasks.join_next().await.is_some() {}
        info!("watches no more: what changes from now on is for the loop");
    }

    /// Begins and ends watches by today's policies.
    async fn update(
        self: &Arc<Self>,
        watched: &mut BTreeMap<StoreAddress, WatchedSource>,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let accounts = match self.policies.accounts().await {
            Ok(accounts) => accounts,
            Err(why) => {
                // The policies say so themselves. What is watched stays so.
                tracing::debug!("the policies cannot be read: {}", mill_ports::error_chain(&why));
                return;
            }
        };
        let mut today = BTreeMap::new();
        for (account, policy) in accounts {
            if let Ok(policy) = policy {
                today.extend(self.sources(&policy));
            } else {
                let known = watched.iter().filter(|(address, _)| address.account == account);
                today.extend(known.map(|(address, source)| {
                    (address.clone(), (source.root.clone(), source.spaces.today.lock().0.clone()))
                }));
            }
        }
        watched.retain(|address, source| {
            let stays = today.get(address).is_some_and(|(root, _)| *root == source.root) && !source.task.is_finished();
            if !stays {
                source.task.abort();
                info!(account = %address.account, store = %address.store, "is not watched any more");
            }
            stays
        });
        for (address, (root, policy)) in today {
            match watched.get(&address) {
                Some(source) if source.spaces.update(&policy) => source.changed.notify_one(),
                Some(_) => {}
                None => {
                    let source = self.begin(&address, root, policy, tasks, stop);
                    watched.insert(address, source);
                }
            }
        }
    }

    /// The folders that are sources of an account's policies.
    fn sources(&self, policy: &Arc<AccountPolicy>) -> Vec<(StoreAddress, (PathBuf, Arc<AccountPolicy>))> {
        let mut sources: Vec<&StoreId> = policy.pairs().into_iter().map(|(source, _)| source).collect();
        sources.dedup();
        let roots = sources.into_iter().filter_map(|id| {
            let root = self.base.join(policy.store(id)?.kind.folder_root()?);
            Some((StoreAddress::of(policy.account(), id), (root, Arc::clone(policy))))
        });
        roots.collect()
    }

    fn begin(
        self: &Arc<Self>,
        address: &StoreAddress,
        root: PathBuf,
        policy: Arc<AccountPolicy>,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> WatchedSource {
        let today = Mutex::new((policy, BTreeMap::new()));
        let spaces = Arc::new(CoveredSpaces { store: address.store.clone(), today });
        let changed = Arc::<Notify>::default();
        let watching = Arc::clone(self).watch(
            address.clone(),
            (root.clone(), Arc::clone(&spaces), Arc::clone(&changed)),
            stop.clone(),
        );
        WatchedSource { root, spaces, changed, task: tasks.spawn(watching) }
    }

    /// Watches one source until told to stop.
    async fn watch(
        self: Arc<Self>,
        address: StoreAddress,
        (root, spaces, changed): (PathBuf, Arc<CoveredSpaces>, Arc<Notify>),
        stop: CancellationToken,
    ) {
        let mut reporter = HintReporter::new(
            address.clone(),
            self.stores.clone(),
            self.sender.clone(),
            (self.clock.clone(), self.chance.clone()),
        );
        while !stop.is_cancelled() {
            let begun = FolderWatch::begin(WatchSettings {
                root: root.clone(),
                layout: Layout::Spaces,
                wanted: spaces.clone(),
                clock: self.clock.clone(),
                pace: self.pace,
                limits: WatchLimits::USUAL,
            });
            let why = match begun {
                Ok(mut watch) => {
                    let ended = follow(&mut watch, &mut reporter, &changed, &stop).await;
                    if ended.is_none() {
                        return;
                    }
                    "it ended by a defect".to_owned()
                }
                Err(error) => error.to_string(),
            };
            let StoreAddress { account, store } = &address;
            warn!(%account, %store, why, "cannot be watched for now: what changes meanwhile is left to the loop");
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep(BEGIN_ANEW_AFTER) => {}
            }
        }
    }
}

/// The watch has ended by itself.
struct Ended;

/// Reports what a watch says. `None` when it is told to stop.
async fn follow(
    watch: &mut FolderWatch,
    reporter: &mut HintReporter,
    changed: &Notify,
    stop: &CancellationToken,
) -> Option<Ended> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return None,
            () = changed.notified() => watch.reconsider(),
            batch = watch.next() => match batch {
                Some(batch) => reporter.report(batch, stop).await,
                None => return Some(Ended),
            },
        }
    }
}
