//! Reads the bytes on the disk, not those in the page cache.
//!
//! After a failed write-back the kernel keeps the bytes in its cache and marks them clean, so that a read returns bytes
//! that never reached the disk. So Mill evicts the file's clean pages and reads with `O_DIRECT`. Where the file system
//! does not support that, Mill flushes and evicts the whole file, and checks that each page is gone.

use std::io::IoSliceMut;

use rustix::fd::AsFd;
use rustix::fs::{Advice, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

/// The largest alignment that `O_DIRECT` needs of offsets, lengths and memory: a page. Source: open(2), *O_DIRECT*.
pub(super) const ALIGNED: usize = 4096;
/// File systems in memory: tmpfs and ramfs.
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58F6];

/// How to read the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadMode {
    /// Through the cache.
    Cached,
    /// From the disk with `O_DIRECT`, into [aligned](ALIGNED) memory.
    Direct,
    /// From the disk, with a check that no page is cached.
    Evicted,
}

impl ReadMode {
    /// Prepares an open file for reads from the disk itself.
    pub(super) fn bypassing_cache(file: impl AsFd) -> Result<Self, Errno> {
        let file = file.as_fd();
        if is_memory(file)? {
            return Ok(Self::Cached);
        }
        rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?;
        let flags = rustix::fs::fcntl_getfl(file)?;
        match rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT) {
            Ok(()) => Ok(Self::Direct),
            Err(Errno::INVAL | Errno::NOTSUP) => Self::evicting_cache(file),
            Err(errno) => Err(errno),
        }
    }

    /// The same without `O_DIRECT`, which this file does not support.
    pub(super) fn evicting_cache(file: impl AsFd) -> Result<Self, Errno> {
        let file = file.as_fd();
        let flags = rustix::fs::fcntl_getfl(file)?;
        rustix::fs::fcntl_setfl(file, flags.difference(OFlags::DIRECT))?;
        match rustix::fs::fdatasync(file) {
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS | Errno::ROFS) => {}
            Err(errno) => return Err(errno),
        }
        rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?;
        // No read-ahead: it would put pages into the cache.
        rustix::fs::fadvise(file, 0, None, Advice::Random)?;
        Ok(Self::Evicted)
    }
}

/// Whether any of these bytes may come from the cache.
pub(super) fn may_be_cached(file: impl AsFd, at: u64, length: usize) -> bool {
    let mut byte = [0_u8];
    let pages = (at..at + length as u64).step_by(ALIGNED);
    pages.into_iter().any(|page| {
        let mut into = [IoSliceMut::new(&mut byte)];
        match rustix::io::preadv2(&file, &mut into, page, ReadWriteFlags::NOWAIT) {
            // The read would wait for the disk, or is past the end.
            Err(Errno::AGAIN) | Ok(0) => false,
            // The page is cached, or this file system does not show it.
            Ok(_) | Err(_) => true,
        }
    })
}

#[allow(clippy::unnecessary_cast)] // the kernel's number differs in width and sign between processors
fn is_memory(file: impl AsFd) -> Result<bool, Errno> {
    let found = rustix::fs::fstatfs(file)?.f_type as u64 & 0xFFFF_FFFF;
    Ok(MEMORY.contains(&found))
}

/// Memory for a read of so many bytes with `O_DIRECT`, and the aligned offset in it.
pub(super) fn aligned(length: usize) -> (Vec<u8>, usize) {
    let memory = vec![0; length + ALIGNED];
    let from = memory.as_ptr().align_offset(ALIGNED).min(ALIGNED);
    (memory, from)
}
