//! The keys of a server that lists directory by directory, brought into the order of their bytes.
//!
//! Where `/` sorts lowest, `photos/x` comes before `photos-old/y` and `photos.txt`; by bytes it comes behind both. So each
//! directory is listed by itself, which names files and directories in the order of their names, and a directory is put off
//! until no name that is still to come can sort before it and its slash. Those put off are each the beginning of the next, so
//! that a name's length bounds them; beside them a page of each directory on the way down is held.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::StoreInner;
use super::keys::BucketPrefix;
use super::page::{ListedKey, PageError, PageRequest, PageStart, shown};
use crate::response::ListedObject;

/// Entries of one directory from which on its end is asked for once more: services were seen to end long listings too early.
const LONG: usize = 100;

/// Compares keys as a server does that lists directory by directory.
pub(super) fn by_directories(a: &[u8], b: &[u8]) -> Ordering {
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

/// Where the listing of a directory goes on.
#[derive(Debug)]
enum DirectoryCursor {
    Beginning,
    Token(String),
    /// Behind this key: it was said to end there.
    Behind(String),
    End,
}

/// A directory on the way down.
#[derive(Debug)]
struct DirectoryListing {
    place: BucketPrefix,
    next: DirectoryCursor,
    /// What came of it, in the order of names.
    entries: VecDeque<DirectoryEntry>,
    count: usize,
    /// The name that came last.
    last: Option<Vec<u8>>,
    /// Directories in it that are put off; the one that sorts first is the last.
    put_off: Vec<ListedKey>,
}

/// A listing in the order of bytes.
#[derive(Debug)]
pub(super) struct DirectoryWalk {
    /// Keys up to this one are left out.
    after: Option<Vec<u8>>,
    way: Vec<DirectoryListing>,
}

impl DirectoryWalk {
    /// The keys at a place, those after `after`.
    pub(super) fn new(place: BucketPrefix, after: Option<Vec<u8>>) -> Self {
        Self { after, way: vec![DirectoryListing::at(place)] }
    }

    /// The next keys, as many as came with a page or more; none only at the end.
    pub(super) async fn some(
        &mut self,
        inner: &StoreInner,
        most: usize,
    ) -> Result<Vec<(ListedKey, ListedObject)>, PageError> {
        let mut found = Vec::new();
        while let (Some(here), true) = (self.way.last_mut(), found.len() < most) {
            match here.take(inner).await? {
                None => _ = self.way.pop(),
                Some(DirectoryEntry::File(key, object)) => {
                    if self.after.as_ref().is_none_or(|after| *after < key.bytes) {
                        found.push((key, object));
                    }
                }
                Some(DirectoryEntry::Directory(key)) => {
                    // All that lies in it sorts as it does, unless what is left out ends in it.
                    let wanted = |after: &Vec<u8>| *after < key.bytes || after.starts_with(&key.bytes);
                    if self.after.as_ref().is_none_or(wanted) {
                        let place = BucketPrefix { bucket: here.place.bucket.clone(), prefix: text(&key)?.to_owned() };
                        self.way.push(DirectoryListing::at(place));
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
            put_off: Vec::new(),
        }
    }

    /// The entry that sorts next by its bytes, a directory with its slash.
    async fn take(&mut self, inner: &StoreInner) -> Result<Option<DirectoryEntry>, PageError> {
        loop {
            while self.entries.is_empty() && !matches!(self.next, DirectoryCursor::End) {
                self.ask(inner).await?;
            }
            let due = match (self.put_off.last(), self.entries.front()) {
                (Some(first), Some(next)) => first.bytes < next.key().bytes,
                (first, _) => first.is_some(),
            };
            if due {
                return Ok(self.put_off.pop().map(DirectoryEntry::Directory));
            }
            match self.entries.pop_front() {
                Some(DirectoryEntry::Directory(key)) => self.put_off.push(key),
                other => return Ok(other),
            }
        }
    }

    async fn ask(&mut self, inner: &StoreInner) -> Result<(), PageError> {
        let from = match &self.next {
            DirectoryCursor::Beginning => PageStart::Beginning,
            DirectoryCursor::Token(token) => PageStart::Token(token),
            DirectoryCursor::Behind(key) => PageStart::After(key),
            DirectoryCursor::End => return Ok(()),
        };
        let page = inner.page(PageRequest { place: &self.place, from, by_folder: true, max: None }).await?;
        let files: Vec<&ListedKey> = page.objects.iter().map(|(key, _)| key).collect();
        inner.prove_reading(&self.place, &files, super::key_encoding::ListedKind::Objects).await?;
        inner
            .prove_reading(
                &self.place,
                &page.folders.iter().collect::<Vec<_>>(),
                super::key_encoding::ListedKind::Folders,
            )
            .await?;
        let files = page.objects.into_iter().map(|(key, object)| DirectoryEntry::File(key, object));
        let mut entries: Vec<DirectoryEntry> =
            files.chain(page.folders.into_iter().map(DirectoryEntry::Directory)).collect();
        entries.sort_by(|a, b| a.name().cmp(b.name()).then_with(|| a.key().bytes.cmp(&b.key().bytes)));
        let behind_end = matches!(self.next, DirectoryCursor::Behind(_));
        if behind_end {
            // Asked for what lies behind a directory, a server names it once more: what lies in it lies behind its name.
            entries.retain(|entry| self.last.as_deref().is_none_or(|last| last < entry.name()));
        }
        self.in_order(&entries)?;
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

    /// Insists that a page lies behind the one before it.
    fn in_order(&self, entries: &[DirectoryEntry]) -> Result<(), PageError> {
        let (Some(last), Some(first)) = (&self.last, entries.first()) else { return Ok(()) };
        match last[..].cmp(first.name()) {
            Ordering::Less => Ok(()),
            // A file and a directory of one name.
            Ordering::Equal if matches!(first, DirectoryEntry::Directory(_)) => Ok(()),
            _ => Err(PageError::Contradiction(format!("`{}` stands out of order", shown(first.key())))),
        }
    }
}

fn text(key: &ListedKey) -> Result<&str, PageError> {
    key.text()
        .ok_or_else(|| PageError::Contradiction(format!("the name of the directory `{}` is not UTF-8", shown(key))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_sorts_lowest_where_directories_are_listed_one_by_one() {
        let mut keys = ["photos-old/y", "photos.txt", "photos/x", "photos", "photos!/z", "photos/-/a", "photos/-"];
        keys.sort_by(|a, b| by_directories(a.as_bytes(), b.as_bytes()));
        assert_eq!(keys, ["photos", "photos/-", "photos/-/a", "photos/x", "photos!/z", "photos-old/y", "photos.txt"]);
    }
}
