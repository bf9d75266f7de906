//! A run that ends by itself, in a world where something goes wrong with it on purpose: it is killed, stopped, kept from the
//! producers' lease, or a store does not answer it. Other faults go on meanwhile.
//!
//! All that a scenario decides comes from random numbers of its own, so that worlds without one stay as they are.

use std::sync::Arc;
use std::time::Duration;

use mill_model::{Monotonic, QueueName};
use mill_run::InSync;
use mill_workman::StopSignal;
use tokio::task::JoinSet;

use super::chaos::arrive;
use super::checker;
use super::event::{DecodedBody, Event};
use super::fault::SimFault;
use super::fleet::{ProcessDeps, session};
use super::in_flight_bodies;
use super::quiescence::held;
use super::rng::SimRng;
use super::sim_process::SimProcess;
use super::sim_run::{EndedRun, RunEnd, SimRun};
use super::sim_store::StoreTrouble;
use super::users::Users;
use super::world::World;

/// The promise that a run ends.
const ENDS: &str = "a run ends by itself";
/// The promise about its queues.
const NOTHING_LEFT: &str = "a run that is done leaves nothing of its own in its queues";
/// The promise in a world without faults.
const IN_SYNC: &str = "a run without faults says that all is in sync";

/// The longest that a run may take: a task may be in flight for twelve hours, and a late body is not waited for.
const LONGEST: Duration = Duration::from_hours(30);

/// The scenarios of one world.
#[derive(Debug)]
pub(crate) struct RunScenarios {
    rng: SimRng,
    /// How many runs there are before the faults end.
    with_faults: u64,
    /// Whether there is one at the very end, in a world without faults.
    pub(crate) at_rest: bool,
}

/// What is done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunAct {
    Kill,
    StopGently,
    StopAtOnce,
    Silence,
    Trouble,
    FullState,
    Users,
}

impl RunScenarios {
    pub(crate) fn draw(seed: u64) -> Self {
        const OWN_STREAM: u64 = 0x7275_6e73;
        let rng = SimRng::new(seed ^ OWN_STREAM.rotate_left(32));
        let with_faults = if rng.below(3) == 0 { rng.between(1, 3) } else { 0 };
        let at_rest = rng.below(3) == 0;
        Self { rng, with_faults, at_rest }
    }

    /// Runs once or several times, while faults go on.
    pub(crate) async fn play_with_faults(&self, world: &Arc<World>) {
        for _ in 0..self.with_faults {
            if world.is_over() {
                return;
            }
            self.play(world, &self.some_acts(), self.is_exact()).await;
        }
    }

    /// People change something, and runs bring all of it, until one changes nothing and says that all is in sync.
    pub(crate) async fn play_at_rest(&self, world: &Arc<World>) -> Option<()> {
        /// What is copied from a copy comes with a later run, and so does what takes the name of a deleted item.
        const RUNS_MAX: usize = 6;
        for _ in 0..self.rng.below(4) {
            Users::somewhere(world).act();
        }
        let mut last = String::new();
        for n in 0..RUNS_MAX {
            // A run that does not count each outcome does not know whether it gave an item another spelling. The last ones do.
            let exact = n >= RUNS_MAX / 2 || self.is_exact();
            let RunEnd::Ended(run) = self.play(world, &[], exact).await? else {
                world.violated(IN_SYNC, "it did not come to its end".to_owned());
                return None;
            };
            let EndedRun { by, report, in_sync, .. } = &*run;
            if report.produced.failed() || report.totals.dead_lettered() > 0 {
                // Such a run is not in sync, and rightly says so.
                return Some(());
            }
            last = format!("{by} says {in_sync:?}, cut short {:?}, {:?}", report.cut_short, report.totals);
            if report.cut_short.is_some() {
                break;
            }
            let may_have_changed = !report.exact && world.swarm.folds && report.totals.sum.survey.queued > 0;
            let changed = report.totals.changed() || may_have_changed;
            if *in_sync != InSync::No && !changed {
                let held = held(&report.produced);
                let said = |what| world.violated(IN_SYNC, format!("{what} ({last})"));
                return checker::compare(world, &held).map_err(said).ok();
            }
        }
        world.violated(IN_SYNC, last);
        None
    }

    /// Whether the next run counts each outcome.
    fn is_exact(&self) -> bool {
        self.rng.below(4) > 0
    }

    /// What is done to the next run, and when: most often one thing.
    fn some_acts(&self) -> Vec<(Duration, RunAct)> {
        let all = [
            RunAct::Kill,
            RunAct::Kill,
            RunAct::StopGently,
            RunAct::StopAtOnce,
            RunAct::Silence,
            RunAct::Silence,
            RunAct::Trouble,
            RunAct::FullState,
            RunAct::FullState,
            RunAct::Users,
        ];
        let soon = *self.rng.pick(&[Duration::ZERO, Duration::from_secs(2), Duration::from_secs(90)]);
        let one = || (self.rng.duration(Duration::ZERO, soon), *self.rng.pick(&all));
        let mut acts: Vec<_> = (0..self.rng.below(5)).map(|_| one()).collect();
        acts.sort_by_key(|(after, _)| *after);
        acts
    }

    /// Runs once. `None` when a promise was broken.
    async fn play(&self, world: &Arc<World>, acts: &[(Duration, RunAct)], exact: bool) -> Option<RunEnd> {
        let give_up_after = Duration::from_secs(*self.rng.pick(&[5, 30, 300]));
        let began = world.now();
        let other = (!world.is_calm() && self.rng.below(4) == 0).then(|| OtherProducer::begin(world));
        let mut run = SimRun::begin(world, give_up_after, exact);
        let mut acts = acts.iter().peekable();
        let ended = loop {
            if world.is_over() {
                return None;
            }
            if world.now().since(began) > LONGEST {
                world.violated(ENDS, format!("{} still runs after {LONGEST:?}", run.producer.name));
                return None;
            }
            arrive(world).await;
            in_flight_bodies::judge(world);
            while let Some((_, act)) = acts.next_if(|(after, _)| began.plus(*after) <= world.now()) {
                self.act(world, &run, *act);
            }
            let next = acts.peek().map_or(world.now().plus(Duration::from_secs(15)), |(after, _)| began.plus(*after));
            if let Some(ended) = run.ended_within(until(world, next)).await {
                break ended;
            }
        };
        if let Some(other) = other {
            other.end(world);
        }
        checker::scan(world);
        if let RunEnd::Ended(run) = &ended {
            nothing_is_left(world, run);
        }
        (!world.is_over()).then_some(ended)
    }

    fn act(&self, world: &Arc<World>, run: &SimRun, act: RunAct) {
        let by = &run.producer.name;
        match act {
            RunAct::Kill => {
                world.count(SimFault::RunKilled, by);
                run.producer.die();
            }
            RunAct::StopGently | RunAct::StopAtOnce => {
                world.count(SimFault::RunStopped, by);
                run.stop.gentle.cancel();
                if act == RunAct::StopAtOnce {
                    run.stop.immediate.cancel();
                }
            }
            RunAct::Silence => {
                world.count(SimFault::StoreSilent, by);
                self.trouble(world, StoreTrouble::Silent);
            }
            RunAct::Trouble => {
                let trouble = *self.rng.pick(&[StoreTrouble::Gone, StoreTrouble::Denied, StoreTrouble::Full]);
                self.trouble(world, trouble);
            }
            RunAct::FullState => {
                world.count(SimFault::StateFull, by);
                let long = self.rng.duration(Duration::from_secs(5), Duration::from_mins(10));
                run.fill_state_until(world.now().plus(long));
            }
            RunAct::Users => Users::somewhere(world).act(),
        }
    }

    /// Puts a store in trouble for a while.
    fn trouble(&self, world: &World, trouble: StoreTrouble) {
        let stores: Vec<_> = world.sim_stores.values().collect();
        let long = self.rng.duration(Duration::from_secs(20), Duration::from_mins(20));
        self.rng.pick(&stores).trouble(trouble, world.now().plus(long));
    }
}

/// How long it is until then, at least a little.
fn until(world: &World, next: Monotonic) -> Duration {
    let late = world.sim_queues.values().filter_map(|sim_queue| sim_queue.next_late()).min();
    let next = late.map_or(next, |late| late.min(next));
    next.since(world.now()).max(Duration::from_millis(1))
}

/// Judges that a run that says that its work is over has left none of the tasks that it sent.
fn nothing_is_left(world: &World, run: &EndedRun) {
    if run.report.cut_short.is_some() {
        return;
    }
    for sim_queue in world.sim_queues.values().filter(|sim_queue| sim_queue.name != QueueName::DeadLetter) {
        for body in sim_queue.all_bodies() {
            let decoded = DecodedBody::of(&body);
            let left = |task: &super::model::TaskModel| task.sent_by == run.by && !task.done;
            if world.model(|model| model.tasks.get(&decoded.key).is_some_and(left)) {
                let queue = sim_queue.name;
                return world.violated(NOTHING_LEFT, format!("{} is done, and left {decoded} in {queue}", run.by));
            }
        }
    }
}

/// A producer at work beside the run, which may hold the lease first.
struct OtherProducer {
    process: Arc<SimProcess>,
    running: JoinSet<()>,
}

impl OtherProducer {
    fn begin(world: &Arc<World>) -> Self {
        let process = SimProcess::new(world, "producer");
        world.count(SimFault::RunBesideProducer, &process.name);
        let _ = process.stop.set(StopSignal::default());
        let mut running = JoinSet::new();
        let producer = process.clone();
        running.spawn_local(async move {
            let deps = ProcessDeps::new(&producer);
            let session = session(&deps, false, &producer.stop.get_or_init(StopSignal::default).gentle);
            futures::future::select(std::pin::pin!(producer.death.cancelled()), std::pin::pin!(session)).await;
        });
        Self { process, running }
    }

    /// Kills it.
    fn end(mut self, world: &World) {
        self.process.die();
        self.running.abort_all();
        world.dead.lock().insert(self.process.name.clone());
        world.see(&Event::Ended { by: &self.process.name, killed: true });
    }
}
