//! Part of a directory's names in order: the smallest after a given one.
//!
//! A directory may have more names than fit in memory, and the kernel returns them in no order. So a pass over the
//! directory keeps only the smallest names after the last one handled, and the next pass those after these. The names
//! are stored one after another in one allocation.

use rustix::fs::FileType;

/// How many names are kept of a directory: under 1 MiB, and 300,000 names in fifteen passes.
pub(super) const NAMES_MAX: usize = 20 * 1024;
/// By how much the names' allocation grows: by doubling, it would be half empty just when it is largest.
const ARENA_GROWS: usize = 64 * 1024;

/// Names in order, taken one by one. A directory's name ends in `/`, which counts for the order.
#[derive(Debug, Default)]
pub(super) struct SortedNames {
    arena: Vec<u8>,
    entries: Vec<NameEntry>,
    next: usize,
    /// Whether the directory held names after the last of these.
    pub(super) more: bool,
}

#[derive(Debug, Clone, Copy)]
struct NameEntry {
    /// The first eight bytes, which decide most comparisons.
    head: u64,
    at: u32,
    length: u16,
    kind: FileType,
}

/// Picks the smallest names out of a pass over a directory.
#[derive(Debug)]
pub(super) struct NamePicker<'a> {
    after: NamesAfter<'a>,
    names: SortedNames,
    most: usize,
    /// Names from this one on are not needed: enough smaller ones are kept.
    ceiling: Option<Vec<u8>>,
}

/// Which names a pass is to pick.
#[derive(Debug, Clone, Copy)]
pub(super) enum NamesAfter<'a> {
    /// All.
    Nothing,
    /// Those after a name that was handled.
    Name(&'a [u8]),
    /// Those that can lead to ids after this one: names after it, and directories that contain it.
    Id(&'a [u8]),
}

impl NamesAfter<'_> {
    fn admits(self, name: &[u8]) -> bool {
        match self {
            NamesAfter::Nothing => true,
            NamesAfter::Name(last) => name > last,
            NamesAfter::Id(id) => name > id || (name.last() == Some(&b'/') && id.starts_with(name)),
        }
    }
}

impl SortedNames {
    /// The next name and its type.
    pub(super) fn take(&mut self) -> Option<(&[u8], FileType)> {
        let entry = *self.entries.get(self.next)?;
        self.next += 1;
        Some((entry.name(&self.arena), entry.kind))
    }

    /// The name last taken; before the first, nothing.
    pub(super) fn last_taken(&self) -> Option<&[u8]> {
        self.next.checked_sub(1).map(|last| self.entries[last].name(&self.arena))
    }

    /// Only `last`, which was handled; the names after it must be picked yet.
    pub(super) fn none_after(last: Option<Vec<u8>>) -> Self {
        let entry =
            |name: &Vec<u8>| NameEntry { head: head(name), at: 0, length: name.len() as u16, kind: FileType::Unknown };
        let entries: Vec<NameEntry> = last.iter().map(entry).collect();
        Self { next: entries.len(), entries, arena: last.unwrap_or_default(), more: true }
    }

    /// How many names are held.
    pub(super) fn held(&self) -> usize {
        self.entries.len()
    }

    /// Drops all names but the one last taken and the next few. A later pass picks the dropped ones again.
    pub(super) fn keep_next(&mut self, few: usize) {
        let from = self.next.saturating_sub(1);
        let to = (self.next + few).min(self.entries.len());
        self.more |= to < self.entries.len();
        self.next -= from;
        self.entries = self.entries[from..to].to_vec();
        self.pack();
        self.sort();
        self.arena.shrink_to_fit();
    }

    /// Moves the names of the remaining entries to the front of the arena. Loses the order of the entries.
    fn pack(&mut self) {
        let Self { arena, entries, .. } = self;
        entries.sort_unstable_by_key(|entry| entry.at);
        let mut end = 0;
        for entry in entries {
            let (at, length) = (entry.at as usize, usize::from(entry.length));
            arena.copy_within(at..at + length, end);
            entry.at = end as u32;
            end += length;
        }
        arena.truncate(end);
    }

    /// Orders the names.
    fn sort(&mut self) {
        let Self { arena, entries, .. } = self;
        entries.sort_unstable_by(|a, b| order(*a, *b, arena));
    }
}

impl NameEntry {
    fn name(self, arena: &[u8]) -> &[u8] {
        let at = self.at as usize;
        &arena[at..at + usize::from(self.length)]
    }
}

impl<'a> NamePicker<'a> {
    /// Begins a pass over a directory. Reuses the allocations of the `last` pass.
    pub(super) fn begin(after: NamesAfter<'a>, mut last: SortedNames) -> Self {
        last.arena.clear();
        last.entries.clear();
        Self { names: SortedNames { next: 0, more: false, ..last }, ..Self::of_at_most(NAMES_MAX, after) }
    }

    fn of_at_most(most: usize, after: NamesAfter<'a>) -> Self {
        Self { after, names: SortedNames::default(), most, ceiling: None }
    }

    /// Handles a name of the directory.
    pub(super) fn see(&mut self, name: &[u8], kind: FileType) {
        let mut buffer = [0_u8; 256];
        let name = if kind == FileType::Directory && name.len() < buffer.len() {
            buffer[..name.len()].copy_from_slice(name);
            buffer[name.len()] = b'/';
            &buffer[..=name.len()]
        } else {
            name
        };
        if !self.after.admits(name) {
            return;
        }
        if self.ceiling.as_deref().is_some_and(|ceiling| name >= ceiling) {
            self.names.more = true;
            return;
        }
        self.keep(name, kind);
        if self.names.entries.len() >= self.most + self.most / 4 {
            self.shrink();
        }
    }

    fn keep(&mut self, name: &[u8], kind: FileType) {
        let SortedNames { arena, entries, .. } = &mut self.names;
        if entries.len() == entries.capacity() {
            // Doubles, up to the most entries there can be.
            let left = (self.most + self.most / 4).saturating_sub(entries.len());
            entries.reserve_exact(entries.len().max(16).min(left.max(1)));
        }
        if arena.capacity() - arena.len() < name.len() {
            arena.reserve_exact(arena.len().clamp(1024, ARENA_GROWS));
        }
        // The arena holds at most 25,600 names of 256 bytes: 6 MiB, so `u32` is enough.
        entries.push(NameEntry { head: head(name), at: arena.len() as u32, length: name.len() as u16, kind });
        arena.extend_from_slice(name);
    }

    /// Drops the largest names.
    fn shrink(&mut self) {
        let SortedNames { arena, entries, .. } = &mut self.names;
        let (_, largest, _) = entries.select_nth_unstable_by(self.most - 1, |a, b| order(*a, *b, arena));
        self.ceiling = Some(largest.name(arena).to_vec());
        entries.truncate(self.most);
        self.names.more = true;
        self.names.pack();
    }

    /// Ends the pass.
    pub(super) fn finish(mut self) -> SortedNames {
        if self.names.entries.len() > self.most {
            self.shrink();
        }
        self.names.sort();
        let SortedNames { arena, entries, .. } = &mut self.names;
        // A directory that changes while it is read may return a name twice.
        entries.dedup_by(|a, b| order(*a, *b, arena).is_eq());
        if !self.names.more {
            self.names.entries.shrink_to_fit();
        }
        self.names
    }
}

/// Names contain no zero bytes, so a short name padded with them keeps its order.
fn head(name: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = name.len().min(8);
    first[..length].copy_from_slice(&name[..length]);
    u64::from_be_bytes(first)
}

fn order(a: NameEntry, b: NameEntry, arena: &[u8]) -> std::cmp::Ordering {
    a.head.cmp(&b.head).then_with(|| a.name(arena).cmp(b.name(arena)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(most: usize, after: NamesAfter<'_>, all: &[&str]) -> (Vec<String>, bool) {
        let mut picker = NamePicker::of_at_most(most, after);
        for name in all {
            match name.strip_suffix('/') {
                Some(name) => picker.see(name.as_bytes(), FileType::Directory),
                None => picker.see(name.as_bytes(), FileType::RegularFile),
            }
        }
        let mut names = picker.finish();
        let mut out = Vec::new();
        while let Some((name, _)) = names.take() {
            out.push(String::from_utf8(name.to_vec()).unwrap());
        }
        (out, names.more)
    }

    #[test]
    fn a_directory_is_ordered_as_the_ids_below_it() {
        let (names, more) = pick(10, NamesAfter::Nothing, &["a0", "a/", "a-b", "a", "b"]);
        assert_eq!(names, ["a", "a-b", "a/", "a0", "b"]);
        assert!(!more);
    }

    #[test]
    fn passes_one_after_another_give_each_name_once_in_order() {
        let all: Vec<String> = (0..1000).map(|n| format!("{:03}", (n * 7) % 1000)).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let (mut seen, mut last) = (Vec::<String>::new(), None);
        loop {
            let after = last.as_ref().map_or(NamesAfter::Nothing, |last: &String| NamesAfter::Name(last.as_bytes()));
            let (names, more) = pick(64, after, &all);
            assert!(names.len() <= 64);
            seen.extend(names);
            last = seen.last().cloned();
            if !more {
                break;
            }
        }
        assert_eq!(seen, (0..1000).map(|n| format!("{n:03}")).collect::<Vec<_>>());
    }

    #[test]
    fn going_on_after_an_id_enters_the_directory_it_lies_in() {
        let all = ["a", "a/", "a0", "b/", "b", "c"];
        assert_eq!(pick(9, NamesAfter::Id(b"b/x"), &all).0, ["b/", "c"]);
        assert_eq!(pick(9, NamesAfter::Id(b"b/"), &all).0, ["b/", "c"]);
        assert_eq!(pick(9, NamesAfter::Id(b"b"), &all).0, ["b/", "c"]);
        assert_eq!(pick(9, NamesAfter::Id(b"a"), &all).0, ["a/", "a0", "b", "b/", "c"]);
    }

    #[test]
    fn names_let_go_of_are_known_to_be_missing() {
        let mut picker = NamePicker::of_at_most(9, NamesAfter::Nothing);
        for name in ["a", "b", "c", "d"] {
            picker.see(name.as_bytes(), FileType::RegularFile);
        }
        let mut names = picker.finish();
        names.take();
        names.take();
        names.keep_next(1);
        assert_eq!(names.last_taken(), Some(&b"b"[..]));
        assert_eq!(names.take().unwrap().0, b"c");
        assert!(names.take().is_none() && names.more);
        assert_eq!(names.last_taken(), Some(&b"c"[..]));
    }
}
