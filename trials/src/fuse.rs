//! File systems in user space, served by the test's own process, that fail as they are told.

mod disk;
mod folder;
mod silent;

use std::path::Path;

use fuser::{BackgroundSession, Config, Filesystem, MountOption};

pub use disk::{DiskWrite, FlakyDisk};
pub use folder::{FlakyFolder, Operation};
pub use silent::SilentMount;

use crate::NotRun;

/// Mounts what `system` serves. It is served until the session is dropped.
fn serve(system: impl Filesystem, at: &Path, name: &str) -> Result<BackgroundSession, NotRun> {
    if !Path::new("/dev/fuse").exists() {
        return Err(NotRun("there is no `/dev/fuse` here".into()));
    }
    std::fs::create_dir_all(at).unwrap();
    let mut config = Config::default();
    config.acl = fuser::SessionACL::All;
    config.mount_options = vec![MountOption::FSName(name.to_owned()), MountOption::DefaultPermissions];
    match fuser::spawn_mount(system, at, &config) {
        Ok(session) => Ok(session),
        Err(error) if [nix::libc::ENODEV, nix::libc::EPERM].map(Some).contains(&error.raw_os_error()) => {
            Err(NotRun(format!("nothing can be served in user space: {error}")))
        }
        Err(error) => panic!("`{}` cannot be mounted: {error}", at.display()),
    }
}
