//! Real file systems for tests: mounts, loop devices, file systems in user space that fail as told, clocks that jump.
//!
//! Reading order: [`namespace`] (a test sees mounts that nobody else sees), [`NotRun`] (what a machine lacks), [`mount`],
//! [`disk`] (loop devices and the file systems on them), [`fuse`] (disks with bad blocks, folders that misbehave),
//! [`clock`].
//!
//! ```no_run
//! use std::path::Path;
//! use mill_trials::{Disk, FileSystem, Mount, apart};
//!
//! apart(|| {
//!     let disk = Disk::create(Path::new("/tmp/x/image"), 64 << 20)?;
//!     disk.format(FileSystem::Ext4)?;
//!     let mount = disk.mount(FileSystem::Ext4, Path::new("/tmp/x/mounted"), "")?;
//!     mount.unmount();
//!     Ok(())
//! });
//! ```
//!
//! **Invariant:** nothing stays behind, however a test ends. Mounts live in a namespace of the test's own thread and its
//! children, loop devices detach themselves with their last user, files in user space are served by the test's process.

// Only tests run this crate: what goes wrong is a panic, so that no caller has to say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

pub mod clock;
pub mod disk;
pub mod fuse;
pub mod mount;
pub mod namespace;
mod not_run;
mod tool;

pub use disk::{Disk, FileSystem};
pub use mount::Mount;
pub use namespace::apart;
pub use not_run::NotRun;
