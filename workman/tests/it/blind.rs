//! A task whose turn cannot be predicted (its store's cap is unknown, or dead workmen hold all permits) is received in
//! vain less and less often, and begins soon once that is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mill_ports::{TaskOutcome, TaskQueue};
use mill_testkit::CallRecorder;
use mill_workman::{StopSignal, Workman, WorkmanSettings};

use crate::admission::send;
use crate::fixture::{Fixture, HIGH, LOW, secs};
use crate::probe::store_of;

/// Plus the time until dead workmen are known to be dead.
const BROKEN: Duration = Duration::from_mins(10);
/// A snoozed task becomes visible within a minute; then it is received, and done within a second.
const SOON: Duration = Duration::from_secs(63);

/// As on a fleet, whose queues cannot exclude accounts. A task that begins while policies are broken is delivered again
/// after 52 seconds, like one whose policy is unknown.
fn fixture(broken: &Arc<AtomicBool>) -> Fixture {
    let broken = broken.clone();
    let mut fixture = Fixture::new(move |clock, _| {
        let broken = broken.load(Ordering::Acquire);
        async move {
            // It reads the file again.
            clock.sleep(Duration::from_millis(200)).await;
            let waits = TaskOutcome::Snooze { delay: secs(52), task: None };
            Ok(if broken { waits } else { TaskOutcome::done() })
        }
    });
    (fixture.settings.workers, fixture.settings.visibility) = (64, secs(600));
    (fixture.settings.batch_linger, fixture.settings.recheck) = (Duration::from_millis(100), secs(1));
    fixture.shares();
    fixture
}

/// The queues of a fleet, which count their calls.
struct Counted(Vec<Arc<CallRecorder<dyn TaskQueue>>>);

impl Counted {
    fn of(fixture: &Fixture) -> Self {
        let queue = |name| fixture.queues.get(name) as Arc<dyn TaskQueue>;
        Self([HIGH, LOW].map(|name| Arc::new(CallRecorder::new(queue(name)))).into())
    }

    fn requests(&self) -> u64 {
        self.0.iter().flat_map(|queue| queue.all()).map(|(_, calls)| calls.calls).sum()
    }

    async fn one_works(&self, fixture: &Fixture, name: &str, stop: StopSignal) {
        let mut deps = fixture.deps(&[HIGH, LOW]);
        deps.queues = self.0.iter().map(|queue| queue.clone() as Arc<dyn TaskQueue>).collect();
        deps.all_queues = deps.queues.iter().map(|queue| (queue.name(), queue.clone())).collect();
        let (workman, heartbeat) =
            Workman::new(deps, WorkmanSettings { name: name.into(), ..fixture.settings.clone() });
        futures::join!(workman.run(stop), heartbeat.run()).0.unwrap();
    }

    /// Three workmen, until all is done.
    async fn fleet_works(&self, fixture: &Fixture, during: impl Future<Output = ()>) {
        let during = async {
            during.await;
            fixture.emptied().await;
            fixture.stop.gentle.cancel();
        };
        let work = |name| self.one_works(fixture, name, fixture.stop.clone());
        futures::join!(work("one"), work("two"), work("three"), during);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_policy_file_costs_few_requests_and_all_begin_soon_once_it_is_mended() {
    for (tasks, most) in [(100, 4_000), (1_000, 16_000)] {
        let broken = Arc::new(AtomicBool::new(true));
        let fixture = fixture(&broken);
        fixture.caps.set(&store_of("slow"), u32::MAX);
        send(&fixture, "slow", tasks).await;
        let counted = Counted::of(&fixture);
        let during = async {
            fixture.pass(BROKEN).await;
            let requests = counted.requests();
            println!("{tasks} tasks: {requests} requests, {} begun", fixture.probe.begun().len());
            assert!(requests < most, "{requests} for {tasks} tasks");
            broken.store(false, Ordering::Release);
            fixture.caps.set(&store_of("slow"), 0);
        };
        Box::pin(counted.fleet_works(&fixture, during)).await;
        let took = fixture.clock.monotonic().since_origin().saturating_sub(BROKEN);
        assert!(took < SOON, "{took:?} for {tasks} tasks");
    }
}

#[tokio::test(start_paused = true)]
async fn permits_of_the_dead_cost_few_requests_and_all_begin_soon_once_they_run_out() {
    let fixture = fixture(&Arc::default());
    fixture.caps.set(&store_of("slow"), 2);
    let counted = Counted::of(&fixture);
    send(&fixture, "slow", 2).await;
    let lived = counted.one_works(&fixture, "dead", StopSignal::default());
    futures::future::select(Box::pin(lived), Box::pin(fixture.pass(secs(1)))).await;
    send(&fixture, "slow", 100).await;
    let before = counted.requests();
    let during = async {
        fixture.pass(secs(595)).await;
        let requests = counted.requests() - before;
        println!("{requests} requests");
        assert_eq!(fixture.probe.begun().len(), 2);
        assert!(requests < 4_000, "{requests}");
    };
    Box::pin(counted.fleet_works(&fixture, during)).await;
    let took = fixture.clock.monotonic().since_origin().saturating_sub(BROKEN);
    let work = secs(10);
    assert!(took < SOON + work, "{took:?}");
}
