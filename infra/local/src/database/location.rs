//! Where the database is: its directory, its files, and the file system under them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::OpenError;

/// Whether the file is missing. An error of another kind is no absence: opening the file will report it.
pub(super) fn is_gone(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_err_and(|error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}

/// Creates the database's directory if it is missing, and returns the database's canonical path.
pub(super) fn prepare(path: &Path) -> Result<PathBuf, OpenError> {
    let failed = |what| move |source| OpenError::Io { path: path.to_owned(), what, source };
    let name = path.file_name().ok_or_else(|| failed("naming the file")(io::ErrorKind::InvalidInput.into()))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("making its directory"))?;
        sync_up_from(directory).map_err(failed("syncing its directory"))?;
    }
    let directory = directory.canonicalize().map_err(failed("resolving its directory"))?;
    refuse_network(&directory, path)?;
    let path = directory.join(name);
    // Processes that come through a symbolic link must use the same lock file.
    Ok(path.canonicalize().unwrap_or(path))
}

/// The file beside the database that [`WriteLock`](super::write_lock::WriteLock) locks.
pub(super) fn write_lock_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-turn");
    name.into()
}

/// Creates the database's file, readable by its owner alone; SQLite gives its other files the same mode.
///
/// The caller holds the write lock: only then nobody in this process has an older file of that name open, whose locks
/// would be lost when this descriptor is closed. An existing file is not opened at all.
pub(super) fn create_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            drop(file);
            path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes new directory entries durable, up to the root: the number of new levels is not known here.
fn sync_up_from(directory: &Path) -> io::Result<()> {
    for level in directory.canonicalize()?.ancestors() {
        match File::open(level).and_then(|level| level.sync_all()) {
            Ok(()) => {}
            // A directory that we may not read was not created by us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Refuses a network file system: the write-ahead log's index is memory shared by the processes of one host, and
/// network locks cannot be trusted.
#[cfg(target_os = "linux")]
fn refuse_network(directory: &Path, shown: &Path) -> Result<(), OpenError> {
    let failed = |source: rustix::io::Errno| OpenError::Io {
        path: shown.to_owned(),
        what: "asking for its file system",
        source: source.into(),
    };
    let facts = rustix::fs::statfs(directory).map_err(failed)?;
    // The kernel's magic numbers are 32 bits wide; some of them read as negative in the wider type.
    match network_file_system(facts.f_type as u32) {
        Some(name) => Err(OpenError::NetworkFileSystem { path: shown.to_owned(), name }),
        None => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_network(_: &Path, _: &Path) -> Result<(), OpenError> {
    Ok(())
}

/// The network and cluster file systems by their magic numbers. Source: Linux `statfs(2)`, `linux/magic.h`.
#[cfg(target_os = "linux")]
fn network_file_system(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "NFS",
        0x0000_517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x0000_564C => "NCP",
        0x00C3_6400 => "Ceph",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0102_1997 => "9P",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x7461_636F => "OCFS2",
        0x0116_1970 => "GFS2",
        0x786F_4256 => "VirtualBox shared folder",
        _ => return None,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_numbers_and_local_ones_pass() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xFF53_4D42_u32), Some("SMB"));
        for local in [0xEF53, 0x0102_1994, 0x9123_683E, 0x5846_5342, 0x2FC1_2FC1, 0x794C_7630] {
            assert_eq!(network_file_system(local), None);
        }
    }
}
