//! File systems in user space, served by the test's own process, that fail on demand.

mod disk;
mod folder;
mod silent;

use std::path::Path;

use fuser::{BackgroundSession, Config, Filesystem, MountOption};

pub use disk::{DiskWrite, FlakyDisk};
pub use folder::{FlakyFolder, FolderOperation};
pub use silent::SilentMount;

use crate::MissingRequirement;

/// Mounts a file system. Dropping the session ends it.
fn serve(system: impl Filesystem, at: &Path, name: &str) -> Result<BackgroundSession, MissingRequirement> {
    if !Path::new("/dev/fuse").exists() {
        return Err(MissingRequirement("there is no `/dev/fuse` here".into()));
    }
    std::fs::create_dir_all(at).unwrap();
    let mut config = Config::default();
    config.acl = fuser::SessionACL::All;
    config.mount_options = vec![MountOption::FSName(name.to_owned()), MountOption::DefaultPermissions];
    match fuser::spawn_mount(system, at, &config) {
        Ok(session) => Ok(session),
        Err(error) if [nix::libc::ENODEV, nix::libc::EPERM].map(Some).contains(&error.raw_os_error()) => {
            Err(MissingRequirement(format!("nothing can be served in user space: {error}")))
        }
        Err(error) => panic!("`{}` cannot be mounted: {error}", at.display()),
    }
}
