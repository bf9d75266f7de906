//! Limits, batches that fail in part, and depth.

use std::num::NonZeroU32;
use std::time::Duration;

use mill_ports::{QueueDepth, QueueErrorKind};

use super::{LONG, MANY, SHORT, bodies, drain, outgoing, receipts};
use crate::subject::QueueSubject;

/// A receive returns no more bodies than its caller asks for.
pub async fn a_receive_gives_no_more_than_asked_for(subject: QueueSubject) {
    subject.send(&["a", "b", "c", "d", "e"]).await;
    let two = NonZeroU32::new(2).unwrap();
    let some = subject.queue.receive(two, LONG, Duration::ZERO).await.unwrap();
    assert!(some.len() <= 2, "{some:?}");
    assert_eq!(some.len() + drain(&*subject.queue, LONG).await.len(), 5);
}

/// A receive returns no more than a batch, whatever is asked for.
pub async fn a_receive_gives_no_more_than_a_batch(subject: QueueSubject) {
    let batch_max = subject.queue.limits().batch_max;
    let sent: Vec<String> = (0..batch_max.get() + 5).map(|number| number.to_string()).collect();
    subject.send(&sent).await;
    let most = batch_max.saturating_add(5);
    let some = subject.queue.receive(most, LONG, Duration::ZERO).await.unwrap();
    assert!(some.len() <= batch_max.get() as usize, "{}", some.len());
}

/// A batch with too many entries fails as a whole, and no entry is sent.
pub async fn a_batch_over_the_limit_is_refused_whole(subject: QueueSubject) {
    let batch_max = subject.queue.limits().batch_max.get();
    let out: Vec<_> = (0..=batch_max).map(|number| outgoing(number.to_string(), Duration::ZERO)).collect();
    assert!(subject.queue.send(&out).await.is_err());
    subject.assert_nothing_visible().await;
}

/// An empty batch is no error.
pub async fn empty_batches_are_fine(subject: QueueSubject) {
    subject.queue.send(&[]).await.unwrap().into_result().unwrap();
    subject.queue.release(&[]).await.unwrap().into_result().unwrap();
    subject.queue.acknowledge(&[]).await.unwrap().into_result().unwrap();
    assert!(subject.queue.extend(&[], SHORT).await.unwrap().is_empty());
}

/// One refused body does not keep the others out, and is named.
pub async fn too_large_a_body_is_reported_and_the_others_are_sent(subject: QueueSubject) {
    let large = "x".repeat(subject.queue.limits().body_bytes_max + 1);
    let out = ["a".to_owned(), large, "c".to_owned()].map(|body| outgoing(body, Duration::ZERO));
    let report = subject.queue.send(&out).await.unwrap();
    let failed: Vec<_> = report.failed.iter().map(|(index, error)| (*index, error.kind)).collect();
    assert_eq!(failed, [(1, QueueErrorKind::TooLarge)]);
    assert_eq!(bodies(&drain(&*subject.queue, LONG).await), ["a", "c"]);
}

/// A body of exactly the limit is accepted.
pub async fn the_largest_body_is_taken(subject: QueueSubject) {
    let large = "x".repeat(subject.queue.limits().body_bytes_max);
    subject.send(std::slice::from_ref(&large)).await;
    assert_eq!(subject.receive_one(LONG).await.body, large);
}

/// Visible, delayed and in-flight bodies are counted separately.
pub async fn depth_tells_visible_in_flight_and_delayed_apart(subject: QueueSubject) {
    subject.send(&["a", "b", "c"]).await;
    let two = NonZeroU32::new(2).unwrap();
    let mut taken = 0;
    while taken < 2 {
        taken += subject.queue.receive(two, LONG, Duration::ZERO).await.unwrap().len();
    }
    assert_eq!(taken, 2);
    let delayed = ["d", "e", "f"].map(|body| outgoing(body, LONG));
    subject.queue.send(&delayed).await.unwrap().into_result().unwrap();
    let depth = subject.queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.delayed), (1, 2, 3));
    assert_eq!(depth.total(), 6);
}

/// The counts follow a body through all its states.
pub async fn depth_follows_every_change(subject: QueueSubject) {
    let counts = async || {
        let QueueDepth { visible, in_flight, delayed, .. } = subject.queue.depth().await.unwrap();
        (visible, in_flight, delayed)
    };
    assert_eq!(counts().await, (0, 0, 0));
    subject.queue.send(&[outgoing("a", SHORT)]).await.unwrap().into_result().unwrap();
    assert_eq!(counts().await, (0, 0, 1));
    subject.time.pass(SHORT).await;
    assert_eq!(counts().await, (1, 0, 0));
    subject.receive_one(SHORT).await;
    assert_eq!(counts().await, (0, 1, 0));
    subject.time.pass(SHORT).await;
    assert_eq!(counts().await, (1, 0, 0));
    let deliveries = drain(&*subject.queue, SHORT).await;
    subject.queue.release(&receipts(&deliveries)).await.unwrap().into_result().unwrap();
    assert_eq!(counts().await, (1, 0, 0));
    let deliveries = drain(&*subject.queue, SHORT).await;
    subject.acknowledge(&deliveries).await;
    assert_eq!(counts().await, (0, 0, 0));
}

/// The age of the oldest body grows, and ends with the body.
pub async fn depth_tells_the_age_of_the_oldest(subject: QueueSubject) {
    subject.send(&["a"]).await;
    subject.time.pass(SHORT).await;
    subject.send(&["b"]).await;
    let oldest = subject.queue.depth().await.unwrap().oldest_age.unwrap();
    assert!(oldest >= SHORT && oldest < SHORT * 2, "{oldest:?}");
    let deliveries = subject.queue.receive(MANY, LONG, Duration::ZERO).await.unwrap();
    assert!(!deliveries.is_empty());
    let all = [deliveries, drain(&*subject.queue, LONG).await].concat();
    subject.acknowledge(&all).await;
    assert_eq!(subject.queue.depth().await.unwrap().oldest_age, None);
}
