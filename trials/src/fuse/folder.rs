//! A folder that fails on demand: another folder, served in user space, in which a test makes single operations fail.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use parking_lot::{Mutex, MutexGuard};

use super::serve;
use crate::MissingRequirement;

/// The kernel caches nothing, so that a fault shows at once.
const TTL: Duration = Duration::ZERO;

/// A folder served in user space. It supports no extended attributes, as many such file systems do not.
#[derive(Debug)]
pub struct FlakyFolder {
    served: Arc<Mutex<Tree>>,
    _session: BackgroundSession,
}

/// An operation that a test can make fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FolderOperation {
    /// Looking a name up, or reading its attributes.
    Lookup,
    /// Opening a file.
    Open,
    /// Opening a directory.
    OpenDirectory,
    /// Reading on in a directory, after its first entries.
    ReadDirectory,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Flushing a file.
    Flush,
    /// Renaming the file that has this name, or another file to this name.
    Rename,
    /// Removing a file.
    Remove,
}

impl FlakyFolder {
    /// Serves the folder `from` at `at`.
    pub fn serve(from: &Path, at: &Path) -> Result<Self, MissingRequirement> {
        let root = fs::canonicalize(from).unwrap();
        let served = Arc::new(Mutex::new(Tree { root, ..Tree::default() }));
        let session = serve(FolderServer(Arc::clone(&served)), at, "flaky-folder")?;
        Ok(Self { served, _session: session })
    }

    /// From now on `operation` on `path`, relative to the folder, fails with `errno` ([`nix::libc`] has them).
    pub fn fail(&self, operation: FolderOperation, path: impl AsRef<Path>, errno: i32) {
        self.fail_times(u32::MAX, operation, path, errno);
    }

    /// Like [`fail`](Self::fail), but only `times` times; then the operation works again.
    pub fn fail_times(&self, times: u32, operation: FolderOperation, path: impl AsRef<Path>, errno: i32) {
        self.served.lock().faults.insert((operation, path.as_ref().to_owned()), Mutex::new((errno, times)));
    }

    /// From now on two names are one name if `fold` returns the same for both. A listing shows the name as it was given.
    pub fn fold_names(&self, fold: fn(&OsStr) -> OsString) {
        self.served.lock().fold = Some(fold);
    }

    /// Blocks every operation until the returned guard is dropped.
    #[must_use]
    pub fn hang(&self) -> impl Drop + '_ {
        HangGuard(self.served.lock())
    }

    /// Nothing fails any more.
    pub fn repair(&self) {
        let mut tree = self.served.lock();
        tree.faults.clear();
        tree.ignores_lone_mtime = false;
    }

    /// From now on a change of the modification time alone, without the access time (`UTIME_OMIT`), reports success and
    /// does nothing, as on some such file systems.
    pub fn ignore_lone_mtime(&self) {
        self.served.lock().ignores_lone_mtime = true;
    }
}

/// Each operation waits for the lock that this holds.
struct HangGuard<'f>(#[allow(dead_code)] MutexGuard<'f, Tree>);

impl Drop for HangGuard<'_> {
    fn drop(&mut self) {}
}

#[derive(Debug, Default)]
struct Tree {
    root: PathBuf,
    /// The path of each inode that the kernel knows, relative to the root. Inode numbers are those of the folder served.
    paths: BTreeMap<u64, PathBuf>,
    files: BTreeMap<u64, File>,
    listings: BTreeMap<u64, Vec<(u64, FileType, OsString)>>,
    handles: u64,
    /// For each operation that fails: the error number, and how many times it still fails.
    faults: BTreeMap<(FolderOperation, PathBuf), Mutex<(i32, u32)>>,
    ignores_lone_mtime: bool,
    fold: Option<fn(&OsStr) -> OsString>,
}

impl Tree {
    fn path(&self, ino: INodeNo) -> Result<PathBuf, Errno> {
        if ino == INodeNo::ROOT {
            return Ok(PathBuf::new());
        }
        self.paths.get(&ino.0).cloned().ok_or(Errno::ESTALE)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<PathBuf, Errno> {
        let parent = self.path(parent)?;
        let name = self.stored_name(&parent, name);
        Ok(parent.join(name))
    }

    /// The name under which a directory holds this name.
    fn stored_name(&self, directory: &Path, name: &OsStr) -> OsString {
        let Some(fold) = self.fold else { return name.to_owned() };
        let entries = fs::read_dir(self.root.join(directory)).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        names.find(|there| fold(there) == fold(name)).unwrap_or_else(|| name.to_owned())
    }

    fn check_fault(&self, operation: FolderOperation, path: &Path) -> Result<(), Errno> {
        let Some(fault) = self.faults.get(&(operation, path.to_owned())) else { return Ok(()) };
        let mut fault = fault.lock();
        if fault.1 == 0 {
            return Ok(());
        }
        fault.1 -= 1;
        Err(Errno::from_i32(fault.0))
    }

    fn handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    fn lookup_path(&mut self, path: &Path) -> Result<FileAttr, Errno> {
        self.check_fault(FolderOperation::Lookup, path)?;
        let found = fs::symlink_metadata(self.root.join(path))?;
        let ino = if path.as_os_str().is_empty() { INodeNo::ROOT.0 } else { found.ino() };
        self.paths.insert(ino, path.to_owned());
        Ok(FileAttr {
            ino: INodeNo(ino),
            size: found.size(),
            blocks: found.blocks(),
            atime: time(found.atime(), found.atime_nsec()),
            mtime: time(found.mtime(), found.mtime_nsec()),
            ctime: time(found.ctime(), found.ctime_nsec()),
            crtime: UNIX_EPOCH,
            kind: kind(found.file_type()),
            perm: (found.mode() & 0o7777) as u16,
            nlink: found.nlink() as u32,
            uid: found.uid(),
            gid: found.gid(),
            rdev: found.rdev() as u32,
            blksize: 4_096,
            flags: 0,
        })
    }

    fn open(&mut self, path: &Path, flags: OpenFlags, create: Option<u32>) -> Result<u64, Errno> {
        self.check_fault(FolderOperation::Open, path)?;
        let access = flags.0 & nix::libc::O_ACCMODE;
        let mut options = File::options();
        options.read(access != nix::libc::O_WRONLY).write(access != nix::libc::O_RDONLY);
        options.truncate(flags.0 & nix::libc::O_TRUNC != 0);
        if let Some(mode) = create {
            options.create_new(flags.0 & nix::libc::O_EXCL != 0).create(true).mode(mode);
        }
        let file = options.open(self.root.join(path))?;
        let handle = self.handle();
        self.files.insert(handle, file);
        Ok(handle)
    }

    fn list(&mut self, path: &Path) -> Result<u64, Errno> {
        self.check_fault(FolderOperation::OpenDirectory, path)?;
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.root.join(path))? {
            let entry = entry?;
            entries.push((entry.metadata()?.ino(), kind(entry.file_type()?), entry.file_name()));
        }
        let handle = self.handle();
        self.listings.insert(handle, entries);
        Ok(handle)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        self.check_fault(FolderOperation::Rename, from)?;
        self.check_fault(FolderOperation::Rename, to)?;
        fs::rename(self.root.join(from), self.root.join(to))?;
        for path in self.paths.values_mut() {
            if let Ok(rest) = path.strip_prefix(from) {
                *path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            }
        }
        Ok(())
    }

    fn set_times(&self, path: &Path, atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>) -> Result<(), Errno> {
        if (atime.is_none() && mtime.is_none()) || (atime.is_none() && self.ignores_lone_mtime) {
            return Ok(());
        }
        let spec = |time: Option<TimeOrNow>| match time {
            None => TimeSpec::UTIME_OMIT,
            Some(TimeOrNow::Now) => TimeSpec::UTIME_NOW,
            Some(TimeOrNow::SpecificTime(time)) => since_epoch(time),
        };
        let path = self.root.join(path);
        let here = nix::fcntl::AT_FDCWD;
        utimensat(here, &path, &spec(atime), &spec(mtime), UtimensatFlags::NoFollowSymlink)
            .map_err(|errno| Errno::from_i32(errno as i32))
    }

    fn file(&self, handle: FileHandle) -> Result<&File, Errno> {
        self.files.get(&handle.0).ok_or(Errno::EBADF)
    }
}

fn time(seconds: i64, nanos: i64) -> SystemTime {
    let nanos = Duration::from_nanos(nanos as u64);
    let whole = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH - whole + nanos } else { UNIX_EPOCH + whole + nanos }
}

fn since_epoch(time: SystemTime) -> TimeSpec {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => TimeSpec::new(after.as_secs().cast_signed(), after.subsec_nanos().into()),
        Err(before) => {
            let before = before.duration();
            let up = i64::from(before.subsec_nanos() > 0);
            TimeSpec::new(-before.as_secs().cast_signed() - up, up * (1_000_000_000 - i64::from(before.subsec_nanos())))
        }
    }
}

fn kind(of: fs::FileType) -> FileType {
    if of.is_dir() {
        FileType::Directory
    } else if of.is_symlink() {
        FileType::Symlink
    } else {
        FileType::RegularFile
    }
}

struct FolderServer(Arc<Mutex<Tree>>);

impl FolderServer {
    fn done(&self, reply: ReplyEmpty, work: impl FnOnce(&mut Tree) -> Result<(), Errno>) {
        match work(&mut self.0.lock()) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}

fn io(result: io::Result<()>) -> Result<(), Errno> {
    Ok(result?)
}

impl Filesystem for FolderServer {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut tree = self.0.lock();
        match tree.child(parent, name).and_then(|path| tree.lookup_path(&path)) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let mut tree = self.0.lock();
        match tree.path(ino).and_then(|path| tree.lookup_path(&path)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.0.lock();
        let mut set = || {
            let path = tree.path(ino)?;
            let full = tree.root.join(&path);
            if let Some(mode) = mode {
                fs::set_permissions(&full, fs::Permissions::from_mode(mode & 0o7777))?;
            }
            if let Some(size) = size {
                File::options().write(true).open(&full)?.set_len(size)?;
            }
            tree.set_times(&path, atime, mtime)?;
            tree.lookup_path(&path)
        };
        match set() {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let mut tree = self.0.lock();
        let mut make = || {
            let path = tree.child(parent, name)?;
            fs::create_dir(tree.root.join(&path))?;
            fs::set_permissions(tree.root.join(&path), fs::Permissions::from_mode(mode & !umask & 0o7777))?;
            tree.lookup_path(&path)
        };
        match make() {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(reply, |tree| {
            let path = tree.child(parent, name)?;
            tree.check_fault(FolderOperation::Remove, &path)?;
            io(fs::remove_file(tree.root.join(path)))
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(reply, |tree| io(fs::remove_dir(tree.root.join(tree.child(parent, name)?))));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.done(reply, |tree| {
            // Like many such file systems, this one knows no flag.
            if !flags.is_empty() {
                return Err(Errno::EINVAL);
            }
            let (from, to) = (tree.child(parent, name)?, tree.child(new_parent, new_name)?);
            // A file renamed to another spelling of its own name has the new spelling from then on.
            let to = if to == from { tree.path(new_parent)?.join(new_name) } else { to };
            tree.rename(&from, &to)
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mut tree = self.0.lock();
        match tree.path(ino).and_then(|path| tree.open(&path, flags, None)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let mut tree = self.0.lock();
        let mut create = || {
            let path = tree.child(parent, name)?;
            let handle = tree.open(&path, OpenFlags(flags), Some(mode & !umask))?;
            Ok((handle, tree.lookup_path(&path)?))
        };
        match create() {
            Ok((handle, attributes)) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let tree = self.0.lock();
        let read = || {
            tree.check_fault(FolderOperation::Read, &tree.path(ino)?)?;
            let mut bytes = vec![0; size as usize];
            let mut filled = 0;
            while filled < bytes.len() {
                match tree.file(handle)?.read_at(&mut bytes[filled..], offset + filled as u64)? {
                    0 => break,
                    more => filled += more,
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let tree = self.0.lock();
        let write = || {
            tree.check_fault(FolderOperation::Write, &tree.path(ino)?)?;
            io(tree.file(handle)?.write_all_at(data, offset))
        };
        match write() {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done(reply, |tree| {
            tree.check_fault(FolderOperation::Flush, &tree.path(ino)?)?;
            io(tree.file(handle)?.sync_all())
        });
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done(reply, |tree| io(File::open(tree.root.join(tree.path(ino)?))?.sync_all()));
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.0.lock().files.remove(&handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut tree = self.0.lock();
        match tree.path(ino).and_then(|path| tree.list(&path)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        /// A listing is read in several steps, so that it can break off in the middle.
        const AT_ONCE: usize = 20;
        let tree = self.0.lock();
        let allowed = tree.path(ino).and_then(|path| tree.check_fault(FolderOperation::ReadDirectory, &path));
        if let (Err(error), true) = (allowed, offset > 0) {
            return reply.error(error);
        }
        let Some(entries) = tree.listings.get(&handle.0) else { return reply.error(Errno::EBADF) };
        for (number, (ino, kind, name)) in entries.iter().enumerate().skip(offset as usize).take(AT_ONCE) {
            if reply.add(INodeNo(*ino), number as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.0.lock().listings.remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 30, 1 << 29, 1 << 29, 1 << 20, 1 << 19, 4_096, 255, 4_096);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOTSUP);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOTSUP);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::ENOTSUP);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOTSUP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::in_mount_namespace;

    fn served(trial: impl FnOnce(&FlakyFolder, &Path) + Send + 'static) {
        in_mount_namespace(|| {
            let folder = tempfile::tempdir().unwrap();
            let (from, at) = (folder.path().join("from"), folder.path().join("at"));
            fs::create_dir(&from).unwrap();
            let flaky = FlakyFolder::serve(&from, &at)?;
            trial(&flaky, &at);
            Ok(())
        });
    }

    #[test]
    fn a_served_folder_is_a_folder() {
        served(|_, at| {
            fs::create_dir(at.join("a")).unwrap();
            fs::write(at.join("a/x"), vec![7; 300_000]).unwrap();
            fs::rename(at.join("a"), at.join("b")).unwrap();
            assert!(fs::read(at.join("b/x")).unwrap() == vec![7; 300_000]);
            let long_ago = UNIX_EPOCH + Duration::new(1_000_000_000, 5);
            let file = File::options().write(true).open(at.join("b/x")).unwrap();
            file.set_modified(long_ago).unwrap();
            assert_eq!(fs::metadata(at.join("b/x")).unwrap().modified().unwrap(), long_ago);
            fs::set_permissions(at.join("b/x"), fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(fs::metadata(at.join("b/x")).unwrap().permissions().mode() & 0o777, 0o600);
            for n in 0..100 {
                fs::write(at.join(format!("b/{n}")), "").unwrap();
            }
            assert_eq!(fs::read_dir(at.join("b")).unwrap().map(Result::unwrap).count(), 101);
            fs::remove_dir_all(at.join("b")).unwrap();
            assert_eq!(fs::read_dir(at).unwrap().count(), 0);
        });
    }

    #[test]
    fn what_is_told_to_fail_fails_and_nothing_else() {
        served(|flaky, at| {
            for n in 0..100 {
                fs::write(at.join(format!("{n}")), "text").unwrap();
            }
            let code = |error: io::Error| error.raw_os_error().unwrap();
            flaky.fail(FolderOperation::ReadDirectory, "", nix::libc::ENOENT);
            let entries: Vec<_> = fs::read_dir(at).unwrap().collect();
            // The C library ends a listing at ENOENT as if it were complete.
            assert!(entries.len() < 100);
            flaky.fail(FolderOperation::Open, "7", nix::libc::EIO);
            assert_eq!(code(fs::read(at.join("7")).unwrap_err()), nix::libc::EIO);
            flaky.fail(FolderOperation::Lookup, "8", nix::libc::EACCES);
            assert_eq!(code(fs::metadata(at.join("8")).unwrap_err()), nix::libc::EACCES);
            assert_eq!(fs::read(at.join("9")).unwrap(), b"text");
            flaky.repair();
            assert_eq!(fs::read_dir(at).unwrap().map(Result::unwrap).count(), 100);
            assert_eq!(fs::read(at.join("7")).unwrap(), b"text");
        });
    }

    #[test]
    fn a_lone_modification_time_can_be_taken_and_forgotten() {
        served(|flaky, at| {
            fs::write(at.join("x"), "text").unwrap();
            let before = fs::metadata(at.join("x")).unwrap().modified().unwrap();
            flaky.ignore_lone_mtime();
            let file = File::options().write(true).open(at.join("x")).unwrap();
            file.set_modified(UNIX_EPOCH).unwrap();
            assert_eq!(fs::metadata(at.join("x")).unwrap().modified().unwrap(), before);
            let both = fs::FileTimes::new().set_accessed(UNIX_EPOCH).set_modified(UNIX_EPOCH);
            file.set_times(both).unwrap();
            assert_eq!(fs::metadata(at.join("x")).unwrap().modified().unwrap(), UNIX_EPOCH);
        });
    }
}
