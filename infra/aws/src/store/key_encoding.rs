//! Whether a server spells keys in its listings as it says it does.
//!
//! Asked for url-encoded keys, Amazon writes `+` for a blank and says so (`EncodingType`). Servers were seen that encode and do
//! not say so, that say so and do not encode, and that write `+` for itself. A key of which only the spelling tells what it is
//! would then be taken for another. So the first such key of each sort is looked at: that it is there proves how its sort is
//! read. It costs a few requests for the life of a store.

use std::sync::atomic::{AtomicU8, Ordering};

use super::StoreInner;
use super::errors::fit;
use super::keys::BucketPrefix;
use super::page::{ListedKey, PageError, PageRequest, PageStart, decoded, hex, shown};
use crate::sdk_error::{CallError, CallErrorCause};

/// Keys of one sort that are looked at before none is believed: some may have been deleted since they were listed.
const LOOKS_MAX: usize = 5;

/// The sorts of keys of which it is proven how they are read.
#[derive(Debug, Default)]
pub(super) struct ProvenSpellings(AtomicU8);

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListedKind {
    Objects,
    /// What was rolled up. Servers were seen that encode these otherwise.
    Folders,
}

/// The sorts, as bits, that a key is of: by what in it may mean two things.
fn sorts(key: &ListedKey, listed: ListedKind) -> u8 {
    let text = key.written.as_bytes();
    let plus = text.contains(&b'+');
    let percent = text.iter().enumerate().any(|(at, byte)| *byte == b'%' && hex(&text[at + 1..]).is_some());
    let sorts = u8::from(plus) | u8::from(percent) << 1;
    let sorts = if key.encoded { sorts } else { sorts << 2 };
    if listed == ListedKind::Folders { sorts << 4 } else { sorts }
}

/// What else a key may be: each other way of reading how it is written.
fn other_readings(key: &ListedKey) -> Vec<String> {
    let plus_for_itself = decoded(&key.written.replace('+', "%2B"));
    let all = [decoded(&key.written), plus_for_itself, key.written.as_bytes().to_vec()];
    let mut others: Vec<String> =
        all.into_iter().filter(|other| *other != key.bytes).filter_map(|other| String::from_utf8(other).ok()).collect();
    others.dedup();
    others
}

fn misread(key: &ListedKey, is: &str) -> PageError {
    let says = if key.encoded { "says that keys are url-encoded" } else { "does not say that keys are encoded" };
    PageError::Contradiction(format!("it {says} and lists `{}`, but what is there is `{}`", fit(&key.written), fit(is)))
}

impl StoreInner {
    /// Insists that keys are read as they are meant, as far as their spelling alone does not tell.
    pub(super) async fn prove_reading(
        &self,
        place: &BucketPrefix,
        keys: &[&ListedKey],
        listed: ListedKind,
    ) -> Result<(), PageError> {
        let proven = self.proven_sorts.0.load(Ordering::Relaxed);
        let mut open = keys.iter().fold(0, |all, key| all | sorts(key, listed)) & !proven;
        let mut missing: Vec<&ListedKey> = Vec::new();
        for key in keys {
            if open == 0 || missing.len() >= LOOKS_MAX {
                break;
            }
            let Some(text) = key.text().filter(|text| !text.trim().is_empty()) else { continue };
            if sorts(key, listed) & open == 0 {
                continue;
            }
            if self.exists(place, text, listed).await? {
                open &= !sorts(key, listed);
                self.proven_sorts.0.fetch_or(sorts(key, listed), Ordering::Relaxed);
                continue;
            }
            for other in other_readings(key) {
                if self.exists(place, &other, listed).await? {
                    return Err(misread(key, &other));
                }
            }
            missing.push(key);
        }
        match missing.into_iter().find(|key| sorts(key, listed) & open != 0) {
            None => Ok(()),
            Some(key) => {
                Err(PageError::Contradiction(format!("it lists `{}`, and denies that it is there", shown(key))))
            }
        }
    }

    async fn exists(&self, place: &BucketPrefix, key: &str, listed: ListedKind) -> Result<bool, PageError> {
        if listed == ListedKind::Folders {
            let within = BucketPrefix { bucket: place.bucket.clone(), prefix: key.to_owned() };
            let one = PageRequest { place: &within, from: PageStart::Beginning, by_folder: false, max: Some(1) };
            return Ok(!Box::pin(self.page(one)).await?.objects.is_empty());
        }
        let Err(error) = self.client.head_object().bucket(&place.bucket).key(key).send().await else { return Ok(true) };
        let trouble = CallError::of(error);
        match trouble.status {
            Some(404) => Ok(false),
            // Who may list, and may not read it, is told that it is there.
            Some(403) if matches!(trouble.cause, CallErrorCause::OtherResponse | CallErrorCause::Denied) => Ok(true),
            _ => Err(PageError::Failed(trouble)),
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
            assert_eq!(sorts(&key(written, encoded), ListedKind::Objects), expected, "{written}");
            assert_eq!(sorts(&key(written, encoded), ListedKind::Folders), expected << 4, "{written}");
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
