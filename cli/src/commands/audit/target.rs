//! Where an export goes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mill_app::UsageError;

/// Writes to a new file, or to standard output. The file has its name once it is whole.
///
/// Returns what `write` returned, or `None` if nobody reads standard output to its end.
pub(super) async fn written<T>(
    out: Option<&Path>,
    write: impl AsyncFnOnce(&mut (dyn Write + Send)) -> Result<T>,
) -> Result<Option<T>> {
    let Some(path) = out else {
        let mut target = BufWriter::new(io::stdout());
        let written = write(&mut target).await;
        return match written {
            Err(error) if is_broken_pipe(&error) => Ok(None),
            written => written.map(Some),
        };
    };
    if path.symlink_metadata().is_ok() {
        let message = format!("`{}` is there already, and is not replaced; name another file", path.display());
        return Err(UsageError(message).into());
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let cannot = || format!("`{}` cannot be written", path.display());
    let mut target = BufWriter::new(File::create(&part).with_context(cannot)?);
    let written = write(&mut target).await;
    let synced = target.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
    let ended = written.and_then(|written| {
        synced.and_then(|()| fs::rename(&part, path)).with_context(cannot)?;
        Ok(written)
    });
    if ended.is_err() {
        let _ = fs::remove_file(&part);
    }
    ended.map(Some)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
