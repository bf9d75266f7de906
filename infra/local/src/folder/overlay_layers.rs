//! Overlays whose layers cannot be found by their names.
//!
//! The mount options of an overlay name its layers as they were given: relative to an unknown directory, or moved
//! since. Such a layer is recognised by its files: the overlay shows them with the inode numbers and times that they
//! have in the layer.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How many entries are compared. A layer shares nearly all of its entries with its overlay.
const ENTRIES_MAX: usize = 1_000;

/// A path at which two folders show the same file or directory, among the first entries of `one`.
pub(super) fn shared(one: &Path, other: &Path) -> Option<PathBuf> {
    let mut to_see = VecDeque::from([PathBuf::new()]);
    let mut seen = 0;
    while let Some(path) = to_see.pop_front() {
        let (here, there) = (one.join(&path), other.join(&path));
        // An entry that cannot be read is not known to be shared.
        let Ok(found) = here.symlink_metadata() else { continue };
        if there.symlink_metadata().is_ok_and(|there| is_one(&found, &there)) {
            return Some(path);
        }
        seen += 1;
        if found.is_dir() && seen < ENTRIES_MAX {
            let entries = here.read_dir().into_iter().flatten().flatten();
            to_see.extend(entries.take(ENTRIES_MAX - seen).map(|entry| path.join(entry.file_name())));
        }
        if seen >= ENTRIES_MAX {
            return None;
        }
    }
    None
}

/// Device numbers do not count: an overlay has its own.
fn is_one(one: &Metadata, other: &Metadata) -> bool {
    let marks =
        |of: &Metadata| (of.ino(), of.mode(), of.size(), (of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec()));
    marks(one) == marks(other)
}
