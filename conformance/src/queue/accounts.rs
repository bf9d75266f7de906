//! Receives that exclude accounts.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use mill_model::AccountId;
use mill_ports::{Delivery, ExcludedAccounts, OutgoingMessage};

use super::{LONG, MANY, SHORT, bodies, drain};
use crate::subject::{QueueSubject, while_time_passes};

/// The longest that a case waits.
const WAIT: Duration = Duration::from_secs(20);

fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

fn passed_over(accounts: &[&str]) -> ExcludedAccounts {
    ExcludedAccounts { accounts: accounts.iter().map(|name| account(name)).collect(), ..ExcludedAccounts::default() }
}

/// Sends bodies of an account, each named by it and a number.
async fn send(subject: &QueueSubject, of: &str, numbers: std::ops::Range<u32>) {
    let body = |number| Bytes::from(format!("{of}{number}"));
    let out: Vec<OutgoingMessage> = numbers
        .map(|number| OutgoingMessage { group: account(of), body: body(number), delay: Duration::ZERO })
        .collect();
    for batch in out.chunks(subject.queue.limits().batch_max.get() as usize) {
        subject.queue.send(batch).await.unwrap().into_result().unwrap();
    }
}

/// Receives until nothing more comes, except from excluded accounts.
async fn drain_but(subject: &QueueSubject, accounts: &[&str], visibility: Duration) -> Vec<Delivery> {
    const EMPTY_RECEIVES: u32 = 8;
    let (mut deliveries, mut empty) = (Vec::new(), 0);
    while empty < EMPTY_RECEIVES {
        let passed_over = passed_over(accounts);
        let more = subject.queue.receive_excluding(&passed_over, MANY, visibility, Duration::ZERO).await.unwrap();
        empty += u32::from(more.is_empty());
        deliveries.extend(more);
        assert!(deliveries.len() < 10_000, "what was received is not hidden");
    }
    deliveries
}

/// Without excluded accounts it is an ordinary receive, on every queue.
pub async fn a_receive_that_passes_nobody_over_brings_all(subject: QueueSubject) {
    send(&subject, "a", 1..4).await;
    send(&subject, "b", 1..4).await;
    let all = bodies(&drain_but(&subject, &[], LONG).await);
    assert_eq!(all, ["a1", "a2", "a3", "b1", "b2", "b3"]);
}

/// A queue that cannot exclude accounts returns any bodies; its callers put them back.
pub async fn an_account_is_passed_over_just_where_that_is_promised(subject: QueueSubject) {
    send(&subject, "a", 1..3).await;
    send(&subject, "b", 1..3).await;
    let got = bodies(&drain_but(&subject, &["a"], LONG).await);
    let promised = subject.queue.limits().can_exclude_accounts;
    assert_eq!(got, if promised { vec!["b1", "b2"] } else { vec!["a1", "a2", "b1", "b2"] });
}

/// Bodies of another account come at once, however many and old the excluded ones are.
pub async fn another_comes_past_the_backlog_of_an_account_that_is_passed_over(subject: QueueSubject) {
    send(&subject, "a", 100..180).await;
    send(&subject, "b", 1..4).await;
    send(&subject, "c", 1..3).await;
    assert_eq!(bodies(&drain_but(&subject, &["a"], LONG).await), ["b1", "b2", "b3", "c1", "c2"]);
    assert!(drain_but(&subject, &["a"], LONG).await.is_empty());
}

/// No body of several excluded accounts comes, and no account is mistaken for another.
pub async fn all_that_are_passed_over_stay_and_their_names_are_whole(subject: QueueSubject) {
    for of in ["a", "ab", "b", "ba"] {
        send(&subject, of, 1..3).await;
    }
    assert_eq!(bodies(&drain_but(&subject, &["a", "ba", "c"], LONG).await), ["ab1", "ab2", "b1", "b2"]);
    assert_eq!(bodies(&drain_but(&subject, &["b"], LONG).await), ["a1", "a2", "ba1", "ba2"]);
}

/// An exclusion is no receive: it brings no body nearer to the dead letters.
pub async fn what_is_passed_over_counts_as_received_by_nobody(subject: QueueSubject) {
    send(&subject, "a", 1..4).await;
    for _ in 0..=subject.max_receive_count {
        assert!(drain_but(&subject, &["a"], LONG).await.is_empty());
    }
    let received = drain(&*subject.queue, LONG).await;
    assert_eq!(bodies(&received), ["a1", "a2", "a3"]);
    assert!(received.iter().all(|one| one.receive_count == 1), "{received:?}");
    assert!(drain(&*subject.dead_letters, LONG).await.is_empty());
}

/// An unacknowledged body comes again past the excluded accounts; theirs stay.
pub async fn what_is_visible_again_comes_only_of_those_not_passed_over(subject: QueueSubject) {
    send(&subject, "a", 1..3).await;
    send(&subject, "b", 1..3).await;
    assert_eq!(drain(&*subject.queue, SHORT).await.len(), 4);
    subject.time.pass(SHORT).await;
    let again = drain_but(&subject, &["a"], LONG).await;
    assert_eq!(bodies(&again), ["b1", "b2"]);
    assert!(again.iter().all(|one| one.receive_count == 2), "{again:?}");
    assert_eq!(bodies(&drain(&*subject.queue, LONG).await), ["a1", "a2"]);
}

/// The receipts of a receive with exclusions are as good as any.
pub async fn what_came_past_others_is_acknowledged_and_released_as_ever(subject: QueueSubject) {
    send(&subject, "a", 1..3).await;
    send(&subject, "b", 1..3).await;
    let mut got = drain_but(&subject, &["a"], LONG).await;
    let back = got.pop().unwrap();
    subject.queue.release(std::slice::from_ref(&back.receipt)).await.unwrap().into_result().unwrap();
    subject.acknowledge(&got).await;
    let again = drain_but(&subject, &["a"], LONG).await;
    assert_eq!(bodies(&again), bodies(&[back]));
    subject.acknowledge(&again).await;
    assert_eq!(bodies(&drain(&*subject.queue, LONG).await), ["a1", "a2"]);
}

/// A waiting receiver is woken by a body of another account, not by an excluded one.
pub async fn a_wait_past_an_account_ends_when_another_sends(subject: QueueSubject) {
    send(&subject, "a", 1..4).await;
    let sending = async {
        // By now the receiver has looked and found nothing.
        tokio::time::sleep(Duration::from_millis(20)).await;
        send(&subject, "a", 4..6).await;
        send(&subject, "b", 1..2).await;
    };
    let passed_over = passed_over(&["a"]);
    let waiting = subject.queue.receive_excluding(&passed_over, MANY, LONG, WAIT);
    let ((deliveries, ()), waited) = while_time_passes(&*subject.time, futures::future::join(waiting, sending)).await;
    assert_eq!(bodies(&deliveries.unwrap()), ["b1"]);
    assert!(waited < WAIT / 2, "waited {waited:?}");
}

/// A wait with excluded accounts is as long as any.
pub async fn a_wait_past_an_account_that_nothing_ends_is_over_in_time(subject: QueueSubject) {
    send(&subject, "a", 1..4).await;
    let passed_over = passed_over(&["a"]);
    let waiting = subject.queue.receive_excluding(&passed_over, MANY, LONG, SHORT);
    let (deliveries, waited) = while_time_passes(&*subject.time, waiting).await;
    assert!(deliveries.unwrap().is_empty());
    assert!(waited >= SHORT / 2 && waited <= SHORT * 2, "waited {waited:?}");
}

/// A wait ends once the exclusions change, and nothing has been received.
pub async fn a_wait_ends_when_others_are_to_be_passed_over(subject: QueueSubject) {
    for accounts in [&["a"][..], &[]] {
        let passed_over = passed_over(accounts);
        if !accounts.is_empty() {
            send(&subject, "a", 1..4).await;
        }
        let changing = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            passed_over.over.cancel();
        };
        let waiting = subject.queue.receive_excluding(&passed_over, MANY, LONG, WAIT);
        let ((deliveries, ()), waited) =
            while_time_passes(&*subject.time, futures::future::join(waiting, changing)).await;
        assert!(deliveries.unwrap().is_empty());
        assert!(waited < WAIT / 2, "waited {waited:?}");
        assert_eq!(drain(&*subject.queue, LONG).await.len(), accounts.len() * 3);
    }
}

/// The bodies of each account are counted, in every state.
pub async fn the_bodies_of_an_account_are_counted(subject: QueueSubject) {
    send(&subject, "a", 1..4).await;
    send(&subject, "b", 1..2).await;
    let received = drain_but(&subject, &["b"], LONG).await;
    let counts = async || {
        let mut counts = BTreeSet::new();
        for name in ["a", "b", "c"] {
            counts.insert((name, subject.queue.depth_of(&account(name)).await.unwrap()));
        }
        counts
    };
    assert_eq!(counts().await, BTreeSet::from([("a", Some(3)), ("b", Some(1)), ("c", Some(0))]), "in flight too");
    subject.acknowledge(&received[..2]).await;
    assert_eq!(counts().await, BTreeSet::from([("a", Some(1)), ("b", Some(1)), ("c", Some(0))]));
}
