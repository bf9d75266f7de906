//! The promises of every queue.

pub mod accounts;
pub mod batches;
pub mod delivery;
pub mod visibility;

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use mill_model::AccountId;
use mill_ports::{Delivery, OutgoingMessage, QueueError, QueueErrorKind, Receipt, TaskQueue};

use crate::subject::QueueSubject;

/// Makes the tests of a queue in a module of its own.
///
/// ```ignore
/// queue_suite!(name, path::to::open,
///     fences_stale_receipts: yes, exact_depth: yes, tells_age: yes, passes_over: yes);
/// ```
///
/// `open` makes a fresh queue for each case. One case alone, on a queue in memory:
///
/// ```
/// use std::sync::Arc;
///
/// use mill_conformance::{Keep, QueueSubject, queue, subject};
/// use mill_testkit::{ManualClock, MemoryQueues, QueueBehavior, SeededRng};
/// use mill_model::QueueName;
/// use mill_ports::{Clock, Rng};
///
/// async fn open() -> QueueSubject {
///     let hand = Arc::new(ManualClock::new());
///     let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) = (hand.clone(), Arc::new(SeededRng::new(1)));
///     let behavior = QueueBehavior::well_behaved();
///     let queues = MemoryQueues::new(&behavior, &clock, &rng);
///     QueueSubject {
///         queue: queues.get(QueueName::DuplicationLow),
///         dead_letters: queues.get(QueueName::DeadLetter),
///         max_receive_count: behavior.max_receive_count,
///         duplicates: false,
///         time: Arc::new(move |by| hand.step(by)),
///         keep: Keep::nothing(),
///     }
/// }
///
/// subject::run(async { queue::delivery::many_bodies_all_arrive(open().await).await });
/// ```
#[macro_export]
macro_rules! queue_suite {
    ($name:ident, $open:path, fences_stale_receipts: $fences:ident, exact_depth: $exact:ident, tells_age: $age:ident,
        passes_over: $passes:ident) => {
        mod $name {
            #[test]
            fn the_declared_capabilities_are_its_own() {
                $crate::subject::run(async {
                    let subject = $open().await;
                    assert!(!subject.duplicates, "the suite wants a queue that delivers once");
                    let limits = subject.queue.limits();
                    assert_eq!(limits.fences_stale_receipts, $crate::declared!($fences));
                    assert_eq!(limits.can_exclude_accounts, $crate::declared!($passes));
                });
            }
            $crate::cases! { $open, queue::delivery;
                what_is_sent_is_received_as_it_was
                an_empty_queue_gives_nothing
                many_bodies_all_arrive
                receivers_at_once_share_the_bodies
                what_is_sent_to_one_queue_is_not_in_another
                acknowledged_never_returns
                acknowledging_one_leaves_the_others
                acknowledging_twice_is_harmless
                a_delivery_tells_when_the_body_was_sent
                over_max_receive_count_goes_to_dead_letters_once
                at_max_receive_count_it_is_still_delivered
                released_too_often_goes_to_dead_letters_too
                a_wait_ends_as_soon_as_something_is_sent
                a_wait_ends_as_soon_as_something_is_visible_again
                a_wait_that_nothing_ends_is_over_in_time
            }
            $crate::cases! { $open, queue::visibility;
                a_delivery_is_hidden_from_others
                unacknowledged_returns_after_its_deadline
                the_receive_count_grows_with_each_receive
                a_delayed_body_is_hidden_until_its_delay_is_over
                extending_keeps_it_hidden
                extending_counts_from_now_and_can_shorten
                an_extended_deadline_is_told_early_rather_than_late
                extend_beyond_total_max_is_refused
                extending_what_was_acknowledged_is_refused
                extending_what_is_visible_again_is_refused
                extend_answers_for_each_receipt_in_order
                released_is_back_at_once_and_keeps_its_count
                releasing_twice_is_harmless
            }
            $crate::cases! { $open, queue::batches;
                a_receive_gives_no_more_than_asked_for
                a_receive_gives_no_more_than_a_batch
                a_batch_over_the_limit_is_refused_whole
                empty_batches_are_fine
                too_large_a_body_is_reported_and_the_others_are_sent
                the_largest_body_is_taken
            }
            $crate::cases_if! { $exact, "does not apply: its depth is a guess",
                $open, queue::batches;
                depth_tells_visible_in_flight_and_delayed_apart
                depth_follows_every_change
            }
            $crate::cases_if! { $age, "does not apply: it does not tell the age of its oldest body",
                $open, queue::batches;
                depth_tells_the_age_of_the_oldest
            }
            $crate::cases! { $open, queue::accounts;
                a_receive_that_passes_nobody_over_brings_all
                an_account_is_passed_over_just_where_that_is_promised
            }
            $crate::cases_if! { $passes, "does not apply: it cannot pass accounts over",
                $open, queue::accounts;
                another_comes_past_the_backlog_of_an_account_that_is_passed_over
                all_that_are_passed_over_stay_and_their_names_are_whole
                what_is_passed_over_counts_as_received_by_nobody
                what_is_visible_again_comes_only_of_those_not_passed_over
                what_came_past_others_is_acknowledged_and_released_as_ever
                a_wait_past_an_account_ends_when_another_sends
                a_wait_past_an_account_that_nothing_ends_is_over_in_time
                a_wait_ends_when_others_are_to_be_passed_over
                the_bodies_of_an_account_are_counted
            }
            $crate::cases_if! { $fences, "does not apply: it does not fence stale receipts",
                $open, queue::visibility;
                stale_receipt_is_fenced
            }
        }
    };
}

/// A time span that passes within a case.
pub(crate) const SHORT: Duration = Duration::from_secs(2);
/// A time span that does not pass within a case.
pub(crate) const LONG: Duration = Duration::from_mins(10);
/// The most bodies that a case receives at once.
pub(crate) const MANY: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// A body to be sent.
pub(crate) fn outgoing(body: impl Into<Bytes>, delay: Duration) -> OutgoingMessage {
    OutgoingMessage { group: AccountId::new("account").unwrap(), body: body.into(), delay }
}

/// Receives until nothing more comes: one receive may return fewer bodies than there are, or none.
pub(crate) async fn drain(queue: &dyn TaskQueue, visibility: Duration) -> Vec<Delivery> {
    const EMPTY_RECEIVES: u32 = 8;
    let (mut deliveries, mut empty) = (Vec::new(), 0);
    while empty < EMPTY_RECEIVES {
        let more = queue.receive(MANY, visibility, Duration::ZERO).await.unwrap();
        if more.is_empty() {
            empty += 1;
        }
        deliveries.extend(more);
        assert!(deliveries.len() < 10_000, "what was received is not hidden");
    }
    deliveries
}

/// The bodies, sorted.
pub(crate) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    let text = |one: &Delivery| String::from_utf8(one.body.to_vec()).unwrap();
    let mut bodies: Vec<String> = deliveries.iter().map(text).collect();
    bodies.sort();
    bodies
}

/// The receipts.
pub(crate) fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

/// Asserts that a receipt has expired.
pub(crate) fn assert_expired<T: std::fmt::Debug>(answer: Result<T, QueueError>) {
    assert_eq!(answer.unwrap_err().kind, QueueErrorKind::ReceiptExpired);
}

impl QueueSubject {
    /// Sends bodies, visible at once.
    pub(crate) async fn send<B: AsRef<str>>(&self, bodies: &[B]) {
        let out: Vec<OutgoingMessage> =
            bodies.iter().map(|body| outgoing(body.as_ref().to_owned(), Duration::ZERO)).collect();
        for batch in out.chunks(self.queue.limits().batch_max.get() as usize) {
            self.queue.send(batch).await.unwrap().into_result().unwrap();
        }
    }

    /// Receives the only body.
    pub(crate) async fn receive_one(&self, visibility: Duration) -> Delivery {
        let mut deliveries = drain(&*self.queue, visibility).await;
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        deliveries.remove(0)
    }

    /// Asserts that nothing is visible.
    pub(crate) async fn assert_nothing_visible(&self) {
        let deliveries = drain(&*self.queue, LONG).await;
        assert!(deliveries.is_empty(), "{deliveries:?}");
    }

    /// Acknowledges deliveries.
    pub(crate) async fn acknowledge(&self, deliveries: &[Delivery]) {
        for batch in receipts(deliveries).chunks(self.queue.limits().batch_max.get() as usize) {
            self.queue.acknowledge(batch).await.unwrap().into_result().unwrap();
        }
    }
}
