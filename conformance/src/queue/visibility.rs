//! How long a body is hidden.

use std::time::Duration;

use mill_ports::Receipt;

use super::{LONG, SHORT, assert_expired, drain, outgoing, receipts};
use crate::subject::QueueSubject;

/// A little of real time, for back ends whose time cannot be held still.
const SLACK: Duration = Duration::from_secs(1);

/// While one receiver holds a body, no other receives it.
pub async fn a_delivery_is_hidden_from_others(subject: QueueSubject) {
    subject.send(&["a"]).await;
    subject.receive_one(LONG).await;
    subject.assert_nothing_visible().await;
}

/// A receiver that dies loses nothing.
pub async fn unacknowledged_returns_after_its_deadline(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let first = subject.receive_one(SHORT * 2).await;
    subject.time.pass(SHORT).await;
    subject.assert_nothing_visible().await;
    subject.time.pass(SHORT).await;
    let second = subject.receive_one(LONG).await;
    assert_eq!(second.body, first.body);
    assert!(second.deadline > first.deadline);
}

/// Each receive counts, and each has a receipt of its own.
pub async fn the_receive_count_grows_with_each_receive(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let mut receipts: Vec<Receipt> = Vec::new();
    for count in 1..=3 {
        let delivery = subject.receive_one(SHORT).await;
        assert_eq!(delivery.receive_count, count);
        receipts.push(delivery.receipt);
        subject.time.pass(SHORT).await;
    }
    receipts.dedup();
    assert_eq!(receipts.len(), 3);
}

/// A delay hides a body, and no longer.
pub async fn a_delayed_body_is_hidden_until_its_delay_is_over(subject: QueueSubject) {
    subject.queue.send(&[outgoing("a", SHORT)]).await.unwrap().into_result().unwrap();
    subject.assert_nothing_visible().await;
    subject.time.pass(SHORT).await;
    assert_eq!(subject.receive_one(LONG).await.receive_count, 1);
}

/// A heartbeat keeps a delivery past its first deadline.
pub async fn extending_keeps_it_hidden(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let delivery = subject.receive_one(SHORT * 2).await;
    subject.time.pass(SHORT).await;
    let extended = subject.queue.extend(&[delivery.receipt], SHORT * 3).await.unwrap();
    assert!(extended.iter().all(Result::is_ok), "{extended:?}");
    subject.time.pass(SHORT * 2).await;
    subject.assert_nothing_visible().await;
    subject.time.pass(SHORT).await;
    assert_eq!(subject.receive_one(LONG).await.receive_count, 2);
}

/// The rest of the old timeout does not count.
pub async fn extending_counts_from_now_and_can_shorten(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let delivery = subject.receive_one(LONG).await;
    let extended = subject.queue.extend(&[delivery.receipt], SHORT).await.unwrap();
    assert!(extended.iter().all(Result::is_ok), "{extended:?}");
    subject.assert_nothing_visible().await;
    subject.time.pass(SHORT).await;
    assert_eq!(subject.receive_one(LONG).await.receive_count, 2);
}

/// Acting before the reported deadline is never late.
pub async fn an_extended_deadline_is_told_early_rather_than_late(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let delivery = subject.receive_one(LONG).await;
    subject.time.pass(SHORT).await;
    let extended = subject.queue.extend(&[delivery.receipt], LONG).await.unwrap();
    let moved = extended[0].as_ref().unwrap().since(delivery.deadline);
    assert!(moved + SLACK > SHORT && moved < SHORT + SLACK, "moved by {moved:?}");
}

/// Extensions cannot exceed the total time in flight; a refused one keeps the old deadline.
pub async fn extend_beyond_total_max_is_refused(subject: QueueSubject) {
    let limits = subject.queue.limits();
    subject.send(&["a"]).await;
    let delivery = subject.receive_one(SHORT * 2).await;
    subject.time.pass(SHORT).await;
    let extended = subject.queue.extend(&[delivery.receipt], limits.visibility_total_max).await.unwrap();
    assert!(extended[0].is_err(), "{extended:?}");
    subject.time.pass(SHORT).await;
    subject.receive_one(LONG).await;
}

/// An extension reports that its delivery is gone.
pub async fn extending_what_was_acknowledged_is_refused(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let delivery = subject.receive_one(LONG).await;
    let receipt = delivery.receipt.clone();
    subject.acknowledge(&[delivery]).await;
    let mut extended = subject.queue.extend(&[receipt], LONG).await.unwrap();
    assert_expired(extended.remove(0));
    subject.assert_nothing_visible().await;
}

/// An extension that comes too late reports it, and does not hide the body again.
pub async fn extending_what_is_visible_again_is_refused(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let delivery = subject.receive_one(SHORT).await;
    subject.time.pass(SHORT * 2).await;
    let mut extended = subject.queue.extend(&[delivery.receipt], LONG).await.unwrap();
    assert_expired(extended.remove(0));
    subject.receive_one(LONG).await;
}

/// One expired receipt does not keep others from being extended.
pub async fn extend_answers_for_each_receipt_in_order(subject: QueueSubject) {
    subject.send(&["a", "b", "c"]).await;
    let deliveries = drain(&*subject.queue, LONG).await;
    subject.acknowledge(&deliveries[1..2]).await;
    let extended = subject.queue.extend(&receipts(&deliveries), LONG).await.unwrap();
    let fine: Vec<bool> = extended.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [true, false, true]);
}

/// A released body is visible at once, and its receive stays counted.
pub async fn released_is_back_at_once_and_keeps_its_count(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let delivery = subject.receive_one(LONG).await;
    subject.queue.release(&[delivery.receipt]).await.unwrap().into_result().unwrap();
    assert_eq!(subject.receive_one(LONG).await.receive_count, 2);
}

/// A release whose answer was lost can be repeated; it makes no second copy.
pub async fn releasing_twice_is_harmless(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let delivery = subject.receive_one(LONG).await;
    for _ in 0..2 {
        // A back end may or may not report the second one as expired.
        let _ = subject.queue.release(std::slice::from_ref(&delivery.receipt)).await.unwrap();
    }
    assert_eq!(subject.receive_one(LONG).await.receive_count, 2);
}

/// The receipt of an expired delivery does not affect the next one.
pub async fn stale_receipt_is_fenced(subject: QueueSubject) {
    subject.send(&["a"]).await;
    let stale = subject.receive_one(SHORT).await.receipt;
    subject.time.pass(SHORT).await;
    let current = subject.receive_one(SHORT * 2).await;
    let stale = [stale];
    assert_expired(subject.queue.extend(&stale, LONG).await.unwrap().remove(0));
    // A back end may or may not report these two, but they must have no effect.
    let _ = subject.queue.release(&stale).await.unwrap();
    let _ = subject.queue.acknowledge(&stale).await.unwrap();
    subject.assert_nothing_visible().await;
    subject.time.pass(SHORT * 2).await;
    let again = subject.receive_one(LONG).await;
    assert_eq!((again.body, again.receive_count), (current.body, 3));
}
