//! Finds out whether a server lists directory by directory, before a page that depends on it is returned.
//!
//! Such a server lists `a/x` before `a-b` and `a.c`; in byte order it comes after them. While a listing is inside `a/` the
//! difference does not show, and later `a/x` cannot be taken back. So if a page ends inside `a/`, and no name came that
//! begins with `a` and sorts before the slash, a request finds out whether there is one. Once the order of a server is
//! known, these requests stop.

use std::sync::atomic::Ordering::Relaxed;

use super::StoreInner;
use super::keys::BucketPrefix;
use super::page::{ListedKey, PageError, PageRequest, PageStart};

/// Entries to request: enough to see the first name that sorts before a directory's slash.
const SOME: i32 = 3;

impl StoreInner {
    /// Probes, for a page that ends inside directories, whether the server lists directory by directory. `before` is the
    /// last key of the previous page.
    pub(super) async fn probe_page_end(
        &self,
        place: &BucketPrefix,
        (before, keys): (Option<&[u8]>, &[&ListedKey]),
        probed: &mut Vec<String>,
    ) -> Result<bool, PageError> {
        let Some(last) = keys.last().and_then(|key| key.text()) else { return Ok(false) };
        probed.retain(|directory| last.starts_with(&format!("{directory}/")));
        for directory in directories_of(&last[place.prefix.len()..]) {
            let directory = format!("{}{directory}", place.prefix);
            if self.lists_by_bytes.load(Relaxed) {
                return Ok(false);
            }
            if probed.contains(&directory) {
                continue;
            }
            if before
                .into_iter()
                .chain(keys.iter().map(|key| &*key.bytes))
                .any(|key| sorts_before_slash(key, &directory))
            {
                self.lists_by_bytes.store(true, Relaxed);
                return Ok(false);
            }
            if self.lists_directory_first(place, &directory).await? {
                return Ok(true);
            }
            probed.push(directory);
        }
        Ok(false)
    }

    /// Probes the start of a listing: on a server that lists directory by directory, a key may follow the start in byte
    /// order and precede it in the server's order, or the reverse.
    pub(super) async fn probe_page_start(&self, place: &BucketPrefix, after: &str) -> Result<bool, PageError> {
        for (at, character) in after.char_indices().filter(|(at, character)| *at > 0 && *character <= '/') {
            if self.lists_by_bytes.load(Relaxed) {
                return Ok(false);
            }
            let name = format!("{}{}", place.prefix, &after[..at]);
            if name.ends_with('/') {
                continue;
            }
            let aside = if character == '/' {
                self.lists_directory_first(place, &name).await?
            } else {
                self.omits_directory(place, &name, after).await?
            };
            if aside {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the server omits keys of a directory that follow `after` in byte order.
    async fn omits_directory(&self, place: &BucketPrefix, directory: &str, after: &str) -> Result<bool, PageError> {
        let inside = BucketPrefix { bucket: place.bucket.clone(), prefix: format!("{directory}/") };
        let after = format!("{}{after}", place.prefix);
        let one = |from| PageRequest { place: &inside, from, with_delimiter: false, max: Some(1) };
        if !self.page(one(PageStart::After(&after))).await?.objects.is_empty() {
            return Ok(false);
        }
        Ok(!self.page(one(PageStart::Beginning)).await?.objects.is_empty())
    }

    /// Whether the server lists a directory's keys before a name that sorts before its slash.
    async fn lists_directory_first(&self, place: &BucketPrefix, directory: &str) -> Result<bool, PageError> {
        let beginning = BucketPrefix { bucket: place.bucket.clone(), prefix: directory.to_owned() };
        let some =
            |max| PageRequest { place: &beginning, from: PageStart::Beginning, with_delimiter: true, max: Some(max) };
        let page = self.page(some(SOME)).await?;
        let all = || page.objects.iter().map(|(key, _)| key).chain(&page.common_prefixes);
        if !all().any(|key| sorts_before_slash(&key.bytes, directory)) {
            return Ok(false);
        }
        // There is such a name. Which of the two does the server list first?
        let itself = i32::from(all().any(|key| key.bytes == directory.as_bytes()));
        let first = self.page(some(1 + itself)).await?;
        let is_inside = |key: &ListedKey| key.bytes.strip_suffix(b"/") == Some(directory.as_bytes());
        let inside = first.common_prefixes.iter().any(is_inside);
        let lower = first.objects.iter().map(|(key, _)| key).chain(&first.common_prefixes);
        let lower = lower.into_iter().any(|key| sorts_before_slash(&key.bytes, directory));
        if lower && !inside && page.common_prefixes.iter().any(is_inside) {
            self.lists_by_bytes.store(true, Relaxed);
        }
        Ok(inside && !lower)
    }
}

/// The directories on the path to a key, outermost first, without their slashes.
fn directories_of(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/')
        .map(|(at, _)| &key[..at])
        .filter(|directory| !directory.is_empty() && !directory.ends_with('/'))
}

/// Whether a key begins with a directory's name, followed by a byte that sorts before a slash.
fn sorts_before_slash(key: &[u8], directory: &str) -> bool {
    key.strip_prefix(directory.as_bytes()).and_then(<[u8]>::first).is_some_and(|next| *next < b'/')
}
