//! Tiles as they are read: their hashes, and the hash of any stretch of entries.

use std::collections::BTreeMap;

use crate::files::{FileError, Files, LogReader};
use crate::frontier::row;
use crate::hash::{HASH_BYTES, TreeHash, perfect_root};
use crate::path::{LogPath, TILE_WIDTH, Width};

/// The hashes of a tile, from files that were read. A full file stands in for a partial one.
pub(crate) fn tile(files: &Files, path: LogPath) -> Result<Vec<TreeHash>, FileError> {
    let LogPath::Tile { width, .. } = path else { return Err(FileError::Absent { path }) };
    let (from, bytes) = stand_in(files, path).ok_or(FileError::Absent { path })?;
    let wanted_width = if from == path { width } else { Width::FULL };
    let wanted = usize::from(wanted_width.get()) * HASH_BYTES;
    let length = FileError::Length { path: from, bytes: bytes.len(), wanted };
    let mut hashes = TreeHash::list(bytes).filter(|_| bytes.len() == wanted).ok_or(length)?;
    hashes.truncate(width.get().into());
    Ok(hashes)
}

/// The file, or the full one of its position.
pub(crate) fn stand_in(files: &Files, path: LogPath) -> Option<(LogPath, &[u8])> {
    [path, path.full()].into_iter().find_map(|path| files.get(&path).map(|bytes| (path, bytes.as_slice())))
}

/// Why the hash of a stretch is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError<E> {
    /// A file cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// The file.
        path: LogPath,
        /// Why.
        #[source]
        source: E,
    },
    /// A file is not what it must be.
    #[error(transparent)]
    File(FileError),
    /// The tree is too small for the question.
    #[error("there is no entry {index} in a log of {size} entries")]
    NoEntry {
        /// The entry asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
}

/// A tree whose tiles are read as they are needed, each once.
pub(crate) struct TileTree<R> {
    size: u64,
    reader: R,
    tiles: BTreeMap<LogPath, Vec<TreeHash>>,
}

impl<R: LogReader> TileTree<R> {
    pub(crate) fn new(size: u64, reader: R) -> Self {
        Self { size, reader, tiles: BTreeMap::new() }
    }

    /// The root over the entries from `start` to before `end`, a stretch as the tree of RFC 6962 has it.
    pub(crate) fn root(&mut self, start: u64, end: u64) -> Result<TreeHash, TreeError<R::Error>> {
        let length = end - start;
        if length.is_power_of_two() {
            return self.perfect(start, length.ilog2());
        }
        if length == 0 {
            return Ok(TreeHash::of_empty_tree());
        }
        let middle = start + split(length);
        Ok(TreeHash::of_node(&self.root(start, middle)?, &self.root(middle, end)?))
    }

    /// The root over 2^height entries from `start`.
    fn perfect(&mut self, start: u64, height: u32) -> Result<TreeHash, TreeError<R::Error>> {
        let level = (height / 8) as u8;
        let first = row(start, level);
        let index = first / u64::from(TILE_WIDTH);
        let size = self.size;
        let missing = || TreeError::NoEntry { index: start, size };
        let width = Width::in_row(row(size, level), index).ok_or_else(missing)?;
        let position = (first % u64::from(TILE_WIDTH)) as usize;
        let hashes = self.tile(LogPath::Tile { level, index, width })?;
        hashes.get(position..position + (1 << (height % 8))).map(perfect_root).ok_or_else(missing)
    }

    fn tile(&mut self, path: LogPath) -> Result<&[TreeHash], TreeError<R::Error>> {
        if !self.tiles.contains_key(&path) {
            let files = crate::files::read_all(&mut self.reader, &[path])
                .map_err(|(path, source)| TreeError::Read { path, source })?;
            self.tiles.insert(path, tile(&files, path).map_err(TreeError::File)?);
        }
        Ok(self.tiles.get(&path).map_or(&[], Vec::as_slice))
    }
}

/// Where the tree of RFC 6962 splits: the largest power of two below `length`, which is 2 at least.
pub(crate) fn split(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}
