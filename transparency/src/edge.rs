//! Appending to a log: what must be read first, and what must be written.

use crate::bundle::{self, BundleError, EntryTooLong};
use crate::files::{FileError, Files};
use crate::frontier::{Frontier, FullTile, partial_tiles, row};
use crate::hash::TreeHash;
use crate::path::{LogPath, TILE_WIDTH, Width};
use crate::tiles;

/// The right edge of a log: all that appending needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RightEdge {
    frontier: Frontier,
    root: TreeHash,
    /// The partial bundle, encoded.
    bundle: Vec<u8>,
}

/// What entries add to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The new files, in the order in which they must be written: bundles of entries, then tiles from the lowest level upwards.
    ///
    /// All are new: none has the path of a file of an earlier size. The checkpoint, which is written last, is not among them.
    pub files: Vec<(LogPath, Vec<u8>)>,
    /// How many entries the log has now.
    pub size: u64,
    /// Its root.
    pub root: TreeHash,
    /// Its right edge, to append more.
    pub edge: RightEdge,
}

/// Why the right edge of a log cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// A file is absent, or has a wrong length.
    #[error(transparent)]
    File(#[from] FileError),
    /// The partial bundle is not one.
    #[error("`{path}` is damaged")]
    Bundle {
        /// The file.
        path: LogPath,
        /// What is wrong.
        #[source]
        source: BundleError,
    },
    /// The tiles give the root; the entry is another one.
    #[error("entry {index}, in `{path}`, is not the one whose hash the log has")]
    Entry {
        /// The bundle.
        path: LogPath,
        /// The number of the entry in the log.
        index: u64,
    },
    /// The entries give the root with the tiles above; the tile is another one.
    #[error("`{path}` does not have the hash of entry {index}")]
    Tile {
        /// The tile.
        path: LogPath,
        /// The number of the entry in the log.
        index: u64,
    },
    /// The files do not give the root.
    #[error("the right edge of the log gives the root `{found}`, not `{root}`: one of {files} is damaged", files = list(.files))]
    Root {
        /// The root that the log must have.
        root: TreeHash,
        /// The root that the files give.
        found: TreeHash,
        /// The files.
        files: Vec<LogPath>,
    },
}

fn list(files: &[LogPath]) -> String {
    if files.is_empty() {
        return "no files".to_owned();
    }
    files.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
}

impl RightEdge {
    /// That of a log without entries.
    pub fn empty() -> Self {
        Self { frontier: Frontier::default(), root: TreeHash::of_empty_tree(), bundle: Vec::new() }
    }

    /// The files that must be read before one can append to a log of `size` entries: at most one bundle and a tile a level.
    pub fn needs(size: u64) -> Vec<LogPath> {
        partial_bundle(size).into_iter().chain(partial_tiles(size).flatten()).collect()
    }

    /// Reads the right edge from the files that [`RightEdge::needs`] names, and checks that they give the root.
    ///
    /// The full file of a position may stand in for a partial one.
    pub fn open(size: u64, root: TreeHash, files: &Files) -> Result<Self, EdgeError> {
        let rows: Vec<Vec<TreeHash>> = partial_tiles(size)
            .map(|path| path.map_or(Ok(Vec::new()), |path| tiles::tile(files, path)))
            .collect::<Result<_, _>>()?;
        let bundle = partial_bundle(size).map(|path| read_bundle(files, path)).transpose()?.unwrap_or_default();
        let frontier = Frontier::new(size, rows);
        let found = frontier.root();
        let entries = entry_hashes(&bundle, frontier.level(0).len());
        let other = entries.iter().zip(frontier.level(0)).position(|(entry, hash)| entry != hash);
        if let (Some(position), Some(path)) = (other, partial_bundle(size)) {
            let index = path.first_entry() + position as u64;
            if found == root {
                return Err(EdgeError::Entry { path, index });
            }
            let mut rows = frontier.clone();
            rows.replace_entries(entries);
            if let (true, Some(path)) = (rows.root() == root, partial_tiles(size).flatten().next()) {
                return Err(EdgeError::Tile { path, index });
            }
        }
        if found != root {
            return Err(EdgeError::Root { root, found, files: Self::needs(size) });
        }
        Ok(Self { frontier, root, bundle })
    }

    /// How many entries the log has.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root of the log.
    pub fn root(&self) -> TreeHash {
        self.root
    }

    /// What the log is with more entries. The same entries give the same bytes.
    pub fn append<E: AsRef<[u8]>>(&self, entries: &[E]) -> Result<Appended, EntryTooLong> {
        let mut edge = self.clone();
        let (mut bundles, mut full) = (Vec::new(), Vec::new());
        for (position, entry) in entries.iter().enumerate() {
            bundle::append(&mut edge.bundle, position, entry.as_ref())?;
            edge.frontier.push(TreeHash::of_entry(entry.as_ref()), |tile| full.push(tile));
            if edge.size().is_multiple_of(TILE_WIDTH.into()) {
                let index = edge.size() / u64::from(TILE_WIDTH) - 1;
                bundles.push((LogPath::Entries { index, width: Width::FULL }, std::mem::take(&mut edge.bundle)));
            }
        }
        edge.root = edge.frontier.root();
        let files = bundles.into_iter().chain(edge.new_files(self.size(), full));
        // Tiles of different levels are filled in turn. Paths are ordered as files must be written.
        let mut files: Vec<_> = files.collect();
        files.sort_unstable_by_key(|(path, _)| *path);
        Ok(Appended { files, size: edge.size(), root: edge.root, edge })
    }

    /// The tiles that have become full, and all partial files with something new.
    fn new_files(&self, old_size: u64, full: Vec<FullTile>) -> Vec<(LogPath, Vec<u8>)> {
        let file = |FullTile { level, index, hashes, .. }: FullTile| {
            (LogPath::Tile { level, index, width: Width::FULL }, TreeHash::concat(&hashes))
        };
        let mut files: Vec<_> = full.into_iter().map(file).collect();
        let partial = partial_bundle(self.size()).filter(|_| self.size() > old_size);
        files.extend(partial.map(|path| (path, self.bundle.clone())));
        for (level, path) in (0..self.frontier.levels()).zip(partial_tiles(self.size())) {
            let is_new = row(self.size(), level) > row(old_size, level);
            files.extend(path.filter(|_| is_new).map(|path| (path, TreeHash::concat(self.frontier.level(level)))));
        }
        files
    }
}

/// The partial bundle of a log, if it has one.
fn partial_bundle(size: u64) -> Option<LogPath> {
    let width = Width::new((size % u64::from(TILE_WIDTH)) as u16)?;
    Some(LogPath::Entries { index: size / u64::from(TILE_WIDTH), width })
}

fn read_bundle(files: &Files, path: LogPath) -> Result<Vec<u8>, EdgeError> {
    let (from, bytes) = tiles::stand_in(files, path).ok_or(FileError::Absent { path })?;
    let LogPath::Entries { width, .. } = path else { return Ok(Vec::new()) };
    let bytes = if from == path { bytes } else { bundle::prefix(bytes, width.get().into()).unwrap_or(bytes) };
    bundle::decode(bytes, width.get().into()).map_err(|source| EdgeError::Bundle { path: from, source })?;
    Ok(bytes.to_vec())
}

fn entry_hashes(bundle: &[u8], count: usize) -> Vec<TreeHash> {
    bundle::decode_until_fault(bundle, count).0.into_iter().map(TreeHash::of_entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, at};
    use proptest::prelude::*;

    fn paths(appended: &Appended) -> Vec<String> {
        appended.files.iter().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn seventy_thousand_entries_are_the_tree_of_the_specification() {
        let appended = RightEdge::empty().append(&reference::entries(70_000)).expect("short entries");
        let tiles: Vec<LogPath> =
            appended.files.iter().map(|(path, _)| *path).filter(|path| matches!(path, LogPath::Tile { .. })).collect();
        let full = |wanted| move |path: &&LogPath| matches!(path, LogPath::Tile { level, .. } if *level == wanted && !path.is_partial());
        assert_eq!(tiles.iter().filter(full(0)).count(), 273);
        assert_eq!(tiles.iter().filter(full(1)).count(), 1);
        let partial: Vec<LogPath> = tiles.iter().copied().filter(|path| path.is_partial()).collect();
        assert_eq!(partial, [at("tile/0/273.p/112"), at("tile/1/001.p/17"), at("tile/2/000.p/1")]);
        assert_eq!(tiles.len(), 273 + 1 + 3);
        assert_eq!(appended.files.len(), 274 + tiles.len());
        assert_eq!(appended.root, reference::root(&reference::entries(70_000)));
        let lengths = |path| appended.files.iter().find(|(other, _)| *other == at(path)).map(|(_, bytes)| bytes.len());
        assert_eq!(lengths("tile/1/000"), Some(8192));
        assert_eq!(lengths("tile/1/001.p/17"), Some(17 * 32));
        let needs: Vec<String> = RightEdge::needs(70_000).iter().map(ToString::to_string).collect();
        assert_eq!(needs, ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    }

    #[test]
    fn a_tree_of_256_has_a_partial_tile_above_its_full_one() {
        let appended = RightEdge::empty().append(&reference::entries(256)).expect("short entries");
        assert_eq!(paths(&appended), ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(RightEdge::needs(256), [at("tile/1/000.p/1")]);
        let more = appended.edge.append(&["one more"]).expect("a short entry");
        assert_eq!(paths(&more), ["tile/entries/001.p/1", "tile/0/001.p/1"]);
    }

    #[test]
    fn nothing_appended_writes_nothing() {
        let empty = RightEdge::empty();
        let appended = empty.append::<&[u8]>(&[]).expect("nothing");
        assert_eq!((appended.files, appended.edge), (Vec::new(), empty));
        assert_eq!(appended.root, TreeHash::of_empty_tree());
        assert_eq!(RightEdge::open(0, TreeHash::of_empty_tree(), &Files::new()), Ok(RightEdge::empty()));
        assert_eq!(RightEdge::needs(0), []);
    }

    #[test]
    fn an_entry_that_is_too_long_is_refused_and_nothing_is_written() {
        let entries = [Vec::new(), vec![0; 65_536]];
        let error = RightEdge::empty().append(&entries).expect_err("too long");
        assert_eq!(error, EntryTooLong { position: 1, bytes: 65_536 });
    }

    #[test]
    fn a_damaged_right_edge_is_refused_by_the_name_of_the_file() {
        let (files, checkpoint) = reference::log(&reference::entries(70_000));
        let open = |files: &Files| RightEdge::open(70_000, checkpoint.root, files);
        let damaged = |path: &str, damage: &dyn Fn(&mut Vec<u8>)| {
            let mut files = files.clone();
            damage(files.get_mut(&at(path)).expect("a file"));
            open(&files).expect_err("it is damaged")
        };
        assert_eq!(open(&files).map(|edge| edge.root()), Ok(checkpoint.root));
        let (bundle, tile) = (at("tile/entries/273.p/112"), at("tile/0/273.p/112"));
        let flip = |bytes: &mut Vec<u8>| bytes[42] ^= 1;
        assert_eq!(damaged("tile/entries/273.p/112", &flip), EdgeError::Entry { path: bundle, index: 273 * 256 + 3 });
        assert_eq!(damaged("tile/0/273.p/112", &flip), EdgeError::Tile { path: tile, index: 273 * 256 + 1 });
        let root = damaged("tile/1/001.p/17", &flip);
        assert!(matches!(&root, EdgeError::Root { files, .. } if files.contains(&at("tile/1/001.p/17"))), "{root}");
        let short = FileError::Length { path: at("tile/2/000.p/1"), bytes: 31, wanted: 32 };
        assert_eq!(damaged("tile/2/000.p/1", &|bytes| bytes.truncate(31)), EdgeError::File(short));
        let trailing = BundleError::TrailingBytes { bytes: 1 };
        assert_eq!(
            damaged("tile/entries/273.p/112", &|bytes| bytes.push(0)),
            EdgeError::Bundle { path: bundle, source: trailing }
        );
        for path in RightEdge::needs(70_000) {
            let mut files = files.clone();
            files.remove(&path);
            assert_eq!(open(&files), Err(EdgeError::File(FileError::Absent { path })));
        }
        let other = TreeHash::of_entry(b"other");
        assert!(matches!(RightEdge::open(70_000, other, &files), Err(EdgeError::Root { root, .. }) if root == other));
    }

    #[test]
    fn a_full_file_stands_in_for_a_partial_one() {
        let entries = reference::entries(300);
        let first = RightEdge::empty().append(&entries[..100]).expect("short entries");
        let whole: Files = first.edge.append(&entries[100..]).expect("short entries").files.into_iter().collect();
        assert!(!whole.contains_key(&at("tile/0/000.p/100")));
        assert_eq!(RightEdge::open(100, first.root, &whole), Ok(first.edge));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn batches_give_the_files_and_the_root_of_all_at_once(batches in prop::collection::vec(0_usize..700, 1..8)) {
            let entries = reference::entries(batches.iter().sum());
            let (mut files, mut edge, mut rest) = (Files::new(), RightEdge::empty(), &entries[..]);
            for batch in batches {
                let (now, later) = rest.split_at(batch);
                let appended = edge.append(now).expect("short entries");
                prop_assert!(appended.files.is_sorted_by(|(one, _), (two, _)| one < two));
                for (path, bytes) in appended.files {
                    prop_assert!(files.insert(path, bytes).is_none(), "{} is written twice", path);
                }
                edge = RightEdge::open(appended.size, appended.root, &files).expect("its own files");
                prop_assert_eq!(&edge, &appended.edge);
                prop_assert_eq!(edge.root(), reference::root(&entries[..entries.len() - later.len()]));
                rest = later;
            }
            let at_once = RightEdge::empty().append(&entries).expect("short entries");
            prop_assert_eq!(at_once.root, edge.root());
            for (path, bytes) in at_once.files {
                prop_assert_eq!(files.get(&path), Some(&bytes), "{}", path);
            }
        }
    }
}
