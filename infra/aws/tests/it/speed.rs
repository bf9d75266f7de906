//! How many no-op tasks a second go through one workman, beside a bare client on the same server in the same run. A
//! measurement, not a promise of the hour: run with
//! `cargo test --release -p mill-aws --test it speed -- --ignored --nocapture`, for `TASKS=50000` tasks a round if need be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use mill_aws::queue::QueueSettings;
use mill_aws::{Connection, SqsQueue};
use mill_local::{OsClock, OsRng};
use mill_model::QueueName;
use mill_ports::{OutgoingMessage, Registry, TaskQueue};
use mill_testkit::{CallRecorder, PortCall};
use mill_workman::{OnFinalFailure, OnUnavailable, StopSignal, Workman, WorkmanDeps, WorkmanSettings};

use crate::nothing::{Nothing, outgoing};
use crate::servers::{installation, ministack};

const ROUNDS: usize = 3;

fn settings() -> WorkmanSettings {
    let seconds = Duration::from_secs;
    WorkmanSettings {
        name: "one".into(),
        workers: 128,
        visibility: seconds(60),
        failures_max: 3,
        retry_delays: vec![seconds(1)],
        idle_backoff: vec![seconds(1)],
        poll_wait: seconds(1),
        batch_linger: Duration::from_millis(100),
        recheck: seconds(1),
        reserved_low: 0.0,
        reserved_high: 0.05,
        on_final_failure: OnFinalFailure::Drain,
        on_unavailable: OnUnavailable::Wait,
        grace: seconds(30),
    }
}

async fn fill(queue: &Arc<SqsQueue>, tasks: u64) {
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let queue = queue.clone();
        loops.spawn(async move {
            for batch in 0..tasks / 40 {
                let batch: Vec<OutgoingMessage> = (0..10).map(|nth| outgoing(batch * 10 + nth)).collect();
                queue.send(&batch).await.unwrap().into_result().unwrap();
            }
        });
    }
    loops.join_all().await;
}

/// The tasks a second of one workman, which is given an empty higher queue too, and the requests that each cost.
async fn workman(high: &Arc<SqsQueue>, low: &Arc<SqsQueue>, tasks: u64) -> (f64, f64) {
    let counted = [high, low].map(|queue| Arc::new(CallRecorder::new(queue.clone() as Arc<dyn TaskQueue>)));
    let done = Arc::new(AtomicU64::new(0));
    let deps = WorkmanDeps {
        queues: counted.iter().map(|queue| queue.clone() as Arc<dyn TaskQueue>).collect(),
        all_queues: [(QueueName::DuplicationLow, low.clone() as Arc<dyn TaskQueue>)].into(),
        dead_letter: low.clone(),
        registry: Registry::default().register(Nothing(done.clone())),
        clock: Arc::new(OsClock),
        chance: Arc::new(OsRng),
        statistics: Arc::default(),
        caps: Arc::new(mill_ports::NoCaps),
        permits: None,
        counts: None,
    };
    let (workman, heartbeat) = Workman::new(deps, settings());
    let stop = StopSignal::default();
    let began = Instant::now();
    let calls = |op| counted.iter().map(|queue| queue.calls(op).calls).sum::<u64>();
    let emptied = async {
        while counted[1].calls(PortCall::Acknowledge).entries < tasks {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = began.elapsed();
        let requests = calls(PortCall::Receive) + calls(PortCall::Acknowledge) + calls(PortCall::Extend);
        stop.gentle.cancel();
        (took, requests)
    };
    let (ended, (), (took, requests)) = futures::join!(workman.run(stop.clone()), heartbeat.run(), emptied);
    ended.unwrap();
    assert_eq!(done.load(Ordering::Relaxed), tasks);
    assert_eq!(low.depth().await.unwrap().total(), 0);
    (tasks as f64 / took.as_secs_f64(), requests as f64 / tasks as f64)
}

/// The tasks a second of so many loops that receive ten and delete them.
async fn bare(connection: &Connection, queue: &str, loops: usize, tasks: u64) -> f64 {
    let client = aws_sdk_sqs::Client::new(connection.config());
    let url = client.get_queue_url().queue_name(queue).send().await.unwrap().queue_url.unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..loops {
        let (client, url, done) = (client.clone(), url.clone(), done.clone());
        running.spawn(async move {
            while done.load(Ordering::Relaxed) < tasks {
                let received =
                    client.receive_message().queue_url(&url).max_number_of_messages(10).send().await.unwrap();
                let entry = |(at, message): (usize, aws_sdk_sqs::types::Message)| {
                    let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string());
                    entry.receipt_handle(message.receipt_handle.unwrap()).build().unwrap()
                };
                let entries: Vec<_> =
                    received.messages.unwrap_or_default().into_iter().enumerate().map(entry).collect();
                let count = entries.len() as u64;
                if count > 0 {
                    client.delete_message_batch().queue_url(&url).set_entries(Some(entries)).send().await.unwrap();
                    done.fetch_add(count, Ordering::Relaxed);
                }
            }
        });
    }
    running.join_all().await;
    tasks as f64 / began.elapsed().as_secs_f64()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement; needs a release build"]
async fn speed_beside_a_bare_client() {
    let tasks = std::env::var("TASKS").map_or(20_000, |tasks| tasks.parse().unwrap());
    let (connection, names) = installation(ministack()).await;
    let open = |name| {
        let settings = QueueSettings { name, queue: names.queue(name), fair: true };
        Arc::new(SqsQueue::new(&connection, settings, Arc::new(OsClock)))
    };
    let (high, low) = (open(QueueName::DuplicationHigh), open(QueueName::DuplicationLow));
    for round in 1..=ROUNDS {
        let mut best = 0_f64;
        for loops in [4, 8, 16] {
            fill(&low, tasks).await;
            let rate = bare(&connection, &names.queue(QueueName::DuplicationLow), loops, tasks).await;
            println!("round {round}: a bare client of {loops} loops: {rate:.0} tasks a second");
            best = best.max(rate);
        }
        fill(&low, tasks).await;
        let (rate, requests) = workman(&high, &low, tasks).await;
        let (ratio, resident) = (rate / best, resident_kib());
        println!(
            "round {round}: a workman: {rate:.0} tasks a second, {ratio:.2} of the best of them, \
             {requests:.3} requests a task beside its sending; {resident} KiB resident"
        );
    }
}
