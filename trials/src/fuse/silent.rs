//! A mount that hangs from its beginning.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::{Mount, NotRun};

/// A mount at which each call hangs until this is dropped, as of a daemon that was stopped: nobody reads what the kernel asks.
///
/// A process that waits for it can be killed, which one cannot that waits for a [folder](super::FlakyFolder) that hangs: there
/// the question was read.
#[derive(Debug)]
pub struct SilentMount {
    _mount: Mount,
    /// Whoever waits is told that the connection is gone when this is closed.
    _device: File,
}

impl SilentMount {
    /// Mounts it at a path.
    pub fn at(at: &Path) -> Result<Self, NotRun> {
        let device = match File::options().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => return Err(NotRun(format!("`/dev/fuse` cannot be opened: {error}"))),
        };
        std::fs::create_dir_all(at).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        match mount(Some("silent"), at, Some("fuse"), MsFlags::empty(), Some(&*options)) {
            Ok(()) => Ok(Self { _mount: Mount::at(at), _device: device }),
            Err(error @ (Errno::ENODEV | Errno::EPERM)) => {
                Err(NotRun(format!("nothing can be served in user space: {error}")))
            }
            Err(error) => panic!("`{}` cannot be mounted: {error}", at.display()),
        }
    }
}
