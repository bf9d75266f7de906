//! A model of a queue: a list of bodies.

use std::num::NonZeroU32;
use std::time::Duration;

use mill_ports::{Delivery, Receipt};
use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_oneof};

use super::{hold, pick};
use crate::queue::{drain, outgoing, receipts};
use crate::subject::{QueueSubject, run};

/// One thing done to a queue. Seconds are few, so that deadlines meet.
#[derive(Debug, Clone)]
pub enum QueueOp {
    /// Sends a new body.
    Send {
        /// Its delay, in seconds.
        delay: u64,
    },
    /// Receives once.
    Receive {
        /// How many at most.
        max: u32,
        /// For how many seconds.
        visibility: u64,
    },
    /// Extends one of the deliveries in flight.
    Extend(usize, u64),
    /// Releases one of them.
    Release(usize),
    /// Acknowledges one of them.
    Acknowledge(usize),
    /// Lets so many seconds pass.
    Pass(u64),
}

fn ops() -> impl Strategy<Value = Vec<QueueOp>> {
    let op = prop_oneof![
        4 => prop_oneof![3 => 0..1u64, 1 => 0..5u64].prop_map(|delay| QueueOp::Send { delay }),
        6 => (1..12u32, 1..6u64).prop_map(|(max, visibility)| QueueOp::Receive { max, visibility }),
        2 => (0..50usize, 0..8u64).prop_map(|(at, seconds)| QueueOp::Extend(at, seconds)),
        2 => (0..50usize).prop_map(QueueOp::Release),
        2 => (0..50usize).prop_map(QueueOp::Acknowledge),
        3 => (1..6u64).prop_map(QueueOp::Pass),
    ];
    vec(op, 1..80)
}

/// Tries random operations on fresh queues.
///
/// # Panics
/// When the queue does what the model does not.
pub fn check<F: Future<Output = QueueSubject>>(open: impl Fn() -> F, cases: u32) {
    hold(&ops(), cases, "proptest-regressions/queue.txt", |ops| {
        run(async {
            let mut checked = CheckedQueue { subject: open().await, model: QueueModel::default() };
            for op in ops {
                checked.step(op).await;
            }
            checked.settle().await;
        });
    });
}

/// The model of a queue that delivers once.
#[derive(Debug, Default)]
struct QueueModel {
    now: Duration,
    /// By number; each is named by it.
    bodies: Vec<ModelBody>,
    in_flight: Vec<ModelDelivery>,
}

/// One delivery. A queue that doubles may have several of one body.
#[derive(Debug)]
struct ModelDelivery {
    receipt: Receipt,
    body: usize,
    until: Duration,
}

#[derive(Debug, Default, Clone)]
struct ModelBody {
    visible_at: Duration,
    receive_count: u32,
    acknowledged: bool,
}

impl QueueModel {
    fn send(&mut self, delay: Duration) {
        self.bodies.push(ModelBody { visible_at: self.now + delay, ..ModelBody::default() });
    }

    /// Forgets receipts whose deadline has passed.
    fn pass(&mut self, by: Duration) {
        self.now += by;
        let now = self.now;
        self.in_flight.retain(|delivery| delivery.until > now);
    }

    fn hide(&mut self, at: usize, visibility: Duration) {
        let until = self.now + visibility;
        self.in_flight[at].until = until;
        self.bodies[self.in_flight[at].body].visible_at = until;
        self.pass(Duration::ZERO);
    }

    fn acknowledge(&mut self, at: usize) {
        let ModelDelivery { body, .. } = self.in_flight.remove(at);
        self.bodies[body].acknowledged = true;
    }
}

struct CheckedQueue {
    subject: QueueSubject,
    model: QueueModel,
}

impl CheckedQueue {
    async fn step(&mut self, op: QueueOp) {
        let queue = self.subject.queue.clone();
        let seconds = Duration::from_secs;
        let at = |index: usize, model: &QueueModel| {
            let ModelDelivery { receipt, .. } = pick(&model.in_flight, index)?;
            Some((index % model.in_flight.len(), [receipt.clone()]))
        };
        match op {
            QueueOp::Send { delay } => {
                let out = [outgoing(self.model.bodies.len().to_string(), seconds(delay))];
                queue.send(&out).await.unwrap().into_result().unwrap();
                self.model.send(seconds(delay));
            }
            QueueOp::Receive { max, visibility } => {
                let max = NonZeroU32::new(max).unwrap();
                let deliveries = queue.receive(max, seconds(visibility), Duration::ZERO).await.unwrap();
                assert!(deliveries.len() <= max.min(queue.limits().batch_max).get() as usize);
                for delivery in deliveries {
                    self.received(delivery, seconds(visibility));
                }
            }
            QueueOp::Extend(index, by) => {
                let Some((at, receipt)) = at(index, &self.model) else { return };
                let mut extended = queue.extend(&receipt, seconds(by)).await.unwrap();
                extended.remove(0).unwrap();
                self.model.hide(at, seconds(by));
            }
            QueueOp::Release(index) => {
                let Some((at, receipt)) = at(index, &self.model) else { return };
                queue.release(&receipt).await.unwrap().into_result().unwrap();
                self.model.hide(at, Duration::ZERO);
            }
            QueueOp::Acknowledge(index) => {
                let Some((at, receipt)) = at(index, &self.model) else { return };
                queue.acknowledge(&receipt).await.unwrap().into_result().unwrap();
                self.model.acknowledge(at);
            }
            QueueOp::Pass(by) => {
                self.subject.time.pass(seconds(by)).await;
                self.model.pass(seconds(by));
            }
        }
    }

    /// A delivery must be of a body sent; of a queue that delivers once, of one that was due.
    fn received(&mut self, delivery: Delivery, visibility: Duration) {
        let number = number(&delivery);
        let receive_count_max = self.subject.max_receive_count;
        let body = self.model.bodies.get_mut(number).expect("it was sent");
        assert!(delivery.receive_count <= receive_count_max, "received {} times", delivery.receive_count);
        if !self.subject.duplicates {
            assert!(!body.acknowledged, "body {number} was acknowledged");
            assert!(body.visible_at <= self.model.now, "body {number} was hidden");
            assert_eq!(delivery.receive_count, body.receive_count + 1, "of body {number}");
        }
        body.receive_count = delivery.receive_count;
        body.visible_at = self.model.now + visibility;
        let until = body.visible_at;
        self.model.in_flight.push(ModelDelivery { receipt: delivery.receipt, body: number, until });
    }

    /// In the end each unacknowledged body is in the queue or among the dead letters.
    async fn settle(mut self) {
        let mut alive = vec![0; self.model.bodies.len()];
        let mut dead = alive.clone();
        for _ in 0..=self.subject.max_receive_count {
            self.subject.time.pass(Duration::from_secs(10)).await;
            self.model.pass(Duration::from_secs(10));
            for delivery in drain(&*self.subject.queue, Duration::from_secs(5)).await {
                alive[number(&delivery)] += 1;
                self.subject.queue.acknowledge(&receipts(&[delivery])).await.unwrap().into_result().unwrap();
            }
        }
        for delivery in drain(&*self.subject.dead_letters, Duration::from_mins(1)).await {
            dead[number(&delivery)] += 1;
        }
        for (number, body) in self.model.bodies.iter().enumerate() {
            let (alive, dead) = (alive[number], dead[number]);
            assert!(body.acknowledged || alive + dead > 0, "body {number} is lost");
            if !self.subject.duplicates {
                let spent = body.receive_count >= self.subject.max_receive_count;
                let expected = (u32::from(!body.acknowledged && !spent), u32::from(!body.acknowledged && spent));
                assert_eq!((alive, dead), expected, "body {number} in the queue and among the dead letters");
            }
        }
    }
}

fn number(delivery: &Delivery) -> usize {
    std::str::from_utf8(&delivery.body).unwrap().parse().expect("the body was sent")
}
