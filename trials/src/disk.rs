//! A file as a disk, and the file systems that a test can make on it.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::{MissingRequirement, MountGuard, tool};

/// The file systems that trials can make and mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// The usual one.
    Ext4,
    /// Of 300 MiB at least.
    Xfs,
    /// Of 109 MiB at least; it has subvolumes.
    Btrfs,
    /// Of cards and sticks: it folds case, keeps times of 10 ms or 2 s and no modes. By the kernel's driver, or by
    /// `exfat-fuse`.
    ExFat,
    /// Of Windows: it holds names that differ in case, or folds them (`windows_names`, `ignore_case`). By `ntfs-3g`.
    Ntfs,
    /// Of cards and sticks before: it folds case and keeps times of 2 s.
    Vfat,
}

impl FileSystem {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::ExFat, Self::Ntfs, Self::Vfat];

    fn mkfs_command(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f"]),
            Self::ExFat => ("mkfs.exfat", &[]),
            Self::Ntfs => ("mkfs.ntfs", &["--quiet", "--fast", "--force"]),
            Self::Vfat => ("mkfs.vfat", &[]),
        }
    }

    /// The smallest disk that every mkfs takes.
    pub const BYTES_MIN: u64 = 320 << 20;

    fn kernel_name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::ExFat => "exfat",
            Self::Ntfs => "ntfs3",
            Self::Vfat => "vfat",
        }
    }

    fn is_in_kernel(self) -> bool {
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        known.lines().any(|line| line.trim() == self.kernel_name())
    }

    /// The type for `mount -t`: another driver where the kernel has none.
    fn mount_type(self) -> &'static str {
        match self {
            Self::ExFat if !self.is_in_kernel() => "exfat-fuse",
            Self::Ntfs => "ntfs-3g",
            other => other.kernel_name(),
        }
    }
}

/// A file attached to a loop device.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    device: PathBuf,
    /// The device detaches itself once neither this handle nor a mount has it open.
    _open: File,
}

impl LoopDisk {
    /// Makes a sparse file of `bytes`, and attaches it.
    pub fn create(image: &Path, bytes: u64) -> Result<Self, MissingRequirement> {
        File::create(image).unwrap().set_len(bytes).unwrap();
        Self::attach(image)
    }

    /// Attaches an existing file: a copy of another image, or a file served [in user space](crate::fuse).
    pub fn attach(image: &Path) -> Result<Self, MissingRequirement> {
        // Another test may take the free device first, since losetup finds and takes it in two steps.
        for _ in 0..20 {
            let args = ["--find", "--show"].map(AsRef::as_ref);
            let output = tool::output("losetup", args.into_iter().chain([image.as_os_str()]))?;
            if output.status.success() {
                let device = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
                let open = File::options().read(true).write(true).open(&device).unwrap();
                // Lazy: the device detaches when its last user closes it or dies.
                tool::run("losetup", ["--detach".as_ref(), device.as_os_str()])?;
                limit_requests_to_one_page(&device);
                return Ok(Self { image: image.to_owned(), device, _open: open });
            }
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if !complaint.contains("busy") {
                return Err(MissingRequirement(format!("no loop device: {complaint}")));
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Err(MissingRequirement("no loop device is free".into()))
    }

    /// Makes a file system on it.
    pub fn format(&self, kind: FileSystem) -> Result<(), MissingRequirement> {
        let (program, args) = kind.mkfs_command();
        tool::run(program, args.iter().map(AsRef::as_ref).chain([self.device.as_os_str()]))?;
        Ok(())
    }

    /// Mounts it; `options` as after `mount -o`, or empty.
    pub fn mount(&self, kind: FileSystem, at: &Path, options: &str) -> Result<MountGuard, MissingRequirement> {
        let device = self.device.to_str().unwrap();
        let mut args = vec!["-t", kind.mount_type(), device];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        MountGuard::run_mount(&args, at)
    }

    /// Its block device.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The file behind it.
    pub fn image(&self) -> &Path {
        &self.image
    }
}

/// Limits requests to one page, so that the server of the image answers each as a whole. The loop driver takes a request
/// that failed in part for done, and the disk would lie.
fn limit_requests_to_one_page(device: &Path) {
    let name = device.file_name().unwrap().to_string_lossy();
    let _ = std::fs::write(format!("/sys/block/{name}/queue/max_sectors_kb"), "4");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::in_mount_namespace;

    fn takes_a_file(kind: FileSystem) {
        in_mount_namespace(move || {
            let folder = tempfile::tempdir().unwrap();
            let at = folder.path().join("mounted");
            let disk = LoopDisk::create(&folder.path().join("image"), FileSystem::BYTES_MIN)?;
            disk.format(kind)?;
            let mount = disk.mount(kind, &at, "")?;
            fs::write(at.join("README"), "text").unwrap();
            mount.unmount();
            assert!(!at.join("README").exists());
            let again = disk.mount(kind, &at, "")?;
            assert_eq!(fs::read_to_string(at.join("README")).unwrap(), "text");
            again.unmount();
            let image = disk.image().to_owned();
            drop(disk);
            // A driver in user space takes a moment to end.
            let until = Instant::now() + Duration::from_secs(5);
            while is_attached(&image) {
                assert!(Instant::now() < until, "`{}` is still attached", image.display());
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        });
    }

    fn is_attached(image: &Path) -> bool {
        let devices = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path().join("loop/backing_file"));
        devices.filter_map(|file| fs::read_to_string(file).ok()).any(|file| Path::new(file.trim()) == image)
    }

    #[test]
    fn ext4_is_made_mounted_and_leaves_nothing() {
        takes_a_file(FileSystem::Ext4);
    }

    #[test]
    fn xfs_is_made_mounted_and_leaves_nothing() {
        takes_a_file(FileSystem::Xfs);
    }

    #[test]
    fn btrfs_is_made_mounted_and_leaves_nothing() {
        takes_a_file(FileSystem::Btrfs);
    }

    #[test]
    fn exfat_is_made_mounted_and_leaves_nothing() {
        takes_a_file(FileSystem::ExFat);
    }

    #[test]
    fn ntfs_is_made_mounted_and_leaves_nothing() {
        takes_a_file(FileSystem::Ntfs);
    }

    #[test]
    fn vfat_is_made_mounted_and_leaves_nothing() {
        takes_a_file(FileSystem::Vfat);
    }
}
