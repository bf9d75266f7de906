//! What each change does, under the lock.

use std::collections::BTreeSet;

use mill_model::Version;
use mill_ports::{Clock, CrashPoint, Precondition, Presence, RefusalReason, StoreErrorKind, crash_point};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, RenameFlags};
use rustix::io::Errno;

use super::committer::{Change, Changed};
use super::dirents::Dirents;
use super::durability::Durability;
use super::faults::{During, Fault};
use super::kept::{self, Fits, Keeping, Kept};
use super::place::{Place, split};
use super::reading::{self, Found, find, missing};
use super::root::{RootDir, directory_in};
use super::spelling;
use super::staging::Staged;
use super::stamp::Stamp;
use super::undo::{Undo, Way};

/// The changes of one group being made.
#[derive(Debug)]
pub(super) struct Making<'a> {
    pub(super) root: &'a RootDir,
    clock: &'a dyn Clock,
    durability: &'a Durability,
    /// Whether each thing is made durable by itself.
    singly: bool,
    /// The directories in which a name came or went, if they are to be made durable by themselves.
    touched: BTreeSet<String>,
    /// The directory of the last file placed: the next one often lies beside it.
    beside: Option<(String, OwnedFd)>,
}

/// How a prepared file came to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renamed {
    /// Nothing was there.
    Fresh,
    /// What was there has the prepared file's name now.
    Exchanged,
    /// What was there, if anything, is gone.
    Over,
}

fn write(errno: Errno) -> Fault {
    Fault::of(During::Write, errno)
}

impl<'a> Making<'a> {
    pub(super) fn new(root: &'a RootDir, clock: &'a dyn Clock, durability: &'a Durability) -> Self {
        let singly = durability.singly();
        Self { root, clock, durability, singly, touched: BTreeSet::new(), beside: None }
    }

    /// Makes a change. What it gives beside the answer takes the change out of view again.
    pub(super) fn make(&mut self, change: Change) -> Result<(Changed, Option<Undo>), Fault> {
        let changed = match change {
            Change::Place(staged, place, when) => return self.place(staged, place, &when),
            Change::Directory(place, keeping, when) => self.directory(&place, &keeping, &when),
            Change::Properties(place, keeping, when) => self.properties(&place, &keeping, &when),
            Change::Remove(place, when) => self.remove(&place, &when),
            Change::Respell(renaming) => self.respell(&renaming),
            Change::CreateSpace(name) => self.create_space(&name),
            Change::RemoveSpace(name) => self.remove_space(&name),
        };
        changed.map(|changed| (changed, None))
    }

    /// Makes the names durable that came and went, where that is not done for all at once.
    pub(super) fn sync_names(&mut self) -> Result<(), Fault> {
        std::mem::take(&mut self.touched).iter().try_for_each(|path| self.durability.sync_directory(path))
    }

    /// Lets go of the directory of the last file placed, which may not be found by its path any more.
    pub(super) fn forget_beside(&mut self) {
        self.beside = None;
    }

    /// Notes that names came or went in a directory and in `levels` of those above it.
    pub(super) fn touch(&mut self, path: &str, levels: usize) {
        let mut path = path;
        for level in 0..=levels {
            if self.singly && !self.touched.contains(path) {
                self.touched.insert(path.to_owned());
            }
            if level < levels {
                path = split(path).0;
            }
        }
    }

    fn place(
        &mut self,
        mut staged: Staged,
        place: Place,
        when: &Precondition,
    ) -> Result<(Changed, Option<Undo>), Fault> {
        staged.is_not_condemned()?;
        let (parent, made) = self.parent(&place)?;
        match self.rename(&staged, &parent, &place, when) {
            Ok(renamed) => {
                crash_point(CrashPoint::FolderRenamed);
                let fits = std::mem::replace(&mut staged.fits, Fits::Here);
                if renamed != Renamed::Exchanged {
                    staged.placed();
                }
                self.touch(place.parent(), made);
                if renamed != Renamed::Exchanged {
                    self.must_be_kept(&place, &parent, made)?;
                }
                let stat = rustix::fs::statat(&parent, place.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
                let stamp = Stamp::of(&stat);
                self.beside = Some((place.parent().to_owned(), parent));
                let undo = match renamed {
                    Renamed::Fresh => Undo { place, stamp, way: Way::Remove { made } },
                    Renamed::Exchanged => Undo { place, stamp, way: Way::Exchange(staged) },
                    Renamed::Over => Undo { place, stamp, way: Way::None },
                };
                Ok((Changed::Item(stamp.version_as_written(self.clock), fits), Some(undo)))
            }
            Err(fault) => {
                self.unmake(place.parent(), made);
                Err(fault)
            }
        }
    }

    fn rename(&self, staged: &Staged, parent: &OwnedFd, place: &Place, when: &Precondition) -> Result<Renamed, Fault> {
        let (from, name) = staged.prepared();
        let rename = |flags| rustix::fs::renameat_with(from, name, parent, place.name(), flags);
        let write = |errno| if errno == Errno::XDEV { takes_none_from_elsewhere() } else { write(errno) };
        if !matches!(when, Precondition::VersionIs(_)) {
            match rename(RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(Renamed::Fresh),
                // There already, or the file system cannot rename so: the lock must do.
                Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                Err(errno) => return Err(write(errno)),
            }
        }
        let found = found(parent, place)?;
        if found.is_some() {
            spelling::name_must_be_own(self.root, place, parent)?;
        }
        match (&found, when) {
            (Some(_), Precondition::Absent) | (None, Precondition::VersionIs(_)) => {
                return Err(StoreErrorKind::Precondition.into());
            }
            (Some(stamp), Precondition::VersionIs(version)) => self.must_be(stamp, version)?,
            (_, Precondition::Always) | (None, Precondition::Absent) => {}
        }
        let Some(found) = found else { return rename(RenameFlags::empty()).map(|()| Renamed::Over).map_err(write) };
        match rename(RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                return rename(RenameFlags::empty()).map(|()| Renamed::Over).map_err(write);
            }
            Err(errno) => return Err(write(errno)),
        }
        // Others do not ask for the lock: what was taken away must be what was looked at.
        match rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(taken) if Stamp::of(&taken).holds_the_same_as(&found) => Ok(Renamed::Exchanged),
            _ => {
                rename(RenameFlags::EXCHANGE).map_err(write)?;
                Err(StoreErrorKind::Precondition.into())
            }
        }
    }

    /// Takes a file out of view again that the file system lists under another name than it was given.
    fn must_be_kept(&mut self, place: &Place, parent: &OwnedFd, made: usize) -> Result<(), Fault> {
        let Err(kept_as) = spelling::is_kept(self.root, place, parent).map_err(write)? else { return Ok(()) };
        rustix::fs::unlinkat(parent, place.name(), AtFlags::empty()).map_err(write)?;
        self.unmake(place.parent(), made);
        Err(Fault::refused(RefusalReason::UnrepresentableId(format!("the file system would keep it as `{kept_as}`"))))
    }

    pub(super) fn must_be(&self, stamp: &Stamp, version: &Version) -> Result<(), Fault> {
        if stamp.version(self.clock) == *version { Ok(()) } else { Err(StoreErrorKind::Precondition.into()) }
    }

    /// Makes the directory where it stands: a crash in between leaves one with the usual mode and time,
    /// which the next look at it corrects.
    fn directory(&mut self, place: &Place, keeping: &Keeping, when: &Precondition) -> Result<Changed, Fault> {
        let (parent, made) = self.parent(place)?;
        let fresh = match rustix::fs::mkdirat(&parent, place.name(), Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => {
                self.unmake(place.parent(), made);
                return Err(write(errno));
            }
        };
        if fresh && matches!(when, Precondition::VersionIs(_)) {
            let _ = rustix::fs::unlinkat(&parent, place.name(), AtFlags::REMOVEDIR);
            self.unmake(place.parent(), made);
            return Err(StoreErrorKind::Precondition.into());
        }
        self.touch(place.parent(), made);
        let found = match find(self.root, place)? {
            Presence::Present(found) => found,
            Presence::Absent => {
                let stat = rustix::fs::statat(&parent, place.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
                spelling::name_must_be_own(self.root, place, &parent)?;
                return match Stamp::of(&stat).kind() {
                    FileType::Directory if !matches!(when, Precondition::VersionIs(_)) => {
                        self.directory_with_items(&parent, place, keeping)
                    }
                    FileType::Directory => Err(StoreErrorKind::Precondition.into()),
                    kind => Err(taken(kind)),
                };
            }
        };
        match when {
            Precondition::Absent if !fresh => return Err(StoreErrorKind::Precondition.into()),
            Precondition::VersionIs(version) => self.must_be(&found.stamp, version)?,
            Precondition::Absent | Precondition::Always => {}
        }
        self.set(&found, keeping)
    }

    /// Keeps the properties of an item that is the sign for a directory with that directory, which holds something. Its time
    /// is that of the last name in it.
    fn directory_with_items(&self, parent: &OwnedFd, place: &Place, keeping: &Keeping) -> Result<Changed, Fault> {
        let file = directory_in(parent, place.name()).map_err(write)?;
        let stamp = Stamp::of(&rustix::fs::fstat(&file).map_err(write)?);
        let kept = Kept::read(&file).map_err(write)?;
        self.set(&Found { file, stamp, kept }, &keeping.without_time())
    }

    /// Sets the properties where the item stands, one after another. Each step moves the version; a crash in
    /// between leaves a state that nobody has seen or sealed, which is therefore looked at again and corrected.
    fn properties(&self, place: &Place, keeping: &Keeping, when: &Precondition) -> Result<Changed, Fault> {
        if self.root.waypoint_within(place.parent()).is_err_and(|errno| errno == Errno::XDEV) {
            return Err(write(Errno::XDEV));
        }
        let found = match find(self.root, place)? {
            Presence::Present(found) => found,
            Presence::Absent => return Err(StoreErrorKind::Precondition.into()),
        };
        match when {
            Precondition::Absent => return Err(StoreErrorKind::Precondition.into()),
            Precondition::VersionIs(version) => self.must_be(&found.stamp, version)?,
            Precondition::Always => {}
        }
        // By hard links a snapshot, or the source itself, may be this very file.
        if !place.directory && rustix::fs::fstat(&found.file).map_err(write)?.st_nlink > 1 {
            return Ok(Changed::Shared(found.stamp.version(self.clock)));
        }
        self.set(&found, keeping)
    }

    /// Others do not ask for the lock. What they write meanwhile moves the time, and is seen by it until the time is set;
    /// so it is set only where it must be, and then nothing is proven: the file is read again.
    fn set(&self, found: &Found, keeping: &Keeping) -> Result<Changed, Fault> {
        let fits = keeping.apply_all_but_time(&found.file, Some(&found.stamp)).map_err(write)?;
        let mut now = still(found)?;
        let time = keeping.time_instead_of(now.modified);
        if let Some(time) = time {
            now = kept::set_time(&found.file, time).map_err(write)?;
        }
        let fits = keeping.keep_lost(&found.file, &now, fits).map_err(write)?;
        if self.singly {
            self.durability.sync_file(&found.file)?;
        }
        if time.is_none() {
            let now = still(found)?;
            return Ok(Changed::Item(now.version_as_written(self.clock), fits));
        }
        let now = Stamp::of(&rustix::fs::fstat(&found.file).map_err(write)?);
        // A directory has no bytes that somebody could have written.
        let as_written = now.kind() == FileType::Directory;
        let version = if as_written { now.version_as_written(self.clock) } else { now.version(self.clock) };
        Ok(Changed::Item(version, fits))
    }

    fn remove(&mut self, place: &Place, when: &Precondition) -> Result<Changed, Fault> {
        let parent = match self.root.waypoint_within(place.parent()) {
            Ok(parent) => parent,
            Err(Errno::XDEV) => return Err(write(Errno::XDEV)),
            Err(errno) => return missing::<()>(self.root, place, errno).map(|_| Changed::WasAbsent),
        };
        let stamp = if place.directory {
            match find(self.root, place)? {
                Presence::Present(found) => found.stamp,
                Presence::Absent => {
                    if matches!(when, Precondition::Always)
                        && spelling::is_own(self.root, place, &parent).is_ok_and(|own| own)
                    {
                        // One that holds something stays for that alone.
                        let _ = directory_in(&parent, place.name()).and_then(kept::forget);
                    }
                    return Ok(Changed::WasAbsent);
                }
            }
        } else {
            match rustix::fs::statat(&parent, place.name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Stamp::of(&stat),
                Err(errno) => return missing::<()>(self.root, place, errno).map(|_| Changed::WasAbsent),
            }
        };
        if let Some(refusal) = reading::refusal(stamp.kind()) {
            return Err(Fault::refused(refusal));
        }
        if (stamp.kind() == FileType::Directory) != place.directory {
            return Ok(Changed::WasAbsent);
        }
        if !spelling::is_own(self.root, place, &parent).map_err(write)? {
            return Ok(Changed::WasAbsent);
        }
        match when {
            Precondition::Absent => return Err(StoreErrorKind::Precondition.into()),
            Precondition::VersionIs(version) => self.must_be(&stamp, version)?,
            Precondition::Always => {}
        }
        let how = if place.directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&parent, place.name(), how) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NOTEMPTY) => return Ok(Changed::WasAbsent),
            Err(errno) => return Err(write(errno)),
        }
        crash_point(CrashPoint::FolderRemoved);
        self.touch(place.parent(), 0);
        self.unmake_implied(place);
        Ok(Changed::Removed)
    }

    /// Removes the directories that only the ids of items implied with the last of them: empty, they would be items. One that
    /// bears properties is an item of its own.
    fn unmake_implied(&mut self, place: &Place) {
        let mut path = place.parent();
        while path.len() > place.space().len() {
            // One that may not be read is removed if it is empty.
            if let Ok(directory) = self.root.directory(path) {
                let empty = Dirents::is_empty(&directory).unwrap_or(false);
                if !empty || Kept::read(directory).is_ok_and(|kept| kept.is_said()) {
                    return;
                }
            }
            self.unmake(path, 1);
            path = split(path).0;
        }
    }

    /// The directory an item is to lie in, and how many levels of it had to be made.
    fn parent(&mut self, place: &Place) -> Result<(OwnedFd, usize), Fault> {
        if let Some((path, directory)) = self.beside.take()
            && path == place.parent()
        {
            return Ok((directory, 0));
        }
        match self.root.waypoint_within(place.parent()) {
            Ok(directory) => {
                spelling::way_must_be_own(self.root, place)?;
                return Ok((directory, 0));
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(write(errno)),
        }
        reading::space(self.root, place.space())?;
        let (mut at, mut made) = (place.space().len(), 0);
        while at < place.parent().len() {
            let rest = &place.parent()[at + usize::from(at > 0)..];
            let from = place.parent().len() - rest.len();
            let end = from + rest.find('/').unwrap_or(rest.len());
            let (above, name) = split(&place.parent()[..end]);
            let step = self.root.waypoint_within(above).and_then(|above| {
                match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o777)) {
                    Err(Errno::EXIST) => Ok(false),
                    made => made.map(|()| true),
                }
            });
            match step {
                Ok(true) => {
                    crash_point(CrashPoint::FolderDirectoryMade);
                    made += 1;
                }
                Ok(false) => {}
                Err(errno) => {
                    self.unmake(above, made);
                    return Err(write(errno));
                }
            }
            at = end;
        }
        // Where one of them was there under another spelling, the others were made in that.
        let found = self.root.waypoint_within(place.parent()).map_err(write);
        let own = found.and_then(|directory| spelling::way_must_be_own(self.root, place).map(|()| directory));
        match own {
            Ok(directory) => Ok((directory, made)),
            Err(fault) => {
                self.unmake(place.parent(), made);
                Err(fault)
            }
        }
    }

    /// Removes a directory and those above it, `levels` in all, as far as they are empty.
    pub(super) fn unmake(&mut self, path: &str, levels: usize) {
        let mut path = path;
        for _ in 0..levels {
            let (above, name) = split(path);
            let removed =
                self.root.waypoint(above).and_then(|above| rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR));
            if removed.is_err() {
                return;
            }
            self.beside = None;
            self.touch(above, 0);
            path = above;
        }
    }

    fn create_space(&mut self, name: &str) -> Result<Changed, Fault> {
        self.touch("", 0);
        match rustix::fs::mkdirat(self.root, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(Changed::Space),
            Err(Errno::EXIST) => match reading::space(self.root, name) {
                Ok(_) => Ok(Changed::Space),
                Err(Fault { kind: StoreErrorKind::SpaceAbsent, .. }) => {
                    match spelling::space_twin(self.root, name).map_err(write)? {
                        Some(twin) => Err(spelling::taken_by_space(&twin)),
                        None => Err(write(Errno::NOTDIR)),
                    }
                }
                Err(fault) => Err(fault),
            },
            Err(errno) => Err(write(errno)),
        }
    }

    fn remove_space(&mut self, name: &str) -> Result<Changed, Fault> {
        self.beside = None;
        self.touch("", 0);
        if spelling::space_twin(self.root, name).map_err(write)?.is_some() {
            return Ok(Changed::Space);
        }
        match rustix::fs::unlinkat(self.root, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(Changed::Space),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(StoreErrorKind::Precondition.into()),
            Err(Errno::BUSY) => Err(Fault::refused(RefusalReason::UnrepresentableId(
                "something is mounted there, or it is in use".to_owned(),
            ))),
            Err(errno) => Err(write(errno)),
        }
    }
}

/// Within one mount a file system says so of a directory that counts what lies in it by itself.
fn takes_none_from_elsewhere() -> Fault {
    let why = "its directory takes no file by renaming, as one does that has a quota or project of its own (`lsattr -pd` \
               shows it); give all of the folder one project, or make that directory a store of its own";
    Fault::refused(RefusalReason::Unwritable(why.to_owned()))
}

/// The state of a file that nobody has written since it was found.
fn still(found: &Found) -> Result<Stamp, Fault> {
    let now = Stamp::of(&rustix::fs::fstat(&found.file).map_err(write)?);
    let still = now.kind() == FileType::Directory || now.holds_the_same_as(&found.stamp);
    if still { Ok(now) } else { Err(StoreErrorKind::Precondition.into()) }
}

/// The file that has an item's place. Anything else there is not replaced: it is nobody's copy.
fn found(parent: &OwnedFd, place: &Place) -> Result<Option<Stamp>, Fault> {
    let stat = match rustix::fs::statat(parent, place.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(write(errno)),
    };
    let stamp = Stamp::of(&stat);
    match stamp.kind() {
        FileType::RegularFile => Ok(Some(stamp)),
        FileType::Directory => Err(Fault::of(During::Write, Errno::ISDIR)),
        kind => Err(taken(kind)),
    }
}

/// Something that stands where an item is to be written.
fn taken(kind: FileType) -> Fault {
    let by = match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory that is not empty",
        FileType::Symlink => "a symbolic link",
        _ => "something that is neither file nor directory",
    };
    Fault::refused(RefusalReason::PathConflict(by.to_owned()))
}
