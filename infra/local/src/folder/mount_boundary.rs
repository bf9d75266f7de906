//! Whether two directories lie in one mount, and what identifies a directory.

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::file_system;

/// The facts that identify a directory, and the mount through which it was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryFacts {
    /// The mount, where the kernel reports it (since Linux 5.8).
    mount: Option<u64>,
    /// The device number of its file system, or of its subvolume.
    pub(super) device: u64,
    pub(super) inode: u64,
    /// When the directory was created, where the file system stores it.
    born: Option<(i64, u32)>,
    /// Whether the directory is the root of its mount, where the kernel reports it.
    mount_root: Option<bool>,
}

impl DirectoryFacts {
    /// The facts of an opened directory: opening it has mounted what is mounted on demand.
    pub(super) fn of(directory: impl AsFd) -> Result<Self, Errno> {
        const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);
        let directory = directory.as_fd();
        let found = match rustix::fs::statx(directory, c"", AtFlags::EMPTY_PATH, WANTED) {
            // Before Linux 4.11, or by a filter of system calls.
            Err(Errno::NOSYS | Errno::PERM) => {
                let stat = rustix::fs::fstat(directory)?;
                let state = super::file_state::FileState::of(&stat);
                let (device, inode) = (state.device, state.inode);
                return Ok(Self { mount: None, device, inode, born: None, mount_root: None });
            }
            answer => answer?,
        };
        let told = |wanted: StatxFlags| found.stx_mask & wanted.bits() != 0;
        let is_told = found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
        Ok(Self {
            mount: told(StatxFlags::MNT_ID).then_some(found.stx_mnt_id),
            device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            born: told(StatxFlags::BTIME).then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec)),
            mount_root: is_told.then(|| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        })
    }

    /// Whether two directories on one path lie in one mount, and in one subvolume of it. If the first and the last do,
    /// so do all between them.
    pub(super) fn is_in_same_mount(&self, other: &Self) -> bool {
        (self.mount, self.device) == (other.mount, other.device)
    }

    /// Whether the directory is the root of a mount, as far as the kernel reports it.
    pub(super) fn is_mounted(&self) -> bool {
        self.mount_root.unwrap_or(false)
    }

    /// Identifies this directory among all others, across reboots and remounts: by its file system, inode and time of
    /// creation. Never by the device number, which changes at a reboot.
    pub(super) fn identity(&self, directory: impl AsFd) -> Result<String, Errno> {
        let file_system = file_system::identity(directory, self.device)?;
        Ok(self.identity_in(&file_system))
    }

    /// The identity, given that of the file system.
    pub(super) fn identity_in(&self, file_system: &str) -> String {
        match self.born.filter(|born| *born != (0, 0)) {
            Some((seconds, nanos)) => format!("{file_system}/{:x}@{seconds}.{nanos:09}", self.inode),
            None => format!("{file_system}/{:x}", self.inode),
        }
    }
}

/// The number of the mount through which a directory was opened, if the kernel reports it.
pub(super) fn mount_id(directory: impl AsFd) -> Result<Option<u64>, Errno> {
    DirectoryFacts::of(directory).map(|dir_facts| dir_facts.mount)
}
