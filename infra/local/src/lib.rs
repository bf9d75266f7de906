//! Mill on one host, with no account anywhere: queues and tables in SQLite, stores in folders, the system's clock and
//! random numbers.
//!
//! Reading order: [`database`] (one file, its writer and its reader), [`queue`], [`table`], [`LocalEngine`]; [`folder`] (the store),
//! [`item_journal`] (what a run's report will say); then [`os`] and [`process`].
//!
//! **Invariant:** an acknowledged send or put survives a crash of the process and a loss of power. Within a process
//! only SQLite opens the database's files: closing another descriptor of them would drop the locks that keep several
//! processes apart.

mod crash_points;
pub mod database;
mod engine;
pub mod folder;
pub mod item_journal;
pub mod os;
pub mod process;
pub mod queue;
pub mod table;
#[cfg(test)]
mod test_clock;

pub use crash_points::CRASH_POINTS;
pub use database::{Damage, Database, Identity, KnownIdentity, OpenError, RememberedDatabase, Standstill};
pub use engine::LocalEngine;
pub use item_journal::{ItemJournal, JournalEntry, JournalError, JournalRow};
pub use os::{OsClock, OsRng, secret_bytes};
pub use queue::SqliteQueue;
pub use table::SqliteTable;
