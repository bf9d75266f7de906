//! The one thread of a process that reads. A read begun after a write was answered sees it.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::Connection;

use super::damage::Damage;
use super::error::{DatabaseError, is_busy};
use super::schema;
use super::write_lock::Backoff;

/// A read, with its answer.
pub(super) type ReadRequest = Box<dyn FnOnce(&ReadThread) + Send>;

pub(super) struct ReadThread {
    pub(super) connection: Connection,
    pub(super) chance: Arc<dyn mill_ports::Rng>,
    pub(super) damage: Arc<Damage>,
}

impl ReadThread {
    /// Serves until all senders are gone.
    pub(super) fn serve(self, reads: &Receiver<ReadRequest>) {
        while let Ok(read) = reads.recv() {
            read(&self);
        }
        schema::close(&self.connection, &self.damage);
    }

    /// Reads hardly ever wait in a write-ahead log: only while another process recovers or closes it.
    pub(super) fn retry_while_busy<T>(
        &self,
        work: &mut impl FnMut(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        self.damage.check()?;
        let mut backoff = Backoff::new(&*self.chance);
        loop {
            match work(&self.connection) {
                Err(error) if is_busy(&error) && backoff.pause() => {}
                other => return other.map_err(|error| self.damage.note_error(error.into())),
            }
        }
    }
}
