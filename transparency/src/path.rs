//! Where the files of a log lie.
//!
//! Source: c2sp.org/tlog-tiles, *Merkle Tree* and *Log entries*.

use std::fmt;
use std::str::FromStr;

/// The hashes of a full tile, and the entries of a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// The last level that a path can name. A tree of 2^64 entries has eight levels.
const LEVEL_MAX: u8 = 63;

/// How many hashes a tile has, or entries a bundle: 1 to 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Width(u16);

impl Width {
    /// That of a full tile.
    pub const FULL: Self = Self(TILE_WIDTH);

    /// A width of 1 to 256.
    pub fn new(width: u16) -> Option<Self> {
        (1..=TILE_WIDTH).contains(&width).then_some(Self(width))
    }

    /// The width of a file of a row with `row` hashes: 0 of it are `None`.
    pub(crate) fn in_row(row: u64, index: u64) -> Option<Self> {
        let rest = row.checked_sub(index.checked_mul(u64::from(TILE_WIDTH))?)?;
        Self::new(rest.min(u64::from(TILE_WIDTH)) as u16)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// Whether nothing can be added.
    pub fn is_full(self) -> bool {
        self == Self::FULL
    }
}

/// A file of a log, by the path below the log's folder.
///
/// Ordered as they must be written: entries, then tiles from the lowest level upwards, the checkpoint last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogPath {
    /// A bundle of entries.
    Entries {
        /// Its position: the first entry is number `256 * index`.
        index: u64,
        /// How many entries it has.
        width: Width,
    },
    /// A tile of hashes.
    Tile {
        /// 0 has the hashes of entries, and each level above one hash for each full tile.
        level: u8,
        /// Its position in its level.
        index: u64,
        /// How many hashes it has.
        width: Width,
    },
    /// The newest signed checkpoint.
    Checkpoint,
}

/// A text is not the path of a file of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not the path of a file of a log")]
pub struct PathError {
    /// The text.
    pub path: String,
}

impl LogPath {
    /// The full file of the same position. It begins with the bytes of the partial one, which may be removed once it exists.
    #[must_use]
    pub fn full(self) -> Self {
        match self {
            Self::Checkpoint => Self::Checkpoint,
            Self::Tile { level, index, .. } => Self::Tile { level, index, width: Width::FULL },
            Self::Entries { index, .. } => Self::Entries { index, width: Width::FULL },
        }
    }

    /// Whether it is a tile or a bundle of less than 256.
    pub fn is_partial(self) -> bool {
        self != self.full()
    }

    /// The number of the first entry that it stands for.
    pub fn first_entry(self) -> u64 {
        match self {
            Self::Checkpoint => 0,
            Self::Tile { level, index, .. } => index.checked_shl(8 * (u32::from(level) + 1)).unwrap_or(0),
            Self::Entries { index, .. } => index << 8,
        }
    }
}

impl fmt::Display for LogPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, width) = match self {
            Self::Checkpoint => return f.write_str("checkpoint"),
            Self::Tile { level, index, width } => {
                write!(f, "tile/{level}/")?;
                (*index, *width)
            }
            Self::Entries { index, width } => {
                f.write_str("tile/entries/")?;
                (*index, *width)
            }
        };
        let groups = index.checked_ilog(1000).unwrap_or(0);
        for group in (1..=groups).rev() {
            write!(f, "x{:03}/", index / 1000_u64.pow(group) % 1000)?;
        }
        write!(f, "{:03}", index % 1000)?;
        if width.is_full() { Ok(()) } else { write!(f, ".p/{}", width.get()) }
    }
}

impl FromStr for LogPath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        // A path has one spelling: what would be printed otherwise is none.
        parse(path).filter(|parsed| parsed.to_string() == path).ok_or_else(|| PathError { path: path.to_owned() })
    }
}

fn parse(path: &str) -> Option<LogPath> {
    if path == "checkpoint" {
        return Some(LogPath::Checkpoint);
    }
    let (kind, position) = path.strip_prefix("tile/")?.split_once('/')?;
    let (index, width) = match position.split_once(".p/") {
        Some((index, width)) => (index, Width::new(width.parse().ok()?)?),
        None => (position, Width::FULL),
    };
    let index = index.split('/').try_fold(0_u64, |index, group| {
        let digits = group.strip_prefix('x').unwrap_or(group);
        index.checked_mul(1000)?.checked_add(digits.parse::<u16>().ok().filter(|group| *group < 1000)?.into())
    })?;
    if kind == "entries" {
        return Some(LogPath::Entries { index, width });
    }
    let level = kind.parse().ok().filter(|level| *level <= LEVEL_MAX)?;
    Some(LogPath::Tile { level, index, width })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tile(level: u8, index: u64, width: u16) -> LogPath {
        LogPath::Tile { level, index, width: Width::new(width).expect("a width") }
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let entries = |index, width| LogPath::Entries { index, width: Width::new(width).expect("a width") };
        let known = [
            ("checkpoint", LogPath::Checkpoint),
            ("tile/0/000", tile(0, 0, 256)),
            ("tile/0/273.p/112", tile(0, 273, 112)),
            ("tile/1/x001/x234/067", tile(1, 1_234_067, 256)),
            ("tile/63/x001/000.p/1", tile(63, 1000, 1)),
            ("tile/entries/999", entries(999, 256)),
            ("tile/entries/x001/x234/067.p/255", entries(1_234_067, 255)),
            ("tile/entries/x018/x446/x744/x073/x709/x551/615", entries(u64::MAX, 256)),
        ];
        for (text, path) in known {
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse(), Ok(path));
        }
    }

    #[test]
    fn other_spellings_are_no_paths() {
        let bad = [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001",
            "tile/0/1000",
            "tile/0/+01",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000/p/1",
            "tile/8/0/000",
            "/checkpoint",
            "checkpoint/",
            "tile/entries/x018/x446/x744/x073/x709/x551/616",
            "tile/entries/../../etc",
        ];
        for text in bad {
            assert_eq!(text.parse::<LogPath>(), Err(PathError { path: text.to_owned() }));
        }
    }

    #[test]
    fn files_are_ordered_as_they_must_be_written() {
        let entries = LogPath::Entries { index: 9, width: Width::FULL };
        let mut paths = [LogPath::Checkpoint, tile(1, 0, 1), entries, tile(0, 9, 256)];
        paths.sort();
        assert_eq!(paths, [entries, tile(0, 9, 256), tile(1, 0, 1), LogPath::Checkpoint]);
    }

    proptest! {
        #[test]
        fn any_path_is_read_again(level in 0_u8..=63, index: u64, width in 1_u16..=256) {
            let path = tile(level, index, width);
            prop_assert_eq!(path.to_string().parse(), Ok(path));
        }
    }
}
