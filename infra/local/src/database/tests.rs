mod killed;
mod lost;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mill_model::{AccountId, QueueName};
use mill_ports::{
    ExcludedAccounts, KeyRange, OutgoingMessage, QueueErrorKind, RowKey, RowPrecondition, Table as _, TableErrorKind,
    TaskQueue as _,
};
use rusqlite::Connection;

use super::writer::{Durability, WriteTransaction};
use super::{Database, OpenError};
use crate::{OsClock, OsRng, SqliteQueue, SqliteTable};

fn open(path: &Path) -> Arc<Database> {
    try_open(path).unwrap()
}

fn try_open(path: &Path) -> Result<Arc<Database>, OpenError> {
    Database::open(path, Arc::new(OsClock), Arc::new(OsRng))
}

fn table(database: &Arc<Database>) -> SqliteTable {
    SqliteTable::new(Arc::clone(database), "book")
}

fn key(sort: impl Into<String>) -> RowKey {
    RowKey::new("p", sort)
}

async fn rows(table: &SqliteTable) -> usize {
    table.query("p", &KeyRange::default(), 10_000).await.unwrap().rows.len()
}

/// Keeps the writer busy until the answer is dropped or sent to.
async fn occupied(database: &Arc<Database>) -> std::sync::mpsc::Sender<()> {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begun, beginning) = tokio::sync::oneshot::channel();
    let (database, mut begun) = (Arc::clone(database), Some(begun));
    tokio::spawn(async move {
        let work = move |_: &mut WriteTransaction<'_>| {
            if let Some(begun) = begun.take() {
                begun.send(()).unwrap();
                let _ = wait.recv();
            }
            Ok(())
        };
        database.write(Durability::Process, 0, work).await
    });
    beginning.await.unwrap();
    go
}

#[tokio::test]
async fn writes_that_wait_are_committed_together_and_answered_after_the_commit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mill.db");
    let (here, elsewhere) = (open(&path), open(&path));
    let go = occupied(&here).await;
    let mut puts = tokio::task::JoinSet::new();
    for n in 0..200 {
        let table = table(&here);
        puts.spawn(async move { table.put(&key(format!("{n}")), Bytes::new(), RowPrecondition::Always).await });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rows(&table(&elsewhere)).await, 0);
    drop(go);
    puts.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(rows(&table(&elsewhere)).await, 200, "the first answer comes when all are committed");
}

#[tokio::test]
async fn one_request_that_fails_does_not_fail_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory.path().join("mill.db"));
    let go = occupied(&database).await;
    let mut puts = tokio::task::JoinSet::new();
    for n in 0..20 {
        let table = table(&database);
        puts.spawn(async move { table.put(&key(format!("{n}")), Bytes::new(), RowPrecondition::Always).await });
    }
    tokio::task::yield_now().await;
    let bad = |transaction: &mut WriteTransaction<'_>| {
        transaction.statement("INSERT INTO entry VALUES ('book', x'70', x'62616421', 0, x'')")?.execute([])?;
        transaction.statement("SELECT no_such_column FROM entry")?.execute([])
    };
    let failing = {
        let database = Arc::clone(&database);
        tokio::spawn(async move { database.write(Durability::Power, 0, bad).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(go);
    assert!(failing.await.unwrap().is_err());
    assert!(puts.join_all().await.iter().all(Result::is_ok));
    assert_eq!(rows(&table(&database)).await, 20, "nothing of the failed request is kept");
}

#[tokio::test]
async fn a_group_with_anything_that_must_outlive_a_power_failure_is_synced_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory.path().join("mill.db"));
    let level = |transaction: &mut WriteTransaction<'_>| -> rusqlite::Result<i64> {
        transaction.statement("PRAGMA synchronous")?.query_row([], |row| row.get(0))
    };
    assert_eq!(database.write(Durability::Power, 0, level).await.unwrap(), 2, "FULL");
    assert_eq!(database.write(Durability::Process, 0, level).await.unwrap(), 1, "NORMAL");
    let go = occupied(&database).await;
    let both = tokio::spawn({
        let database = Arc::clone(&database);
        async move {
            tokio::join!(database.write(Durability::Process, 0, level), database.write(Durability::Power, 0, level))
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(go);
    let (process, power) = both.await.unwrap();
    assert_eq!((process.unwrap(), power.unwrap()), (2, 2));
}

#[tokio::test]
async fn a_receive_that_nobody_waits_for_any_more_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory.path().join("mill.db"));
    let queue = SqliteQueue::new(Arc::clone(&database), QueueName::Audit);
    queue.send(&[outgoing(10)]).await.unwrap().into_result().unwrap();
    let go = occupied(&database).await;
    let abandoned = tokio::spawn({
        let queue = queue.clone();
        async move { queue.receive(std::num::NonZeroU32::MIN, Duration::from_mins(1), Duration::ZERO).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    drop(go);
    let one = std::num::NonZeroU32::MIN;
    assert_eq!(queue.receive(one, Duration::from_mins(1), Duration::ZERO).await.unwrap().len(), 1);
}

fn outgoing(bytes: usize) -> OutgoingMessage {
    OutgoingMessage { group: AccountId::new("a").unwrap(), body: vec![b'x'; bytes].into(), delay: Duration::ZERO }
}

async fn limit_pages(database: &Database, pages: u32) {
    let work = move |transaction: &mut WriteTransaction<'_>| {
        transaction.statement(&format!("PRAGMA max_page_count = {pages}"))?.query_row([], |row| row.get::<_, i64>(0))
    };
    database.write(Durability::Process, 0, work).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_unavailable_keeps_what_was_answered_and_passes() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory.path().join("mill.db"));
    let queue = SqliteQueue::new(Arc::clone(&database), QueueName::Audit);
    limit_pages(&database, 64).await;
    let mut sent = 0;
    let error = loop {
        match queue.send(&[outgoing(10_000), outgoing(10_000)]).await {
            Ok(report) => report.into_result().unwrap(),
            Err(error) => break error,
        }
        sent += 2;
    };
    assert_eq!(error.kind, QueueErrorKind::Unavailable);
    let value = Bytes::from(vec![0; 100_000]);
    let refused = table(&database).put(&key("x"), value, RowPrecondition::Always).await.unwrap_err();
    assert_eq!(refused.kind, TableErrorKind::Unavailable);
    assert_eq!(queue.depth().await.unwrap().visible, sent, "neither less nor half a batch more");
    limit_pages(&database, 100_000).await;
    queue.send(&[outgoing(10_000)]).await.unwrap().into_result().unwrap();
    assert!(database.check().await.unwrap().is_empty());
}

/// Holds the lock for long, and requests it again at once: some requests always wait, because the callers begin one
/// while another is served.
async fn hog(database: Arc<Database>, until: Instant) {
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..3 {
        let database = Arc::clone(&database);
        callers.spawn(async move {
            tokio::time::sleep(Duration::from_millis(7 * caller)).await;
            while Instant::now() < until {
                let slow = |transaction: &mut WriteTransaction<'_>| {
                    std::thread::sleep(Duration::from_millis(20));
                    transaction.next_number()
                };
                database.write(Durability::Process, 0, slow).await.unwrap();
            }
        });
    }
    callers.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_writes_now_and_then_gets_a_turn_among_those_who_write_all_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mill.db");
    let until = Instant::now() + Duration::from_secs(3);
    let mut hogs = tokio::task::JoinSet::new();
    for _ in 0..2 {
        hogs.spawn(hog(open(&path), until));
    }
    let database = open(&path);
    let (mut puts, mut longest) = (0, Duration::ZERO);
    while Instant::now() < until {
        let start = Instant::now();
        table(&database).put(&key(format!("{puts}")), Bytes::new(), RowPrecondition::Always).await.unwrap();
        longest = longest.max(start.elapsed());
        puts += 1;
    }
    hogs.join_all().await;
    println!("{puts} puts, the longest took {longest:?}");
    // Two hogs hold the lock for at most 40 ms each: a caller that takes turns with them has time for 30 puts and more.
    assert!(puts >= 15, "only {puts} puts, the longest took {longest:?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[tokio::test]
async fn only_the_owner_may_look_into_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("deep/state");
    let database = open(&state.join("mill.db"));
    table(&database).put(&key("x"), Bytes::new(), RowPrecondition::Always).await.unwrap();
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    let files: Vec<_> = std::fs::read_dir(&state).unwrap().map(Result::unwrap).collect();
    assert!(files.len() >= 3, "the database, its log and its index");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.path().display());
    }
}

/// A database of an earlier version, with one visible message and one in flight.
fn older(path: &Path, version: &str) {
    drop(open(path));
    let bodies = "INSERT INTO message (id, queue, visible_at, sent_at, body) VALUES (1, 3, 0, 0, x'01');
        INSERT INTO message (id, queue, visible_at, in_flight, handle, sent_at, body) VALUES (2, 3, 0, 1, 7, 0, x'02');
        UPDATE queue SET messages = 2 WHERE id = 3; UPDATE number SET last = 2;
        DROP INDEX message_by_account; DROP INDEX message_by_time;
        CREATE INDEX message_by_time ON message (queue, visible_at, in_flight);";
    Connection::open(path).unwrap().execute_batch(&format!("{bodies} {version}")).unwrap();
}

#[tokio::test]
async fn one_of_an_older_version_is_opened_and_keeps_its_bodies() {
    let no_accounts = "ALTER TABLE message DROP COLUMN account; PRAGMA user_version = 2";
    let no_passing = "CREATE INDEX message_by_account ON message (queue, account); PRAGMA user_version = 3";
    let newest = tempfile::tempdir().unwrap();
    drop(open(&newest.path().join("mill.db")));
    let indexes = |path: &Path| {
        let sql = "SELECT group_concat(sql) FROM (SELECT sql FROM sqlite_schema WHERE type = 'index' ORDER BY name)";
        Connection::open(path).unwrap().query_row(sql, [], |row| row.get::<_, String>(0)).unwrap()
    };
    for version in [no_accounts, no_passing] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mill.db");
        older(&path, version);
        let database = open(&path);
        let queue = SqliteQueue::new(Arc::clone(&database), QueueName::DuplicationLow);
        let passed_over =
            ExcludedAccounts { accounts: [AccountId::new("a").unwrap()].into(), ..ExcludedAccounts::default() };
        let max = std::num::NonZeroU32::new(10).unwrap();
        let got = queue.receive_excluding(&passed_over, max, Duration::from_mins(1), Duration::ZERO).await.unwrap();
        assert_eq!(got.len(), 2, "nobody's bodies are never passed over");
        assert!(database.check().await.unwrap().is_empty());
        drop((queue, database));
        assert_eq!(indexes(&path), indexes(&newest.path().join("mill.db")), "as one made today");
        drop(open(&path));
    }
}

#[test]
fn what_is_not_mills_or_of_another_version_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    assert!(matches!(try_open(&other), Err(OpenError::NotOurs { .. })));

    let newer = directory.path().join("newer.db");
    drop(open(&newer));
    Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 5").unwrap();
    assert!(matches!(try_open(&newer), Err(OpenError::OtherVersion { found: 5, known: 4, .. })));

    let text = directory.path().join("text.db");
    std::fs::write(&text, "no database at all, but long enough to look like one".repeat(100)).unwrap();
    let error = try_open(&text).unwrap_err();
    assert!(mill_ports::error_chain(&error).contains("not a database"), "{}", mill_ports::error_chain(&error));
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("no database at all"));
}

#[tokio::test]
async fn a_database_that_is_closed_is_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mill.db");
    for n in 0..20 {
        let database = open(&path);
        table(&database).put(&key(format!("{n}")), vec![1; 200].into(), RowPrecondition::Always).await.unwrap();
        drop(database);
        assert!(!directory.path().join("mill.db-wal").exists(), "the log is left at closing {n}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mill.db");
    let database = open(&path);
    for n in 0..300 {
        table(&database).put(&key(format!("{n}")), vec![1; 200].into(), RowPrecondition::Always).await.unwrap();
    }
    assert!(database.check().await.unwrap().is_empty());
    drop(database);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 4096 / 2 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let error = try_open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_count_that_is_wrong_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory.path().join("mill.db"));
    let wrong = |transaction: &mut WriteTransaction<'_>| {
        transaction.add_to_count(3, 1);
        Ok(())
    };
    database.write(Durability::Process, 0, wrong).await.unwrap();
    let found = database.check().await.unwrap();
    assert_eq!(found, ["queue 4 is said to hold 1 bodies and holds 0"]);
}

#[tokio::test]
async fn many_openings_at_once_all_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mill.db");
    let openings: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || open(&path))
        })
        .collect();
    let databases: Vec<_> = openings.into_iter().map(|opening| opening.join().unwrap()).collect();
    table(&databases[0]).put(&key("x"), Bytes::new(), RowPrecondition::Absent).await.unwrap();
    assert!(table(&databases[7]).get(&key("x")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_waits_while_another_process_recovers_or_closes_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mill.db");
    drop(open(&path));
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let opening = std::thread::spawn(move || try_open(&path).map(drop));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!opening.is_finished(), "it cannot be open already");
    drop(other);
    opening.join().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scratch_copy_has_all_rows_and_its_changes_reach_neither_files_nor_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("of mill? 100%.db");
    let facts = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let mut found: Vec<_> = entries
            .map(|entry| {
                (entry.file_name(), entry.metadata().unwrap().len(), entry.metadata().unwrap().modified().unwrap())
            })
            .collect();
        found.sort();
        (found, std::fs::metadata(folder.path()).unwrap().modified().unwrap())
    };
    let scratch = || Database::scratch(&path, &super::RememberedDatabase::Nothing, Arc::new(OsClock), Arc::new(OsRng));
    let empty = scratch().unwrap();
    assert_eq!((rows(&table(&empty)).await, facts().0.len()), (0, 0));
    let original = open(&path);
    let put = async |database: &Arc<Database>, n: usize| {
        table(database).put(&key(n.to_string()), Bytes::from(vec![7; 900]), RowPrecondition::Always).await.unwrap();
    };
    for n in 0..100 {
        put(&original, n).await;
    }
    let check = async || {
        let before = facts();
        let copy = scratch().unwrap();
        assert_eq!(rows(&table(&copy)).await, 100);
        for n in 100..120 {
            put(&copy, n).await;
        }
        assert_eq!(rows(&table(&copy)).await, 120);
        drop(copy);
        assert_eq!(facts(), before);
        before.0.len()
    };
    // Once its thread has been idle, it moves the log into the file, and keeps the log.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let with_log = check().await;
    drop(original);
    assert!(check().await < with_log, "the last connection to close removes the log");
    std::fs::remove_file(&path).unwrap();
    let remembered = super::RememberedDatabase::Existence;
    let gone = Database::scratch(&path, &remembered, Arc::new(OsClock), Arc::new(OsRng));
    assert!(matches!(gone, Err(OpenError::Gone { .. })));
}
