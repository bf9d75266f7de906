//! Whether a server encodes keys in its listings as it claims.
//!
//! On a request for url-encoded keys, Amazon writes `+` for a blank and says that it encodes (`EncodingType`). Some servers
//! encode and do not say so, some say so and do not encode, and some write `+` for itself. Then an ambiguous key would be
//! read as another key. So for each kind of ambiguity the first such key is requested: if it exists, this kind is read
//! correctly. That costs a few requests in the life of a store.

use std::sync::atomic::{AtomicU8, Ordering};

use super::StoreInner;
use super::errors::displayable;
use super::keys::BucketPrefix;
use super::page::{ListedKey, PageError, PageRequest, PageStart, display_key, hex_byte, url_decode};
use crate::sdk_error::{CallError, CallErrorCause};

/// Most keys of one kind that are requested and missing before the listing is rejected: some may have been deleted since.
const LOOKS_MAX: usize = 5;

/// The kinds of ambiguity that are proven to be read correctly.
#[derive(Debug, Default)]
pub(super) struct ProvenSpellings(AtomicU8);

/// What a listing contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListedKind {
    Objects,
    /// Some servers encode these differently.
    CommonPrefixes,
}

/// The kinds of ambiguity in a key, as bits.
fn ambiguities(key: &ListedKey, listed: ListedKind) -> u8 {
    let text = key.written.as_bytes();
    let plus = text.contains(&b'+');
    let percent = text.iter().enumerate().any(|(at, byte)| *byte == b'%' && hex_byte(&text[at + 1..]).is_some());
    let ambiguities = u8::from(plus) | u8::from(percent) << 1;
    let ambiguities = if key.encoded { ambiguities } else { ambiguities << 2 };
    if listed == ListedKind::CommonPrefixes { ambiguities << 4 } else { ambiguities }
}

/// Each other key that the written form may stand for.
fn other_readings(key: &ListedKey) -> Vec<String> {
    let plus_for_itself = url_decode(&key.written.replace('+', "%2B"));
    let all = [url_decode(&key.written), plus_for_itself, key.written.as_bytes().to_vec()];
    let mut others: Vec<String> =
        all.into_iter().filter(|other| *other != key.bytes).filter_map(|other| String::from_utf8(other).ok()).collect();
    others.dedup();
    others
}

fn misread(key: &ListedKey, is: &str) -> PageError {
    let says = if key.encoded { "says that keys are url-encoded" } else { "does not say that keys are encoded" };
    PageError::Contradiction(format!(
        "it {says} and lists `{}`, but what is there is `{}`",
        displayable(&key.written),
        displayable(is)
    ))
}

impl StoreInner {
    /// Checks that ambiguous keys are read correctly.
    pub(super) async fn prove_reading(
        &self,
        place: &BucketPrefix,
        keys: &[&ListedKey],
        listed: ListedKind,
    ) -> Result<(), PageError> {
        let proven = self.proven_spellings.0.load(Ordering::Relaxed);
        let mut open = keys.iter().fold(0, |all, key| all | ambiguities(key, listed)) & !proven;
        let mut missing: Vec<&ListedKey> = Vec::new();
        for key in keys {
            if open == 0 || missing.len() >= LOOKS_MAX {
                break;
            }
            let Some(text) = key.text().filter(|text| !text.trim().is_empty()) else { continue };
            if ambiguities(key, listed) & open == 0 {
                continue;
            }
            if self.exists(place, text, listed).await? {
                open &= !ambiguities(key, listed);
                self.proven_spellings.0.fetch_or(ambiguities(key, listed), Ordering::Relaxed);
                continue;
            }
            for other in other_readings(key) {
                if self.exists(place, &other, listed).await? {
                    return Err(misread(key, &other));
                }
            }
            missing.push(key);
        }
        match missing.into_iter().find(|key| ambiguities(key, listed) & open != 0) {
            None => Ok(()),
            Some(key) => {
                Err(PageError::Contradiction(format!("it lists `{}`, and denies that it is there", display_key(key))))
            }
        }
    }

    async fn exists(&self, place: &BucketPrefix, key: &str, listed: ListedKind) -> Result<bool, PageError> {
        if listed == ListedKind::CommonPrefixes {
            let within = BucketPrefix { bucket: place.bucket.clone(), prefix: key.to_owned() };
            let one = PageRequest { place: &within, from: PageStart::Beginning, with_delimiter: false, max: Some(1) };
            return Ok(!Box::pin(self.page(one)).await?.objects.is_empty());
        }
        let Err(error) = self.client.head_object().bucket(&place.bucket).key(key).send().await else { return Ok(true) };
        let failure = CallError::from_sdk(error);
        match failure.status {
            Some(404) => Ok(false),
            // A caller that may list but not read receives 403 for an existing object.
            Some(403) if matches!(failure.cause, CallErrorCause::OtherResponse | CallErrorCause::Denied) => Ok(true),
            _ => Err(PageError::Failed(failure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(written: &str, encoded: bool) -> ListedKey {
        ListedKey::read(written.to_owned(), encoded)
    }

    #[test]
    fn only_spellings_that_may_mean_two_things_are_doubted() {
        for (written, encoded, expected) in [
            ("a/b-c_d.e", true, 0),
            ("a b", false, 0),
            ("100%", false, 0),
            ("a+b", true, 1),
            ("a%20b", true, 2),
            ("a+b%20", true, 3),
            ("a+b", false, 4),
            ("a%2Bb", false, 8),
        ] {
            assert_eq!(ambiguities(&key(written, encoded), ListedKind::Objects), expected, "{written}");
            assert_eq!(ambiguities(&key(written, encoded), ListedKind::CommonPrefixes), expected << 4, "{written}");
        }
    }

    #[test]
    fn every_other_reading_is_known() {
        assert_eq!(other_readings(&key("a+b%20c", true)), ["a+b c", "a+b%20c"]);
        assert_eq!(other_readings(&key("a+b", true)), ["a+b"]);
        assert_eq!(other_readings(&key("a+b%2B", false)), ["a b+", "a+b+"]);
        assert_eq!(other_readings(&key("100%25", true)), ["100%25"]);
    }
}
