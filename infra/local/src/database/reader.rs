//! The one thread of a process that reads. A read that begins after a write was acknowledged sees that write.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::damage::Damage;
use super::error::{DatabaseError, is_busy};
use super::schema;
use super::write_lock::LockBackoff;

/// A read, which sends its own answer.
pub(super) type ReadRequest = Box<dyn FnOnce(&ReadThread) + Send>;

pub(super) struct ReadThread {
    /// Its own, but for a scratch database, whose only one is the writer's too.
    pub(super) connection: Arc<Mutex<Connection>>,
    pub(super) chance: Arc<dyn mill_ports::Rng>,
    pub(super) damage: Arc<Damage>,
}

impl ReadThread {
    /// Serves until all senders are gone.
    pub(super) fn serve(self, reads: &Receiver<ReadRequest>) {
        while let Ok(read) = reads.recv() {
            read(&self);
        }
        schema::close(&self.connection.lock(), &self.damage);
    }

    /// Runs `work` again while the database is busy: reads wait only while another process recovers or closes the log.
    pub(super) fn retry_while_busy<T>(
        &self,
        work: &mut impl FnMut(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        self.damage.check()?;
        let mut backoff = LockBackoff::new(&*self.chance);
        loop {
            match work(&self.connection.lock()) {
                Err(error) if is_busy(&error) && backoff.pause() => {}
                other => return other.map_err(|error| self.damage.note_error(error.into())),
            }
        }
    }
}
