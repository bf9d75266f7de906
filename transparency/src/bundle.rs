//! Bundles of entries: each entry after its length, in two bytes, big-endian.
//!
//! Source: c2sp.org/tlog-tiles, *Log entries*.

/// The bytes that an entry may have.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// An entry is longer than its length can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {position} of those given has {bytes} bytes; an entry of a log has {ENTRY_BYTES_MAX} at most")]
pub struct EntryTooLong {
    /// Which of the entries given, from 0.
    pub position: usize,
    /// How long it is.
    pub bytes: usize,
}

/// What is wrong with the bytes of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The file ends inside an entry.
    #[error("the bundle ends inside its entry {position}")]
    CutShort {
        /// Which entry of the bundle, from 0.
        position: usize,
    },
    /// The file ends between two entries, too early.
    #[error("the bundle has {has} entries, not {wanted}")]
    TooFew {
        /// The entries that it has.
        has: usize,
        /// The entries that it should have.
        wanted: usize,
    },
    /// Something follows the last entry.
    #[error("{bytes} bytes follow the last entry of the bundle")]
    TrailingBytes {
        /// How many bytes.
        bytes: usize,
    },
}

/// Writes the entries of a bundle.
pub fn encode<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, EntryTooLong> {
    let mut bundle = Vec::new();
    for (position, entry) in entries.iter().enumerate() {
        append(&mut bundle, position, entry.as_ref())?;
    }
    Ok(bundle)
}

/// Adds one entry to a bundle. `position` is for the error alone.
pub(crate) fn append(bundle: &mut Vec<u8>, position: usize, entry: &[u8]) -> Result<(), EntryTooLong> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong { position, bytes: entry.len() })?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Reads a bundle of `count` entries.
pub fn decode(bundle: &[u8], count: usize) -> Result<Vec<&[u8]>, BundleError> {
    let (entries, fault) = decode_until_fault(bundle, count);
    fault.map_or(Ok(entries), Err)
}

/// The entries up to the first thing that is wrong, and this.
pub(crate) fn decode_until_fault(bundle: &[u8], count: usize) -> (Vec<&[u8]>, Option<BundleError>) {
    let mut entries = Vec::with_capacity(count);
    let mut rest = bundle;
    while entries.len() < count {
        if rest.is_empty() {
            return (entries.clone(), Some(BundleError::TooFew { has: entries.len(), wanted: count }));
        }
        let Some((entry, after)) = first_entry(rest) else {
            return (entries.clone(), Some(BundleError::CutShort { position: entries.len() }));
        };
        entries.push(entry);
        rest = after;
    }
    (entries, (!rest.is_empty()).then_some(BundleError::TrailingBytes { bytes: rest.len() }))
}

/// The first `count` entries of a bundle, still encoded; `None` if it has fewer.
pub(crate) fn prefix(bundle: &[u8], count: usize) -> Option<&[u8]> {
    let mut rest = bundle;
    for _ in 0..count {
        rest = first_entry(rest)?.1;
    }
    bundle.get(..bundle.len() - rest.len())
}

fn first_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bundle_has_each_entry_after_its_length() {
        let bundle = encode(&[&b"one"[..], b"", b"three"]).expect("short entries");
        assert_eq!(bundle, b"\0\x03one\0\0\0\x05three");
        assert_eq!(decode(&bundle, 3), Ok(vec![&b"one"[..], b"", b"three"]));
        assert_eq!(prefix(&bundle, 2), Some(&b"\0\x03one\0\0"[..]));
        assert_eq!(prefix(&bundle, 4), None);
    }

    #[test]
    fn what_is_wrong_with_a_bundle_is_said() {
        let bundle = encode(&["one", "two"]).expect("short entries");
        assert_eq!(decode(&bundle, 1), Err(BundleError::TrailingBytes { bytes: 5 }));
        assert_eq!(decode(&bundle, 3), Err(BundleError::TooFew { has: 2, wanted: 3 }));
        assert_eq!(decode(&bundle[..9], 2), Err(BundleError::CutShort { position: 1 }));
        assert_eq!(decode(&bundle[..6], 2), Err(BundleError::CutShort { position: 1 }));
    }

    #[test]
    fn an_entry_that_is_too_long_is_refused() {
        let longest = vec![7; ENTRY_BYTES_MAX];
        let bundle = encode(&[&longest]).expect("it fits");
        assert_eq!(decode(&bundle, 1), Ok(vec![&longest[..]]));
        let longer = vec![7; ENTRY_BYTES_MAX + 1];
        assert_eq!(encode(&[&longest, &longer]), Err(EntryTooLong { position: 1, bytes: 65_536 }));
    }

    proptest! {
        #[test]
        fn entries_are_read_again(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40)) {
            let bundle = encode(&entries).expect("short entries");
            let read: Vec<Vec<u8>> = decode(&bundle, entries.len()).expect("its own").iter().map(|e| e.to_vec()).collect();
            prop_assert_eq!(read, entries);
        }
    }
}
