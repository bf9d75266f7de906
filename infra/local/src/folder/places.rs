//! The places on the path to an item: that of its space, and the mounts between the space and the item.

use std::path::PathBuf;

use mill_ports::{Place, Presence, RootFacts, SpaceFacts, StoreErrorKind};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::error::{FileOperation, FolderError};
use super::file_system;
use super::item_path::ItemPath;
use super::item_reader;
use super::mount_boundary::DirectoryFacts;
use super::root::{RootDir, waypoint_in};

/// The directory of a space, opened as a waypoint.
struct SpaceDir {
    directory: OwnedFd,
    dir_facts: DirectoryFacts,
}

impl SpaceDir {
    /// Opens the directory; `None` where there is no such space.
    fn open(root: &RootDir, directory: &str) -> Result<Option<Self>, FolderError> {
        match item_reader::space(root, directory) {
            Ok(_) => {}
            Err(FolderError { kind: StoreErrorKind::SpaceAbsent, .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let reach = |errno| FolderError::of(FileOperation::Reach, errno);
        let directory = match root.waypoint(directory) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(reach)?,
        };
        let dir_facts = DirectoryFacts::of(&directory).map_err(reach)?;
        Ok(Some(Self { directory, dir_facts }))
    }
}

/// The facts of the space in a directory of the root.
pub(super) fn space(root: &RootDir, directory: &str) -> Result<Presence<SpaceFacts>, FolderError> {
    let Some(space) = SpaceDir::open(root, directory)? else { return Ok(Presence::Absent) };
    let identity =
        space.dir_facts.identity(&space.directory).map_err(|errno| FolderError::of(FileOperation::Reach, errno))?;
    Ok(Presence::Present(SpaceFacts { identity }))
}

/// Whether a space's directory is a mount or subvolume of its own; `None` where there is none.
pub(super) fn is_own_mount(root: &RootDir, directory: &str) -> Result<Option<bool>, FolderError> {
    Ok(SpaceDir::open(root, directory)?.map(|space| !space.dir_facts.is_in_same_mount(&root.dir_facts)))
}

/// The facts of a space's directory.
pub(super) fn space_root_facts(
    root: &RootDir,
    directory: &str,
    path: PathBuf,
) -> Result<Option<RootFacts>, FolderError> {
    let Some(space) = SpaceDir::open(root, directory)? else { return Ok(None) };
    let reach = |errno| FolderError::of(FileOperation::Reach, errno);
    let file_system = file_system::identity(&space.directory, space.dir_facts.device).map_err(reach)?;
    let identity = space.dir_facts.identity_in(&file_system);
    let mounted = !space.dir_facts.is_in_same_mount(&root.dir_facts);
    Ok(Some(RootFacts { path, identity, file_system, mounted }))
}

/// The places on the path to an item, outermost first. If the item is missing, those on the existing part of its path.
pub(super) fn places_on_path(root: &RootDir, item: &ItemPath) -> Result<Vec<Place>, FolderError> {
    let reach = |errno| FolderError::of(FileOperation::Reach, errno);
    let Some(space) = SpaceDir::open(root, item.space())? else { return Ok(vec![root.place()]) };
    let mut places = vec![root.place_of_space(&space.directory, &space.dir_facts).map_err(reach)?];
    if !item.directory && is_beside_its_space(root, item, &space) {
        return Ok(places);
    }
    let way = if item.directory { item.path() } else { item.parent() };
    let (mut at, mut prefix) = (space, String::new());
    for name in way[item.space().len()..].split('/').filter(|name| !name.is_empty()) {
        let found =
            waypoint_in(&at.directory, name).and_then(|directory| Ok((DirectoryFacts::of(&directory)?, directory)));
        let (dir_facts, directory) = match found {
            Ok(found) => found,
            // There are no mounts below a missing directory.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => break,
            Err(errno) => return Err(FolderError::of(FileOperation::Read, errno)),
        };
        prefix.push_str(name);
        prefix.push('/');
        if !dir_facts.is_in_same_mount(&at.dir_facts) {
            let identity =
                dir_facts.identity(&directory).map_err(|errno| FolderError::of(FileOperation::Read, errno))?;
            places.push(Place { path: prefix.clone(), identity });
        }
        at = SpaceDir { directory, dir_facts };
    }
    Ok(places)
}

/// Whether an item lies in the mount of its space, as most do: then so do all directories between them.
fn is_beside_its_space(root: &RootDir, item: &ItemPath, space: &SpaceDir) -> bool {
    let parent = root.waypoint(item.parent()).and_then(DirectoryFacts::of);
    parent.is_ok_and(|parent| parent.is_in_same_mount(&space.dir_facts))
}
