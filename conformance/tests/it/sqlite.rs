//! The SQLite engine.

use std::sync::Arc;

use mill_conformance::{EngineSubject, Keep, QueueSubject, TableSubject};
use mill_local::{Database, LocalEngine, OsRng, RememberedDatabase, SqliteQueue, SqliteTable};
use mill_model::QueueName;
use mill_testkit::ManualClock;

/// How often a body is received before the engine's own redrive takes it.
const RECEIVES_MAX: u32 = mill_local::queue::RECEIVES_MAX;

fn open() -> (tempfile::TempDir, Arc<ManualClock>, Arc<Database>) {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let path = directory.path().join("mill.db");
    let database = Database::open(&path, Arc::clone(&clock) as _, Arc::new(OsRng)).unwrap();
    (directory, clock, database)
}

async fn queue() -> QueueSubject {
    let (directory, clock, database) = open();
    let queue = |name| Arc::new(SqliteQueue::new(Arc::clone(&database), name));
    QueueSubject {
        queue: queue(QueueName::DuplicationLow),
        dead_letters: queue(QueueName::DeadLetter),
        max_receive_count: RECEIVES_MAX,
        duplicates: false,
        time: Arc::new(move |by| clock.step(by)),
        keep: Keep::this(directory),
    }
}

async fn table() -> TableSubject {
    let (directory, _, database) = open();
    TableSubject { table: Arc::new(SqliteTable::new(database, "book")), keep: Keep::this(directory) }
}

async fn engine() -> EngineSubject {
    let directory = tempfile::tempdir().unwrap();
    let engine = LocalEngine::open(directory.path(), &RememberedDatabase::Nothing).unwrap();
    EngineSubject { engine: Arc::new(engine), keep: Keep::this(directory) }
}

mill_conformance::engine_suite!(engine_of_one_host, crate::sqlite::engine);
mill_conformance::queue_suite!(
    queues, crate::sqlite::queue, fences_stale_receipts: yes, exact_depth: yes, tells_age: yes,
    passes_over: yes
);
mill_conformance::table_suite!(tables, crate::sqlite::table);
