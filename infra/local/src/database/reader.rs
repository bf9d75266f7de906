//! The one thread of a process that reads. A read begun after a write was answered sees it.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::Connection;

use super::damage::Damage;
use super::failure::{Failure, is_busy};
use super::schema;
use super::turn::Waiting;

/// A read, with its answer.
pub(super) type Read = Box<dyn FnOnce(&Reader) + Send>;

pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) chance: Arc<dyn mill_ports::Rng>,
    pub(super) damage: Arc<Damage>,
}

impl Reader {
    /// Serves until all senders are gone.
    pub(super) fn serve(self, reads: &Receiver<Read>) {
        while let Ok(read) = reads.recv() {
            read(&self);
        }
        schema::close(&self.connection, &self.damage);
    }

    /// Reads hardly ever wait in a write-ahead log: only while another process recovers or closes it.
    pub(super) fn patiently<T>(&self, work: &mut impl FnMut(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        self.damage.refuse()?;
        let mut waiting = Waiting::new(&*self.chance);
        loop {
            match work(&self.connection) {
                Err(error) if is_busy(&error) && waiting.once_more() => {}
                other => return other.map_err(|error| self.damage.noted(error.into())),
            }
        }
    }
}
