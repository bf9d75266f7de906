//! What became of each entry in a run, kept on disk until the run's report is written.
//!
//! It is a database of its own, beside the state: a report of millions of lines must not make the state larger for good.
//! Several processes write to it. Each entry has one row, however often its event comes: after a crash the next run goes
//! on with the rows that are there.
//!
//! Each survey that begins anew is a *session*. What was done to an entry in an earlier session stays known, beside what
//! the current session finds.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mill_model::{EntryFate, SubjectSort};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, params};

/// The journal of a run.
#[derive(Debug, Clone)]
pub struct ItemJournal {
    shared: Arc<SharedJournal>,
}

#[derive(Debug)]
struct SharedJournal {
    /// `None` if it has no name.
    path: Option<PathBuf>,
    connection: Mutex<Connection>,
    /// Whether a survey has begun anew since the last row was written.
    begins_anew: AtomicBool,
    /// The session in which this process began.
    first_session: i64,
    /// Keeps other runs away, in the process that began it.
    _lock: Option<File>,
}

/// An event to be kept.
#[derive(Debug, Clone)]
pub struct JournalEntry {
    /// Identifies the entry. Rows are read in the order of their keys.
    pub key: Vec<u8>,
    /// What it is.
    pub sort: SubjectSort,
    /// What became of it.
    pub fate: EntryFate,
    /// Whether the run counts it apart, because an earlier run had sent its task.
    pub of_earlier_run: bool,
    /// The line of the report.
    pub line: String,
}

/// A row as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// What became of the entry in this run; `None` if only an earlier run or its tasks had to do with it.
    pub fate: Option<EntryFate>,
    /// What was done to it before, and this run does not count.
    pub earlier: Option<EntryFate>,
    /// The line of its last event.
    pub line: String,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Its database fails.
    #[error("its journal beside the state failed")]
    Database(#[from] rusqlite::Error),
    /// Another run collects its report in it.
    #[error("another run with `--report` is at work; wait for its end")]
    InUse,
    /// Its lock cannot be made.
    #[error("its lock beside the state cannot be made")]
    Lock(#[source] io::Error),
    /// Its files cannot be removed.
    #[error("its journal beside the state cannot be removed")]
    Files(#[source] io::Error),
    /// The line of a row cannot be passed on.
    #[error("it cannot be written")]
    Writing(#[source] io::Error),
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS item (
        key BLOB PRIMARY KEY, sort INTEGER NOT NULL, session INTEGER NOT NULL,
        fate TEXT, earlier TEXT, line TEXT NOT NULL
    ) WITHOUT ROWID;";

/// The session now. A process of its own reads it with each row, since its parent begins sessions.
const SESSION: &str = "(SELECT value FROM about WHERE name = 'session')";

/// The deed that a row knows, which an event of the same entry must not hide.
const DEED: &str = "CASE WHEN item.fate IN ('copied', 'updated', 'deleted') THEN item.fate ELSE item.earlier END";

impl ItemJournal {
    /// The name of its file in the folder of the state.
    pub const FILE: &str = "report.db";
    const LOCK: &str = "report.lock";

    /// Opens the journal of a run, and begins a session. Rows that a killed run left stay.
    ///
    /// # Errors
    /// Its database cannot be used.
    pub fn begin(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(Self::FILE);
        let lock = lock(&folder.join(Self::LOCK))?;
        let connection = open(&path)?;
        let first_session = next_session(&connection)?;
        Ok(Self::of((Some(path), Some(lock)), connection, first_session))
    }

    /// Opens a journal without a name, which is gone with this process. It leaves those of other runs alone.
    ///
    /// # Errors
    /// Its database cannot be used.
    pub fn scratch() -> Result<Self, JournalError> {
        let connection = Connection::open("")?;
        connection.execute_batch(SCHEMA)?;
        let first_session = next_session(&connection)?;
        Ok(Self::of((None, None), connection, first_session))
    }

    /// Opens the journal that another process has begun.
    ///
    /// # Errors
    /// Its database cannot be used.
    pub fn join(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(Self::FILE);
        let connection = open(&path)?;
        Ok(Self::of((Some(path), None), connection, 0))
    }

    fn of((path, lock): (Option<PathBuf>, Option<File>), connection: Connection, first_session: i64) -> Self {
        let (connection, begins_anew) = (Mutex::new(connection), AtomicBool::new(false));
        Self { shared: Arc::new(SharedJournal { path, connection, begins_anew, first_session, _lock: lock }) }
    }

    /// A survey begins anew: the next event begins a session.
    pub fn begin_session(&self) {
        self.shared.begins_anew.store(true, Ordering::Release);
    }

    /// Keeps events. They survive a loss of power once this returns.
    ///
    /// # Errors
    /// Its database fails; then none of them is kept.
    pub async fn keep(&self, entries: Vec<JournalEntry>) -> Result<(), JournalError> {
        self.run(move |shared| shared.keep(&entries)).await
    }

    /// Reads all rows in the order of their keys, one at a time.
    ///
    /// # Errors
    /// Its database fails, or `each` does.
    pub async fn read(
        &self,
        each: impl FnMut(JournalRow) -> io::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        self.run(move |shared| shared.read(each)).await
    }

    /// Removes the journal: its report is written.
    ///
    /// # Errors
    /// Its files cannot be removed.
    pub async fn remove(self) -> Result<(), JournalError> {
        self.run(|shared| shared.path.as_deref().map_or(Ok(()), remove)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SharedJournal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let shared = self.shared.clone();
        let work = tokio::task::spawn_blocking(move || work(&shared));
        work.await.unwrap_or_else(|lost| Err(JournalError::Files(io::Error::other(lost))))
    }
}

impl SharedJournal {
    fn keep(&self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        let mut connection = self.connection.lock();
        if self.begins_anew.swap(false, Ordering::AcqRel) {
            next_session(&connection)?;
        }
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        entries.iter().try_for_each(|entry| write(&transaction, entry))?;
        transaction.commit()?;
        Ok(())
    }

    fn read(&self, mut each: impl FnMut(JournalRow) -> io::Result<()>) -> Result<(), JournalError> {
        let connection = self.connection.lock();
        if self.begins_anew.swap(false, Ordering::AcqRel) {
            next_session(&connection)?;
        }
        // An entry of a listing counts for the survey that listed it last; anything else for the whole process.
        let sql = format!(
            "SELECT CASE WHEN session >= CASE sort WHEN 0 THEN {SESSION} ELSE ?1 END THEN fate END,
                    CASE WHEN session >= CASE sort WHEN 0 THEN {SESSION} ELSE ?1 END THEN earlier ELSE {DEED} END, line
             FROM item ORDER BY key"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([self.first_session])?;
        while let Some(row) = rows.next()? {
            let read = |text: Option<String>| text.and_then(|text| text.parse::<EntryFate>().ok());
            let (fate, earlier) = (read(row.get(0)?), read(row.get(1)?));
            // What a killed run saw, and this run did not meet again, is of no interest where nothing was done.
            if fate.is_some() || earlier.is_some() {
                each(JournalRow { fate, earlier, line: row.get(2)? }).map_err(JournalError::Writing)?;
            }
        }
        Ok(())
    }
}

fn lock(path: &Path) -> Result<File, JournalError> {
    let file = File::create(path).map_err(JournalError::Lock)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse),
        Err(TryLockError::Error(error)) => Err(JournalError::Lock(error)),
    }
}

fn open(path: &Path) -> Result<Connection, JournalError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_mins(1))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Each event must survive a loss of power before its deed is acknowledged.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

fn next_session(connection: &Connection) -> Result<i64, JournalError> {
    connection.execute("INSERT INTO about VALUES ('session', 1) ON CONFLICT DO UPDATE SET value = value + 1", [])?;
    Ok(connection.query_row(&format!("SELECT {SESSION}"), [], |row| row.get(0))?)
}

fn write(transaction: &Transaction<'_>, entry: &JournalEntry) -> Result<(), JournalError> {
    let JournalEntry { key, sort, fate, of_earlier_run, line } = entry;
    let (sort, name) = (*sort as i64, fate.as_str());
    if *of_earlier_run {
        if fate.is_deed() {
            let sql = format!(
                "INSERT INTO item VALUES (?1, ?2, {SESSION}, NULL, ?3, ?4) ON CONFLICT DO UPDATE SET
                 fate = CASE WHEN item.session = excluded.session THEN item.fate END, session = excluded.session,
                 earlier = excluded.earlier"
            );
            transaction.prepare_cached(&sql)?.execute(params![key, sort, name, line])?;
        }
        return Ok(());
    }
    // What an earlier attempt deleted is gone for the next one.
    let condition = if *fate == EntryFate::Gone { format!("WHERE {DEED} IS NULL") } else { String::new() };
    let sql = format!(
        "INSERT INTO item VALUES (?1, ?2, {SESSION}, ?3, NULL, ?4) ON CONFLICT DO UPDATE SET
         session = excluded.session, fate = excluded.fate, line = excluded.line, earlier = {DEED} {condition}"
    );
    transaction.prepare_cached(&sql)?.execute(params![key, sort, name, line])?;
    Ok(())
}

fn remove(path: &Path) -> Result<(), JournalError> {
    for end in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(end);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(JournalError::Files(error)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, fate: EntryFate) -> JournalEntry {
        let sort = if fate.is_deed() && fate == EntryFate::Deleted || fate == EntryFate::Gone {
            SubjectSort::Destination
        } else {
            SubjectSort::Source
        };
        JournalEntry { key: name.into(), sort, fate, of_earlier_run: false, line: format!("{name} {}", fate.as_str()) }
    }

    async fn rows(journal: &ItemJournal) -> Vec<(String, Option<EntryFate>, Option<EntryFate>)> {
        let found = Arc::<Mutex<Vec<JournalRow>>>::default();
        let into = found.clone();
        let each = move |row| {
            into.lock().push(row);
            Ok(())
        };
        journal.read(each).await.unwrap();
        let found = found.lock().clone();
        found.into_iter().map(|row| (row.line, row.fate, row.earlier)).collect()
    }

    #[tokio::test]
    async fn an_entry_has_one_row_and_keeps_what_was_done_to_it_before() {
        use EntryFate::{Copied, Deleted, Gone, Queued, Refused, Unchanged};
        let folder = tempfile::tempdir().unwrap();
        let journal = ItemJournal::begin(folder.path()).unwrap();
        let events = [("x", Queued), ("x", Copied), ("y", Queued), ("z", Refused), ("v", Deleted), ("w", Copied)];
        journal.keep(events.map(|(name, fate)| entry(name, fate)).to_vec()).await.unwrap();
        let of_others = JournalEntry { of_earlier_run: true, ..entry("o", Copied) };
        journal.keep(vec![of_others, entry("v", Gone)]).await.unwrap();
        let row = |line: &str, fate, earlier| (line.to_owned(), fate, earlier);
        let first = [
            row("o copied", None, Some(Copied)),
            row("v deleted", Some(Deleted), None),
            row("w copied", Some(Copied), None),
            row("x copied", Some(Copied), None),
            row("y queued", Some(Queued), None),
            row("z refused", Some(Refused), None),
        ];
        assert_eq!(rows(&journal).await, first);
        // A process that joins, and a survey that begins anew; then a kill, and another run.
        let joined = ItemJournal::join(folder.path()).unwrap();
        journal.begin_session();
        journal.keep(vec![entry("x", Unchanged)]).await.unwrap();
        joined.keep(vec![entry("y", Copied)]).await.unwrap();
        let second = [
            row("o copied", None, Some(Copied)),
            row("v deleted", Some(Deleted), None),
            row("w copied", None, Some(Copied)),
            row("x unchanged", Some(Unchanged), Some(Copied)),
            row("y copied", Some(Copied), None),
        ];
        assert_eq!(rows(&journal).await, second);
        assert!(matches!(ItemJournal::begin(folder.path()), Err(JournalError::InUse)));
        drop((journal, joined));
        let journal = ItemJournal::begin(folder.path()).unwrap();
        journal.keep(vec![entry("x", Unchanged)]).await.unwrap();
        let third = [
            row("o copied", None, Some(Copied)),
            row("v deleted", None, Some(Deleted)),
            row("w copied", None, Some(Copied)),
            row("x unchanged", Some(Unchanged), Some(Copied)),
            row("y copied", None, Some(Copied)),
        ];
        assert_eq!(rows(&journal).await, third);
        journal.remove().await.unwrap();
        let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(left, [ItemJournal::LOCK]);
    }
}
