//! Which installation a database belongs to, so that a missing, empty, older or foreign database is detected.
//!
//! The caller keeps a marker of the identity elsewhere: outside the database's folder, or beside what the database
//! belongs to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mill_ports::Rng;
use parking_lot::Mutex;
use rusqlite::Connection;

/// Identifies a database among all others, and among older copies of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Drawn at random when the database was created.
    pub id: String,
    /// How many processes have opened it and written to it. A restored older copy has a smaller number than the caller
    /// remembers.
    pub openings: u64,
}

/// The identity of an open database. Its count of openings grows by one when this process first writes.
#[derive(Debug, Clone)]
pub struct KnownIdentity(Arc<Mutex<Identity>>);

impl KnownIdentity {
    pub(super) fn new(identity: Identity) -> Self {
        Self(Arc::new(Mutex::new(identity)))
    }

    /// The identity to remember now. It is on the disk.
    pub fn get(&self) -> Identity {
        self.0.lock().clone()
    }

    pub(super) fn set(&self, identity: Identity) {
        *self.0.lock() = identity;
    }
}

/// What the caller remembers of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RememberedDatabase {
    /// Nothing: this may be the first opening.
    Nothing,
    /// That there was a database, noted by a Mill that knew no identities.
    Existence,
    /// Its identity when it was last opened.
    Identity(Identity),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text has the same length for each number, so that it can be overwritten in place.
        write!(f, "{} {:020}", self.id, self.openings)
    }
}

/// The text is no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identity is 32 hexadecimal digits and a number")]
pub struct IdentityError;

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let (id, openings) = text.split_once(' ').ok_or(IdentityError)?;
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(IdentityError);
        }
        Ok(Self { id: id.to_owned(), openings: openings.parse().map_err(|_| IdentityError)? })
    }
}

pub(super) const TABLES: &str = "CREATE TABLE installation (id TEXT NOT NULL, openings INTEGER NOT NULL) STRICT;";

/// Gives a new database its identity.
pub(super) fn draw(connection: &Connection, chance: &dyn Rng) -> rusqlite::Result<()> {
    let id = format!("{:016x}{:016x}", chance.next_u64(), chance.next_u64());
    connection.execute("INSERT INTO installation (id, openings) VALUES (?1, 0)", [id]).map(drop)
}

/// Reads the identity. A database without one is damaged, which is an error.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Identity> {
    connection.query_row("SELECT id, openings FROM installation", [], |row| {
        Ok(Identity { id: row.get(0)?, openings: row.get::<_, i64>(1)?.try_into().unwrap_or(0) })
    })
}

/// Counts an opening.
pub(super) fn count_opening(connection: &Connection) -> rusqlite::Result<Identity> {
    connection.execute("UPDATE installation SET openings = openings + 1", [])?;
    read(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        let identity = Identity { id: "0123456789abcdef0123456789abcdef".into(), openings: 7 };
        assert_eq!(identity.to_string().parse(), Ok(identity));
        for wrong in ["", "x 7", "0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef -1"] {
            assert_eq!(wrong.parse::<Identity>(), Err(IdentityError), "{wrong}");
        }
    }
}
