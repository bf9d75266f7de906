//! What a touched path has become.

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::debounce::Touch;
use super::hint::FolderHint;
use super::tree::{Map, WatchedTree};
use crate::folder::dirents::Dirents;
use crate::folder::item_path;
use crate::folder::root::RootDir;

/// What kind of entry is at a path; `None` if there is none.
pub(super) fn kind(root: &RootDir, path: &str) -> Result<Option<FileType>, Errno> {
    let (parent, name) = item_path::split(path);
    let stat = root.waypoint(parent).and_then(|parent| rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW));
    match stat {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The hint of a path that is due.
pub(super) fn look(root: &RootDir, map: &Map, tree: &mut WatchedTree, path: &str, touch: Touch) -> Option<FolderHint> {
    let item = map.item(path)?;
    let there = match path.strip_suffix('/') {
        Some(directory) => {
            let there = is_empty_directory(root, directory);
            if let Some(dir) = tree.get_mut(directory) {
                dir.empty = there;
            }
            if !there && !touch.was_item {
                return None;
            }
            there
        }
        None => match kind(root, path) {
            Ok(kind) => kind == Some(FileType::RegularFile),
            // Whoever reads it finds out what is wrong.
            Err(_) => true,
        },
    };
    match there {
        true => Some(FolderHint::Changed(item)),
        false if touch.created => None,
        false => Some(FolderHint::Gone(item)),
    }
}

fn is_empty_directory(root: &RootDir, path: &str) -> bool {
    root.directory(path).and_then(Dirents::is_empty).unwrap_or(false)
}
