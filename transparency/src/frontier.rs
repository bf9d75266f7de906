//! The right edge of a tree in memory: of each level, the hashes that no full tile holds.

use crate::hash::{TreeHash, perfect_root};
use crate::path::{LogPath, TILE_WIDTH, Width};

/// A tile that became full: its hashes, and the hash of it in the level above.
pub(crate) struct FullTile {
    pub(crate) level: u8,
    pub(crate) index: u64,
    pub(crate) hashes: Vec<TreeHash>,
    pub(crate) root: TreeHash,
}

/// A tree that grows at its right end. It needs at most 255 hashes of each level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frontier {
    size: u64,
    levels: Vec<Vec<TreeHash>>,
}

impl Frontier {
    /// A tree of `size` entries, whose partial tiles have these hashes, from level 0 upwards.
    pub(crate) fn new(size: u64, levels: Vec<Vec<TreeHash>>) -> Self {
        Self { size, levels }
    }

    /// How many entries.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of the partial tile of a level.
    pub(crate) fn level(&self, level: u8) -> &[TreeHash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Takes other hashes of the last entries, as many as there were.
    pub(crate) fn replace_entries(&mut self, hashes: Vec<TreeHash>) {
        if let Some(row) = self.levels.first_mut() {
            *row = hashes;
        }
    }

    /// How many levels there are.
    pub(crate) fn levels(&self) -> u8 {
        self.levels.len() as u8
    }

    /// Adds the hash of an entry. `full` learns of each tile that this fills, the lowest first.
    pub(crate) fn push(&mut self, entry: TreeHash, mut full: impl FnMut(FullTile)) {
        let mut hash = entry;
        self.size += 1;
        for level in 0_u8.. {
            if self.levels.len() <= level.into() {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[usize::from(level)];
            row.push(hash);
            if row.len() < TILE_WIDTH.into() {
                return;
            }
            hash = perfect_root(row);
            let index = (self.size >> (8 * (u32::from(level) + 1))) - 1;
            full(FullTile { level, index, hashes: std::mem::take(row), root: hash });
        }
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> TreeHash {
        let mut right = None;
        for row in &self.levels {
            // From the right: the perfect subtrees of a row, the smallest first.
            let mut end = row.len();
            while end > 0 {
                let start = end & (end - 1);
                let left = perfect_root(&row[start..end]);
                right = Some(right.map_or(left, |right| TreeHash::of_node(&left, &right)));
                end = start;
            }
        }
        right.unwrap_or_else(TreeHash::of_empty_tree)
    }
}

/// How many hashes a level has in a tree of `size`.
pub(crate) fn row(size: u64, level: u8) -> u64 {
    size.checked_shr(8 * u32::from(level)).unwrap_or(0)
}

/// The partial tiles of a tree, from level 0 upwards: for each level that has hashes its tile, if there is a partial one.
pub(crate) fn partial_tiles(size: u64) -> impl Iterator<Item = Option<LogPath>> {
    let levels = (0_u8..).take_while(move |level| row(size, *level) > 0);
    levels.map(move |level| {
        let hashes = row(size, level);
        let width = Width::new((hashes % u64::from(TILE_WIDTH)) as u16)?;
        Some(LogPath::Tile { level, index: hashes / u64::from(TILE_WIDTH), width })
    })
}
