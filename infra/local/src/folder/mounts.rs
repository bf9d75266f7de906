//! The mounts that this process sees, read from `mountinfo`.
//!
//! A mount shows one directory of a file system (its root) at one path (its mount point). Two mounts of one file system
//! may therefore show the same files under paths that have nothing in common.
//!
//! Source: Linux, *proc_pid_mountinfo(5)*.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};

/// The table of this thread: `/proc/self` is that of the first thread, which may have other mounts.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";
/// How often to read a table that changes while it is read.
const READS_MAX: usize = 20;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountEntry {
    /// Its number among all mounts of this moment.
    pub(super) id: u64,
    /// The number of the mount that its mount point lies in.
    pub(super) parent: u64,
    /// The device number of its file system: the same for all mounts of one file system, but only until it is
    /// unmounted.
    pub(super) device: (u32, u32),
    /// Which directory of the file system it shows.
    pub(super) root: PathBuf,
    /// Where it shows it.
    pub(super) point: PathBuf,
    /// The type of the file system, such as `ext4` or `fuse.sshfs`.
    pub(super) kind: String,
    /// What was mounted, in the words of the file system: a device, an export, anything.
    pub(super) source: OsString,
    /// The options of the file system itself.
    pub(super) options: Vec<OsString>,
}

/// All mounts of a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MountTable(Vec<MountEntry>);

/// A line of the table that cannot be parsed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the table of mounts cannot be understood")]
pub(super) struct MountTableError {
    line: usize,
}

impl MountTable {
    /// The mounts of now.
    pub(super) fn now() -> io::Result<Self> {
        MountWatch::open()?.read()
    }

    /// Parses a table. Fails unless each line is complete and valid.
    pub(super) fn parse(text: &[u8]) -> Result<Self, MountTableError> {
        let mut mounts = Vec::new();
        for (at, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let mount = line.strip_suffix(b"\n").and_then(MountEntry::parse);
            mounts.push(mount.ok_or(MountTableError { line: at + 1 })?);
        }
        Ok(Self(mounts))
    }

    /// The mount of that number.
    pub(super) fn mount(&self, id: u64) -> Option<&MountEntry> {
        self.0.iter().find(|mount| mount.id == id)
    }

    /// A mount of the file system with that device number, preferably one that shows its root.
    pub(super) fn of_device(&self, device: (u32, u32)) -> Option<&MountEntry> {
        let of_device = || self.0.iter().filter(|mount| mount.device == device);
        of_device().find(|mount| mount.root == Path::new("/")).or_else(|| of_device().next())
    }

    /// The mount that shows `path`, by the text of the path: for kernels that report no mount numbers.
    pub(super) fn covering(&self, path: &Path) -> Option<&MountEntry> {
        let covers = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        // Of several at one point the last was mounted over the others.
        covers.max_by_key(|mount| mount.point.components().count())
    }

    /// The number and the point of each mount at or beneath `path`, by the text of the path.
    pub(super) fn points_beneath(&self, path: &Path) -> Vec<(u64, PathBuf)> {
        let beneath = self.0.iter().filter(|mount| mount.point.starts_with(path));
        beneath.map(|mount| (mount.id, mount.point.clone())).collect()
    }

    /// The mounts that can be reached through the mount `id` at or beneath `path`, those of mounts in turn included.
    pub(super) fn beneath<'a>(&'a self, id: u64, path: &Path) -> Vec<&'a MountEntry> {
        let mut found: Vec<&MountEntry> = self.children(id).filter(|mount| mount.point.starts_with(path)).collect();
        let mut next = 0;
        while let Some(mount) = found.get(next) {
            let more: Vec<&MountEntry> =
                self.children(mount.id).filter(|child| !found.iter().any(|known| known.id == child.id)).collect();
            found.extend(more);
            next += 1;
        }
        found
    }

    fn children(&self, id: u64) -> impl Iterator<Item = &MountEntry> {
        self.0.iter().filter(move |mount| mount.parent == id && mount.id != id)
    }
}

impl MountEntry {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = number(fields.next()?)?;
        let parent = number(fields.next()?)?;
        let (major, minor) = text(fields.next()?)?.split_once(':')?;
        let root = path(fields.next()?)?;
        let point = path(fields.next()?)?;
        let _flags = fields.next().filter(|flags| !flags.is_empty())?;
        // Optional fields, to which newer kernels may add.
        fields.find(|field| *field == b"-")?;
        let kind = text(&unescaped(fields.next()?)?)?.to_owned();
        let source = OsString::from_vec(unescaped(fields.next()?)?);
        // The file system itself writes the options, some without escapes.
        let options = fields.collect::<Vec<_>>().join(&b' ');
        let options = options.split(|byte| *byte == b',');
        let options = options.map(|option| unescaped(option).unwrap_or_else(|| option.to_vec()));
        let mount = Self {
            id,
            parent,
            device: (major.parse().ok()?, minor.parse().ok()?),
            root,
            point,
            kind,
            source,
            options: options.map(OsString::from_vec).collect(),
        };
        (!mount.kind.is_empty()).then_some(mount)
    }

    /// The value of an option of the file system.
    pub(super) fn option(&self, name: &str) -> Option<&OsStr> {
        self.options.iter().find_map(|option| {
            let value = option.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(OsStr::from_bytes(value))
        })
    }
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

fn number(field: &[u8]) -> Option<u64> {
    text(field)?.parse().ok()
}

/// A path of the table. The path of a deleted or unreachable root is kept as the kernel shows it.
fn path(field: &[u8]) -> Option<PathBuf> {
    let path = unescaped(field)?;
    (!path.is_empty()).then(|| PathBuf::from(OsString::from_vec(path)))
}

/// A field without its escapes: space, tab, line feed, backslash and `#` stand in it as `\` and three octal digits.
fn unescaped(field: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let (digits, others) = rest.split_at_checked(3)?;
        out.push(u8::from_str_radix(text(digits)?, 8).ok()?);
        rest = others;
    }
    Some(out)
}

/// The table, kept open, so that the kernel reports changes.
#[derive(Debug)]
pub(super) struct MountWatch(File);

impl MountWatch {
    pub(super) fn open() -> io::Result<Self> {
        File::open(MOUNTINFO).map(Self)
    }

    /// Whether anything was mounted or unmounted since the last call, or since the table was opened.
    pub(super) fn changed(&self) -> bool {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut file = [PollFd::new(&self.0, PollFlags::PRI)];
        match rustix::event::poll(&mut file, Some(&AT_ONCE)) {
            Ok(0) => false,
            // If that is unknown, the mounts count as changed.
            Ok(_) | Err(_) => true,
        }
    }

    /// The current mounts. Reads again if they change meanwhile, since the kernel may have skipped a line.
    pub(super) fn read(&self) -> io::Result<MountTable> {
        for _ in 0..READS_MAX {
            self.changed();
            let mut text = Vec::new();
            File::open(MOUNTINFO)?.read_to_end(&mut text)?;
            if !self.changed() {
                return MountTable::parse(&text).map_err(io::Error::other);
            }
        }
        Err(io::Error::other("the table of mounts changes faster than it can be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 28 0:20 / /proc rw,nosuid shared:5 - proc proc rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
40 28 254:0 /data/photos /mnt/my\\040photos rw shared:1 master:7 - ext4 /dev/vda rw
41 40 0:50 / /mnt/my\\040photos/new\\134er rw - tmpfs tmpfs rw,size=8m
42 28 0:51 /sub /pool rw - btrfs /dev/sdb rw,subvolid=256,subvol=/sub
43 28 0:52 / /over rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/c\\054d,workdir=/w
";

    #[test]
    fn a_table_is_read_with_all_its_fields_and_escapes() {
        let table = MountTable::parse(TABLE.as_bytes()).unwrap();
        assert_eq!(table.0.len(), 6);
        let photos = table.mount(40).unwrap();
        assert_eq!((photos.device, &*photos.kind), ((254, 0), "ext4"));
        assert_eq!(photos.root, Path::new("/data/photos"));
        assert_eq!(photos.point, Path::new("/mnt/my photos"));
        assert_eq!(photos.source, "/dev/vda");
        assert_eq!(table.mount(41).unwrap().point, Path::new("/mnt/my photos/new\\er"));
        let over = table.mount(43).unwrap();
        assert_eq!(over.option("upperdir").unwrap(), "/c,d");
        assert_eq!(over.option("lowerdir").unwrap(), "/a:/b");
        assert_eq!(over.option("lower"), None);
    }

    #[test]
    fn names_that_are_not_utf8_are_kept_to_the_byte() {
        let line = b"40 28 254:0 / /mnt/caf\xe9 rw - fuse.x \xff\\011y rw\n";
        let table = MountTable::parse(line).unwrap();
        assert_eq!(table.0[0].point.as_os_str().as_bytes(), b"/mnt/caf\xe9");
        assert_eq!(table.0[0].source.as_bytes(), b"\xff\ty");
    }

    #[test]
    fn a_table_cut_within_a_line_is_an_error_and_never_a_shorter_table() {
        let ends: Vec<usize> = TABLE.match_indices('\n').map(|(at, _)| at + 1).collect();
        for cut in 1..TABLE.len() {
            let read = MountTable::parse(&TABLE.as_bytes()[..cut]);
            assert_eq!(read.is_ok(), ends.contains(&cut), "cut at {cut}: {read:?}");
        }
        for line in ["\n", "1 2 3 / / rw - t s o\n", "1 2 3:4 / / rw t s o\n", "1 2 3:4 / /\\0 rw - t s o\n", "x\n"] {
            assert_eq!(MountTable::parse(line.as_bytes()), Err(MountTableError { line: 1 }), "{line:?}");
        }
    }

    #[test]
    fn what_can_be_reached_through_a_mount_is_found_through_others_too() {
        let table = MountTable::parse(TABLE.as_bytes()).unwrap();
        let ids = |id, path: &str| {
            let mut ids: Vec<u64> = table.beneath(id, Path::new(path)).iter().map(|mount| mount.id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(28, "/"), [22, 40, 41, 42, 43]);
        assert_eq!(ids(28, "/mnt"), [40, 41]);
        assert_eq!(ids(28, "/mn"), [0; 0], "a path is no text");
        assert_eq!(ids(40, "/mnt/my photos"), [41]);
        assert_eq!(ids(41, "/mnt/my photos/new\\er"), [0; 0]);
    }

    #[test]
    fn the_longest_mount_point_covers_a_path_and_of_several_the_last() {
        let table = format!("{TABLE}50 42 8:1 / /pool rw - xfs /dev/sdc rw\n");
        let table = MountTable::parse(table.as_bytes()).unwrap();
        let covering = |path: &str| table.covering(Path::new(path)).map(|mount| mount.id);
        assert_eq!(covering("/mnt/my photos/x"), Some(40));
        assert_eq!(covering("/mnt/my photos2"), Some(28));
        assert_eq!(covering("/pool/x"), Some(50));
    }

    #[test]
    fn the_tables_of_this_machine_are_read_and_nothing_has_changed_since() {
        let watch = MountWatch::open().unwrap();
        let table = watch.read().unwrap();
        assert!(table.covering(Path::new("/proc/self")).is_some_and(|mount| mount.kind == "proc"), "{table:?}");
        assert!(!watch.changed());
    }
}
