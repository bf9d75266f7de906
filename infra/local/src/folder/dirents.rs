//! The names in a directory as the kernel returns them: in no order, a buffer at a time.

use std::mem::MaybeUninit;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom};
use rustix::io::Errno;

/// A buffer for reading directories, used again and again.
pub(super) struct Dirents(Vec<MaybeUninit<u8>>);

impl Dirents {
    /// A buffer for about `bytes` of names at a time.
    pub(super) fn with_buffer(bytes: usize) -> Self {
        Self(vec![MaybeUninit::uninit(); bytes])
    }

    /// Calls `each` with every name in `directory` and its type, until it returns `false`. Skips `.` and `..`. A name
    /// whose type cannot be determined has the type `Unknown`.
    pub(super) fn read(
        &mut self,
        directory: impl AsFd,
        mut each: impl FnMut(&[u8], FileType) -> bool,
    ) -> Result<(), Errno> {
        let directory = directory.as_fd();
        rustix::fs::seek(directory, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(directory, &mut self.0);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // The directory was removed meanwhile, and with it all names. If it still exists, this is an error.
                Err(Errno::NOENT) if rustix::fs::fstat(directory)?.st_nlink == 0 => return Ok(()),
                Err(errno) => return Err(errno),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                    stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
                }
                kind => kind,
            };
            if !each(name, kind) {
                break;
            }
        }
        Ok(())
    }

    /// Whether a directory holds nothing at all.
    pub(super) fn is_empty(directory: impl AsFd) -> Result<bool, Errno> {
        let mut empty = true;
        Self::with_buffer(1024).read(directory, |_, _| {
            empty = false;
            false
        })?;
        Ok(empty)
    }
}

impl std::fmt::Debug for Dirents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dirents").field(&self.0.len()).finish()
    }
}
