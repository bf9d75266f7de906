//! `.mill-in-progress`, as a listing meets it: a sign that a folder is the destination of a Mill, and of which one.
//!
//! The names of the directories in it begin with the mark of the root for which they were made. So a listing of a
//! source recognises the destination of its own policy, whatever file systems lie in between: a server mounted on
//! itself, an overlay, a program that shows a folder under another path.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::dirents::Dirents;
use super::item_path::IN_PROGRESS;
use super::root::directory_in;

/// How many digits of a name are the mark.
const MARK_DIGITS: usize = 16;

/// A name for a directory for writes in progress of the root with that mark.
pub(super) fn name(mark: u64) -> String {
    format!("{mark:016x}{:016x}", rand::random::<u64>())
}

/// The contents of `.mill-in-progress`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct InProgress {
    /// The roots for which writes are prepared there.
    marks: Vec<u64>,
    /// Whether it contains anything that no Mill made.
    pub(super) foreign: bool,
}

impl InProgress {
    /// Something that no Mill made.
    pub(super) fn foreign() -> Self {
        Self { marks: Vec::new(), foreign: true }
    }

    /// The contents of that directory in `parent`; `None` if there is none.
    pub(super) fn in_directory(parent: impl AsFd) -> Result<Option<Self>, Errno> {
        match directory_in(parent, IN_PROGRESS) {
            Ok(directory) => Self::read(&directory).map(Some),
            Err(Errno::NOENT) => Ok(None),
            // Mill makes a directory.
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(Some(Self::foreign())),
            Err(errno) => Err(errno),
        }
    }

    /// Reads the contents.
    pub(super) fn read(directory: &OwnedFd) -> Result<Self, Errno> {
        let mut found = Self::default();
        Dirents::with_buffer(32 * 1024).read(directory, |name, kind| {
            let own = kind == FileType::Directory && name.iter().all(u8::is_ascii_hexdigit);
            found.foreign |= !own;
            let mark = name.get(..MARK_DIGITS).filter(|_| own).and_then(|digits| std::str::from_utf8(digits).ok());
            found.marks.extend(mark.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
            true
        })?;
        Ok(found)
    }

    /// Whether writes are prepared there for one of those roots.
    pub(super) fn is_for_any(&self, marks: &[u64]) -> bool {
        self.marks.iter().any(|mark| marks.contains(mark))
    }
}
