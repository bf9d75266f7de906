//! The state of a file as `stat` reports it, and the version derived from it.

use std::time::Duration;

use mill_model::{Timestamp, Version};
use mill_ports::Clock;
use rustix::fs::{FileType, Stat};

use super::file_system;

/// How old a change must be before an equal version proves that nothing changed: longer than the coarsest clock of the
/// file systems in use (FAT: 2 s), so that a further change would have another time.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The same where the kernel sets the times by its own clock, to the nanosecond. That clock advances each 10 ms or more often.
pub(super) const FINE_SETTLED_AFTER: Duration = Duration::from_millis(100);

/// The set-user-id, set-group-id and sticky bits of a mode.
const BEYOND_PERMISSIONS: u32 = 0o7000;

/// The fields of `stat` that Mill uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) modified: FileTime,
    pub(super) changed: FileTime,
}

/// A point in time as file systems store it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileTime {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
}

impl FileTime {
    /// The clock by which the kernel sets times: it stands still between two ticks, and may do so for longer on a busy host.
    fn of_kernel() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Self { seconds: now.tv_sec, nanos: u32::try_from(now.tv_nsec).unwrap_or(0) }
    }

    /// The time in milliseconds since 1970; a time before 1970 is 0.
    fn timestamp(self) -> Timestamp {
        let millis = i128::from(self.seconds) * 1000 + i128::from(self.nanos / 1_000_000);
        Timestamp::from_millis(u64::try_from(millis.max(0)).unwrap_or(u64::MAX))
    }
}

impl FileState {
    /// The width and sign of the kernel's fields differ between processors.
    #[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap, clippy::cast_lossless)]
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            mode: stat.st_mode as u32,
            modified: FileTime { seconds: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
            changed: FileTime { seconds: stat.st_ctime as i64, nanos: stat.st_ctime_nsec as u32 },
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// The size of the content: 0 for a directory.
    pub(super) fn content_size(&self) -> u64 {
        if self.kind() == FileType::Directory { 0 } else { self.size }
    }

    /// Whether this is the same file with the same bytes, as far as its state shows. Ignores the ctime, which a rename
    /// changes.
    pub(super) fn has_same_content_as(&self, other: &Self) -> bool {
        let of = |state: &Self| (state.device, state.inode, state.size, state.modified);
        of(self) == of(other)
    }

    /// When anything of the file was last changed.
    pub(super) fn changed_at(&self) -> Timestamp {
        self.changed.timestamp()
    }

    pub(super) fn modified_at(&self) -> Timestamp {
        self.modified.timestamp()
    }

    /// The version of a file that was found: settled once its last change is old enough.
    pub(super) fn version(&self, clock: &dyn Clock) -> Version {
        // Any write sets another mtime than one in the future, and another ctime. A file system without a ctime has the mtime there.
        let is_ahead = self.modified.timestamp() > clock.now() && self.changed != self.modified;
        self.version_at(if is_ahead { self.changed } else { self.modified.max(self.changed) }, clock)
    }

    /// The version of a file that this store has just written itself.
    ///
    /// The ctime is now, which would leave every fresh copy unsettled and cause another read of it. But the store sets
    /// the source's mtime, which is in the past, and any later change of the bytes moves the mtime to the present: so
    /// an equal version later still proves the same bytes. Only if the mtime itself is recent, a further change could
    /// have the same one.
    pub(super) fn version_as_written(&self, clock: &dyn Clock) -> Version {
        self.version_at(self.modified, clock)
    }

    fn version_at(&self, last_change: FileTime, clock: &dyn Clock) -> Version {
        let file_system = file_system::number_of(self.device);
        let is_older_than = |age| last_change.timestamp().plus(age) < clock.now();
        let settled = is_older_than(SETTLED_AFTER)
            || self.has_fine_times() && is_older_than(FINE_SETTLED_AFTER) && last_change < FileTime::of_kernel();
        let settled = file_system.is_some() && settled;
        // A device number may be another disk's after a reboot, so it proves nothing beyond this process.
        let token = self.token(file_system.unwrap_or(self.device));
        if settled { Version::settled_at(token) } else { Version::unsettled(token) }
    }

    /// Whether its times are the kernel's, to the nanosecond: a change that comes later than one tick has another time. An ext4 with
    /// small inodes keeps whole seconds.
    pub(super) fn has_fine_times(&self) -> bool {
        file_system::is_disk(self.device) && !self.changed.nanos.is_multiple_of(1_000_000)
    }

    /// File system, inode, size, mtime and ctime in hexadecimal, and the bits of the mode beyond permissions if any is
    /// set: so sync proofs from before these bits counted stay valid for all other files. Formatted by hand, as a
    /// listing makes millions.
    fn token(&self, file_system: u64) -> String {
        let mut out = String::with_capacity(80);
        let times = [self.modified, self.changed];
        for number in [file_system, self.inode, self.size]
            .into_iter()
            .chain(times.into_iter().flat_map(|time| [time.seconds.cast_unsigned(), u64::from(time.nanos)]))
        {
            if !out.is_empty() {
                out.push('.');
            }
            push_hex(&mut out, number);
        }
        if self.mode & BEYOND_PERMISSIONS != 0 {
            out.push('.');
            push_hex(&mut out, u64::from(self.mode & BEYOND_PERMISSIONS));
        }
        out
    }
}

fn push_hex(out: &mut String, number: u64) {
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (number >> (place * 4)) & 0xf;
        out.push(char::from(b"0123456789abcdef"[digit as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> FileState {
        let at = FileTime { seconds: 100, nanos: 0 };
        // A file system that there is.
        let device = FileState::of(&rustix::fs::stat("/").unwrap()).device;
        FileState { device, inode: 12, size: 0, mode: 0o100_644, modified: at, changed: at }
    }

    #[derive(Debug)]
    struct At(u64);

    #[async_trait::async_trait]
    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0)
        }
        fn monotonic(&self) -> mill_model::Monotonic {
            mill_model::Monotonic::default()
        }
        async fn sleep(&self, _: Duration) {}
    }

    #[test]
    fn each_part_of_the_state_is_part_of_the_version() {
        let later = FileTime { seconds: 100, nanos: 8 };
        let mut seen = vec![state().token(0x801), state().token(1)];
        assert_ne!(seen[0], seen[1]);
        for other in [
            FileState { inode: 13, ..state() },
            FileState { size: 1, ..state() },
            FileState { modified: later, ..state() },
            FileState { changed: later, ..state() },
            FileState { mode: 0o104_644, ..state() },
        ] {
            assert!(!seen.contains(&other.token(0x801)));
            seen.push(other.token(0x801));
        }
        assert_eq!(seen[0], "801.c.0.64.0.64.0");
    }

    #[test]
    fn a_state_younger_than_two_seconds_proves_nothing() {
        assert!(!state().version(&At(102_000)).settled());
        assert!(state().version(&At(102_001)).settled());
        let old_mtime = FileState { modified: FileTime { seconds: 1, nanos: 0 }, ..state() };
        assert!(!old_mtime.version(&At(101_000)).settled(), "a change of ctime is a change");
        assert!(old_mtime.version_as_written(&At(101_000)).settled(), "our own write sets an old mtime");
        let nowhere = FileState { device: u64::MAX, ..state() };
        assert!(!nowhere.version(&At(102_001)).settled(), "a device number that no file system has");
        let future = FileState { modified: FileTime { seconds: 1_000_000, nanos: 0 }, ..state() };
        assert!(future.version(&At(200_000)).settled(), "its ctime shows any change since");
        assert!(!future.version(&At(101_000)).settled());
        let without_ctime = FileState { changed: future.modified, ..future };
        assert!(!without_ctime.version(&At(200_000)).settled());
    }
}
