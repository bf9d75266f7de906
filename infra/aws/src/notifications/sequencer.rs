//! The order of the events of one key.

use std::fmt;

/// Longest sequencer, in digits. Amazon's have 16 or 18.
const DIGITS_MAX: usize = 128;

/// The place of an event in the order of creations and removals of one key. Sequencers of different keys, buckets or
/// services cannot be compared.
///
/// > The sequencers can be of different lengths. So, to compare these values, first right pad the shorter value with zeros,
/// > and then do a lexicographical comparison.
///
/// Source: Amazon S3 user guide, *Event message structure*. Here trailing zeros are left out instead, which gives the same
/// order for texts of any length, and letters are upper-case. So [`Sequencer::as_str`] may be compared as a text, by a table too.
///
/// Only Amazon's order is relied on. MinIO and RustFS write the time of a clock ("there is no sequence synchronization",
/// minio/minio discussion 18220), and Ceph writes the bytes of a time in the order of its processor, lowest first
/// (`populate_event` in `rgw_notify.cc`), whatever its documents say. So an event of another service has no sequencer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequencer(Box<str>);

impl Sequencer {
    /// Reads a sequencer. `None` if it is no hexadecimal number, or zero, which some servers write for none.
    ///
    /// Nothing but the order is lost by that, so it is no fault of the event.
    pub fn parse(written: &str) -> Option<Self> {
        let hexadecimal = written.len() <= DIGITS_MAX && written.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = written.trim_end_matches('0');
        (hexadecimal && !digits.is_empty()).then(|| Self(digits.to_ascii_uppercase().into_boxed_str()))
    }

    /// The digits, without the zeros at their end. Texts of this form have the order of the sequencers.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
