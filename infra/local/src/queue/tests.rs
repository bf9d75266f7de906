mod model;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mill_model::{AccountId, QueueName};
use mill_ports::{Clock as _, Delivery, OutgoingMessage, QueueErrorKind, Receipt, TaskQueue as _};

use super::{HIDDEN_MAX, RECEIVES_MAX, SqliteQueue};
use crate::test_clock::TestClock;
use crate::{Database, OsClock, OsRng};

struct Room {
    directory: tempfile::TempDir,
    clock: Arc<TestClock>,
    database: Arc<Database>,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::new());
        let path = directory.path().join("mill.db");
        let database = Database::open(&path, Arc::clone(&clock) as _, Arc::new(OsRng)).unwrap();
        Self { directory, clock, database }
    }

    fn queue(&self, name: QueueName) -> SqliteQueue {
        SqliteQueue::new(Arc::clone(&self.database), name)
    }

    fn low(&self) -> SqliteQueue {
        self.queue(QueueName::DuplicationLow)
    }
}

fn out(body: &str) -> OutgoingMessage {
    let group = AccountId::new("a").unwrap();
    OutgoingMessage { group, body: Bytes::copy_from_slice(body.as_bytes()), delay: Duration::ZERO }
}

fn most(max: u32) -> NonZeroU32 {
    NonZeroU32::new(max).unwrap()
}

async fn send(queue: &SqliteQueue, bodies: &[&str]) {
    let out: Vec<_> = bodies.iter().map(|body| out(body)).collect();
    queue.send(&out).await.unwrap().into_result().unwrap();
}

async fn receive(queue: &SqliteQueue, seconds: u64) -> Vec<Delivery> {
    queue.receive(most(100), Duration::from_secs(seconds), Duration::ZERO).await.unwrap()
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

#[tokio::test]
async fn acknowledging_twice_is_harmless_and_so_is_acknowledging_what_is_gone() {
    let room = Room::new();
    let queue = room.low();
    send(&queue, &["x"]).await;
    let first = receipts(&receive(&queue, 60).await);
    queue.acknowledge(&first).await.unwrap().into_result().unwrap();
    send(&queue, &["y"]).await;
    queue.acknowledge(&first).await.unwrap().into_result().unwrap();
    assert_eq!(queue.depth().await.unwrap().visible, 1, "the old receipt must not fit the new body");
}

#[tokio::test]
async fn a_stale_receipt_does_nothing() {
    let room = Room::new();
    let queue = room.low();
    send(&queue, &["x"]).await;
    let stale = receipts(&receive(&queue, 60).await);
    room.clock.pass(Duration::from_mins(1));
    let fresh = receipts(&receive(&queue, 60).await);
    for report in [queue.acknowledge(&stale).await.unwrap(), queue.release(&stale).await.unwrap()] {
        assert_eq!(report.failed[0].1.kind, QueueErrorKind::ReceiptExpired);
    }
    let extended = queue.extend(&stale, Duration::from_hours(1)).await.unwrap();
    assert_eq!(extended[0].as_ref().unwrap_err().kind, QueueErrorKind::ReceiptExpired);
    assert_eq!(queue.depth().await.unwrap().in_flight, 1);
    queue.acknowledge(&fresh).await.unwrap().into_result().unwrap();
    assert_eq!(queue.depth().await.unwrap().total(), 0);
}

#[tokio::test]
async fn a_receipt_of_another_make_or_queue_is_expired_and_the_rest_of_the_batch_is_done() {
    let room = Room::new();
    let queue = room.low();
    send(&queue, &["x"]).await;
    let mut batch = receipts(&receive(&queue, 60).await);
    let other = room.queue(QueueName::Audit).acknowledge(&batch).await.unwrap();
    assert_eq!(other.failed.len(), 1);
    for foreign in ["", "-1.2", "garbage", "1.", "ffffffffffffffffff.1"] {
        batch.insert(0, Receipt(foreign.into()));
    }
    let report = queue.acknowledge(&batch).await.unwrap();
    assert_eq!(report.failed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(queue.depth().await.unwrap().total(), 0);
}

#[tokio::test]
async fn extending_ends_twelve_hours_after_the_receive() {
    let room = Room::new();
    let queue = room.low();
    send(&queue, &["x"]).await;
    let held = receipts(&receive(&queue, 3600).await);
    for step in 1..=23 {
        room.clock.pass(Duration::from_mins(30));
        let more = Duration::from_mins(if step < 23 { 60 } else { 30 });
        assert!(queue.extend(&held, more).await.unwrap()[0].is_ok());
    }
    assert!(receive(&queue, 1).await.is_empty());
    let refused = queue.extend(&held, Duration::from_hours(1)).await.unwrap();
    assert_eq!(refused[0].as_ref().unwrap_err().kind, QueueErrorKind::Unexpected);
    assert!(queue.extend(&held, Duration::from_mins(30)).await.unwrap()[0].is_ok(), "what remains is granted");
    room.clock.pass(Duration::from_mins(30));
    assert_eq!(receive(&queue, 1).await.len(), 1);
}

#[tokio::test]
async fn over_max_receive_count_goes_to_dead_letters_once_and_the_others_are_delivered() {
    let room = Room::new();
    let (queue, dead) = (room.low(), room.queue(QueueName::DeadLetter));
    send(&queue, &["poison"]).await;
    for count in 1..=RECEIVES_MAX {
        let delivery = receive(&queue, 60).await.remove(0);
        assert_eq!(delivery.receive_count, count);
        queue.release(&[delivery.receipt]).await.unwrap().into_result().unwrap();
    }
    send(&queue, &["good"]).await;
    let delivered = queue.receive(most(1), Duration::from_mins(1), Duration::ZERO).await.unwrap();
    assert_eq!(delivered.len(), 1, "a dead body must not take a good one's place");
    assert_eq!(&delivered[0].body[..], b"good");
    assert_eq!(queue.depth().await.unwrap().total(), 1);
    for count in 1..=2 * RECEIVES_MAX {
        let letter = receive(&dead, 60).await.remove(0);
        assert_eq!((&letter.body[..], letter.receive_count), (&b"poison"[..], count), "dead letters stay");
        dead.release(&[letter.receipt]).await.unwrap().into_result().unwrap();
    }
    assert!(room.database.check().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_received_without_being_hidden_comes_once_in_a_receive_that_buries_another() {
    let room = Room::new();
    let queue = room.low();
    let received = async |max| queue.receive(most(max), Duration::ZERO, Duration::ZERO).await.unwrap();
    send(&queue, &["poison"]).await;
    for _ in 1..=RECEIVES_MAX {
        assert_eq!(received(1).await.len(), 1);
    }
    send(&queue, &["good"]).await;
    let delivered = received(2).await;
    assert_eq!(delivered.iter().map(|one| &one.body[..]).collect::<Vec<_>>(), [b"good"]);
    assert_eq!(received(2).await[0].receive_count, 2);
}

#[tokio::test]
async fn a_clock_that_steps_back_by_years_hides_nothing_for_longer_than_anything_may_be_hidden() {
    let room = Room::new();
    let queue = room.low();
    let today = room.clock.now();
    room.clock.step_to(today.plus(Duration::from_hours(24 * 3650)));
    send(&queue, &["waiting", "held"]).await;
    let held = queue.receive(most(1), Duration::from_mins(1), Duration::ZERO).await.unwrap();
    room.clock.step_to(today);
    assert_eq!(receive(&queue, 60).await.len(), 2, "both come: repeated, not lost");
    let report = queue.acknowledge(&receipts(&held)).await.unwrap();
    assert_eq!(report.failed[0].1.kind, QueueErrorKind::ReceiptExpired);

    send(&queue, &["late"]).await;
    room.clock.step_to(today.minus(Duration::from_hours(2)));
    assert!(receive(&queue, 60).await.is_empty());
    room.clock.pass(HIDDEN_MAX);
    assert!(receive(&queue, 60).await.iter().any(|delivery| &delivery.body[..] == b"late"));
}

#[tokio::test]
async fn a_clock_that_steps_forward_delivers_again_and_voids_the_old_receipt() {
    let room = Room::new();
    let queue = room.low();
    send(&queue, &["x"]).await;
    let held = receipts(&receive(&queue, 3600).await);
    room.clock.step_to(room.clock.now().plus(Duration::from_hours(24)));
    assert_eq!(receive(&queue, 60).await.len(), 1);
    assert_eq!(queue.acknowledge(&held).await.unwrap().failed.len(), 1);
    assert_eq!(queue.depth().await.unwrap().in_flight, 1);
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_entry_and_the_rest_is_sent() {
    let room = Room::new();
    let queue = room.low();
    let large = OutgoingMessage { body: vec![0; queue.limits().body_bytes_max + 1].into(), ..out("") };
    let report = queue.send(&[out("a"), large, out("b")]).await.unwrap();
    assert_eq!(report.failed.len(), 1);
    assert_eq!((report.failed[0].0, report.failed[0].1.kind), (1, QueueErrorKind::TooLarge));
    assert_eq!(queue.depth().await.unwrap().visible, 2);
    let too_many = vec![out("x"); 101];
    assert_eq!(queue.send(&too_many).await.unwrap_err().kind, QueueErrorKind::Unexpected);
}

#[tokio::test]
async fn a_delivery_stays_hidden_until_its_deadline() {
    let room = Room::new();
    let queue = room.low();
    send(&queue, &["x"]).await;
    let before = room.clock.monotonic();
    let delivery = receive(&queue, 60).await.remove(0);
    let left = delivery.deadline.since(before);
    assert!(left <= Duration::from_mins(1) && left > Duration::from_secs(59));
    room.clock.pass(left);
    assert!(receive(&queue, 60).await.is_empty());
    room.clock.pass(Duration::from_millis(1));
    assert_eq!(receive(&queue, 60).await.len(), 1);
}

/// A queue on the system's clock, in which waiting is real.
fn real(path: &std::path::Path) -> SqliteQueue {
    let database = Database::open(path, Arc::new(OsClock), Arc::new(OsRng)).unwrap();
    SqliteQueue::new(database, QueueName::DuplicationHigh)
}

async fn wakes(receiver: &SqliteQueue, sender: &SqliteQueue) -> Duration {
    let receiver = receiver.clone();
    let wait = Duration::from_secs(20);
    let waiting = tokio::spawn(async move { receiver.receive(most(1), Duration::from_mins(1), wait).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sent = std::time::Instant::now();
    send(sender, &["x"]).await;
    assert_eq!(waiting.await.unwrap().unwrap().len(), 1);
    sent.elapsed()
}

#[tokio::test]
async fn a_long_poll_wakes_for_this_process_and_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let here = real(&directory.path().join("mill.db"));
    assert!(wakes(&here, &here).await < Duration::from_secs(2));
    let elsewhere = real(&directory.path().join("mill.db"));
    assert!(wakes(&here, &elsewhere).await < Duration::from_secs(2));
}

#[tokio::test]
async fn a_long_poll_wakes_for_a_body_whose_delay_ends() {
    let directory = tempfile::tempdir().unwrap();
    let queue = real(&directory.path().join("mill.db"));
    queue
        .send(&[OutgoingMessage { delay: Duration::from_millis(200), ..out("x") }])
        .await
        .unwrap()
        .into_result()
        .unwrap();
    let got = queue.receive(most(1), Duration::from_mins(1), Duration::from_secs(20)).await.unwrap();
    assert_eq!(got.len(), 1);
    let start = std::time::Instant::now();
    assert!(queue.receive(most(1), Duration::from_mins(1), Duration::from_millis(100)).await.unwrap().is_empty());
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn another_opening_of_the_file_finds_all_that_was_answered() {
    let room = Room::new();
    let queue = room.low();
    send(&queue, &["a", "b"]).await;
    let path = room.directory.path().join("mill.db");
    let again = Database::open(&path, Arc::clone(&room.clock) as _, Arc::new(OsRng)).unwrap();
    let again = SqliteQueue::new(again, QueueName::DuplicationLow);
    let got = receive(&again, 60).await;
    assert_eq!(got.len(), 2);
    assert!(receive(&queue, 60).await.is_empty());
    queue.acknowledge(&receipts(&got)).await.unwrap().into_result().unwrap();
    assert_eq!(again.depth().await.unwrap().total(), 0);
}

#[tokio::test]
async fn the_bodies_of_an_account_are_counted_whatever_becomes_of_them() {
    let room = Room::new();
    let queue = room.low();
    let of = |account: &str, delay| {
        let group = AccountId::new(account).unwrap();
        OutgoingMessage { group, body: Bytes::from_static(b"x"), delay: Duration::from_secs(delay) }
    };
    let counts = async || {
        let count = async |account| queue.depth_of(&AccountId::new(account).unwrap()).await.unwrap();
        [count("a").await, count("b").await, count("c").await]
    };
    queue.send(&[of("a", 0), of("a", 60), of("b", 0)]).await.unwrap().into_result().unwrap();
    room.queue(QueueName::Audit).send(&[of("a", 0)]).await.unwrap().into_result().unwrap();
    assert_eq!(counts().await, [Some(2), Some(1), Some(0)]);
    let held = receipts(&receive(&queue, 60).await);
    assert_eq!(counts().await, [Some(2), Some(1), Some(0)], "in flight, they count");
    queue.acknowledge(&held).await.unwrap().into_result().unwrap();
    assert_eq!(counts().await, [Some(1), Some(0), Some(0)]);
}
