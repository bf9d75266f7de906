//! Where one mount ends and another begins, and what tells the place that begins there from any other.

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::file_system;

/// What a directory is, and which mount it was reached through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryFacts {
    /// The mount, where the kernel tells it (Linux 5.8).
    mount: Option<u64>,
    /// The device number of its file system, or of its subvolume.
    pub(super) device: u64,
    pub(super) inode: u64,
    /// When it was made, where the file system keeps that.
    born: Option<(i64, u32)>,
    /// Whether it is what its mount shows, where the kernel tells it.
    mount_root: Option<bool>,
}

impl DirectoryFacts {
    /// Of a directory that was opened: what is mounted on demand is mounted by then.
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

    /// Whether two directories of one way down lie in one mount, and in one subvolume of it. If the first and the last
    /// do, so do all between them.
    pub(super) fn is_in_same_mount(&self, other: &Self) -> bool {
        (self.mount, self.device) == (other.mount, other.device)
    }

    /// Whether it is what a mount shows, as far as the kernel tells it.
    pub(super) fn is_mounted(&self) -> bool {
        self.mount_root.unwrap_or(false)
    }

    /// What tells this directory from all others, over reboots and remounts: its file system, its inode, and when it was
    /// made. Never the device number, which is another after a reboot.
    pub(super) fn identity(&self, directory: impl AsFd) -> Result<String, Errno> {
        let file_system = file_system::identity(directory, self.device)?;
        Ok(self.identity_in(&file_system))
    }

    /// The same, where the identity of the file system is known.
    pub(super) fn identity_in(&self, file_system: &str) -> String {
        match self.born.filter(|born| *born != (0, 0)) {
            Some((seconds, nanos)) => format!("{file_system}/{:x}@{seconds}.{nanos:09}", self.inode),
            None => format!("{file_system}/{:x}", self.inode),
        }
    }
}

/// The number of the mount through which a directory was opened, if the kernel tells it.
pub(super) fn mount_id(directory: impl AsFd) -> Result<Option<u64>, Errno> {
    DirectoryFacts::of(directory).map(|dir_facts| dir_facts.mount)
}
