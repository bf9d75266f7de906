//! Processes that are killed in the middle of their work lose no write that returned.
//!
//! The test runs its own binary again as workers that send, receive, acknowledge and put, and print what they are about
//! to acknowledge and which writes returned.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mill_model::QueueName;
use mill_ports::{Clock as _, OutgoingMessage, Receipt, Rng as _, RowPrecondition, Table as _, TaskQueue as _};

use super::{key, open, outgoing, table};
use crate::test_clock::TestClock;
use crate::{Database, OsClock, OsRng, SqliteQueue};

const PLACE: &str = "MILL_KILLED_WORKER_DATABASE";
const BATCH: NonZeroU32 = NonZeroU32::new(7).unwrap();

#[test]
#[ignore = "run by the test below, as a process of its own"]
fn worker() {
    let Some(path) = std::env::var_os(PLACE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let database = open(Path::new(&path));
        let name = format!("{:x}", OsRng.next_u64());
        tokio::join!(send(&database, &name), acknowledge(&database), put(&database, &name));
    });
}

async fn send(database: &Arc<Database>, name: &str) {
    let queue = SqliteQueue::new(Arc::clone(database), QueueName::DuplicationLow);
    for first in (0..).step_by(5) {
        let names: Vec<_> = (first..first + 5).map(|n| format!("{name}-{n}")).collect();
        let body = |name: &String| Bytes::copy_from_slice(name.as_bytes());
        let batch: Vec<_> = names.iter().map(|name| OutgoingMessage { body: body(name), ..outgoing(0) }).collect();
        queue.send(&batch).await.unwrap().into_result().unwrap();
        println!("sent {}", names.join(" "));
    }
}

async fn acknowledge(database: &Arc<Database>) {
    let queue = SqliteQueue::new(Arc::clone(database), QueueName::DuplicationLow);
    loop {
        let got = queue.receive(BATCH, Duration::from_mins(10), Duration::from_millis(100)).await.unwrap();
        // A part is kept in flight, as by a worker that is killed before it is done.
        let (receipts, names): (Vec<Receipt>, Vec<String>) = got
            .into_iter()
            .take(5)
            .map(|delivery| (delivery.receipt, String::from_utf8(delivery.body.to_vec()).unwrap()))
            .unzip();
        println!("acknowledging {}", names.join(" "));
        queue.acknowledge(&receipts).await.unwrap().into_result().unwrap();
        println!("acknowledged {}", names.join(" "));
    }
}

async fn put(database: &Arc<Database>, name: &str) {
    for n in 0.. {
        let row = format!("{name}-{n}");
        table(database)
            .put(&key(&*row), Bytes::copy_from_slice(row.as_bytes()), RowPrecondition::Absent)
            .await
            .unwrap();
        println!("put {row}");
    }
}

fn spawn(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "database::tests::killed::worker"])
        .env(PLACE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the workers printed, by verb. If the kill cut off the last line, its last name is left out.
#[derive(Default)]
struct Said {
    sent: BTreeSet<String>,
    acknowledging: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    put: BTreeSet<String>,
}

impl Said {
    fn hear(&mut self, mut worker: Child) {
        worker.kill().unwrap();
        let mut text = String::new();
        worker.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        worker.wait().unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let mut words = line.split(' ').map(str::to_owned).filter(|word| !word.is_empty());
            match words.next().as_deref() {
                Some("sent") => self.sent.extend(words),
                Some("acknowledging") => self.acknowledging.extend(words),
                Some("acknowledged") => self.acknowledged.extend(words),
                Some("put") => self.put.extend(words),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn processes_killed_in_the_middle_of_their_work_lose_nothing_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mill.db");
    let mut said = Said::default();
    for _ in 0..8 {
        let workers: Vec<Child> = (0..3).map(|_| spawn(&path)).collect();
        for worker in workers {
            tokio::time::sleep(Duration::from_millis(100 + OsRng.next_u64() % 150)).await;
            said.hear(worker);
        }
    }
    assert!(said.sent.len() > 100 && said.acknowledged.len() > 50 && said.put.len() > 20, "hardly anything was done");

    let clock = Arc::new(TestClock::new());
    clock.step_to(OsClock.now().plus(Duration::from_hours(2)));
    let database = Database::open(&path, clock, Arc::new(OsRng)).unwrap();
    assert_eq!(database.check().await.unwrap(), Vec::<String>::new());
    let queue = SqliteQueue::new(Arc::clone(&database), QueueName::DuplicationLow);
    let mut left = BTreeSet::new();
    let hundred = NonZeroU32::new(100).unwrap();
    loop {
        let got = queue.receive(hundred, Duration::from_mins(1), Duration::ZERO).await.unwrap();
        if got.is_empty() {
            break;
        }
        left.extend(got.into_iter().map(|delivery| String::from_utf8(delivery.body.to_vec()).unwrap()));
    }
    let lost: Vec<_> =
        said.sent.iter().filter(|name| !left.contains(*name) && !said.acknowledging.contains(*name)).collect();
    assert!(lost.is_empty(), "sent, answered, and gone: {lost:?}");
    let risen: Vec<_> = said.acknowledged.intersection(&left).collect();
    assert!(risen.is_empty(), "acknowledged, answered, and back: {risen:?}");
    for row in &said.put {
        let found = table(&database).get(&key(&**row)).await.unwrap();
        assert_eq!(found.map(|row| row.value), Some(Bytes::copy_from_slice(row.as_bytes())));
    }
    println!(
        "{} sent, {} acknowledged, {} left, {} put",
        said.sent.len(),
        said.acknowledged.len(),
        left.len(),
        said.put.len()
    );
}
