//! A disk with bad blocks: one file, to be [attached](crate::Disk::attach) to a loop device.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};

use super::serve;
use crate::NotRun;

const DISK: INodeNo = INodeNo(2);
const NAME: &str = "disk";
/// For ever: nothing changes but by the kernel's own writes.
const TTL: Duration = Duration::from_hours(1);

/// A file in user space whose blocks can be made to fail, and whose writes can be recorded.
///
/// Between it and the file system on it stands the loop driver, which answers a flush when the flush has reached this.
#[derive(Debug)]
pub struct FlakyDisk {
    at: PathBuf,
    state: Arc<Mutex<State>>,
    _session: BackgroundSession,
}

/// One thing that the disk was asked to do, in the order in which it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskWrite {
    /// Bytes for a place.
    Bytes {
        /// Where they go.
        offset: u64,
        /// What is written.
        bytes: Vec<u8>,
    },
    /// All that was written before is to be on the disk now.
    Flush,
}

#[derive(Debug)]
struct State {
    image: File,
    bytes: u64,
    unreadable: BTreeSet<u64>,
    unwritable: BTreeSet<u64>,
    /// Blocks that only what begins so cannot be written to.
    unwritable_marked: BTreeSet<u64>,
    mark: &'static [u8],
    refused: u64,
    recorded: Option<Vec<DiskWrite>>,
}

impl FlakyDisk {
    /// The size of a block.
    pub const BLOCK: u64 = 4_096;

    /// Serves the file `image`, made with `bytes` if it is not there, beneath the folder `at`.
    pub fn serve(image: &Path, bytes: u64, at: &Path) -> Result<Self, NotRun> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(image).unwrap();
        file.set_len(bytes).unwrap();
        let state = Arc::new(Mutex::new(State {
            image: file,
            bytes,
            unreadable: BTreeSet::new(),
            unwritable: BTreeSet::new(),
            unwritable_marked: BTreeSet::new(),
            mark: b"",
            refused: 0,
            recorded: None,
        }));
        let session = serve(Served(Arc::clone(&state)), at, "flaky-disk")?;
        Ok(Self { at: at.join(NAME), state, _session: session })
    }

    /// The file that it serves, to be attached.
    pub fn file(&self) -> &Path {
        &self.at
    }

    /// From now on writes to these blocks fail with EIO, and nothing of them is kept.
    pub fn fail_writes(&self, blocks: impl IntoIterator<Item = u64>) {
        lock(&self.state).unwritable.extend(blocks);
    }

    /// The same for blocks alone that begin with `mark`: so only the bytes of marked files fail, and never the tables and
    /// the journal of a file system, which would go read-only.
    pub fn fail_writes_of(&self, mark: &'static [u8], blocks: impl IntoIterator<Item = u64>) {
        let mut state = lock(&self.state);
        state.mark = mark;
        state.unwritable_marked.extend(blocks);
    }

    /// From now on reads of these blocks fail with EIO.
    pub fn fail_reads(&self, blocks: impl IntoIterator<Item = u64>) {
        lock(&self.state).unreadable.extend(blocks);
    }

    /// All blocks are good again.
    pub fn repair(&self) {
        let mut state = lock(&self.state);
        state.unreadable.clear();
        state.unwritable.clear();
        state.unwritable_marked.clear();
    }

    /// How many reads and writes have failed.
    pub fn refused(&self) -> u64 {
        lock(&self.state).refused
    }

    /// Begins to record what is written and flushed.
    pub fn record(&self) {
        lock(&self.state).recorded = Some(Vec::new());
    }

    /// Makes the file `image` what this disk holds if the power goes now: all that was flushed, and of what was written
    /// since only what `survives`. It must have been [recorded](Self::record) from before its first write.
    pub fn power_loss(&self, image: &Path, mut survives: impl FnMut() -> bool) {
        let state = lock(&self.state);
        let recorded = state.recorded.as_deref().expect("it is recorded");
        let flushed = recorded.iter().rposition(|write| *write == DiskWrite::Flush).unwrap_or(0);
        let file = File::create(image).unwrap();
        file.set_len(state.bytes).unwrap();
        for (n, write) in recorded.iter().enumerate() {
            if let DiskWrite::Bytes { offset, bytes } = write
                && (n < flushed || survives())
            {
                file.write_all_at(bytes, *offset).unwrap();
            }
        }
    }

    /// What was written and flushed since the recording began, which ends.
    pub fn recorded(&self) -> Vec<DiskWrite> {
        lock(&self.state).recorded.take().unwrap_or_default()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn blocks(offset: u64, bytes: usize) -> std::ops::Range<u64> {
    offset / FlakyDisk::BLOCK..(offset + bytes as u64).div_ceil(FlakyDisk::BLOCK)
}

impl State {
    fn read(&mut self, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let size = u64::from(size).min(self.bytes.saturating_sub(offset));
        let mut bytes = vec![0; size as usize];
        if self.unreadable.range(blocks(offset, bytes.len())).next().is_some() {
            self.refused += 1;
            return Err(Errno::EIO);
        }
        self.image.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let marked = |block: &u64| {
            let at = (block * FlakyDisk::BLOCK).checked_sub(offset);
            at.and_then(|at| bytes.get(at as usize..)).is_some_and(|block| block.starts_with(self.mark))
        };
        let mut bad = self.unwritable_marked.range(blocks(offset, bytes.len()));
        if self.unwritable.range(blocks(offset, bytes.len())).next().is_some() || bad.any(marked) {
            self.refused += 1;
            return Err(Errno::EIO);
        }
        self.image.write_all_at(bytes, offset)?;
        if let Some(recorded) = &mut self.recorded {
            recorded.push(DiskWrite::Bytes { offset, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    fn flush(&mut self) {
        if let Some(recorded) = &mut self.recorded {
            recorded.push(DiskWrite::Flush);
        }
    }

    fn facts(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match ino {
            INodeNo::ROOT => (FileType::Directory, 0o755, 0),
            DISK => (FileType::RegularFile, 0o600, self.bytes),
            _ => return None,
        };
        Some(FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: FlakyDisk::BLOCK as u32,
            flags: 0,
        })
    }
}

struct Served(Arc<Mutex<State>>);

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match lock(&self.0).facts(DISK).filter(|_| parent == INodeNo::ROOT && name == NAME) {
            Some(facts) => reply.entry(&TTL, &facts, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match lock(&self.0).facts(ino) {
            Some(facts) => reply.attr(&TTL, &facts),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if offset == 0 {
            let _ = reply.add(DISK, 1, FileType::RegularFile, NAME);
        }
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match lock(&self.0).read(offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match lock(&self.0).write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        lock(&self.0).flush();
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;
    use crate::{Disk, FileSystem, apart};

    #[test]
    fn a_write_to_a_bad_block_is_told_by_the_flush() {
        apart(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let flaky = FlakyDisk::serve(&path("image"), 64 << 20, &path("served"))?;
            let disk = Disk::attach(flaky.file())?;
            disk.format(FileSystem::Ext4)?;
            let mount = disk.mount(FileSystem::Ext4, &path("mounted"), "")?;
            let mut good = File::create(path("mounted/good")).unwrap();
            good.write_all(&vec![1; 100_000]).unwrap();
            good.sync_all().unwrap();
            // The rest of the disk, but not its journal and tables, which stand at its beginning.
            flaky.fail_writes(4_096..16_384);
            let mut told = 0;
            for n in 0..30 {
                let mut file = File::create(path(&format!("mounted/{n}"))).unwrap();
                file.write_all(&vec![2; 1 << 20]).unwrap();
                told += u64::from(file.sync_all().is_err());
            }
            assert!(told > 0 && flaky.refused() >= told, "{told} told of {}", flaky.refused());
            flaky.repair();
            drop(good);
            assert!(fs::read(path("mounted/good")).unwrap() == vec![1; 100_000]);
            drop(mount);
            Ok(())
        });
    }

    #[test]
    fn only_marked_bytes_fail_where_only_they_are_to() {
        apart(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let flaky = FlakyDisk::serve(&path("image"), 64 << 20, &path("served"))?;
            let disk = Disk::attach(flaky.file())?;
            disk.format(FileSystem::Ext4)?;
            let mount = disk.mount(FileSystem::Ext4, &path("mounted"), "")?;
            flaky.fail_writes_of(b"mark", 0..16_384);
            let flushed = |name: &str, bytes: &[u8]| {
                let mut file = File::create(path("mounted").join(name)).unwrap();
                file.write_all(bytes).unwrap();
                file.sync_all()
            };
            assert!(flushed("plain", b"bytes").is_ok());
            assert!(flushed("marked", b"marked bytes").is_err());
            assert!(flushed("later", &[&[0; 4_096][..], b"marked bytes"].concat()).is_err());
            assert!(flushed("plain too", b"bytes").is_ok());
            assert!(flaky.refused() >= 2);
            mount.unmount();
            Ok(())
        });
    }

    #[test]
    fn what_is_recorded_gives_the_image_again() {
        apart(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let flaky = FlakyDisk::serve(&path("image"), 32 << 20, &path("served"))?;
            let disk = Disk::attach(flaky.file())?;
            flaky.record();
            disk.format(FileSystem::Ext4)?;
            let mount = disk.mount(FileSystem::Ext4, &path("mounted"), "")?;
            let mut file = File::create(path("mounted/x")).unwrap();
            file.write_all(b"text").unwrap();
            file.sync_all().unwrap();
            drop(file);
            mount.unmount();
            drop(disk);
            let recorded = flaky.recorded();
            assert!(recorded.contains(&DiskWrite::Flush));
            let mut image = vec![0; 32 << 20];
            for write in recorded {
                if let DiskWrite::Bytes { offset, bytes } = write {
                    image[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                }
            }
            assert!(image == fs::read(path("image")).unwrap());
            Ok(())
        });
    }
}
