//! What is particular to queues in memory; what they share with others is proven in `conformance`.

use super::*;
use crate::SeededRng;
use bytes::Bytes;
use mill_model::AccountId;

use crate::SimClock;

const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();
const MINUTE: Duration = Duration::from_mins(1);

fn queues(behavior: &QueueBehavior, seed: u64) -> MemoryQueues {
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
    let chance: Arc<dyn Rng> = Arc::new(SeededRng::new(seed));
    MemoryQueues::new(behavior, &clock, &chance)
}

async fn send(queue: &MemoryQueue, bodies: std::ops::Range<u8>) {
    let group = AccountId::new("a").unwrap();
    let out: Vec<OutgoingMessage> = bodies
        .map(|body| OutgoingMessage { group: group.clone(), body: Bytes::from(vec![body]), delay: Duration::ZERO })
        .collect();
    queue.send(&out).await.unwrap().into_result().unwrap();
}

async fn order(seed: u64) -> Vec<u8> {
    let queue = queues(&QueueBehavior::adversarial(), seed).get(QueueName::Audit);
    send(&queue, 0..10).await;
    let mut order = Vec::new();
    for _ in 0..20 {
        order.extend(queue.receive(TEN, MINUTE, Duration::ZERO).await.unwrap().iter().map(|one| one.body[0]));
    }
    order
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_the_order_and_the_duplicates() {
    assert_eq!(order(1).await, order(1).await);
    assert_ne!(order(1).await, order(2).await);
}

#[tokio::test(start_paused = true)]
async fn duplicates_come_when_asked_for_and_outlive_each_other() {
    let queue =
        queues(&QueueBehavior { duplicates_per_mille: 500, ..QueueBehavior::well_behaved() }, 3).get(QueueName::Audit);
    send(&queue, 0..10).await;
    let mut received = 0;
    loop {
        let deliveries = queue.receive(TEN, MINUTE, Duration::ZERO).await.unwrap();
        if deliveries.is_empty() {
            break;
        }
        received += deliveries.len();
        let receipts: Vec<Receipt> = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
        queue.acknowledge(&receipts).await.unwrap().into_result().unwrap();
    }
    assert!(received > 10, "no duplicates among {received}");
    assert!(queue.bodies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_costs_no_real_time_and_ends_at_the_next_deadline() {
    let clock = Arc::new(SimClock::new());
    let chance: Arc<dyn Rng> = Arc::new(SeededRng::new(1));
    let queue = MemoryQueue::new(QueueName::Audit, QueueBehavior::well_behaved(), clock.clone(), chance, None);
    send(&queue, 0..1).await;
    queue.receive(TEN, MINUTE, Duration::ZERO).await.unwrap();
    let again = queue.receive(TEN, MINUTE, Duration::from_hours(1)).await.unwrap();
    assert_eq!(again[0].receive_count, 2);
    assert_eq!(clock.monotonic().since_origin(), MINUTE);
    queue.acknowledge(&[again[0].receipt.clone()]).await.unwrap().into_result().unwrap();
    assert!(queue.receive(TEN, MINUTE, Duration::from_hours(1)).await.unwrap().is_empty());
    assert_eq!(clock.monotonic().since_origin(), MINUTE + Duration::from_hours(1));
}

#[tokio::test(start_paused = true)]
async fn a_guessed_depth_is_off_but_not_by_more_than_said() {
    let queue =
        queues(&QueueBehavior { depth_error_percent: 20, ..QueueBehavior::well_behaved() }, 5).get(QueueName::Audit);
    for _ in 0..10 {
        send(&queue, 0..10).await;
    }
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        seen.insert(queue.depth().await.unwrap().visible);
    }
    assert!(seen.len() > 1);
    assert!(seen.iter().all(|depth| (80..=120).contains(depth)), "{seen:?}");
}
