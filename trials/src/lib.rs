//! Real file systems for tests: mounts, loop devices, file systems in user space that fail on demand, clocks that jump.
//!
//! Reading order: [`namespace`] (a test sees mounts that nobody else sees), [`MissingRequirement`] (what a machine
//! lacks), [`mount`], [`disk`] (loop devices and the file systems on them), [`fuse`] (disks with bad blocks, folders that fail),
//! [`clock`].
//!
//! ```no_run
//! use std::path::Path;
//! use mill_trials::{FileSystem, LoopDisk, in_mount_namespace};
//!
//! in_mount_namespace(|| {
//!     let disk = LoopDisk::create(Path::new("/tmp/x/image"), 64 << 20)?;
//!     disk.format(FileSystem::Ext4)?;
//!     let mount = disk.mount(FileSystem::Ext4, Path::new("/tmp/x/mounted"), "")?;
//!     mount.unmount();
//!     Ok(())
//! });
//! ```
//!
//! **Invariant:** nothing stays behind, however a test ends. Mounts live in a namespace of the test's own thread and its
//! children, loop devices detach themselves with their last user, files in user space are served by the test's process.

// Only tests run this crate: a failure is a panic, so that callers need no error handling.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

pub mod clock;
pub mod disk;
pub mod fuse;
mod missing_requirement;
pub mod mount;
pub mod namespace;
mod tool;

pub use disk::{FileSystem, LoopDisk};
pub use missing_requirement::MissingRequirement;
pub use mount::MountGuard;
pub use namespace::in_mount_namespace;
