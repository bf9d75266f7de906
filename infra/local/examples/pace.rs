//! Measures the SQLite engine: `cargo run --release -p mill-local --example pace [DIRECTORY]`.
//!
//! Several at once on one directory measure processes that share a file; the directory is left then.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mill_local::{Database, OsClock, OsRng, SqliteQueue, SqliteTable};
use mill_model::{AccountId, QueueName};
use mill_ports::{KeyRange, OutgoingMessage, Receipt, RowKey, RowPrecondition, Table, TaskQueue};

const BODIES: usize = 200_000;
const PUTS: usize = 100_000;
const CALLERS: usize = 256;

fn report(what: &str, count: usize, since: Instant) {
    let rate = count as f64 / since.elapsed().as_secs_f64();
    println!("{what:<58} {rate:>9.0}/s   resident {:>5} KiB", resident_kib());
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn outgoing(count: usize) -> Vec<OutgoingMessage> {
    let group = AccountId::new("a").unwrap();
    let out = OutgoingMessage { group, body: Bytes::from(vec![b'x'; 300]), delay: Duration::ZERO };
    vec![out; count]
}

async fn fill(queue: &SqliteQueue, bodies: usize) {
    let out = outgoing(100);
    for _ in 0..bodies / 100 {
        queue.send(&out).await.unwrap().into_result().unwrap();
    }
}

/// Receives and acknowledges until nothing is left; answers how many.
async fn drain(queue: SqliteQueue, batch: u32) -> usize {
    let mut done = 0;
    loop {
        let max = NonZeroU32::new(batch).unwrap();
        let got = queue.receive(max, Duration::from_mins(1), Duration::ZERO).await.unwrap();
        if got.is_empty() {
            return done;
        }
        done += got.len();
        let receipts: Vec<Receipt> = got.into_iter().map(|delivery| delivery.receipt).collect();
        queue.acknowledge(&receipts).await.unwrap().into_result().unwrap();
    }
}

async fn queues(queue: &SqliteQueue) {
    let start = Instant::now();
    fill(queue, BODIES).await;
    report("send, batches of 100, one caller", BODIES, start);
    let start = Instant::now();
    for _ in 0..2000 {
        queue.depth().await.unwrap();
    }
    report("depth of 200,000", 2000, start);
    let start = Instant::now();
    let done = drain(queue.clone(), 100).await;
    report("receive + acknowledge, batches of 100, one caller", done, start);
    fill(queue, BODIES).await;
    let start = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        callers.spawn(drain(queue.clone(), 100));
    }
    report("receive + acknowledge, batches of 100, 4 callers", callers.join_all().await.iter().sum(), start);
    fill(queue, BODIES / 4).await;
    let start = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(drain(queue.clone(), 1));
    }
    report("receive + acknowledge, one by one, 256 callers", callers.join_all().await.iter().sum(), start);
}

async fn tables(table: &SqliteTable) {
    let start = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let table = table.clone();
        callers.spawn(async move {
            for n in 0..PUTS / CALLERS {
                let key = RowKey::new("account/1/2/space", format!("photos/{n:08}/{caller:04}.jpg"));
                table.put(&key, Bytes::from(vec![7; 64]), RowPrecondition::Always).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    report("put, one by one, 256 callers", PUTS, start);
    let start = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let table = table.clone();
        callers.spawn(async move {
            for n in 0..PUTS / CALLERS {
                let key = RowKey::new("account/1/2/space", format!("photos/{n:08}/{caller:04}.jpg"));
                table.get(&key).await.unwrap().unwrap();
            }
        });
    }
    callers.join_all().await;
    report("get, one by one, 256 callers", PUTS, start);
    let start = Instant::now();
    let (mut range, mut rows) = (KeyRange::default(), 0);
    loop {
        let page = table.query("account/1/2/space", &range, 1000).await.unwrap();
        rows += page.rows.len();
        range.after = page.rows.last().map(|row| row.sort.clone());
        if page.end {
            break;
        }
    }
    report("query, pages of 1,000", rows, start);
    let start = Instant::now();
    for n in 0..500 {
        table
            .put(&RowKey::new("one", format!("{n}")), Bytes::from(vec![7; 64]), RowPrecondition::Always)
            .await
            .unwrap();
    }
    report("put, one by one, one caller", 500, start);
}

#[tokio::main]
async fn main() {
    let temporary = std::env::temp_dir().join(format!("mill-pace-{}", std::process::id()));
    let directory = std::env::args_os().nth(1).map_or_else(|| temporary.clone(), PathBuf::from);
    let path = directory.join("mill.db");
    let database = Database::open(&path, Arc::new(OsClock), Arc::new(OsRng)).unwrap();
    let queue = SqliteQueue::new(Arc::clone(&database), QueueName::DuplicationLow);
    queues(&queue).await;
    tables(&SqliteTable::new(Arc::clone(&database), "seals")).await;
    println!("{:?}", database.check().await.unwrap());
    for entry in std::fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        println!("{:<20} {:>8} KiB", entry.file_name().display(), entry.metadata().unwrap().len() / 1024);
    }
    drop((queue, database));
    if directory == temporary {
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
