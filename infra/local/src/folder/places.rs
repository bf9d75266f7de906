//! The places on the way to an item: where the space stands, and what is mounted between it and the item.

use mill_ports::{Place, Presence, SpaceFacts, StoreErrorKind};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::boundary::Standing;
use super::faults::{During, Fault};
use super::file_system;
use super::place::Place as ItemPath;
use super::reading;
use super::root::{RootDir, RootFacts, waypoint_in};

/// The directory of a space, opened as a waypoint.
struct Space {
    directory: OwnedFd,
    standing: Standing,
}

impl Space {
    /// `None` where there is none.
    fn open(root: &RootDir, directory: &str) -> Result<Option<Self>, Fault> {
        match reading::space(root, directory) {
            Ok(_) => {}
            Err(Fault { kind: StoreErrorKind::SpaceAbsent, .. }) => return Ok(None),
            Err(fault) => return Err(fault),
        }
        let reach = |errno| Fault::of(During::Reach, errno);
        let directory = match root.waypoint(directory) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(reach)?,
        };
        let standing = Standing::of(&directory).map_err(reach)?;
        Ok(Some(Self { directory, standing }))
    }
}

/// What is known of the space in a directory of the root.
pub(super) fn space(root: &RootDir, directory: &str) -> Result<Presence<SpaceFacts>, Fault> {
    let Some(space) = Space::open(root, directory)? else { return Ok(Presence::Absent) };
    let identity = space.standing.identity(&space.directory).map_err(|errno| Fault::of(During::Reach, errno))?;
    Ok(Presence::Present(SpaceFacts { identity }))
}

/// Whether a space's directory is a mount or subvolume of its own; `None` where there is none.
pub(super) fn is_own_mount(root: &RootDir, directory: &str) -> Result<Option<bool>, Fault> {
    Ok(Space::open(root, directory)?.map(|space| !space.standing.is_beside(&root.standing)))
}

/// What stands at a space's directory.
pub(super) fn space_root_facts(root: &RootDir, directory: &str) -> Result<Option<RootFacts>, Fault> {
    let Some(space) = Space::open(root, directory)? else { return Ok(None) };
    let reach = |errno| Fault::of(During::Reach, errno);
    let file_system = file_system::identity(&space.directory, space.standing.device).map_err(reach)?;
    let identity = space.standing.in_file_system(&file_system);
    Ok(Some(RootFacts { identity, file_system, mounted: !space.standing.is_beside(&root.standing) }))
}

/// The places on the way to an item, outermost first. Of an item that is not there, those on as much of the way as is.
pub(super) fn on_the_way(root: &RootDir, item: &ItemPath) -> Result<Vec<Place>, Fault> {
    let reach = |errno| Fault::of(During::Reach, errno);
    let Some(space) = Space::open(root, item.space())? else { return Ok(vec![root.place()]) };
    let mut places = vec![root.place_of_space(&space.directory, &space.standing).map_err(reach)?];
    if !item.directory && is_beside_its_space(root, item, &space) {
        return Ok(places);
    }
    let way = if item.directory { item.path() } else { item.parent() };
    let (mut at, mut prefix) = (space, String::new());
    for name in way[item.space().len()..].split('/').filter(|name| !name.is_empty()) {
        let found = waypoint_in(&at.directory, name).and_then(|directory| Ok((Standing::of(&directory)?, directory)));
        let (standing, directory) = match found {
            Ok(found) => found,
            // What is not there is nowhere beneath a mount.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => break,
            Err(errno) => return Err(Fault::of(During::Read, errno)),
        };
        prefix.push_str(name);
        prefix.push('/');
        if !standing.is_beside(&at.standing) {
            let identity = standing.identity(&directory).map_err(|errno| Fault::of(During::Read, errno))?;
            places.push(Place { path: prefix.clone(), identity });
        }
        at = Space { directory, standing };
    }
    Ok(places)
}

/// Whether an item lies in the mount of its space: then so does all that is between them. Mostly it does.
fn is_beside_its_space(root: &RootDir, item: &ItemPath, space: &Space) -> bool {
    let parent = root.waypoint(item.parent()).and_then(Standing::of);
    parent.is_ok_and(|parent| parent.is_beside(&space.standing))
}
