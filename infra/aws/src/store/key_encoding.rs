//! Whether a server spells keys in its listings as it says it does.
//!
//! Asked for url-encoded keys, Amazon writes `+` for a blank and says so (`EncodingType`). Servers were seen that encode and do
//! not say so, that say so and do not encode, and that write `+` for itself. A key of which only the spelling tells what it is
//! would then be taken for another. So the first such key of each sort is looked at: that it is there proves how its sort is
//! read. It costs a few requests for the life of a store.

use std::sync::atomic::{AtomicU8, Ordering};

use super::Inner;
use super::faults::fit;
use super::page::{From, Key, NoPage, PageRequest, decoded, hex, shown};
use super::places::Place;
use crate::trouble::{Cause, Trouble};

/// Keys of one sort that are looked at before none is believed: some may have been deleted since they were listed.
const LOOKS_MAX: usize = 5;

/// The sorts of keys of which it is proven how they are read.
#[derive(Debug, Default)]
pub(super) struct ProvenSorts(AtomicU8);

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    Objects,
    /// What was rolled up. Servers were seen that encode these otherwise.
    Folders,
}

/// The sorts, as bits, that a key is of: by what in it may mean two things.
fn sorts(key: &Key, listed: Listed) -> u8 {
    let text = key.written.as_bytes();
    let plus = text.contains(&b'+');
    let percent = text.iter().enumerate().any(|(at, byte)| *byte == b'%' && hex(&text[at + 1..]).is_some());
    let sorts = u8::from(plus) | u8::from(percent) << 1;
    let sorts = if key.encoded { sorts } else { sorts << 2 };
    if listed == Listed::Folders { sorts << 4 } else { sorts }
}

/// What else a key may be: each other way of reading how it is written.
fn other_readings(key: &Key) -> Vec<String> {
    let plus_for_itself = decoded(&key.written.replace('+', "%2B"));
    let all = [decoded(&key.written), plus_for_itself, key.written.as_bytes().to_vec()];
    let mut others: Vec<String> =
        all.into_iter().filter(|other| *other != key.bytes).filter_map(|other| String::from_utf8(other).ok()).collect();
    others.dedup();
    others
}

fn misread(key: &Key, is: &str) -> NoPage {
    let says = if key.encoded { "says that keys are url-encoded" } else { "does not say that keys are encoded" };
    NoPage::Contradiction(format!("it {says} and lists `{}`, but what is there is `{}`", fit(&key.written), fit(is)))
}

impl Inner {
    /// Insists that keys are read as they are meant, as far as their spelling alone does not tell.
    pub(super) async fn prove_reading(&self, place: &Place, keys: &[&Key], listed: Listed) -> Result<(), NoPage> {
        let proven = self.proven_sorts.0.load(Ordering::Relaxed);
        let mut open = keys.iter().fold(0, |all, key| all | sorts(key, listed)) & !proven;
        let mut missing: Vec<&Key> = Vec::new();
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
            Some(key) => Err(NoPage::Contradiction(format!("it lists `{}`, and denies that it is there", shown(key)))),
        }
    }

    async fn exists(&self, place: &Place, key: &str, listed: Listed) -> Result<bool, NoPage> {
        if listed == Listed::Folders {
            let within = Place { bucket: place.bucket.clone(), prefix: key.to_owned() };
            let one = PageRequest { place: &within, from: From::Beginning, by_folder: false, max: Some(1) };
            return Ok(!Box::pin(self.page(one)).await?.objects.is_empty());
        }
        let Err(error) = self.client.head_object().bucket(&place.bucket).key(key).send().await else { return Ok(true) };
        let trouble = Trouble::of(error);
        match trouble.status {
            Some(404) => Ok(false),
            // Who may list, and may not read it, is told that it is there.
            Some(403) if matches!(trouble.cause, Cause::Answer | Cause::Denied) => Ok(true),
            _ => Err(NoPage::Failed(trouble)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(written: &str, encoded: bool) -> Key {
        Key::read(written.to_owned(), encoded)
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
            assert_eq!(sorts(&key(written, encoded), Listed::Objects), expected, "{written}");
            assert_eq!(sorts(&key(written, encoded), Listed::Folders), expected << 4, "{written}");
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
