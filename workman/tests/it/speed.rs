//! How many no-op tasks a second go through one workman. Measurements, not promises of the hour: run with
//! `cargo test --release -p mill-workman --test it speed -- --ignored --nocapture --test-threads 1`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mill_local::{Database, OsClock, OsRng, SqliteQueue};
use mill_ports::{Clock, NoCaps, OutgoingMessage, Registry, TaskQueue};
use mill_testkit::{MemoryQueue, QueueBehavior};
use mill_workman::{StopSignal, Workman, WorkmanDeps};

use crate::fixture::{LOW, settings};
use crate::nothing::{Nothing, outgoing};

fn measured(what: &str, tasks: u64, queue: impl FnOnce(Arc<dyn Clock>) -> Arc<dyn TaskQueue>) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(OsClock);
        let queue = queue(clock.clone());
        fill(queue.as_ref(), tasks).await;
        let done = Arc::new(AtomicU64::new(0));
        let deps = WorkmanDeps {
            queues: vec![queue.clone()],
            all_queues: [(LOW, queue.clone())].into(),
            dead_letter: queue.clone(),
            registry: Registry::default().register(Nothing(done.clone())),
            clock: clock.clone(),
            chance: Arc::new(OsRng),
            statistics: Arc::default(),
            caps: Arc::new(NoCaps),
            permits: None,
            counts: None,
        };
        let mut settings = settings();
        settings.workers = 256;
        let (workman, heartbeat) = Workman::new(deps, settings);
        let stop = StopSignal::default();
        let began = clock.monotonic();
        let emptied = async {
            while done.load(Ordering::Relaxed) < tasks || queue.depth().await.unwrap().total() > 0 {
                clock.sleep(Duration::from_millis(10)).await;
            }
            let took = clock.monotonic().since(began);
            stop.gentle.cancel();
            took
        };
        let (ended, (), took) = futures::join!(workman.run(stop.clone()), heartbeat.run(), emptied);
        ended.unwrap();
        let rate = tasks as f64 / took.as_secs_f64();
        println!("{what}: {tasks} tasks in {took:.2?}, {rate:.0} a second");
        rate
    })
}

async fn fill(queue: &dyn TaskQueue, tasks: u64) {
    let batch_max = queue.limits().batch_max.get() as usize;
    let outgoing: Vec<OutgoingMessage> = (0..tasks).map(outgoing).collect();
    for batch in outgoing.chunks(batch_max) {
        queue.send(batch).await.unwrap().into_result().unwrap();
    }
}

#[test]
#[ignore = "a measurement; needs a release build"]
fn speed_in_memory() {
    let behavior = QueueBehavior { batch_max: NonZeroU32::new(100).unwrap(), ..QueueBehavior::well_behaved() };
    let rate = measured("memory, batches of 100", 200_000, |clock| {
        Arc::new(MemoryQueue::new(LOW, behavior, clock, Arc::new(OsRng), None))
    });
    assert!(rate > 20_000.0);
    let rate = measured("memory, batches of 10", 200_000, |clock| {
        Arc::new(MemoryQueue::new(LOW, QueueBehavior::well_behaved(), clock, Arc::new(OsRng), None))
    });
    assert!(rate > 20_000.0);
}

#[test]
#[ignore = "a measurement; needs a release build"]
fn speed_on_sqlite() {
    let place = tempfile::tempdir().unwrap();
    let rate = measured("sqlite", 100_000, |clock| {
        let database = Database::open(&place.path().join("mill.db"), clock, Arc::new(OsRng)).unwrap();
        Arc::new(SqliteQueue::new(database, LOW))
    });
    assert!(rate > 5_000.0);
}
