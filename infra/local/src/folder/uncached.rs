//! Reading what the disk holds, not what the page cache says of it.
//!
//! After a write-back that failed, the kernel keeps the bytes in its cache and calls them clean, so that a reading finds
//! what the disk never took. So the pages of a file that are clean are let go of, and it is read with `O_DIRECT`. Where
//! the file system takes no such reading, all of it is flushed and let go of, and each page must be seen to be gone.

use std::io::IoSliceMut;

use rustix::fd::AsFd;
use rustix::fs::{Advice, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

/// What `O_DIRECT` asks of offsets, lengths and memory at most: a page. Source: open(2), *O_DIRECT*.
pub(super) const ALIGNED: usize = 4096;
/// File systems that are nothing but a cache: tmpfs and ramfs.
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58F6];

/// How the bytes of a file are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadMode {
    /// As the cache has them.
    Cached,
    /// From the disk, into memory that is [aligned](ALIGNED).
    Direct,
    /// From the disk, since each page is seen to be in no cache.
    Evicted,
}

impl ReadMode {
    /// Prepares an open file for being read from the disk itself.
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

    /// The same without `O_DIRECT`, which this file turned out not to take.
    pub(super) fn evicting_cache(file: impl AsFd) -> Result<Self, Errno> {
        let file = file.as_fd();
        let flags = rustix::fs::fcntl_getfl(file)?;
        rustix::fs::fcntl_setfl(file, flags.difference(OFlags::DIRECT))?;
        match rustix::fs::fdatasync(file) {
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS | Errno::ROFS) => {}
            Err(errno) => return Err(errno),
        }
        rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?;
        // Nothing is read ahead: what was would be found in the cache.
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
            // It would have to wait for the disk; or nothing is there.
            Err(Errno::AGAIN) | Ok(0) => false,
            // It is cached; or this file system does not tell.
            Ok(_) | Err(_) => true,
        }
    })
}

#[allow(clippy::unnecessary_cast)] // the kernel's number differs in width and sign between processors
fn is_memory(file: impl AsFd) -> Result<bool, Errno> {
    let found = rustix::fs::fstatfs(file)?.f_type as u64 & 0xFFFF_FFFF;
    Ok(MEMORY.contains(&found))
}

/// Memory in which so many bytes can be read with `O_DIRECT`, and where in it they begin.
pub(super) fn aligned(length: usize) -> (Vec<u8>, usize) {
    let memory = vec![0; length + ALIGNED];
    let from = memory.as_ptr().align_offset(ALIGNED).min(ALIGNED);
    (memory, from)
}
