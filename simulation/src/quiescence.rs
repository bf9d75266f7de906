//! Quiescence: all faults end, runs follow until nothing is left to do, and then everything must be in sync.

use std::sync::Arc;
use std::time::Duration;

use mill_model::{Monotonic, QueueName};
use mill_producer::{SessionEnd, SessionReport};
use tokio_util::sync::CancellationToken;

use super::chaos::arrive;
use super::checker::{self, HeldCounts};
use super::fleet::{ProcessDeps, SimFleet, session};
use super::in_flight_bodies;
use super::operator::Operator;
use super::policies;
use super::sim_process::SimProcess;
use super::users::Users;
use super::world::World;

/// The name of the promise that everything ends.
const RESTS: &str = "everything comes to rest";

/// A world whose faults are over.
pub(crate) struct Quiescence<'w> {
    pub(crate) world: &'w Arc<World>,
    pub(crate) fleet: &'w mut SimFleet,
}

impl<'w> Quiescence<'w> {
    /// Ends all faults and mends all policy files.
    pub(crate) fn begin(world: &'w Arc<World>, fleet: &'w mut SimFleet) -> Self {
        world.set_calm(true);
        Users::bring_spaces_back(world, Monotonic::from_origin(Duration::MAX));
        policies::remove_self_copies(world);
        policies::write_all(world);
        fleet.start_all(false);
        Self { world, fleet }
    }

    /// Runs until everything is in sync. `None` when that never happens, or a promise was broken.
    pub(crate) async fn come_to_rest(&mut self) -> Option<HeldCounts> {
        let mut clean = 0;
        // If names fold, a run may change nothing and only learn that an item is no twin. The next run counts the item as gone.
        let clean_min = if self.world.swarm.folds { 2 } else { 1 };
        for _ in 0..40 {
            self.empty_queues().await?;
            let operator = Operator::new(self.world);
            let letters = operator.decide_dead_letters(true).await.unwrap_or(1);
            operator.release().await;
            let before = self.world.model(|model| model.effects);
            let report = self.session().await;
            self.empty_queues().await?;
            let unchanged = self.world.model(|model| model.effects) == before;
            let well = unchanged && letters == 0 && report.as_ref().is_some_and(is_clean);
            clean = if well { clean + 1 } else { 0 };
            if clean >= clean_min && self.has_no_open_dead_letter() {
                return report.map(|report| held(&report));
            }
        }
        self.world.violated(RESTS, "forty loops without a fault, and still something fails".to_owned());
        None
    }

    /// Runs one session of a new producer.
    pub(crate) async fn session(&self) -> Option<SessionReport> {
        let process_deps = ProcessDeps::new(&SimProcess::new(self.world, "producer"));
        session(&process_deps, true, &CancellationToken::new()).await
    }

    /// The operator confirms the held deletes, and one run makes them.
    pub(crate) async fn confirmed_loop(&mut self) -> Option<HeldCounts> {
        Operator::new(self.world).confirm(true).await;
        self.one_loop().await
    }

    /// Runs a session and waits for all its work.
    pub(crate) async fn one_loop(&mut self) -> Option<HeldCounts> {
        let report = self.session().await?;
        self.empty_queues().await?;
        (!self.world.is_over()).then(|| held(&report))
    }

    fn has_no_open_dead_letter(&self) -> bool {
        self.world.model(|model| model.dead_letters.values().all(|row| !row.open))
    }

    /// Waits until all queues are empty. Stops the fleet while only late bodies are missing.
    pub(crate) async fn empty_queues(&mut self) -> Option<()> {
        for _ in 0..2000 {
            if self.world.is_over() {
                return None;
            }
            arrive(self.world).await;
            in_flight_bodies::judge(self.world);
            let held: usize = self.world.sim_queues.values().map(|sim_queue| sim_queue.held()).sum();
            if held == 0 {
                return Some(());
            }
            let late = self.world.sim_queues.values().filter_map(|sim_queue| sim_queue.next_late()).min();
            let here: usize = self.world.sim_queues.values().map(|sim_queue| sim_queue.inner.bodies().len()).sum();
            match late {
                Some(late) if here == 0 => self.pass_until(late).await,
                _ => self.world.sleep(Duration::from_secs(15)).await,
            }
        }
        let left: Vec<_> =
            QueueName::ALL.iter().filter_map(|name| Some((name, self.world.sim_queues.get(name)?.held()))).collect();
        self.world.violated(RESTS, format!("the queues never empty: {left:?}"));
        None
    }

    async fn pass_until(&mut self, until: Monotonic) {
        let long = until.since(self.world.now());
        if long < Duration::from_mins(20) {
            return self.world.sleep(long).await;
        }
        self.pass(long).await;
    }

    /// Lets a long time pass without the fleet, which would only poll empty queues.
    pub(crate) async fn pass(&mut self, long: Duration) {
        self.fleet.stop_all(true).await;
        self.world.sleep(long).await;
        self.fleet.start_all(false);
    }

    /// One more run at rest must write nothing.
    pub(crate) async fn stays_at_rest(&mut self) -> Option<()> {
        let items = self.world.model(|model| model.effects);
        self.one_loop().await?;
        let after = self.world.model(|model| model.effects);
        if after != items {
            self.world.violated("rest stays at rest", format!("one more loop changed {} items", after - items));
        }
        Some(())
    }

    /// Judges the final state.
    pub(crate) fn judge(&self, held: &HeldCounts) {
        if let Err(what) = checker::compare(self.world, held) {
            self.world.violated("destinations equal what policy says", what);
        }
        let lost = self
            .world
            .model(|model| model.tasks.iter().find(|(_, task)| !task.is_accounted_for()).map(|(key, _)| key.clone()));
        if let Some(key) = lost {
            self.world.violated("no task is lost", format!("{key} is nowhere at the end"));
        }
    }
}

/// Whether a session reports that all is well, except for deletes that wait for a person.
fn is_clean(report: &SessionReport) -> bool {
    matches!(report.ended, SessionEnd::Finished { .. })
        && !report.failed()
        && !report.resumed
        && report.findings.removing == 0
}

pub(crate) fn held(report: &SessionReport) -> HeldCounts {
    report
        .findings
        .held
        .iter()
        .map(|held| {
            let key = (held.account.clone(), held.space.clone(), held.source.clone(), held.destination.clone());
            (key, held.count)
        })
        .collect()
}

/// The policies that users want now.
pub(crate) fn current_policies(world: &World) -> super::desired_policies::DesiredPolicies {
    world.desired_policies.lock().clone()
}
