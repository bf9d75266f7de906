//! Where an export goes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use mill_app::UsageError;

/// Writes to a new file, or to standard output. A file whose writing failed is removed.
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
    let file = File::options().write(true).create_new(true).open(path);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let message = format!("`{}` is there already, and is not replaced; name another file", path.display());
            anyhow::Error::from(UsageError(message))
        }
        _ => anyhow::Error::from(error).context(format!("`{}` cannot be written", path.display())),
    })?;
    let mut target = BufWriter::new(file);
    let written = write(&mut target).await;
    let synced = target.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all());
    let synced = synced.with_context(|| format!("`{}` cannot be written", path.display()));
    let written = written.and_then(|written| synced.map(|()| written));
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written.map(Some)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
