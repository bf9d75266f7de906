//! The cost of a task in requests, on a service that charges for requests.

use std::sync::Arc;
use std::time::Duration;

use mill_ports::{TaskOutcome, TaskQueue};
use mill_testkit::{CallRecorder, PortCall};
use mill_workman::Workman;

use crate::fixture::{Fixture, HIGH, LOW, secs};

const TASKS: u64 = 2_000;

/// Together with the producer's full batches, that is three requests for ten tasks, plus one in thirty for everything
/// else: polls of an empty queue, and batches that are not full.
#[tokio::test(start_paused = true)]
async fn a_task_of_a_busy_fleet_is_received_and_acknowledged_with_a_fifth_of_a_request() {
    let mut fixture = Fixture::new(|clock, call| async move {
        // Each takes a different time, so that no two end together by chance.
        let millis = 100 + u64::from(crc(&call.item)) % 400;
        clock.sleep(Duration::from_millis(millis)).await;
        Ok(TaskOutcome::done())
    });
    (fixture.settings.workers, fixture.settings.visibility) = (64, secs(600));
    (fixture.settings.batch_linger, fixture.settings.recheck) = (Duration::from_millis(100), secs(1));
    fixture.settings.reserved_high = 0.05;
    for n in 0..TASKS {
        fixture.send(LOW, &format!("{n}")).await;
    }
    let mut deps = fixture.deps(&[HIGH, LOW]);
    let counted: Vec<_> = deps.queues.iter().map(|queue| Arc::new(CallRecorder::new(queue.clone()))).collect();
    deps.queues = counted.iter().map(|queue| queue.clone() as Arc<dyn TaskQueue>).collect();
    let (workman, heartbeat) = Workman::new(deps, fixture.settings.clone());
    let emptied = async {
        fixture.emptied().await;
        fixture.stop.gentle.cancel();
    };
    let (ended, (), ()) = futures::join!(workman.run(fixture.stop.clone()), heartbeat.run(), emptied);
    ended.unwrap();
    let calls = |op| counted.iter().map(|queue| queue.calls(op).calls).sum::<u64>();
    let (receives, acknowledgments) = (calls(PortCall::Receive), calls(PortCall::Acknowledge));
    let most = TASKS * 21 / 100;
    assert!(receives + acknowledgments <= most, "{receives} receives and {acknowledgments} acknowledgments");
}

fn crc(text: &str) -> u32 {
    text.bytes().fold(17, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)).rotate_left(7))
}
