//! Queues in SQS.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mill_aws::deployment::{RECEIVES_MAX, queue_settings};
use mill_aws::queue::QueueSettings;
use mill_aws::{Connection, SqsQueue};
use mill_conformance::subject::RealTime;
use mill_conformance::{Keep, QueueSubject};
use mill_model::{AccountId, QueueName};
use mill_ports::{OutgoingMessage, QueueErrorKind, Receipt, TaskQueue};

use crate::canned_server::{answer, serve};
use crate::servers::{clock, connect, fresh, installation, ministack, punctual};

fn open(connection: &Connection, name: QueueName, queue: String) -> Arc<SqsQueue> {
    Arc::new(SqsQueue::new(connection, QueueSettings { name, queue, fair: true }, clock()))
}

async fn queue() -> QueueSubject {
    let (connection, names) = installation(punctual()).await;
    let queue = |name| open(&connection, name, names.queue(name));
    QueueSubject {
        queue: queue(QueueName::DuplicationLow),
        dead_letters: queue(QueueName::DeadLetter),
        max_receive_count: RECEIVES_MAX,
        duplicates: false,
        time: Arc::new(RealTime(clock())),
        keep: Keep::nothing(),
    }
}

mill_conformance::queue_suite!(
    ministack, crate::queues::queue, fences_stale_receipts: no, exact_depth: yes, tells_age: no,
    passes_over: no
);

fn outgoing(body: impl Into<bytes::Bytes>) -> OutgoingMessage {
    OutgoingMessage { group: AccountId::new("account").unwrap(), body: body.into(), delay: Duration::ZERO }
}

const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();

#[tokio::test]
async fn a_queue_that_is_not_there_is_named_as_missing() {
    let connection = connect(ministack()).await;
    let queue = open(&connection, QueueName::Audit, fresh("nothing"));
    for _ in 0..2 {
        assert_eq!(queue.depth().await.unwrap_err().kind, QueueErrorKind::QueueMissing);
        assert_eq!(queue.send(&[outgoing("a")]).await.unwrap_err().kind, QueueErrorKind::QueueMissing);
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_unavailable() {
    let connection = connect("http://127.0.0.1:9").await;
    let queue = open(&connection, QueueName::Audit, "mill-audit".into());
    assert_eq!(queue.depth().await.unwrap_err().kind, QueueErrorKind::Unavailable);
}

#[tokio::test]
async fn bodies_that_the_service_takes_only_in_several_requests_all_arrive() {
    let subject = queue().await;
    let most = subject.queue.limits().body_bytes_max;
    let sent: Vec<OutgoingMessage> = (0..10u8).map(|number| outgoing(vec![b'a' + number; most])).collect();
    subject.queue.send(&sent).await.unwrap().into_result().unwrap();
    let mut received = Vec::new();
    while received.len() < 10 {
        let more = subject.queue.receive(TEN, Duration::from_mins(1), Duration::from_secs(1)).await.unwrap();
        received.extend(more.into_iter().map(|delivery| (delivery.body[0], delivery.body.len())));
    }
    received.sort_unstable();
    assert_eq!(received, (0..10u8).map(|number| (b'a' + number, most)).collect::<Vec<_>>());
}

#[tokio::test]
async fn bodies_that_are_no_text_arrive_to_the_byte() {
    let subject = queue().await;
    let noise: Vec<u8> = (0..=255).collect();
    subject.queue.send(&[outgoing(noise.clone()), outgoing("")]).await.unwrap().into_result().unwrap();
    let mut received = Vec::new();
    while received.len() < 2 {
        let more = subject.queue.receive(TEN, Duration::from_mins(1), Duration::from_secs(1)).await.unwrap();
        received.extend(more.into_iter().map(|delivery| delivery.body.to_vec()));
    }
    received.sort();
    assert_eq!(received, [Vec::new(), noise]);
}

/// Each received message can be sent on, also to the dead letters; a message that is too large fails alone.
#[tokio::test]
async fn no_message_is_larger_than_what_mill_sends() {
    let subject = queue().await;
    let most = subject.queue.limits().body_bytes_max;
    assert_eq!(queue_settings()["MaximumMessageSize"], most.to_string());
    // Encoded for the service, it is larger by a third.
    let out = [outgoing(vec![0; most * 4 / 5]), outgoing("b")];
    let report = subject.queue.send(&out).await.unwrap();
    let failed: Vec<_> = report.failed.iter().map(|(at, error)| (*at, error.kind)).collect();
    assert_eq!(failed, [(0, QueueErrorKind::TooLarge)]);
}

#[tokio::test]
async fn a_connection_that_hangs_costs_no_lease() {
    let asked = AtomicU32::new(0);
    let endpoint = serve(move |request| {
        let body = match request.headers()["x-amz-target"].to_str().unwrap() {
            "AmazonSQS.GetQueueUrl" => r#"{"QueueUrl":"http://queues/mill"}"#,
            _ if asked.fetch_add(1, Ordering::Relaxed) == 0 => return None,
            _ => r#"{"Successful":[{"Id":"0"}],"Failed":[]}"#,
        };
        Some(answer(200, &[("content-type", "application/x-amz-json-1.0")], body))
    });
    let queue = open(&connect(&endpoint).await, QueueName::Audit, "mill".into());
    let began = std::time::Instant::now();
    let extended = queue.extend(&[Receipt("receipt".into())], Duration::from_mins(1)).await.unwrap();
    assert!(extended[0].is_ok());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// A response to a receive may take as long as the requested wait.
#[tokio::test]
async fn a_receive_waits_for_as_long_as_it_is_told() {
    let endpoint = serve(|request| {
        let waits = request.headers()["x-amz-target"] == "AmazonSQS.ReceiveMessage";
        if waits {
            std::thread::sleep(Duration::from_secs(8));
        }
        let body = if waits { "{}" } else { r#"{"QueueUrl":"http://queues/mill"}"# };
        answer(200, &[("content-type", "application/x-amz-json-1.0")], body)
    });
    let connection = connect(&endpoint).await;
    let queue = open(&connection, QueueName::Audit, "mill".into());
    let received = queue.receive(TEN, Duration::from_mins(1), Duration::from_secs(8)).await.unwrap();
    assert!(received.is_empty());
    assert_eq!(connection.requests().by_operation()["ReceiveMessage"], 1);
}

#[tokio::test]
async fn ten_tasks_cost_three_requests() {
    let (connection, names) = installation(punctual()).await;
    let queue = open(&connection, QueueName::DuplicationLow, names.queue(QueueName::DuplicationLow));
    queue.depth().await.unwrap();
    let before = connection.requests().total();
    let sent: Vec<OutgoingMessage> = (0..10).map(|number| outgoing(number.to_string())).collect();
    queue.send(&sent).await.unwrap().into_result().unwrap();
    let received = queue.receive(TEN, Duration::from_mins(1), Duration::from_secs(1)).await.unwrap();
    assert_eq!(received.len(), 10);
    let receipts: Vec<_> = received.into_iter().map(|delivery| delivery.receipt).collect();
    queue.acknowledge(&receipts).await.unwrap().into_result().unwrap();
    assert_eq!(connection.requests().total() - before, 3);
}

/// A queue on a server with this response to each request but the first, for the URL.
async fn answering(body: &'static str) -> Arc<SqsQueue> {
    let endpoint = serve(move |request| {
        let url = request.headers()["x-amz-target"] == "AmazonSQS.GetQueueUrl";
        let body = if url { r#"{"QueueUrl":"http://queues/mill"}"# } else { body };
        answer(200, &[("content-type", "application/x-amz-json-1.0")], body)
    });
    open(&connect(&endpoint).await.without_retries(), QueueName::Audit, "mill".into())
}

#[tokio::test]
async fn an_entry_without_a_result_or_with_two_has_failed() {
    const BOTH: &str = r#"{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"x"}],
        "Failed":[{"Id":"0","Code":"InternalError","SenderFault":false}]}"#;
    for body in ["", "{}", r#"{"Successful":[],"Failed":[]}"#, BOTH, r#"{"Successful":[{"Id":"1"}],"Failed":[]}"#] {
        let queue = answering(body).await;
        let sent = queue.send(&[outgoing("a")]).await;
        assert!(sent.is_err() || !sent.is_ok_and(|report| report.failed.is_empty()), "send: {body}");
        let receipts = [Receipt("r".into())];
        let gone = queue.acknowledge(&receipts).await;
        assert!(gone.is_err() || !gone.is_ok_and(|report| report.failed.is_empty()), "acknowledge: {body}");
        let extended = queue.extend(&receipts, Duration::from_mins(1)).await;
        assert!(extended.is_err() || extended.is_ok_and(|each| each[0].is_err()), "extend: {body}");
    }
}

#[tokio::test]
async fn an_incomplete_message_does_not_pass_for_an_empty_one() {
    const MESSAGES: &str =
        r#"{"Messages":[{"ReceiptHandle":"r","MessageId":"m"},{"Body":"b","ReceiptHandle":"s"},{"Body":"c"}]}"#;
    let received = answering(MESSAGES).await.receive(TEN, Duration::from_mins(1), Duration::ZERO).await.unwrap();
    assert_eq!(received.iter().map(|one| &one.body[..]).collect::<Vec<_>>(), [b"b"]);
    for cut in 1..MESSAGES.len() {
        let cut: &'static str = &MESSAGES[..cut];
        assert!(answering(cut).await.receive(TEN, Duration::from_mins(1), Duration::ZERO).await.is_err(), "{cut}");
    }
}
