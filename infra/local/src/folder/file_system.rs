//! Identifies a file system among all others, across reboots and remounts.
//!
//! A device number does not: it goes to whichever disk is found first. Most file systems have an identity (`f_fsid`,
//! derived from their UUID). Some derive it from the device number, and some have none: those are identified by the
//! UUID of their device, or by the type and source of their mount.
//!
//! A process caches the identity of each device number, for the versions of files. A number goes to another file system
//! only after the first was unmounted, and opening a root or entering a mount reads the identity anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use mill_model::Algorithm;
use mill_model::digest::Digester;
use parking_lot::RwLock;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, major, minor};
use rustix::io::Errno;

use super::mount_boundary::mount_id;
use super::mounts::{MountEntry, MountTable};

/// What is known of file systems, by device number.
static KNOWN: RwLock<BTreeMap<u64, KnownFileSystem>> = RwLock::new(BTreeMap::new());

/// The disk file systems of Linux: ext2 to ext4, XFS, and Btrfs. They list each extended attribute of a file that they let a program
/// read; others may have attributes that they do not list, as CIFS has access lists. And this host's kernel sets the times of their files.
const DISKS: [u64; 3] = [0xEF53, 0x5846_5342, 0x9123_683E];

#[derive(Debug, Clone, Copy, Default)]
struct KnownFileSystem {
    /// A number for it; `None` without an identity.
    number: Option<u64>,
    is_disk: bool,
}

/// Reads the identity of the file system of an opened directory or file, past the cache.
pub(super) fn identity(file: impl AsFd, device: u64) -> Result<String, Errno> {
    let file = file.as_fd();
    let told = rustix::fs::fstatvfs(file)?.f_fsid;
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless)] // its width and sign differ between processors
    let kind = rustix::fs::fstatfs(file)?.f_type as u64 & 0xFFFF_FFFF;
    let text = if told != 0 && told != encoded(device) {
        format!("{kind:x}:{told:x}")
    } else {
        of_mount(mount_id(file)?, device).unwrap_or_else(|| format!("{kind:x}"))
    };
    let known = KnownFileSystem { number: Some(number(text.as_bytes())), is_disk: DISKS.contains(&kind) };
    KNOWN.write().insert(device, known);
    Ok(text)
}

/// A number for the file system of that device number, for the versions of its files. `None` if it has no identity that
/// outlives a remount.
pub(super) fn number_of(device: u64) -> Option<u64> {
    if let Some(known) = KNOWN.read().get(&device) {
        return known.number;
    }
    let found = look_up(device);
    if found.is_none() {
        KNOWN.write().insert(device, KnownFileSystem::default());
    }
    found
}

/// Whether a list of a file's attributes there names each that can be read.
pub(super) fn lists_all(device: u64) -> bool {
    is_disk(device)
}

/// Whether this host's kernel sets the times of its files, and its pages are written back.
pub(super) fn is_disk(device: u64) -> bool {
    KNOWN.read().get(&device).is_some_and(|known| known.is_disk)
}

/// Caches the identity of an opened file's file system, unless it is cached.
pub(super) fn know(file: impl AsFd, device: u64) {
    let known = KNOWN.read().get(&device).is_some_and(|known| known.number.is_some());
    if !known {
        // Without an identity, versions of this file system prove nothing, which is safe.
        let _ = identity(file, device);
    }
}

/// Finds a file system by one of its mounts.
fn look_up(device: u64) -> Option<u64> {
    let table = MountTable::now().ok()?;
    let mount = table.of_device((major(device), minor(device)))?;
    let directory = rustix::fs::open(&mount.point, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    #[allow(clippy::unnecessary_cast)] // its width differs between processors
    let found = rustix::fs::fstat(&directory).ok()?.st_dev as u64;
    // Another file system may be mounted over it.
    let text = identity(&directory, found).ok().filter(|_| found == device)?;
    Some(number(text.as_bytes()))
}

/// The first eight bytes of its SHA-256: short enough to be part of each version.
pub(super) fn number(text: &[u8]) -> u64 {
    let mut digester = Digester::new(&[Algorithm::Sha256]);
    digester.update(text);
    let digest = digester.finish();
    let bytes = digest.first().and_then(|digest| digest.value.first_chunk::<8>());
    u64::from_be_bytes(bytes.copied().unwrap_or_default())
}

/// The `f_fsid` that the kernel derives from the device number, for file systems without an identity.
fn encoded(device: u64) -> u64 {
    let (major, minor) = (u64::from(major(device)), u64::from(minor(device)));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The identity of a file system without one of its own: from its device or its mount.
fn of_mount(id: Option<u64>, device: u64) -> Option<String> {
    let number = (major(device), minor(device));
    // A file system with a major number is on a block device.
    if number.0 != 0
        && let Some(uuid) = uuid(device)
    {
        return Some(format!("uuid:{uuid}"));
    }
    let table = MountTable::now().ok()?;
    let mount = id.and_then(|id| table.mount(id)).or_else(|| table.of_device(number))?;
    Some(told_by(mount))
}

fn told_by(mount: &MountEntry) -> String {
    // Hashed, since some sources contain a password, which must not get into a file of Mill.
    format!("{}:{:016x}", mount.kind, number(mount.source.as_bytes()))
}

/// The UUID of the file system on a block device, as `blkid` writes it.
fn uuid(device: u64) -> Option<String> {
    linked(Path::new("/dev/disk/by-uuid"), device).or_else(|| udev(device)).or_else(|| {
        let path = PathBuf::from(format!("/dev/block/{}:{}", major(device), minor(device)));
        let path = if path.exists() { path } else { device_file(device)? };
        superblock(&File::open(path).ok()?)
    })
}

/// The name of the link in a folder that leads to that device.
fn linked(folder: &Path, device: u64) -> Option<String> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let leads_there = fs::metadata(entry.path()).is_ok_and(|found| found.rdev() == device);
        leads_there.then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

/// The UUID in udev's database.
fn udev(device: u64) -> Option<String> {
    let text = fs::read_to_string(format!("/run/udev/data/b{}:{}", major(device), minor(device))).ok()?;
    text.lines().find_map(|line| line.strip_prefix("E:ID_FS_UUID=").map(str::to_owned))
}

/// The file of a block device, by the name that the kernel gives it.
fn device_file(device: u64) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/sys/dev/block/{}:{}/uevent", major(device), minor(device))).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let path = Path::new("/dev").join(name);
    fs::metadata(&path).is_ok_and(|found| found.rdev() == device).then_some(path)
}

/// The UUID or serial number in the superblock of a file system whose `f_fsid` is made of the device number.
///
/// Source: `xfs_dsb` and `f2fs_super_block` of Linux; Microsoft's *exFAT file system specification* and *FAT: General
/// Overview of On-Disk Format*; NTFS boot sector.
fn superblock(device: &File) -> Option<String> {
    let mut block = [0; 2048];
    device.read_exact_at(&mut block, 0).ok()?;
    let little = |at: usize, bytes: usize| hex(block[at..at + bytes].iter().rev());
    let serial = |at| {
        let text = little(at, 4);
        format!("{}-{}", &text[..4], &text[4..])
    };
    let uuid = |at: usize| {
        let text = hex(block[at..at + 16].iter()).to_lowercase();
        [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
    };
    match &block {
        _ if block.starts_with(b"XFSB") => Some(uuid(32)),
        _ if block[1024..1028] == 0xF2F5_2010_u32.to_le_bytes() => Some(uuid(1024 + 108)),
        _ if block[3..11] == *b"EXFAT   " => Some(serial(100)),
        _ if block[3..11] == *b"NTFS    " => Some(little(72, 8)),
        _ if block[82..87] == *b"FAT32" => Some(serial(67)),
        _ if block[54..57] == *b"FAT" => Some(serial(39)),
        _ => None,
    }
}

fn hex<'b>(bytes: impl Iterator<Item = &'b u8>) -> String {
    use std::fmt::Write as _;
    bytes.fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02X}");
        out
    })
}

#[cfg(test)]
mod tests {
    use rustix::fs::makedev;

    use super::*;

    #[test]
    fn a_device_number_is_encoded_as_the_kernel_does() {
        assert_eq!(encoded(makedev(7, 1)), 0x701);
        assert_eq!(encoded(makedev(259, 0x123)), 0x0010_0000 | (259 << 8) | 0x23);
    }

    #[test]
    fn a_file_system_is_the_same_by_any_of_its_directories_and_by_its_number() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |path: &Path| rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap();
        let device = fs::metadata(one.path()).unwrap().dev();
        let text = identity(open(one.path()), device).unwrap();
        assert_eq!(identity(open(other.path()), device).unwrap(), text);
        assert_eq!(number_of(device), Some(number(text.as_bytes())));
        let proc = fs::metadata("/proc").unwrap().dev();
        assert_ne!(identity(open(Path::new("/proc")), proc).unwrap(), text);
        assert_eq!(number_of(makedev(4095, 4095)), None, "no such device");
    }

    #[test]
    fn superblocks_without_an_identity_of_their_own_are_known_by_uuid_or_serial() {
        let block = |at: usize, magic: &[u8], id_at: usize| {
            let mut file = tempfile::tempfile().unwrap();
            let mut bytes = vec![0_u8; 4096];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            for n in 0..16 {
                bytes[id_at + n as usize] = 0xA0 + n;
            }
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            superblock(&file)
        };
        let uuid = Some("a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf".to_owned());
        assert_eq!(block(0, b"XFSB", 32), uuid);
        assert_eq!(block(1024, &[0x10, 0x20, 0xF5, 0xF2], 1132), uuid);
        assert_eq!(block(3, b"EXFAT   ", 100).as_deref(), Some("A3A2-A1A0"));
        assert_eq!(block(3, b"NTFS    ", 72).as_deref(), Some("A7A6A5A4A3A2A1A0"));
        assert_eq!(block(82, b"FAT32   ", 75), None, "a magic that was written over");
        assert_eq!(block(0, b"nothing", 100), None);
    }
}
