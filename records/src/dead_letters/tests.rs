use std::num::NonZeroU32;

use async_trait::async_trait;
use mill_model::DeadLetterMessage;
use mill_model::Monotonic;
use mill_ports::{BatchReport, ExcludedAccounts, ExtendResults, QueueDepth, QueueErrorKind, QueueLimits, Receipt};
use parking_lot::Mutex;

use super::*;
use crate::test_table::TestTable;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn delivery(body: Bytes) -> Delivery {
    Delivery {
        receipt: Receipt("r".into()),
        body,
        receive_count: 4,
        sent_at: at(500),
        deadline: Monotonic::from_origin(Duration::from_mins(1)),
    }
}

fn envelope(account: &str) -> Envelope {
    let account = AccountId::new(account).unwrap();
    let task = Task { kind: TaskKind::new("probe"), account, detail: serde_json::Map::new() };
    Envelope::new(TaskId::new(at(1), [7; 10]), QueueName::DuplicationLow, at(1), task).failed(Failure::new(
        at(2),
        "w1",
        "it broke",
    ))
}

fn letter_at(millis: u64, account: &str) -> DeadLetter {
    let letter = DeadLetterMessage {
        body: wire::encode(&envelope(account)).unwrap(),
        origin: QueueName::DuplicationLow,
        given_up: Failure::new(at(millis), "w1", "it broke for good"),
        receive_count: 1,
    };
    let body = wire::encode_dead_letter(&letter).unwrap();
    DeadLetter::read(&delivery(body), |task| Some(format!("{}/thing", task.account)))
}

fn dead_letters() -> DeadLetters {
    DeadLetters::new(Arc::new(TestTable::with_page_max(3)))
}

fn by(who: &str) -> OperatorDecision {
    OperatorDecision { by: who.into(), at: at(9_000) }
}

/// A queue that only accepts bodies, or refuses them.
#[derive(Debug, Default)]
struct Inbox {
    sent: Mutex<Vec<OutgoingMessage>>,
    refuses: bool,
}

#[async_trait]
impl TaskQueue for Inbox {
    fn name(&self) -> QueueName {
        QueueName::DuplicationLow
    }
    fn limits(&self) -> QueueLimits {
        unreachable!("a retry is one body without delay")
    }
    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        let mut report = BatchReport::default();
        if self.refuses {
            let kind = QueueErrorKind::Unavailable;
            report.failed.push((0, QueueError { kind, op: "send", queue: self.name(), source: None }));
        } else {
            self.sent.lock().extend_from_slice(out);
        }
        Ok(report)
    }
    async fn receive_excluding(
        &self,
        _: &ExcludedAccounts,
        _: NonZeroU32,
        _: Duration,
        _: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        unreachable!()
    }
    async fn extend(&self, _: &[Receipt], _: Duration) -> Result<ExtendResults, QueueError> {
        unreachable!()
    }
    async fn release(&self, _: &[Receipt]) -> Result<BatchReport, QueueError> {
        unreachable!()
    }
    async fn acknowledge(&self, _: &[Receipt]) -> Result<BatchReport, QueueError> {
        unreachable!()
    }
    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        unreachable!()
    }
}

fn queues(inbox: &Arc<Inbox>) -> BTreeMap<QueueName, Arc<dyn TaskQueue>> {
    [(QueueName::DuplicationLow, inbox.clone() as Arc<dyn TaskQueue>)].into()
}

#[tokio::test]
async fn a_letter_is_kept_whole() {
    let (dead_letters, letter) = (dead_letters(), letter_at(1_000, "a"));
    assert_eq!((letter.failures, letter.history.len(), letter.reason.as_str()), (1, 1, "it broke for good"));
    assert_eq!((letter.subject.as_deref(), letter.origin), (Some("a/thing"), Some(QueueName::DuplicationLow)));
    dead_letters.note(&letter).await.unwrap();
    assert_eq!(dead_letters.get(&letter.id).await.unwrap(), letter);
}

#[tokio::test]
async fn a_body_that_came_bare_was_moved_by_the_queue_itself() {
    let letter = DeadLetter::read(&delivery(wire::encode(&envelope("a")).unwrap()), |_| None);
    assert!(letter.reason.starts_with("worker lost 4 times"), "{}", letter.reason);
    assert_eq!((letter.at, letter.origin), (at(500), Some(QueueName::DuplicationLow)));
    let duracloud = DeadLetter::read(
        &delivery(Bytes::from_static(b"type=DUP\naccount=a\nstoreId=1\ndestStoreId=2\nspaceId=s\n")),
        |_| None,
    );
    assert_eq!((duracloud.origin, duracloud.account.is_some()), (None, true), "it does not say where it came from");
}

#[tokio::test]
async fn letters_are_listed_by_time_page_by_page_and_once_however_often_drained() {
    let dead_letters = dead_letters();
    for n in [5, 1, 9, 3, 7, 1, 9] {
        dead_letters.note(&letter_at(n, if n % 4 == 1 { "a" } else { "b" })).await.unwrap();
    }
    let times = |page: &DeadLetterPage| page.letters.iter().map(|letter| letter.at.as_millis()).collect::<Vec<_>>();
    let all = DeadLetterFilter::default();
    let first = dead_letters.list(&all, None, 2).await.unwrap();
    let second = dead_letters.list(&all, first.next.as_ref(), 2).await.unwrap();
    let third = dead_letters.list(&all, second.next.as_ref(), 2).await.unwrap();
    assert_eq!([times(&first), times(&second), times(&third)], [vec![1, 3], vec![5, 7], vec![9]]);
    assert_eq!(third.next, None);
    let of_a = DeadLetterFilter { account: Some(AccountId::new("a").unwrap()), ..DeadLetterFilter::default() };
    assert_eq!(times(&dead_letters.list(&of_a, None, 100).await.unwrap()), [1, 5, 9]);
    assert_eq!((dead_letters.count(&of_a).await.unwrap(), dead_letters.count(&all).await.unwrap()), (3, 5));
    let late = DeadLetterFilter { since: Some(at(5)), ..of_a };
    assert_eq!(times(&dead_letters.list(&late, None, 100).await.unwrap()), [5, 9]);
}

#[tokio::test]
async fn a_retry_is_sent_before_it_is_marked_and_only_once() {
    let (dead_letters, letter) = (dead_letters(), letter_at(1_000, "a"));
    dead_letters.note(&letter).await.unwrap();
    let refusing = Arc::new(Inbox { refuses: true, ..Inbox::default() });
    let refused = dead_letters.retry(&letter.id, None, &queues(&refusing), by("op")).await;
    assert!(matches!(refused, Err(DeadLetterError::Queue { .. })), "{refused:?}");
    assert_eq!(dead_letters.get(&letter.id).await.unwrap().state, DeadLetterState::Open);
    let inbox = Arc::new(Inbox::default());
    dead_letters.retry(&letter.id, None, &queues(&inbox), by("op")).await.unwrap();
    let sent = inbox.sent.lock().clone();
    let again = decode_body(&sent[0].body, at(0)).unwrap();
    assert_eq!((sent.len(), again.failures, again.history.len(), sent[0].group.as_str()), (1, 0, 1, "a"));
    let twice = dead_letters.retry(&letter.id, None, &queues(&inbox), by("op")).await;
    assert!(matches!(twice, Err(DeadLetterError::Decided { state: "retried", .. })), "{twice:?}");
    dead_letters.note(&letter).await.unwrap();
    assert!(
        matches!(dead_letters.get(&letter.id).await.unwrap().state, DeadLetterState::Retried { .. }),
        "a late copy reopens"
    );
}

#[tokio::test]
async fn a_letter_that_cannot_be_opened_goes_back_as_it_is() {
    let (dead_letters, inbox) = (dead_letters(), Arc::new(Inbox::default()));
    let letter = DeadLetter::read(&delivery(Bytes::from_static(b"\xff")), |_| None);
    dead_letters.note(&letter).await.unwrap();
    let nowhere = dead_letters.retry(&letter.id, None, &queues(&inbox), by("op")).await;
    assert!(matches!(nowhere, Err(DeadLetterError::NoQueue(_))), "{nowhere:?}");
    dead_letters.retry(&letter.id, Some(QueueName::DuplicationLow), &queues(&inbox), by("op")).await.unwrap();
    assert_eq!(&inbox.sent.lock()[0].body[..], b"\xff");
}

#[tokio::test]
async fn a_discarded_letter_stays_with_its_reason_and_is_not_retried() {
    let (dead_letters, letter) = (dead_letters(), letter_at(1_000, "a"));
    dead_letters.note(&letter).await.unwrap();
    dead_letters.discard(&letter.id, "deleted on purpose", by("op")).await.unwrap();
    let state = dead_letters.get(&letter.id).await.unwrap().state;
    assert_eq!(
        state,
        DeadLetterState::Discarded { reason: "deleted on purpose".into(), by: "op".into(), at: at(9_000) }
    );
    let inbox = Arc::new(Inbox::default());
    assert!(dead_letters.retry(&letter.id, None, &queues(&inbox), by("op")).await.is_err());
    assert!(inbox.sent.lock().is_empty());
    let open = DeadLetterFilter { state: Some("open"), ..DeadLetterFilter::default() };
    assert!(dead_letters.list(&open, None, 10).await.unwrap().letters.is_empty());
    assert!(matches!(dead_letters.get(&DeadLetterId::new("none")).await, Err(DeadLetterError::Unknown(_))));
}

#[tokio::test]
async fn a_row_of_version_1_is_read_for_ever() {
    let row = r#"{"v":1,"at":1000,"reason":"it broke for good","account":"a","kind":"probe","subject":"a/thing","origin":"duplication-low","failures":1,"history":[{"at":2,"workman":"w1","reason":"it broke"}],"body":{"hex":"ff"},"state":{"discarded":{"reason":"old","by":"op","at":9}}}"#;
    let table = Arc::new(TestTable::default());
    table.put(&RowKey::new(PARTITION, "x"), Bytes::from_static(row.as_bytes()), RowPrecondition::Always).await.unwrap();
    let letter = DeadLetters::new(table).get(&DeadLetterId::new("x")).await.unwrap();
    assert_eq!((&letter.body[..], letter.history.len(), letter.state.as_str()), (&b"\xff"[..], 1, "discarded"));
    assert_eq!(&row::encode(&letter).unwrap()[..], row.as_bytes());
}
