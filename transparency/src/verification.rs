//! The whole log is read, and each of its files checked.
//!
//! Every hash is computed again from the entries. The tiles are believed as far as they give the root of the checkpoint; so
//! it is known whether an entry was changed or a tile:
//!
//! ```text
//!   root of the checkpoint ── gives trust to ──▶ tiles of the right edge ──▶ full tiles below ──▶ tiles of level 0
//!                                                       ▲                          ▲                    ▲
//!   entries ── hashed again, give ──────────────────────┴──────────────────────────┴────────────────────┘  must be equal
//! ```
//!
//! If the right edge does not give the root, nothing is believed: the log is read to its end, and the root that the entries
//! give decides whether they were right.

use std::collections::BTreeMap;

use crate::bundle::{self, BundleError};
use crate::checkpoint::Checkpoint;
use crate::files::{FileError, Files, LogReader, read_all};
use crate::finding::{Finding, entry_fault};
use crate::frontier::{Frontier, FullTile, partial_tiles, row};
use crate::hash::{TreeHash, perfect_root};
use crate::path::{LogPath, TILE_WIDTH, Width};
use crate::tiles;

/// Why a log is not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError<E> {
    /// A file cannot be read: nothing is known about the log.
    #[error("`{path}` cannot be read")]
    Read {
        /// The file.
        path: LogPath,
        /// Why.
        #[source]
        source: E,
    },
    /// The log is not what it must be.
    #[error(transparent)]
    Found(#[from] Finding),
}

/// Reads a whole log, bundle after bundle, and checks that it is the log of the checkpoint, whose signature is checked before.
///
/// `kept` is an older checkpoint of this log that nobody who writes the log could change: the log must begin with its entries.
/// `visit` gets each entry and its number, in order, once its hash is that of its tile. What it saw counts if all is well.
pub fn verify_log<R: LogReader>(
    checkpoint: &Checkpoint,
    kept: Option<&Checkpoint>,
    mut reader: R,
    mut visit: impl FnMut(u64, &[u8]),
) -> Result<(), VerifyError<R::Error>> {
    let mut check = LogCheck::new(checkpoint, kept)?;
    loop {
        let paths = check.needs(1);
        if paths.is_empty() {
            return Ok(check.finish()?);
        }
        let files = read_all(&mut reader, &paths).map_err(|(path, source)| VerifyError::Read { path, source })?;
        check.take(&files, &mut visit)?;
    }
}

/// The same in steps, for whoever reads files by other means: [`LogCheck::needs`], [`LogCheck::take`], … until nothing is needed,
/// then [`LogCheck::finish`]. It holds a few tiles, however large the log is.
#[derive(Debug, Clone)]
pub struct LogCheck {
    checkpoint: Checkpoint,
    kept: Option<Checkpoint>,
    /// The partial tiles, once they are read.
    edge: Option<Edge>,
    /// Of each level above 0 the full tile that stands over the next bundle.
    above: BTreeMap<u8, Above>,
    /// The tree as the entries give it.
    tree: Frontier,
    /// Before which bundle the step ends.
    asked: u64,
    doubt: Option<Doubt>,
}

#[derive(Debug, Clone)]
struct Edge {
    rows: Vec<Vec<TreeHash>>,
    trust: Trust,
}

#[derive(Debug, Clone)]
struct Above {
    hashes: Vec<TreeHash>,
    trust: Trust,
}

/// Whether a tile is what the checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Right,
    Wrong,
    Unknown,
}

/// The first disagreement between files of which none is known to be right.
#[derive(Debug, Clone)]
struct Doubt {
    if_entries_are_right: Finding,
    if_entries_are_wrong: Finding,
}

/// A bundle with the tile of its hashes.
struct Bundle<'a> {
    first: u64,
    path: LogPath,
    entries: Vec<&'a [u8]>,
    found: Vec<TreeHash>,
    fault: Option<BundleError>,
    tile_path: LogPath,
    tile: Vec<TreeHash>,
}

impl LogCheck {
    /// Begins. Checkpoints that contradict each other are a finding at once.
    pub fn new(checkpoint: &Checkpoint, kept: Option<&Checkpoint>) -> Result<Self, Finding> {
        if let Some(kept) = kept {
            checkpoint.check_after(kept)?;
        }
        Ok(Self {
            checkpoint: checkpoint.clone(),
            kept: kept.cloned(),
            edge: None,
            above: BTreeMap::new(),
            tree: Frontier::default(),
            asked: 0,
            doubt: None,
        })
    }

    /// The files for the next step, of up to this number of bundles. Nothing once all are checked.
    ///
    /// If a partial file is absent, read the full one of its position ([`LogPath::full`]), and give it in its place.
    pub fn needs(&mut self, bundles: u64) -> Vec<LogPath> {
        let size = self.checkpoint.size;
        if self.edge.is_none() {
            return partial_tiles(size).flatten().collect();
        }
        self.asked = size.div_ceil(u64::from(TILE_WIDTH)).min(self.next().saturating_add(bundles.max(1)));
        (self.next()..self.asked).flat_map(|bundle| files_of(size, bundle)).collect()
    }

    /// Checks the files that were needed. A file that is not among them is absent.
    pub fn take(&mut self, files: &Files, mut visit: impl FnMut(u64, &[u8])) -> Result<(), Finding> {
        if self.edge.is_none() {
            return self.take_edge(files);
        }
        while self.next() < self.asked {
            let taken = self.take_bundle(files, &mut visit);
            // What was in doubt comes first, and the entries cannot give the root any more.
            taken.map_err(|finding| self.doubt.take().map_or(finding, |doubt| doubt.if_entries_are_wrong))?;
        }
        Ok(())
    }

    /// Ends: the entries must give the root of the checkpoint.
    pub fn finish(self) -> Result<(), Finding> {
        let (root, found) = (self.checkpoint.root, self.tree.root());
        match self.doubt {
            None if root == found => Ok(()),
            None => Err(Finding::Root { root, found }),
            Some(doubt) if root == found => Err(doubt.if_entries_are_right),
            Some(doubt) => Err(doubt.if_entries_are_wrong),
        }
    }

    /// The number of the next bundle.
    fn next(&self) -> u64 {
        self.tree.size().div_ceil(u64::from(TILE_WIDTH))
    }

    fn take_edge(&mut self, files: &Files) -> Result<(), Finding> {
        let size = self.checkpoint.size;
        let rows: Vec<Vec<TreeHash>> = partial_tiles(size)
            .map(|path| path.map_or(Ok(Vec::new()), |path| tiles::tile(files, path)))
            .collect::<Result<_, _>>()
            .map_err(Finding::File)?;
        let is_right = Frontier::new(size, rows.clone()).root() == self.checkpoint.root;
        let trust = if is_right { Trust::Right } else { Trust::Unknown };
        self.edge = Some(Edge { rows, trust });
        Ok(())
    }

    fn take_bundle(&mut self, files: &Files, visit: &mut impl FnMut(u64, &[u8])) -> Result<(), Finding> {
        let number = self.next();
        for path in files_of(self.checkpoint.size, number) {
            if let LogPath::Tile { level: level @ 1.., index, .. } = path {
                let hashes = tiles::tile(files, path).map_err(Finding::File)?;
                let trust = self.trust(level, index, &hashes);
                self.above.insert(level, Above { hashes, trust });
            }
        }
        let bundle = self.read_bundle(files, number)?;
        match entry_fault(bundle.first, &bundle.found, &bundle.tile, bundle.fault) {
            None => bundle.entries.iter().zip(bundle.first..).for_each(|(entry, index)| visit(index, entry)),
            Some((position, fault)) => {
                let index = bundle.first + position as u64;
                let tile = Finding::Tile { path: bundle.tile_path, first: index };
                let entry = Finding::Entry { index, path: bundle.path, fault };
                self.bundle_differs(&bundle, number, tile, entry)?;
            }
        }
        bundle.found.iter().try_for_each(|hash| self.push(*hash))
    }

    fn read_bundle<'a>(&self, files: &'a Files, index: u64) -> Result<Bundle<'a>, Finding> {
        let width = Width::in_row(self.checkpoint.size, index).unwrap_or(Width::FULL);
        let path = LogPath::Entries { index, width };
        let absent = Finding::File(FileError::Absent { path });
        let (from, bytes) = tiles::stand_in(files, path).ok_or(absent)?;
        let (entries, fault) = bundle::decode_until_fault(bytes, width.get().into());
        // In a full bundle that stands in, others follow.
        let fault = fault.filter(|fault| from == path || !matches!(fault, BundleError::TrailingBytes { .. }));
        let tile_path = LogPath::Tile { level: 0, index, width };
        let tile = match &self.edge {
            Some(Edge { rows, .. }) if !width.is_full() => rows.first().cloned().unwrap_or_default(),
            _ => tiles::tile(files, tile_path).map_err(Finding::File)?,
        };
        let found = entries.iter().map(|entry| TreeHash::of_entry(entry)).collect();
        Ok(Bundle { first: path.first_entry(), path: from, entries, found, fault, tile_path, tile })
    }

    /// A bundle and its tile do not agree: which of them is it?
    fn bundle_differs(
        &mut self,
        bundle: &Bundle<'_>,
        index: u64,
        tile: Finding,
        entry: Finding,
    ) -> Result<(), Finding> {
        let is_readable = bundle.fault.is_none();
        let trust = match &self.edge {
            Some(edge) if bundle.tile_path.is_partial() => edge.trust,
            _ => self.trust(0, index, &bundle.tile),
        };
        match trust {
            Trust::Wrong if is_readable && self.trust(0, index, &bundle.found) == Trust::Right => Err(tile),
            Trust::Wrong if is_readable => Err(replaced(0, index)),
            Trust::Unknown if is_readable => {
                self.doubt(tile, entry);
                Ok(())
            }
            Trust::Right | Trust::Wrong | Trust::Unknown => Err(entry),
        }
    }

    /// Adds the hash of an entry to the tree, and compares what it completes with the tiles above.
    fn push(&mut self, hash: TreeHash) -> Result<(), Finding> {
        let mut full = Vec::new();
        self.tree.push(hash, |tile| full.push(tile));
        full.iter().try_for_each(|tile| self.compare_above(tile))?;
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.size == self.tree.size())
            && self.tree.root() != kept.root
        {
            return Err(Finding::Rewritten { kept: kept.size });
        }
        Ok(())
    }

    fn compare_above(&mut self, tile: &FullTile) -> Result<(), Finding> {
        let level = tile.level + 1;
        let above = self.hash_above(level, tile.index).filter(|(hash, _)| *hash != tile.root && self.doubt.is_none());
        let Some((_, trust)) = above else {
            return Ok(());
        };
        let index = tile.index / u64::from(TILE_WIDTH);
        let width = Width::in_row(row(self.checkpoint.size, level), index).unwrap_or(Width::FULL);
        let replaced = replaced(tile.level, tile.index);
        let first = replaced.first_entry().unwrap_or(0);
        let changed = Finding::Tile { path: LogPath::Tile { level, index, width }, first };
        match trust {
            Trust::Right => Err(replaced),
            Trust::Wrong => Err(changed),
            Trust::Unknown => {
                self.doubt(changed, replaced);
                Ok(())
            }
        }
    }

    fn doubt(&mut self, if_entries_are_right: Finding, if_entries_are_wrong: Finding) {
        self.doubt.get_or_insert(Doubt { if_entries_are_right, if_entries_are_wrong });
    }

    /// Whether a full tile has these hashes, as far as the tile above says.
    fn trust(&self, level: u8, index: u64, hashes: &[TreeHash]) -> Trust {
        match self.hash_above(level + 1, index) {
            Some((hash, Trust::Right)) if hash == perfect_root(hashes) => Trust::Right,
            Some((_, Trust::Right)) => Trust::Wrong,
            _ => Trust::Unknown,
        }
    }

    /// The hash number `position` of a level, in the tile that was read, and whether this is to be believed.
    fn hash_above(&self, level: u8, position: u64) -> Option<(TreeHash, Trust)> {
        let edge = self.edge.as_ref()?;
        let width = u64::from(TILE_WIDTH);
        let is_partial = position / width == row(self.checkpoint.size, level) / width;
        let (hashes, trust) = if is_partial {
            (edge.rows.get(usize::from(level))?, edge.trust)
        } else {
            self.above.get(&level).map(|above| (&above.hashes, above.trust))?
        };
        Some((*hashes.get((position % width) as usize)?, trust))
    }
}

fn replaced(level: u8, index: u64) -> Finding {
    let bits = 8 * (u32::from(level) + 1);
    let first = index << bits;
    Finding::Replaced { first, last: first + (1 << bits) - 1 }
}

/// The files that a bundle needs beside the right edge: the full tiles that begin with it, the highest first, and itself.
fn files_of(size: u64, bundle: u64) -> Vec<LogPath> {
    let mut files = Vec::new();
    for level in (0_u8..).take_while(|level| row(size, *level) > 0 && row(bundle, *level) << (8 * *level) == bundle) {
        let index = row(bundle, level);
        let width = Width::in_row(row(size, level), index).filter(|width| width.is_full());
        files.extend(width.map(|width| LogPath::Tile { level, index, width }));
    }
    files.reverse();
    let width = Width::in_row(size, bundle);
    files.extend(width.map(|width| LogPath::Entries { index: bundle, width }));
    files
}

#[cfg(test)]
mod tests;
