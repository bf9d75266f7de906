//! Mill's own folders and files: durable when a call returns, and private if they contain its state.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Creates a folder in an existing one, durably.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    create_folder_with(folder, 0o777)
}

/// The same with this mode, before the umask.
pub(crate) fn create_folder_with(folder: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(folder)?;
    File::open(above(folder))?.sync_all()
}

/// Replaces the first `from` in a file by a text of the same length. A crash leaves either text; the change is not
/// flushed.
pub(crate) fn replace_in_place(file: &Path, from: &str, to: &str) -> io::Result<()> {
    let text = fs::read(file)?;
    let at = text.windows(from.len()).position(|window| window == from.as_bytes());
    match at {
        Some(at) if from.len() == to.len() => {
            File::options().write(true).open(file)?.write_all_at(to.as_bytes(), at as u64)
        }
        _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("`{from}` does not stand there"))),
    }
}

fn above(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a folder and its missing parents, for this user alone.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a file for this user alone, whole or not at all; it is durable when this returns.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    // Concurrent processes each write their own temporary file.
    name.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(name);
    let written = (|| {
        // A killed process with the same id may have left one.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(above(path))?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
