//! Mill on one host, with no account anywhere: queues and books in SQLite, stores in folders, the system's time and
//! chance.
//!
//! Reading order: [`database`] (one file, its writer and its reader), [`queue`], [`table`]; [`folder`] (the store);
//! then [`os`] and [`process`].
//!
//! **Invariant:** what a send or a put was answered for survives a crash of the process and of the power. Within a
//! process nothing but SQLite itself opens the database's files: closing another descriptor of them would drop the
//! locks that keep several processes apart.

pub mod database;
pub mod folder;
pub mod os;
pub mod process;
pub mod queue;
pub mod table;
#[cfg(test)]
mod test_clock;

pub use database::{Damage, Database, Identity, KnownIdentity, OpenError, RememberedDatabase, Standstill};
pub use os::{OsClock, OsRng};
pub use queue::SqliteQueue;
pub use table::SqliteTable;
