//! How files of a log come here: this crate reads none itself.

use std::collections::BTreeMap;
use std::convert::Infallible;

use crate::path::LogPath;

/// Files of a log in memory.
pub type Files = BTreeMap<LogPath, Vec<u8>>;

/// Reads files of a log.
pub trait LogReader {
    /// Why a file cannot be read.
    type Error;

    /// The bytes of a file; `None` if it is certain that there is none.
    fn read(&mut self, path: LogPath) -> Result<Option<Vec<u8>>, Self::Error>;
}

impl LogReader for &Files {
    type Error = Infallible;

    fn read(&mut self, path: LogPath) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.get(&path).cloned())
    }
}

/// A function is a reader.
impl<F, E> LogReader for F
where
    F: FnMut(LogPath) -> Result<Option<Vec<u8>>, E>,
{
    type Error = E;

    fn read(&mut self, path: LogPath) -> Result<Option<Vec<u8>>, E> {
        self(path)
    }
}

/// A file of a log is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("`{path}` is absent")]
    Absent {
        /// The file.
        path: LogPath,
    },
    /// It has too few bytes, or too many.
    #[error("`{path}` has {bytes} bytes, not {wanted}")]
    Length {
        /// The file.
        path: LogPath,
        /// How long it is.
        bytes: usize,
        /// How long it must be.
        wanted: usize,
    },
}

/// Reads all files of a list that are there.
///
/// In place of a partial file that was removed, it takes the full one, which begins with it.
pub(crate) fn read_all<R: LogReader>(reader: &mut R, paths: &[LogPath]) -> Result<Files, (LogPath, R::Error)> {
    let mut files = Files::new();
    for path in paths {
        let mut wanted = vec![*path];
        if path.is_partial() {
            wanted.push(path.full());
        }
        for path in wanted {
            if let Some(bytes) = reader.read(path).map_err(|error| (path, error))? {
                files.insert(path, bytes);
                break;
            }
        }
    }
    Ok(files)
}
