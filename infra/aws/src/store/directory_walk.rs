//! Lists, in byte order, the keys of a server that lists directory by directory.
//!
//! Where `/` sorts lowest, `photos/x` comes before `photos-old/y` and `photos.txt`; in byte order it comes after both. So
//! each directory is listed by itself, which returns files and directories in the order of their names. A directory waits
//! until no later name can sort before the directory with its slash. Each waiting directory is a prefix of the next, so the
//! length of a name bounds their number. Memory holds these and one page of each directory on the path.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::StoreInner;
use super::keys::BucketPrefix;
use super::page::{ListedKey, PageError, PageRequest, PageStart, display_key};
use crate::response::ListedObject;

/// From this many entries on, the end of a directory is verified by one more request: some services end long listings too
/// early.
const LONG: usize = 100;

/// Compares keys in the order of a server that lists directory by directory.
pub(super) fn compare_by_directory(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/'))
}

/// An entry of a directory.
#[derive(Debug)]
enum DirectoryEntry {
    File(ListedKey, ListedObject),
    /// Its key ends in a slash.
    Directory(ListedKey),
}

impl DirectoryEntry {
    fn key(&self) -> &ListedKey {
        match self {
            Self::File(key, _) | Self::Directory(key) => key,
        }
    }

    /// Its key without the slash of a directory.
    fn name(&self) -> &[u8] {
        match self {
            Self::File(key, _) => &key.bytes,
            Self::Directory(key) => key.bytes.strip_suffix(b"/").unwrap_or(&key.bytes),
        }
    }
}

/// Where the listing of a directory continues.
#[derive(Debug)]
enum DirectoryCursor {
    Beginning,
    Token(String),
    /// After this key, where the service reported the end.
    Behind(String),
    End,
}

/// A directory on the path to the present key.
#[derive(Debug)]
struct DirectoryListing {
    place: BucketPrefix,
    next: DirectoryCursor,
    /// Its entries that came and are not returned yet, in the order of names.
    entries: VecDeque<DirectoryEntry>,
    count: usize,
    /// The last name that came.
    last: Option<Vec<u8>>,
    /// Directories in it that wait for their turn; the first in byte order is at the end.
    pending: Vec<ListedKey>,
}

/// A listing in byte order.
#[derive(Debug)]
pub(super) struct DirectoryWalk {
    /// Keys up to and including this one are left out.
    after: Option<Vec<u8>>,
    path: Vec<DirectoryListing>,
}

impl DirectoryWalk {
    /// Lists the keys under a prefix, those after `after`.
    pub(super) fn new(place: BucketPrefix, after: Option<Vec<u8>>) -> Self {
        Self { after, path: vec![DirectoryListing::at(place)] }
    }

    /// Returns at least one more key, unless the listing is at its end.
    pub(super) async fn next_keys(
        &mut self,
        inner: &StoreInner,
        most: usize,
    ) -> Result<Vec<(ListedKey, ListedObject)>, PageError> {
        let mut found = Vec::new();
        while let (Some(here), true) = (self.path.last_mut(), found.len() < most) {
            match here.take(inner).await? {
                None => _ = self.path.pop(),
                Some(DirectoryEntry::File(key, object)) => {
                    if self.after.as_ref().is_none_or(|after| *after < key.bytes) {
                        found.push((key, object));
                    }
                }
                Some(DirectoryEntry::Directory(key)) => {
                    // The whole directory is wanted or not, unless `after` lies in it.
                    let wanted = |after: &Vec<u8>| *after < key.bytes || after.starts_with(&key.bytes);
                    if self.after.as_ref().is_none_or(wanted) {
                        let place = BucketPrefix { bucket: here.place.bucket.clone(), prefix: text(&key)?.to_owned() };
                        self.path.push(DirectoryListing::at(place));
                    }
                }
            }
        }
        Ok(found)
    }
}

impl DirectoryListing {
    fn at(place: BucketPrefix) -> Self {
        Self {
            place,
            next: DirectoryCursor::Beginning,
            entries: VecDeque::new(),
            count: 0,
            last: None,
            pending: Vec::new(),
        }
    }

    /// The next entry in byte order. A directory counts with its slash.
    async fn take(&mut self, inner: &StoreInner) -> Result<Option<DirectoryEntry>, PageError> {
        loop {
            while self.entries.is_empty() && !matches!(self.next, DirectoryCursor::End) {
                self.request_page(inner).await?;
            }
            let pending_is_next = match (self.pending.last(), self.entries.front()) {
                (Some(first), Some(next)) => first.bytes < next.key().bytes,
                (first, _) => first.is_some(),
            };
            if pending_is_next {
                return Ok(self.pending.pop().map(DirectoryEntry::Directory));
            }
            match self.entries.pop_front() {
                Some(DirectoryEntry::Directory(key)) => self.pending.push(key),
                other => return Ok(other),
            }
        }
    }

    async fn request_page(&mut self, inner: &StoreInner) -> Result<(), PageError> {
        let from = match &self.next {
            DirectoryCursor::Beginning => PageStart::Beginning,
            DirectoryCursor::Token(token) => PageStart::Token(token),
            DirectoryCursor::Behind(key) => PageStart::After(key),
            DirectoryCursor::End => return Ok(()),
        };
        let page = inner.page(PageRequest { place: &self.place, from, with_delimiter: true, max: None }).await?;
        let files: Vec<&ListedKey> = page.objects.iter().map(|(key, _)| key).collect();
        inner.prove_reading(&self.place, &files, super::key_encoding::ListedKind::Objects).await?;
        inner
            .prove_reading(
                &self.place,
                &page.common_prefixes.iter().collect::<Vec<_>>(),
                super::key_encoding::ListedKind::CommonPrefixes,
            )
            .await?;
        let files = page.objects.into_iter().map(|(key, object)| DirectoryEntry::File(key, object));
        let mut entries: Vec<DirectoryEntry> =
            files.chain(page.common_prefixes.into_iter().map(DirectoryEntry::Directory)).collect();
        entries.sort_by(|a, b| a.name().cmp(b.name()).then_with(|| a.key().bytes.cmp(&b.key().bytes)));
        let behind_end = matches!(self.next, DirectoryCursor::Behind(_));
        if behind_end {
            // For a request that starts after a directory, a server lists the directory again, since its content sorts after
            // its name.
            entries.retain(|entry| self.last.as_deref().is_none_or(|last| last < entry.name()));
        }
        self.check_order(&entries)?;
        if let Some(last) = entries.last() {
            self.last = Some(last.name().to_vec());
        }
        self.count += entries.len();
        self.next = match page.next {
            Some(token) => DirectoryCursor::Token(token),
            None if self.count < LONG || entries.is_empty() => DirectoryCursor::End,
            None => match entries.last().and_then(|last| last.key().text()) {
                Some(last) => DirectoryCursor::Behind(last.to_owned()),
                None => DirectoryCursor::End,
            },
        };
        self.entries.extend(entries);
        Ok(())
    }

    /// Checks that a page sorts after the one before it.
    fn check_order(&self, entries: &[DirectoryEntry]) -> Result<(), PageError> {
        let (Some(last), Some(first)) = (&self.last, entries.first()) else { return Ok(()) };
        match last[..].cmp(first.name()) {
            Ordering::Less => Ok(()),
            // A file and a directory of one name.
            Ordering::Equal if matches!(first, DirectoryEntry::Directory(_)) => Ok(()),
            _ => Err(PageError::Contradiction(format!("`{}` stands out of order", display_key(first.key())))),
        }
    }
}

fn text(key: &ListedKey) -> Result<&str, PageError> {
    key.text().ok_or_else(|| {
        PageError::Contradiction(format!("the name of the directory `{}` is not UTF-8", display_key(key)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_sorts_lowest_where_directories_are_listed_one_by_one() {
        let mut keys = ["photos-old/y", "photos.txt", "photos/x", "photos", "photos!/z", "photos/-/a", "photos/-"];
        keys.sort_by(|a, b| compare_by_directory(a.as_bytes(), b.as_bytes()));
        assert_eq!(keys, ["photos", "photos/-", "photos/-/a", "photos/x", "photos!/z", "photos-old/y", "photos.txt"]);
    }
}
