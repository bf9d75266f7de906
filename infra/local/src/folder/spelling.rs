//! Whether a file found by a name has that very name.
//!
//! Some file systems fold names that differ in case (exFAT, FAT, NTFS by some drivers, ext4 directories with casefold),
//! in the normal form of their letters (HFS+, ZFS with normalization), or in a dot at their end (FAT). There `readme`
//! finds `README`, and replacing it destroys another item. `stat` does not show the stored name; only the directory's
//! own list of names does.
//!
//! Reading that list for each item would be slow, so Mill reads it only if another spelling of the name finds a file
//! too. A directory where no other spelling does is remembered as one that does not fold names.

use std::collections::BTreeSet;

use mill_model::ids::escape_bytes_for_display;
pub(super) use mill_model::name_folding::fold_name;
use mill_ports::RefusalReason;
use parking_lot::{Mutex, MutexGuard};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use unicode_normalization::UnicodeNormalization as _;

use super::dirents::Dirents;
use super::error::{FileOperation, FolderError};
use super::item_path::{ItemPath, split};
use super::root::{RootDir, directory_in};

/// How many directories of each set are remembered.
const KNOWN_MAX: usize = 50_000;

/// How the directories of a root treat names, by their paths.
#[derive(Debug, Default)]
pub(super) struct SpellingCache(Mutex<KnownDirectories>);

#[derive(Debug, Default)]
struct KnownDirectories {
    /// Directories that do not fold ASCII names.
    ascii: BTreeSet<String>,
    /// Directories that do not fold other names.
    wide: BTreeSet<String>,
    /// Directories that are spelled as in the path for ever: no directory above them folds names.
    spelled: BTreeSet<String>,
    /// Directories that fold names, and list a new file under the given name: by the kind of name.
    faithful: BTreeSet<(u8, String)>,
}

impl SpellingCache {
    fn known(&self) -> MutexGuard<'_, KnownDirectories> {
        self.0.lock()
    }
}

fn note<T: Ord>(known: &mut BTreeSet<T>, entry: T) {
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(entry);
}

/// How the file found by a name is spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As requested; `lasting` if that cannot change.
    Own { lasting: bool },
    /// Otherwise: the path under which its directories list it.
    Other(String),
}

/// Whether the file found in `parent` is the requested item, and not one of another spelling.
pub(super) fn is_own(root: &RootDir, item_path: &ItemPath, parent: &OwnedFd) -> Result<bool, Errno> {
    Ok(matches!(of_path(root, item_path.parent())?, Spelling::Own { .. })
        && matches!(of_name(root, item_path.parent(), parent, item_path.name())?, Spelling::Own { .. }))
}

/// The space to which `directory` leads by folding, if it is another one.
pub(super) fn space_twin(root: &RootDir, directory: &str) -> Result<Option<String>, Errno> {
    if matches!(directory, "" | ".") {
        return Ok(None);
    }
    Ok(match of_path(root, directory)? {
        Spelling::Own { .. } => None,
        Spelling::Other(path) => Some(path),
    })
}

/// The error for a space whose name another space has by folding.
pub(super) fn taken_by_space(other: &str) -> FolderError {
    FolderError::refused(RefusalReason::PathConflict(format!(
        "the space `{other}`, for which this store takes its name"
    )))
}

/// Refuses a path whose directory was found by another spelling: it contains other items.
pub(super) fn parent_must_be_own(root: &RootDir, item_path: &ItemPath) -> Result<(), FolderError> {
    must_be_own(item_path, of_path(root, item_path.parent()))
}

/// Refuses a path whose name finds a file of another spelling: that is another item.
pub(super) fn name_must_be_own(root: &RootDir, item_path: &ItemPath, parent: &OwnedFd) -> Result<(), FolderError> {
    must_be_own(item_path, of_name(root, item_path.parent(), parent, item_path.name()))
}

fn must_be_own(item_path: &ItemPath, spelling: Result<Spelling, Errno>) -> Result<(), FolderError> {
    match spelling.map_err(|errno| FolderError::of(FileOperation::Write, errno))? {
        Spelling::Own { .. } => Ok(()),
        Spelling::Other(path) => match path.strip_prefix(item_path.space()) {
            Some(within) => Err(FolderError::refused(RefusalReason::Twin(within.trim_start_matches('/').to_owned()))),
            None => Err(taken_by_space(split(&path).1)),
        },
    }
}

/// Whether the directory of a space folds names. Tested with its own name in the root, and with the first names in it.
pub(super) fn folds(root: &RootDir, space: &str) -> Result<bool, Errno> {
    let otherwise = |directory: &OwnedFd, name: &str| -> Result<bool, Errno> {
        let found = |other: &String| rustix::fs::statat(directory, other.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok();
        match spellings(name).iter().find(|other| found(other)) {
            // The directory may list the other spelling as a file of its own.
            Some(other) => Ok(listed_otherwise(directory, other)?.is_some()),
            None => Ok(false),
        }
    };
    if !space.is_empty() && otherwise(&root.waypoint("")?, space)? {
        return Ok(true);
    }
    let directory = root.waypoint(space)?;
    let mut names = Vec::new();
    Dirents::with_buffer(32 * 1024).read(directory_in(&directory, ".")?, |name, _| {
        let tells = std::str::from_utf8(name).ok().filter(|name| !spellings(name).is_empty());
        names.extend(tells.map(str::to_owned));
        names.len() < 8
    })?;
    for name in names {
        if otherwise(&directory, &name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the directory lists a new file under the given name; the listed path if it does not.
pub(super) fn is_kept(root: &RootDir, item_path: &ItemPath, parent: &OwnedFd) -> Result<Result<(), String>, Errno> {
    let sort = (sort_of(item_path.name()), item_path.parent().to_owned());
    if root.spellings.known().faithful.contains(&sort) {
        return Ok(Ok(()));
    }
    Ok(match of_name(root, item_path.parent(), parent, item_path.name())? {
        Spelling::Own { lasting } => {
            if !lasting {
                note(&mut root.spellings.known().faithful, sort);
            }
            Ok(())
        }
        Spelling::Other(path) => Err(path),
    })
}

/// The kind of a name: whether it has capitals, small letters, letters beyond ASCII, or a dot or blank at its end. A
/// file system may change each of these.
fn sort_of(name: &str) -> u8 {
    u8::from(name.bytes().any(|byte| byte.is_ascii_uppercase()))
        | u8::from(name.bytes().any(|byte| byte.is_ascii_lowercase())) << 1
        | u8::from(!name.is_ascii()) << 2
        | u8::from(name.ends_with(['.', ' '])) << 3
}

/// How the existing directory at `path` and all directories above it are spelled, up to the root.
fn of_path(root: &RootDir, path: &str) -> Result<Spelling, Errno> {
    if path.is_empty() || root.spellings.known().spelled.contains(path) {
        return Ok(Spelling::Own { lasting: true });
    }
    let (above, name) = split(path);
    let above_lasts = match of_path(root, above)? {
        Spelling::Own { lasting } => lasting,
        Spelling::Other(spelled) => return Ok(Spelling::Other(format!("{spelled}/{name}"))),
    };
    match of_name(root, above, &root.waypoint(above)?, name)? {
        Spelling::Own { lasting: true } if above_lasts => {
            note(&mut root.spellings.known().spelled, path.to_owned());
            Ok(Spelling::Own { lasting: true })
        }
        Spelling::Own { .. } => Ok(Spelling::Own { lasting: false }),
        other @ Spelling::Other(_) => Ok(other),
    }
}

/// How the file that `name` finds in the directory at `path` is spelled.
fn of_name(root: &RootDir, path: &str, directory: &OwnedFd, name: &str) -> Result<Spelling, Errno> {
    let ascii = name.is_ascii();
    {
        let known = root.spellings.known();
        if (if ascii { &known.ascii } else { &known.wide }).contains(path) {
            return Ok(Spelling::Own { lasting: true });
        }
    }
    let others = spellings(name);
    let found = |other: &String| rustix::fs::statat(directory, other.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok();
    // A name with `~` may be a short name of FAT.
    if !name.contains('~') && !others.iter().any(found) {
        // That no other spelling finds a file proves something only if the name itself does.
        if !others.is_empty() && found(&name.to_owned()) {
            let mut known = root.spellings.known();
            note(if ascii { &mut known.ascii } else { &mut known.wide }, path.to_owned());
        }
        return Ok(Spelling::Own { lasting: true });
    }
    let beside = |spelled| if path.is_empty() { spelled } else { format!("{path}/{spelled}") };
    Ok(match listed_otherwise(directory, name)? {
        None => Spelling::Own { lasting: false },
        Some(spelled) => Spelling::Other(beside(spelled)),
    })
}

/// The name under which the directory lists the file that `name` finds; `None` if it is that very name. `EAGAIN` if it
/// lists no name that `name` could find.
pub(super) fn listed_otherwise(directory: impl AsFd, name: &str) -> Result<Option<String>, Errno> {
    let (mut own, mut twin) = (false, None);
    let key = fold_name(name);
    Dirents::with_buffer(32 * 1024).read(directory_in(directory, ".")?, |listed, _| {
        own = listed == name.as_bytes();
        if !own && std::str::from_utf8(listed).is_ok_and(|listed| fold_name(listed) == key) {
            twin = Some(escape_bytes_for_display(listed));
        }
        !own
    })?;
    match (own, twin) {
        (true, _) => Ok(None),
        (false, Some(twin)) => Ok(Some(twin)),
        (false, None) if name.contains('~') => Ok(Some("a longer name".to_owned())),
        // Found, but not listed: some file systems in user space still find a file for a second after its removal.
        (false, None) => Err(Errno::AGAIN),
    }
}

/// Other spellings of a name: one for each way in which some file system folds names.
fn spellings(name: &str) -> Vec<String> {
    let mut others = Vec::new();
    if name.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        others.push(name.chars().map(|letter| if letter.is_ascii() { swapped(letter) } else { letter }).collect());
    } else {
        // A file system may fold the case of some letters and not of others.
        for (at, letter) in name.char_indices().filter(|(_, letter)| swapped(*letter) != *letter) {
            others.push(format!("{}{}{}", &name[..at], swapped(letter), &name[at + letter.len_utf8()..]));
        }
    }
    if !name.is_ascii() {
        let forms: [String; 2] = [name.nfd().collect(), name.nfc().collect()];
        others.extend(forms.into_iter().filter(|form| form != name));
    }
    let trimmed = name.trim_end_matches(['.', ' ']);
    if trimmed != name && !trimmed.is_empty() {
        others.push(trimmed.to_owned());
    }
    others
}

/// The letter in its other case, where it is a single letter too.
fn swapped(letter: char) -> char {
    let single = |mut letters: Box<dyn Iterator<Item = char>>| letters.next().filter(|_| letters.next().is_none());
    let upper = single(Box::new(letter.to_uppercase())).filter(|upper| *upper != letter);
    upper.or_else(|| single(Box::new(letter.to_lowercase()))).unwrap_or(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sort_of_spelling_is_tried_that_some_file_system_takes_for_the_same() {
        assert_eq!(spellings("ReadMe"), ["rEADmE"]);
        assert_eq!(spellings("2026-11"), [""; 0]);
        assert_eq!(spellings("straße"), ["STRAßE"]);
        assert_eq!(spellings("жц"), ["Жц", "жЦ"]);
        assert_eq!(spellings("a\u{e9}"), ["A\u{e9}", "ae\u{301}"]);
        assert_eq!(spellings("7e\u{301}"), ["7E\u{301}", "7\u{e9}"]);
        assert_eq!(spellings("7."), ["7"]);
        assert_eq!(spellings("7. ."), ["7"]);
    }

    #[test]
    fn on_a_usual_file_system_names_are_what_they_are_and_twins_are_two() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["README", "readme", "ReadMe", "d/x", "a~1", "e\u{301}", "\u{e9}"] {
            let path = scratch.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let root = super::super::root::Root::new(scratch.path().to_owned()).dir().unwrap();
        let at = root.waypoint("").unwrap();
        for name in ["README", "readme", "d", "a~1", "e\u{301}", "\u{e9}"] {
            assert!(matches!(of_name(&root, "", &at, name).unwrap(), Spelling::Own { .. }), "{name}");
        }
        assert_eq!(of_path(&root, "d").unwrap(), Spelling::Own { lasting: true });
        assert!(root.spellings.known().ascii.contains("") && root.spellings.known().spelled.contains("d"));
        assert_eq!(listed_otherwise(&at, "README").unwrap(), None);
    }
}
