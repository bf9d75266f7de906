//! Whether a server lists directory by directory, found out before a page that depends on it is given away.
//!
//! Such a server puts `a/x` before `a-b` and `a.c`; by bytes it comes behind them. As long as a listing is within `a/` nothing of
//! that shows, and afterwards `a/x` cannot be taken back. So where a page ends within `a/` and no name that begins with `a` and
//! sorts before its slash came, it is asked whether there is one. A server of which either order is known is asked no more.

use std::sync::atomic::Ordering::Relaxed;

use super::StoreInner;
use super::keys::BucketPrefix;
use super::page::{ListedKey, PageError, PageRequest, PageStart};

/// Of names and one directory that begin alike, enough to see the first that sorts before the directory's slash.
const SOME: i32 = 3;

impl StoreInner {
    /// Looks at a page that ends within directories: whether the server lists directory by directory. `before` is the last key
    /// of the page before.
    pub(super) async fn ends_within(
        &self,
        place: &BucketPrefix,
        (before, keys): (Option<&[u8]>, &[&ListedKey]),
        asked: &mut Vec<String>,
    ) -> Result<bool, PageError> {
        let Some(last) = keys.last().and_then(|key| key.text()) else { return Ok(false) };
        asked.retain(|directory| last.starts_with(&format!("{directory}/")));
        for directory in directories_of(&last[place.prefix.len()..]) {
            let directory = format!("{}{directory}", place.prefix);
            if self.by_bytes.load(Relaxed) {
                return Ok(false);
            }
            if asked.contains(&directory) {
                continue;
            }
            if before.into_iter().chain(keys.iter().map(|key| &*key.bytes)).any(|key| sorts_before(key, &directory)) {
                self.by_bytes.store(true, Relaxed);
                return Ok(false);
            }
            if self.puts_first(place, &directory).await? {
                return Ok(true);
            }
            asked.push(directory);
        }
        Ok(false)
    }

    /// Looks at where a listing is to begin: of a server that lists directory by directory, keys may lie behind it by their bytes
    /// and before it in its own order, or the other way round.
    pub(super) async fn begins_behind(&self, place: &BucketPrefix, after: &str) -> Result<bool, PageError> {
        for (at, character) in after.char_indices().filter(|(at, character)| *at > 0 && *character <= '/') {
            if self.by_bytes.load(Relaxed) {
                return Ok(false);
            }
            let name = format!("{}{}", place.prefix, &after[..at]);
            if name.ends_with('/') {
                continue;
            }
            let aside = if character == '/' {
                self.puts_first(place, &name).await?
            } else {
                self.leaves_out(place, &name, after).await?
            };
            if aside {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the server leaves out what lies in a directory, and by its bytes behind `after`.
    async fn leaves_out(&self, place: &BucketPrefix, directory: &str, after: &str) -> Result<bool, PageError> {
        let inside = BucketPrefix { bucket: place.bucket.clone(), prefix: format!("{directory}/") };
        let after = format!("{}{after}", place.prefix);
        let one = |from| PageRequest { place: &inside, from, by_folder: false, max: Some(1) };
        if !self.page(one(PageStart::After(&after))).await?.objects.is_empty() {
            return Ok(false);
        }
        Ok(!self.page(one(PageStart::Beginning)).await?.objects.is_empty())
    }

    /// Whether the server puts what lies in a directory before a name that sorts before its slash.
    async fn puts_first(&self, place: &BucketPrefix, directory: &str) -> Result<bool, PageError> {
        let beginning = BucketPrefix { bucket: place.bucket.clone(), prefix: directory.to_owned() };
        let some = |max| PageRequest { place: &beginning, from: PageStart::Beginning, by_folder: true, max: Some(max) };
        let page = self.page(some(SOME)).await?;
        let all = || page.objects.iter().map(|(key, _)| key).chain(&page.folders);
        if !all().any(|key| sorts_before(&key.bytes, directory)) {
            return Ok(false);
        }
        // There is one, be it that it came only now. Which of the two does the server give first?
        let itself = i32::from(all().any(|key| key.bytes == directory.as_bytes()));
        let first = self.page(some(1 + itself)).await?;
        let is_inside = |key: &ListedKey| key.bytes.strip_suffix(b"/") == Some(directory.as_bytes());
        let inside = first.folders.iter().any(is_inside);
        let lower = first.objects.iter().map(|(key, _)| key).chain(&first.folders);
        let lower = lower.into_iter().any(|key| sorts_before(&key.bytes, directory));
        if lower && !inside && page.folders.iter().any(is_inside) {
            self.by_bytes.store(true, Relaxed);
        }
        Ok(inside && !lower)
    }
}

/// The directories on the way to a key, outermost first, without their slashes.
fn directories_of(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/')
        .map(|(at, _)| &key[..at])
        .filter(|directory| !directory.is_empty() && !directory.ends_with('/'))
}

/// Whether a key begins as a directory does, and goes on with something that sorts before its slash.
fn sorts_before(key: &[u8], directory: &str) -> bool {
    key.strip_prefix(directory.as_bytes()).and_then(<[u8]>::first).is_some_and(|next| *next < b'/')
}
