//! The bucket and the key prefix of a space. A key is the prefix and the item's id, to the byte.

use mill_model::{ItemAddress, SpaceId};
use mill_ports::{RefusalReason, StoreError, StoreErrorKind};

use super::{SpaceLayout, StoreInner};

/// Longest key, in bytes. Source: Amazon S3 user guide, *Naming objects*.
const KEY_BYTES_MAX: usize = 1024;

/// Where a space is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BucketPrefix {
    pub(super) bucket: String,
    /// The prefix of its items' keys.
    pub(super) prefix: String,
}

impl BucketPrefix {
    pub(super) fn key(&self, item: &ItemAddress) -> String {
        format!("{}{}", self.prefix, item.id.as_str())
    }
}

impl StoreInner {
    /// Whether each space has its own bucket, so that a missing bucket is a missing space.
    pub(super) fn bucket_is_space(&self) -> bool {
        !matches!(self.settings.spaces, SpaceLayout::InBucket(_))
    }

    /// The prefix of a space, existing or not; `None` if no space can have that id.
    pub(super) fn bucket_prefix(&self, space: &SpaceId) -> Option<BucketPrefix> {
        match &self.settings.spaces {
            SpaceLayout::InBucket(bucket) => {
                Some(BucketPrefix { bucket: bucket.clone(), prefix: format!("{}/", space.as_str()) })
            }
            SpaceLayout::Buckets { prefix } => {
                let bucket = format!("{prefix}{}", space.as_str());
                is_bucket_name(&bucket).then_some(BucketPrefix { bucket, prefix: String::new() })
            }
            SpaceLayout::Single { space: only, bucket, prefix } => {
                (only == space).then(|| BucketPrefix { bucket: bucket.clone(), prefix: prefix.clone() })
            }
        }
    }

    /// The prefix of an item's space, and the item's key.
    ///
    /// # Errors
    /// The space can never exist, so it is absent; or the item's key would be too long or blank.
    pub(super) fn item_key(&self, op: &'static str, item: &ItemAddress) -> Result<(BucketPrefix, String), StoreError> {
        let absent = || self.item_error(op, item, StoreErrorKind::SpaceAbsent);
        let place = self.bucket_prefix(&item.space).ok_or_else(absent)?;
        let key = place.key(item);
        if key.len() > KEY_BYTES_MAX {
            return Err(self.item_error(op, item, StoreErrorKind::Refused(RefusalReason::TooLong)));
        }
        if key.trim().is_empty() {
            return Err(self.item_error(op, item, StoreErrorKind::Refused(blank_key())));
        }
        Ok((place, key))
    }
}

/// The reason for a blank key, which the SDK treats as missing.
pub(super) fn blank_key() -> RefusalReason {
    RefusalReason::UnrepresentableId("its key is of blanks alone".to_owned())
}

/// Whether a bucket can have this name. Source: Amazon S3 user guide, *General purpose bucket naming rules*.
pub(super) fn is_bucket_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(*byte) || matches!(byte, b'-' | b'.'))
        && plain(bytes[0])
        && plain(bytes[bytes.len() - 1])
        && !name.contains("..")
}

/// A bucket and a key, in the form of the copy-source header.
pub(super) fn copy_source_header(place: &BucketPrefix, key: &str) -> String {
    format!("{}/{}", place.bucket, percent_encoded(key).replace("%2F", "/"))
}

/// A text with all bytes percent-encoded but those that stand for themselves everywhere in an address.
pub(super) fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_bucket_can_bear_are_taken() {
        for name in ["abc", "a.b", "a-b-c", "0a9", &"a".repeat(63)] {
            assert!(is_bucket_name(name), "{name}");
        }
        for name in ["ab", "", "-ab", "ab-", "a..b", "A-b", "a b", "a_b", "a/b", "..x", &"a".repeat(64)] {
            assert!(!is_bucket_name(name), "{name}");
        }
    }
}
