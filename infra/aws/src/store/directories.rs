//! The keys of a server that lists directory by directory, brought into the order of their bytes.
//!
//! Where `/` sorts lowest, `photos/x` comes before `photos-old/y` and `photos.txt`; by bytes it comes behind both. So each
//! directory is listed by itself, which names files and directories in the order of their names, and a directory is put off
//! until no name that is still to come can sort before it and its slash. Those put off are each the beginning of the next, so
//! that a name's length bounds them; beside them a page of each directory on the way down is held.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::Inner;
use super::page::{From, Key, NoPage, PageRequest, shown};
use super::places::Place;
use crate::answer::Object;

/// Entries of one directory from which on its end is asked for once more: services were seen to end long listings too early.
const LONG: usize = 100;

/// Compares keys as a server does that lists directory by directory.
pub(super) fn by_directories(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/'))
}

/// An entry of a directory.
#[derive(Debug)]
enum Entry {
    File(Key, Object),
    /// Its key ends in a slash.
    Directory(Key),
}

impl Entry {
    fn key(&self) -> &Key {
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
enum Next {
    Beginning,
    Token(String),
    /// Behind this key: it was said to end there.
    Behind(String),
    End,
}

/// A directory on the way down.
#[derive(Debug)]
struct Directory {
    place: Place,
    next: Next,
    /// What came of it, in the order of names.
    entries: VecDeque<Entry>,
    count: usize,
    /// The name that came last.
    last: Option<Vec<u8>>,
    /// Directories in it that are put off; the one that sorts first is the last.
    put_off: Vec<Key>,
}

/// A listing in the order of bytes.
#[derive(Debug)]
pub(super) struct Directories {
    /// Keys up to this one are left out.
    after: Option<Vec<u8>>,
    way: Vec<Directory>,
}

impl Directories {
    /// The keys at a place, those after `after`.
    pub(super) fn new(place: Place, after: Option<Vec<u8>>) -> Self {
        Self { after, way: vec![Directory::at(place)] }
    }

    /// The next keys, as many as came with a page or more; none only at the end.
    pub(super) async fn some(&mut self, inner: &Inner, most: usize) -> Result<Vec<(Key, Object)>, NoPage> {
        let mut found = Vec::new();
        while let (Some(here), true) = (self.way.last_mut(), found.len() < most) {
            match here.take(inner).await? {
                None => _ = self.way.pop(),
                Some(Entry::File(key, object)) => {
                    if self.after.as_ref().is_none_or(|after| *after < key.bytes) {
                        found.push((key, object));
                    }
                }
                Some(Entry::Directory(key)) => {
                    // All that lies in it sorts as it does, unless what is left out ends in it.
                    let wanted = |after: &Vec<u8>| *after < key.bytes || after.starts_with(&key.bytes);
                    if self.after.as_ref().is_none_or(wanted) {
                        let place = Place { bucket: here.place.bucket.clone(), prefix: text(&key)?.to_owned() };
                        self.way.push(Directory::at(place));
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Directory {
    fn at(place: Place) -> Self {
        Self { place, next: Next::Beginning, entries: VecDeque::new(), count: 0, last: None, put_off: Vec::new() }
    }

    /// The entry that sorts next by its bytes, a directory with its slash.
    async fn take(&mut self, inner: &Inner) -> Result<Option<Entry>, NoPage> {
        loop {
            while self.entries.is_empty() && !matches!(self.next, Next::End) {
                self.ask(inner).await?;
            }
            let due = match (self.put_off.last(), self.entries.front()) {
                (Some(first), Some(next)) => first.bytes < next.key().bytes,
                (first, _) => first.is_some(),
            };
            if due {
                return Ok(self.put_off.pop().map(Entry::Directory));
            }
            match self.entries.pop_front() {
                Some(Entry::Directory(key)) => self.put_off.push(key),
                other => return Ok(other),
            }
        }
    }

    async fn ask(&mut self, inner: &Inner) -> Result<(), NoPage> {
        let from = match &self.next {
            Next::Beginning => From::Beginning,
            Next::Token(token) => From::Token(token),
            Next::Behind(key) => From::After(key),
            Next::End => return Ok(()),
        };
        let page = inner.page(PageRequest { place: &self.place, from, by_folder: true, max: None }).await?;
        let files: Vec<&Key> = page.objects.iter().map(|(key, _)| key).collect();
        inner.prove_reading(&self.place, &files, super::key_encoding::Listed::Objects).await?;
        inner
            .prove_reading(&self.place, &page.folders.iter().collect::<Vec<_>>(), super::key_encoding::Listed::Folders)
            .await?;
        let files = page.objects.into_iter().map(|(key, object)| Entry::File(key, object));
        let mut entries: Vec<Entry> = files.chain(page.folders.into_iter().map(Entry::Directory)).collect();
        entries.sort_by(|a, b| a.name().cmp(b.name()).then_with(|| a.key().bytes.cmp(&b.key().bytes)));
        let behind_end = matches!(self.next, Next::Behind(_));
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
            Some(token) => Next::Token(token),
            None if self.count < LONG || entries.is_empty() => Next::End,
            None => match entries.last().and_then(|last| last.key().text()) {
                Some(last) => Next::Behind(last.to_owned()),
                None => Next::End,
            },
        };
        self.entries.extend(entries);
        Ok(())
    }

    /// Insists that a page lies behind the one before it.
    fn in_order(&self, entries: &[Entry]) -> Result<(), NoPage> {
        let (Some(last), Some(first)) = (&self.last, entries.first()) else { return Ok(()) };
        match last[..].cmp(first.name()) {
            Ordering::Less => Ok(()),
            // A file and a directory of one name.
            Ordering::Equal if matches!(first, Entry::Directory(_)) => Ok(()),
            _ => Err(NoPage::Contradiction(format!("`{}` stands out of order", shown(first.key())))),
        }
    }
}

fn text(key: &Key) -> Result<&str, NoPage> {
    key.text().ok_or_else(|| NoPage::Contradiction(format!("the name of the directory `{}` is not UTF-8", shown(key))))
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
