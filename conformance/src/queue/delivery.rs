//! The deliveries of a body, from its sending to its end.

use std::time::Duration;

use super::{LONG, MANY, SHORT, bodies, drain, receipts};
use crate::subject::{QueueSubject, while_time_passes};

/// The longest that a case waits.
const WAIT: Duration = Duration::from_secs(20);

/// The bytes of a body are those that were sent.
pub async fn what_is_sent_is_received_as_it_was(subject: QueueSubject) {
    let body = "{\"k\": \"a\tb\n é 日本 \u{1F600} ' \\ \"}";
    subject.send(&[body]).await;
    let delivery = subject.receive_one(LONG).await;
    assert_eq!(delivery.body, body);
    assert_eq!(delivery.receive_count, 1);
}

/// An empty queue delivers nothing.
pub async fn an_empty_queue_gives_nothing(subject: QueueSubject) {
    subject.assert_nothing_visible().await;
}

/// More bodies than fit one batch all arrive, each once.
pub async fn many_bodies_all_arrive(subject: QueueSubject) {
    let sent: Vec<String> = (100..137).map(|number| number.to_string()).collect();
    subject.send(&sent).await;
    assert_eq!(bodies(&drain(&*subject.queue, LONG).await), sent);
}

/// Concurrent receivers get different bodies.
pub async fn receivers_at_once_share_the_bodies(subject: QueueSubject) {
    let sent: Vec<String> = (100..120).map(|number| number.to_string()).collect();
    subject.send(&sent).await;
    let receivers = (0..4).map(|_| drain(&*subject.queue, LONG));
    let deliveries = futures::future::join_all(receivers).await.concat();
    assert_eq!(bodies(&deliveries), sent);
}

/// Queues are separate.
pub async fn what_is_sent_to_one_queue_is_not_in_another(subject: QueueSubject) {
    subject.send(&["a"]).await;
    assert!(drain(&*subject.dead_letters, LONG).await.is_empty());
    assert_ne!(subject.queue.name(), subject.dead_letters.name());
}

/// An acknowledged body is gone for good.
pub async fn acknowledged_never_returns(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let delivery = subject.receive_one(SHORT).await;
    subject.acknowledge(&[delivery]).await;
    subject.time.pass(SHORT).await;
    subject.assert_nothing_visible().await;
}

/// An acknowledgment affects only its own delivery.
pub async fn acknowledging_one_leaves_the_others(subject: QueueSubject) {
    subject.send(&["a", "b", "c"]).await;
    let deliveries = drain(&*subject.queue, SHORT).await;
    let (done, left): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(|delivery| delivery.body == "b");
    assert_eq!((done.len(), left.len()), (1, 2));
    subject.acknowledge(&done).await;
    subject.time.pass(SHORT).await;
    assert_eq!(bodies(&drain(&*subject.queue, LONG).await), ["a", "c"]);
}

/// An acknowledgment whose answer was lost can be repeated, and affects nothing else.
pub async fn acknowledging_twice_is_harmless(subject: QueueSubject) {
    subject.send(&["a", "b"]).await;
    let deliveries = drain(&*subject.queue, SHORT).await;
    subject.acknowledge(&deliveries[..1]).await;
    subject.acknowledge(&deliveries[..1]).await;
    subject.time.pass(SHORT).await;
    assert_eq!(bodies(&drain(&*subject.queue, LONG).await), bodies(&deliveries[1..]));
}

/// The time of sending stays the same through all receives.
pub async fn a_delivery_tells_when_the_body_was_sent(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let first = subject.receive_one(SHORT).await;
    subject.time.pass(SHORT).await;
    let second = subject.receive_one(SHORT).await;
    assert_eq!(first.sent_at, second.sent_at);
}

/// A body that kills its receivers ends among the dead letters, as it was sent, and there alone.
pub async fn over_max_receive_count_goes_to_dead_letters_once(subject: QueueSubject) {
    subject.send(&["a"]).await;
    for _ in 0..subject.max_receive_count {
        subject.receive_one(SHORT).await;
        subject.time.pass(SHORT).await;
    }
    subject.assert_nothing_visible().await;
    let dead = drain(&*subject.dead_letters, LONG).await;
    assert_eq!(bodies(&dead), ["a"]);
    subject.dead_letters.acknowledge(&receipts(&dead)).await.unwrap().into_result().unwrap();
    subject.time.pass(SHORT).await;
    subject.assert_nothing_visible().await;
    assert!(drain(&*subject.dead_letters, LONG).await.is_empty());
}

/// The last allowed receive is a real one: if acknowledged, it leaves no dead letter.
pub async fn at_max_receive_count_it_is_still_delivered(subject: QueueSubject) {
    subject.send(&["a"]).await;
    for count in 1..subject.max_receive_count {
        assert_eq!(subject.receive_one(SHORT).await.receive_count, count);
        subject.time.pass(SHORT).await;
    }
    let last = subject.receive_one(SHORT).await;
    assert_eq!(last.receive_count, subject.max_receive_count);
    subject.acknowledge(&[last]).await;
    subject.time.pass(SHORT).await;
    subject.assert_nothing_visible().await;
    assert!(drain(&*subject.dead_letters, LONG).await.is_empty());
}

/// A release spends a receive, so it cannot go on for ever.
pub async fn released_too_often_goes_to_dead_letters_too(subject: QueueSubject) {
    subject.send(&["a"]).await;
    for _ in 0..subject.max_receive_count {
        let delivery = subject.receive_one(LONG).await;
        subject.queue.release(&[delivery.receipt]).await.unwrap().into_result().unwrap();
    }
    subject.assert_nothing_visible().await;
    assert_eq!(bodies(&drain(&*subject.dead_letters, LONG).await), ["a"]);
}

/// A waiting receiver is woken by a sender.
pub async fn a_wait_ends_as_soon_as_something_is_sent(subject: QueueSubject) {
    let sending = async {
        // By now the receiver has looked and found nothing.
        tokio::time::sleep(Duration::from_millis(20)).await;
        subject.send(&["a"]).await;
    };
    let waiting = futures::future::join(subject.queue.receive(MANY, LONG, WAIT), sending);
    let ((deliveries, ()), waited) = while_time_passes(&*subject.time, waiting).await;
    assert_eq!(bodies(&deliveries.unwrap()), ["a"]);
    assert!(waited < WAIT / 2, "waited {waited:?}");
}

/// A waiting receiver is woken when a deadline passes.
pub async fn a_wait_ends_as_soon_as_something_is_visible_again(subject: QueueSubject) {
    subject.send(&["a"]).await;
    subject.receive_one(SHORT).await;
    let waiting = subject.queue.receive(MANY, LONG, WAIT);
    let (deliveries, waited) = while_time_passes(&*subject.time, waiting).await;
    assert_eq!(bodies(&deliveries.unwrap()), ["a"]);
    assert!(waited < WAIT / 2, "waited {waited:?}");
}

/// A wait is no longer than asked for, and not much shorter.
pub async fn a_wait_that_nothing_ends_is_over_in_time(subject: QueueSubject) {
    let waiting = subject.queue.receive(MANY, LONG, SHORT);
    let (deliveries, waited) = while_time_passes(&*subject.time, waiting).await;
    assert!(deliveries.unwrap().is_empty());
    assert!(waited >= SHORT / 2 && waited <= SHORT * 2, "waited {waited:?}");
}
