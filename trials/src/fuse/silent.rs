//! A mount that hangs from its beginning.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::{MissingRequirement, MountGuard};

/// A mount at which each call hangs until this guard is dropped, as with a stopped daemon: nobody reads the kernel's requests.
///
/// A process that waits for this mount can be killed. One that waits for a hanging [folder](super::FlakyFolder) cannot, since
/// there the request has been read.
#[derive(Debug)]
pub struct SilentMount {
    _mount: MountGuard,
    /// Closing it ends each waiting call with an error.
    _device: File,
}

impl SilentMount {
    /// Mounts it at a path.
    pub fn at(at: &Path) -> Result<Self, MissingRequirement> {
        let device = match File::options().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => return Err(MissingRequirement(format!("`/dev/fuse` cannot be opened: {error}"))),
        };
        std::fs::create_dir_all(at).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        match mount(Some("silent"), at, Some("fuse"), MsFlags::empty(), Some(&*options)) {
            Ok(()) => Ok(Self { _mount: MountGuard::at(at), _device: device }),
            Err(error @ (Errno::ENODEV | Errno::EPERM)) => {
                Err(MissingRequirement(format!("nothing can be served in user space: {error}")))
            }
            Err(error) => panic!("`{}` cannot be mounted: {error}", at.display()),
        }
    }
}
