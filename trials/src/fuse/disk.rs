//! A disk with bad blocks: one file, to be [attached](crate::LoopDisk::attach) to a loop device.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};
use parking_lot::Mutex;

use super::serve;
use crate::MissingRequirement;

const DISK: INodeNo = INodeNo(2);
const NAME: &str = "disk";
/// Long: only the kernel's own writes change anything.
const TTL: Duration = Duration::from_hours(1);

/// A file served in user space. A test makes its blocks fail and records its writes.
///
/// The loop driver stands between this file and the file system on it, and answers a flush once this file has answered it.
#[derive(Debug)]
pub struct FlakyDisk {
    at: PathBuf,
    state: Arc<Mutex<DiskState>>,
    _session: BackgroundSession,
}

/// One request to the disk, in the order of the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskWrite {
    /// A write.
    Bytes {
        /// Where they go.
        offset: u64,
        /// What is written.
        bytes: Vec<u8>,
    },
    /// A flush: all earlier writes must be on the disk now.
    Flush,
}

#[derive(Debug)]
struct DiskState {
    image: File,
    bytes: u64,
    unreadable: BTreeSet<u64>,
    unwritable: BTreeSet<u64>,
    /// Blocks to which a write fails if its bytes begin with `prefix`.
    unwritable_prefixed: BTreeSet<u64>,
    prefix: &'static [u8],
    failed_count: u64,
    recorded: Option<Vec<DiskWrite>>,
}

impl FlakyDisk {
    /// The size of a block.
    pub const BLOCK: u64 = 4_096;

    /// Serves the file `image`, made with `bytes` if it is not there, beneath the folder `at`.
    pub fn serve(image: &Path, bytes: u64, at: &Path) -> Result<Self, MissingRequirement> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(image).unwrap();
        file.set_len(bytes).unwrap();
        let state = Arc::new(Mutex::new(DiskState {
            image: file,
            bytes,
            unreadable: BTreeSet::new(),
            unwritable: BTreeSet::new(),
            unwritable_prefixed: BTreeSet::new(),
            prefix: b"",
            failed_count: 0,
            recorded: None,
        }));
        let session = serve(DiskServer(Arc::clone(&state)), at, "flaky-disk")?;
        Ok(Self { at: at.join(NAME), state, _session: session })
    }

    /// The file that it serves, to be attached.
    pub fn file(&self) -> &Path {
        &self.at
    }

    /// From now on writes to these blocks fail with EIO, and nothing of them is kept.
    pub fn fail_writes(&self, blocks: impl IntoIterator<Item = u64>) {
        self.state.lock().unwritable.extend(blocks);
    }

    /// From now on a write to these blocks fails with EIO if the block begins with `prefix`: so only the bytes of marked files
    /// fail, and never the tables and the journal of a file system, which would go read-only.
    pub fn fail_writes_starting_with(&self, prefix: &'static [u8], blocks: impl IntoIterator<Item = u64>) {
        let mut state = self.state.lock();
        state.prefix = prefix;
        state.unwritable_prefixed.extend(blocks);
    }

    /// From now on reads of these blocks fail with EIO.
    pub fn fail_reads(&self, blocks: impl IntoIterator<Item = u64>) {
        self.state.lock().unreadable.extend(blocks);
    }

    /// All blocks are good again.
    pub fn repair(&self) {
        let mut state = self.state.lock();
        state.unreadable.clear();
        state.unwritable.clear();
        state.unwritable_prefixed.clear();
    }

    /// How many reads and writes have failed so far.
    pub fn failed_count(&self) -> u64 {
        self.state.lock().failed_count
    }

    /// Begins to record what is written and flushed.
    pub fn record(&self) {
        self.state.lock().recorded = Some(Vec::new());
    }

    /// Writes to the file `image` what this disk holds after a power loss now: all flushed writes, and of the later ones those
    /// for which `survives` returns true. [`record`](Self::record) must have been called before the first write.
    pub fn power_loss(&self, image: &Path, mut survives: impl FnMut() -> bool) {
        let state = self.state.lock();
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

    /// Ends the recording, and returns the writes and flushes since it began.
    pub fn recorded(&self) -> Vec<DiskWrite> {
        self.state.lock().recorded.take().unwrap_or_default()
    }
}

fn blocks(offset: u64, bytes: usize) -> std::ops::Range<u64> {
    offset / FlakyDisk::BLOCK..(offset + bytes as u64).div_ceil(FlakyDisk::BLOCK)
}

impl DiskState {
    fn read(&mut self, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let size = u64::from(size).min(self.bytes.saturating_sub(offset));
        let mut bytes = vec![0; size as usize];
        if self.unreadable.range(blocks(offset, bytes.len())).next().is_some() {
            self.failed_count += 1;
            return Err(Errno::EIO);
        }
        self.image.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let marked = |block: &u64| {
            let at = (block * FlakyDisk::BLOCK).checked_sub(offset);
            at.and_then(|at| bytes.get(at as usize..)).is_some_and(|block| block.starts_with(self.prefix))
        };
        let mut bad = self.unwritable_prefixed.range(blocks(offset, bytes.len()));
        if self.unwritable.range(blocks(offset, bytes.len())).next().is_some() || bad.any(marked) {
            self.failed_count += 1;
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

    fn attributes(&self, ino: INodeNo) -> Option<FileAttr> {
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

struct DiskServer(Arc<Mutex<DiskState>>);

impl Filesystem for DiskServer {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.0.lock().attributes(DISK).filter(|_| parent == INodeNo::ROOT && name == NAME) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.lock().attributes(ino) {
            Some(attributes) => reply.attr(&TTL, &attributes),
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
        match self.0.lock().read(offset, size) {
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
        match self.0.lock().write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.lock().flush();
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
    use crate::{FileSystem, LoopDisk, in_mount_namespace};

    #[test]
    fn a_flush_reports_a_write_to_a_bad_block() {
        in_mount_namespace(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let flaky = FlakyDisk::serve(&path("image"), 64 << 20, &path("served"))?;
            let disk = LoopDisk::attach(flaky.file())?;
            disk.format(FileSystem::Ext4)?;
            let mount = disk.mount(FileSystem::Ext4, &path("mounted"), "")?;
            let mut good = File::create(path("mounted/good")).unwrap();
            good.write_all(&vec![1; 100_000]).unwrap();
            good.sync_all().unwrap();
            // The rest of the disk, but not its journal and tables, which stand at its beginning.
            flaky.fail_writes(4_096..16_384);
            let mut reported = 0;
            for n in 0..30 {
                let mut file = File::create(path(&format!("mounted/{n}"))).unwrap();
                file.write_all(&vec![2; 1 << 20]).unwrap();
                reported += u64::from(file.sync_all().is_err());
            }
            assert!(
                reported > 0 && flaky.failed_count() >= reported,
                "{reported} reported of {}",
                flaky.failed_count()
            );
            flaky.repair();
            drop(good);
            assert!(fs::read(path("mounted/good")).unwrap() == vec![1; 100_000]);
            drop(mount);
            Ok(())
        });
    }

    #[test]
    fn only_marked_bytes_fail_where_only_they_are_to() {
        in_mount_namespace(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let flaky = FlakyDisk::serve(&path("image"), 64 << 20, &path("served"))?;
            let disk = LoopDisk::attach(flaky.file())?;
            disk.format(FileSystem::Ext4)?;
            let mount = disk.mount(FileSystem::Ext4, &path("mounted"), "")?;
            flaky.fail_writes_starting_with(b"mark", 0..16_384);
            let flushed = |name: &str, bytes: &[u8]| {
                let mut file = File::create(path("mounted").join(name)).unwrap();
                file.write_all(bytes).unwrap();
                file.sync_all()
            };
            assert!(flushed("plain", b"bytes").is_ok());
            assert!(flushed("marked", b"marked bytes").is_err());
            assert!(flushed("later", &[&[0; 4_096][..], b"marked bytes"].concat()).is_err());
            assert!(flushed("plain too", b"bytes").is_ok());
            assert!(flaky.failed_count() >= 2);
            mount.unmount();
            Ok(())
        });
    }

    #[test]
    fn what_is_recorded_gives_the_image_again() {
        in_mount_namespace(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let flaky = FlakyDisk::serve(&path("image"), 32 << 20, &path("served"))?;
            let disk = LoopDisk::attach(flaky.file())?;
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
