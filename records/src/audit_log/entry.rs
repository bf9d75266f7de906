//! An entry of the audit log: the bytes that the log's hashes are of.
//!
//! An entry is JSON of version 1. A person's name is not in it but as a commitment: the SHA-256 of a salt and the name. Salt
//! and name are kept beside the log, so that they can be erased, and nothing else changes. An entry that is too large for the log
//! is kept beside it too, and the log has its SHA-256.

use bytes::Bytes;
use mill_model::{AccountId, Algorithm, AuditEvent, Checksum, EventId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::stored_rows::json;

/// The longest entry that stands in the log itself, in bytes. The format allows 65,535.
pub const ENTRY_BYTES_MAX: usize = 60_000;

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The version of this form.
    pub v: u32,
    /// The owner of the content.
    pub account: AccountId,
    /// The change. Its `user` is left out.
    pub event: AuditEvent,
    /// The commitment to the name of who did it, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Checksum>,
}

/// An entry that is kept beside the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeEntry {
    /// The version of this form.
    pub v: u32,
    /// The owner of the content.
    pub account: AccountId,
    /// The id of its event.
    pub id: EventId,
    /// The SHA-256 of the whole entry.
    pub whole: Checksum,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// What is written for one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenEntry {
    /// The bytes in the log.
    pub bytes: Bytes,
    /// The whole entry, if it is kept beside the log.
    pub beside: Option<Bytes>,
}

/// Why an entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It is no entry of Mill.
    #[error("it is no entry of an audit log of mill: {0}")]
    Malformed(String),
    /// It is of a later version.
    #[error("it is of version {0}; this mill reads version 1")]
    Version(u64),
    /// What is kept beside the log is not what the log names.
    #[error("what is kept beside the log has other bytes than the log names (SHA-256 {found}, not {expected})")]
    OtherBytes {
        /// The checksum in the log.
        expected: Checksum,
        /// The checksum of the bytes.
        found: Checksum,
    },
}

/// An entry as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadEntry {
    /// The whole entry.
    Whole(Box<LogEntry>),
    /// The entry is beside the log.
    Beside(LargeEntry),
}

impl ReadEntry {
    /// The id of its event.
    pub fn event_id(&self) -> EventId {
        match self {
            Self::Whole(entry) => entry.event.id,
            Self::Beside(large) => large.id,
        }
    }
}

/// Writes the entry of an event. The same event, user and salt give the same bytes.
pub fn write_entry(account: &AccountId, event: &AuditEvent, salt: Option<&Salt>) -> WrittenEntry {
    let user = event.user.as_deref().zip(salt).map(|(user, salt)| salt.commitment(user));
    let entry = LogEntry { v: 1, account: account.clone(), event: AuditEvent { user: None, ..event.clone() }, user };
    let whole = json(&entry);
    if whole.len() <= ENTRY_BYTES_MAX {
        return WrittenEntry { bytes: whole, beside: None };
    }
    let large =
        LargeEntry { v: 1, account: account.clone(), id: event.id, whole: sha256(&whole), bytes: whole.len() as u64 };
    WrittenEntry { bytes: json(&large), beside: Some(whole) }
}

/// Reads an entry of a log.
///
/// # Errors
/// [`EntryError::Malformed`], [`EntryError::Version`].
pub fn read_entry(bytes: &[u8]) -> Result<ReadEntry, EntryError> {
    #[derive(Deserialize)]
    struct Head {
        v: u64,
        #[serde(default)]
        whole: Option<Checksum>,
    }
    let malformed = |error: serde_json::Error| EntryError::Malformed(error.to_string());
    let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
    match head {
        Head { v: 1, whole: Some(_) } => Ok(ReadEntry::Beside(serde_json::from_slice(bytes).map_err(malformed)?)),
        Head { v: 1, whole: None } => Ok(ReadEntry::Whole(serde_json::from_slice(bytes).map_err(malformed)?)),
        Head { v, .. } => Err(EntryError::Version(v)),
    }
}

impl LargeEntry {
    /// The id of the item beside the log that has the whole entry.
    pub fn item_name(&self) -> String {
        beside_name(&self.whole)
    }

    /// Reads the whole entry, if these are its bytes.
    ///
    /// # Errors
    /// [`EntryError::OtherBytes`]; those of [`read_entry`].
    pub fn read_whole(&self, bytes: &[u8]) -> Result<LogEntry, EntryError> {
        let found = sha256(bytes);
        if found != self.whole {
            return Err(EntryError::OtherBytes { expected: self.whole.clone(), found });
        }
        match read_entry(bytes)? {
            ReadEntry::Whole(entry) => Ok(*entry),
            ReadEntry::Beside(_) => Err(EntryError::Malformed("it names another entry".into())),
        }
    }
}

/// The id of the item beside the log that has these bytes.
pub fn beside_name(whole: &Checksum) -> String {
    format!("entries-by-sha256/{}", whole.hex())
}

/// Random bytes that keep a name from being guessed by its commitment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salt(String);

impl Salt {
    /// A salt of 128 random bits.
    pub fn new(random: [u64; 2]) -> Self {
        Self(format!("{:016x}{:016x}", random[0], random[1]))
    }

    /// The commitment to a name.
    pub fn commitment(&self, user: &str) -> Checksum {
        sha256(format!("{}\n{user}", self.0).as_bytes())
    }
}

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Checksum {
    Checksum { algorithm: Algorithm::Sha256, value: Sha256::digest(bytes).to_vec().into() }
}

#[cfg(test)]
mod tests {
    use mill_model::{AuditAction, EventSource, Timestamp};

    use super::*;

    fn event() -> AuditEvent {
        let mut event = AuditEvent::new(
            EventId::of_facts(Timestamp::from_millis(7), &["x"]),
            ("1".parse().unwrap(), "s".parse().unwrap(), Some("tab\tline\n\u{1F600}".parse().unwrap())),
            AuditAction::AddContent,
            Timestamp::from_millis(7),
            EventSource::Duracloud,
        );
        event.user = Some("Zoë".into());
        event
    }

    #[test]
    fn version_1_of_an_entry_is_read_for_ever() {
        let written = write_entry(&"a".parse().unwrap(), &event(), Some(&Salt::new([1, 2])));
        let golden = include_str!("../../testdata/log-entry-v1.json").trim_end();
        assert_eq!(std::str::from_utf8(&written.bytes).unwrap(), golden);
        let ReadEntry::Whole(read) = read_entry(golden.as_bytes()).unwrap() else { panic!("it is whole") };
        assert_eq!(read.event, AuditEvent { user: None, ..event() });
        assert_eq!(read.user, Some(Salt::new([1, 2]).commitment("Zoë")));
    }

    #[test]
    fn a_name_is_not_in_the_log_and_cannot_be_guessed_without_its_salt() {
        let written = |salt| write_entry(&"a".parse().unwrap(), &event(), Some(&Salt::new(salt))).bytes;
        assert!(!String::from_utf8_lossy(&written([1, 2])).contains("Zo"));
        assert_ne!(written([1, 2]), written([1, 3]));
        assert_eq!(written([1, 2]), written([1, 2]));
    }

    #[test]
    fn an_entry_too_large_for_the_log_is_kept_whole_beside_it() {
        let mut large = event();
        large.properties = Some([("p".to_owned(), "x\t\n".repeat(100 * 1024))].into());
        let written = write_entry(&"a".parse().unwrap(), &large, None);
        assert!(written.bytes.len() < 1000);
        let ReadEntry::Beside(named) = read_entry(&written.bytes).unwrap() else { panic!("it is beside the log") };
        let whole = written.beside.unwrap();
        assert_eq!(named.read_whole(&whole).unwrap().event.properties, large.properties);
        assert_eq!((named.bytes, named.id), (whole.len() as u64, large.id));
        let mut changed = whole.to_vec();
        changed[100] ^= 1;
        assert!(matches!(named.read_whole(&changed), Err(EntryError::OtherBytes { .. })));
    }

    #[test]
    fn what_is_no_entry_says_why() {
        assert_eq!(read_entry(br#"{"v":2}"#), Err(EntryError::Version(2)));
        assert!(matches!(read_entry(b"\xff"), Err(EntryError::Malformed(_))));
    }
}
