//! A mount, until it is unmounted or goes out of scope.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::MissingRequirement;
use crate::tool;

/// A file system or a folder at a mount point. Dropping it unmounts it, even if it is in use.
#[derive(Debug)]
pub struct MountGuard {
    at: PathBuf,
    mounted: bool,
}

impl MountGuard {
    /// An empty file system in memory; `options` such as `size=8m`.
    pub fn tmpfs(at: &Path, options: &str) -> Result<Self, MissingRequirement> {
        fs::create_dir_all(at).unwrap();
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        Ok(Self::at(at))
    }

    /// The folder `from` a second time, at `at`, without the mounts beneath it.
    pub fn bind(from: &Path, at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Self::at(at)
    }

    /// Runs `mount ARGS AT`, for file systems that need a program of their own.
    pub fn run_mount(args: &[&str], at: &Path) -> Result<Self, MissingRequirement> {
        fs::create_dir_all(at).unwrap();
        let output = tool::output("mount", args.iter().map(AsRef::as_ref).chain([at.as_os_str()]))?;
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if complaint.contains("unknown filesystem type") || complaint.contains("/dev/fuse") {
            return Err(MissingRequirement(complaint.lines().next().unwrap_or_default().to_owned()));
        }
        assert!(output.status.success(), "mount {args:?}: {complaint}");
        Ok(Self::at(at))
    }

    pub(crate) fn at(at: &Path) -> Self {
        Self { at: at.to_owned(), mounted: true }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Changes its flags, as `mount -o remount` does: `MS_RDONLY` say.
    pub fn remount(&self, flags: MsFlags) {
        mount(None::<&str>, &self.at, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).unwrap();
    }

    /// Unmounts it as a person does, who must wait while it is in use.
    pub fn unmount(mut self) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match umount2(&self.at, MntFlags::empty()) {
                Ok(()) => break,
                Err(Errno::EBUSY) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("`{}` cannot be unmounted: {error}", self.at.display()),
            }
        }
        self.mounted = false;
    }

    /// Unmounts it while it is in use, like a pulled plug: open files stay readable, the path is empty.
    pub fn detach(mut self) {
        self.detach_now();
    }

    fn detach_now(&mut self) {
        if std::mem::take(&mut self.mounted) {
            let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        }
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        self.detach_now();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::{MountGuard, in_mount_namespace};

    #[test]
    fn an_unmounted_folder_is_empty_again() {
        let folder = tempfile::tempdir().unwrap();
        let (from, at) = (folder.path().join("from"), folder.path().join("at"));
        in_mount_namespace(move || {
            fs::create_dir(&from).unwrap();
            fs::write(from.join("x"), "x").unwrap();
            let mount = MountGuard::bind(&from, &at);
            assert!(at.join("x").exists());
            mount.unmount();
            assert!(!at.join("x").exists());
            let mount = MountGuard::tmpfs(&at, "size=1m")?;
            let _open = fs::File::create(at.join("y")).unwrap();
            mount.detach();
            assert!(!at.join("y").exists());
            Ok(())
        });
    }
}
