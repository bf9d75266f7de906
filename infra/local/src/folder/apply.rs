//! Applies changes to the folder, under the root lock.

use std::collections::BTreeSet;

use mill_hooks::crash_point;
use mill_model::Version;
use mill_ports::{Clock, Precondition, Presence, RefusalReason, StoreErrorKind};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, RenameFlags};
use rustix::io::Errno;

use super::committer::{Change, ChangeResult};
use super::dirents::Dirents;
use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::flusher::Flusher;
use super::item_path::{ItemPath, split};
use super::item_reader::{self, FoundItem, absent_or_error, find};
use super::properties::{self, PropertyFit, PropertyPlan, StoredProperties};
use super::root::{RootDir, directory_in};
use super::spelling;
use super::temp_files::TempFile;
use super::undo::{Undo, UndoStep};
use crate::crash_points;

/// Applies the changes of one group.
#[derive(Debug)]
pub(super) struct Applier<'a> {
    pub(super) root: &'a RootDir,
    clock: &'a dyn Clock,
    flusher: &'a Flusher,
    /// Whether each file and directory is flushed by itself.
    singly: bool,
    /// The directories whose names changed, if each must be flushed by itself.
    touched: BTreeSet<String>,
    /// The directory of the last file moved to its path: the next file often goes there too.
    beside: Option<(String, OwnedFd)>,
}

/// How a prepared file was moved to its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RenameOutcome {
    /// There was no file.
    Fresh,
    /// The replaced file has the prepared file's name now.
    Exchanged,
    /// The replaced file, if there was one, is deleted.
    Over,
}

fn write(errno: Errno) -> FolderError {
    FolderError::of(FileOperation::Write, errno)
}

impl<'a> Applier<'a> {
    pub(super) fn new(root: &'a RootDir, clock: &'a dyn Clock, flusher: &'a Flusher) -> Self {
        let singly = flusher.singly();
        Self { root, clock, flusher, singly, touched: BTreeSet::new(), beside: None }
    }

    /// Applies a change. Returns its result, and how to undo it where that is possible.
    pub(super) fn apply(&mut self, change: Change) -> Result<(ChangeResult, Option<Undo>), FolderError> {
        let changed = match change {
            Change::PutFile(temp_file, item_path, when) => return self.put_file(temp_file, item_path, &when),
            Change::Directory(item_path, plan, when) => self.directory(&item_path, &plan, &when),
            Change::Properties(item_path, plan, when) => self.properties(&item_path, &plan, &when),
            Change::Remove(item_path, when) => self.remove(&item_path, &when),
            Change::Respell(change) => self.respell(&change),
            Change::CreateSpace(name) => self.create_space(&name),
            Change::RemoveSpace(name) => self.remove_space(&name),
        };
        changed.map(|changed| (changed, None))
    }

    /// Flushes the directories whose names changed, where each is flushed by itself.
    pub(super) fn sync_names(&mut self) -> Result<(), FolderError> {
        std::mem::take(&mut self.touched).iter().try_for_each(|path| self.flusher.sync_directory(path))
    }

    /// Closes the directory of the last file, which may have another path now.
    pub(super) fn forget_beside(&mut self) {
        self.beside = None;
    }

    /// Notes that names changed in a directory and in `levels` of those above it.
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

    fn put_file(
        &mut self,
        mut temp_file: TempFile,
        item_path: ItemPath,
        when: &Precondition,
    ) -> Result<(ChangeResult, Option<Undo>), FolderError> {
        temp_file.check_not_condemned()?;
        let (parent, made) = self.parent(&item_path)?;
        match self.rename(&temp_file, &parent, &item_path, when) {
            Ok(renamed) => {
                crash_point(crash_points::FOLDER_RENAMED);
                let fit = std::mem::replace(&mut temp_file.fit, PropertyFit::InFile);
                if renamed != RenameOutcome::Exchanged {
                    temp_file.placed();
                }
                self.touch(item_path.parent(), made);
                if renamed != RenameOutcome::Exchanged {
                    self.check_listed_as_given(&item_path, &parent, made)?;
                }
                let stat = rustix::fs::statat(&parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
                let state = FileState::of(&stat);
                self.beside = Some((item_path.parent().to_owned(), parent));
                let undo = match renamed {
                    RenameOutcome::Fresh => Undo { item_path, state, step: UndoStep::Remove { made } },
                    RenameOutcome::Exchanged => Undo { item_path, state, step: UndoStep::Exchange(temp_file) },
                    RenameOutcome::Over => Undo { item_path, state, step: UndoStep::None },
                };
                Ok((ChangeResult::Item(state.version_as_written(self.clock), fit), Some(undo)))
            }
            Err(error) => {
                self.unmake(item_path.parent(), made);
                Err(error)
            }
        }
    }

    fn rename(
        &self,
        temp_file: &TempFile,
        parent: &OwnedFd,
        item_path: &ItemPath,
        when: &Precondition,
    ) -> Result<RenameOutcome, FolderError> {
        let (from, name) = temp_file.prepared();
        let rename = |flags| rustix::fs::renameat_with(from, name, parent, item_path.name(), flags);
        let write = |errno| if errno == Errno::XDEV { takes_none_from_elsewhere() } else { write(errno) };
        if !matches!(when, Precondition::VersionIs(_)) {
            match rename(RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(RenameOutcome::Fresh),
                // The name exists, or the file system has no such rename: the lock must suffice.
                Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                Err(errno) => return Err(write(errno)),
            }
        }
        let found = found(parent, item_path)?;
        if found.is_some() {
            spelling::name_must_be_own(self.root, item_path, parent)?;
        }
        match (&found, when) {
            (Some(_), Precondition::Absent) | (None, Precondition::VersionIs(_)) => {
                return Err(StoreErrorKind::Precondition.into());
            }
            (Some(state), Precondition::VersionIs(version)) => self.must_be(state, version)?,
            (_, Precondition::Always) | (None, Precondition::Absent) => {}
        }
        let Some(found) = found else {
            return rename(RenameFlags::empty()).map(|()| RenameOutcome::Over).map_err(write);
        };
        match rename(RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                return rename(RenameFlags::empty()).map(|()| RenameOutcome::Over).map_err(write);
            }
            Err(errno) => return Err(write(errno)),
        }
        // Other programs do not take the lock: the replaced file must be the one that was checked.
        match rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(taken) if FileState::of(&taken).has_same_content_as(&found) => Ok(RenameOutcome::Exchanged),
            _ => {
                rename(RenameFlags::EXCHANGE).map_err(write)?;
                Err(StoreErrorKind::Precondition.into())
            }
        }
    }

    /// Removes a file again that the file system lists under another name than the given one.
    fn check_listed_as_given(
        &mut self,
        item_path: &ItemPath,
        parent: &OwnedFd,
        made: usize,
    ) -> Result<(), FolderError> {
        let Err(kept_as) = spelling::is_kept(self.root, item_path, parent).map_err(write)? else { return Ok(()) };
        rustix::fs::unlinkat(parent, item_path.name(), AtFlags::empty()).map_err(write)?;
        self.unmake(item_path.parent(), made);
        Err(FolderError::refused(RefusalReason::UnrepresentableId(format!(
            "the file system would keep it as `{kept_as}`"
        ))))
    }

    pub(super) fn must_be(&self, state: &FileState, version: &Version) -> Result<(), FolderError> {
        if state.version(self.clock) == *version { Ok(()) } else { Err(StoreErrorKind::Precondition.into()) }
    }

    /// Creates the directory at its path. A crash in between leaves it with default mode and time, which the next
    /// comparison corrects.
    fn directory(
        &mut self,
        item_path: &ItemPath,
        plan: &PropertyPlan,
        when: &Precondition,
    ) -> Result<ChangeResult, FolderError> {
        let (parent, made) = self.parent(item_path)?;
        let fresh = match rustix::fs::mkdirat(&parent, item_path.name(), Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => {
                self.unmake(item_path.parent(), made);
                return Err(write(errno));
            }
        };
        if fresh && matches!(when, Precondition::VersionIs(_)) {
            let _ = rustix::fs::unlinkat(&parent, item_path.name(), AtFlags::REMOVEDIR);
            self.unmake(item_path.parent(), made);
            return Err(StoreErrorKind::Precondition.into());
        }
        self.touch(item_path.parent(), made);
        let found = match find(self.root, item_path)? {
            Presence::Present(found) => found,
            Presence::Absent => {
                let stat = rustix::fs::statat(&parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
                spelling::name_must_be_own(self.root, item_path, &parent)?;
                return match FileState::of(&stat).kind() {
                    FileType::Directory if !matches!(when, Precondition::VersionIs(_)) => {
                        self.directory_with_items(&parent, item_path, plan)
                    }
                    FileType::Directory => Err(StoreErrorKind::Precondition.into()),
                    kind => Err(taken(kind)),
                };
            }
        };
        match when {
            Precondition::Absent if !fresh => return Err(StoreErrorKind::Precondition.into()),
            Precondition::VersionIs(version) => self.must_be(&found.state, version)?,
            Precondition::Absent | Precondition::Always => {}
        }
        self.set(&found, plan)
    }

    /// Stores the properties of a directory item with that directory, which is not empty. Its mtime is not set: it is
    /// that of the last change of a name in it.
    fn directory_with_items(
        &self,
        parent: &OwnedFd,
        item_path: &ItemPath,
        plan: &PropertyPlan,
    ) -> Result<ChangeResult, FolderError> {
        let file = directory_in(parent, item_path.name()).map_err(write)?;
        let state = FileState::of(&rustix::fs::fstat(&file).map_err(write)?);
        let stored = StoredProperties::read(&file).map_err(write)?;
        self.set(&FoundItem { file, state, stored }, &plan.without_time())
    }

    /// Sets the properties in place, one after another. Each step changes the version. A crash in between leaves a
    /// version for which there is no sync proof, so the item is compared again and corrected.
    fn properties(
        &self,
        item_path: &ItemPath,
        plan: &PropertyPlan,
        when: &Precondition,
    ) -> Result<ChangeResult, FolderError> {
        if self.root.waypoint_within(item_path.parent()).is_err_and(|errno| errno == Errno::XDEV) {
            return Err(write(Errno::XDEV));
        }
        let found = match find(self.root, item_path)? {
            Presence::Present(found) => found,
            Presence::Absent => return Err(StoreErrorKind::Precondition.into()),
        };
        match when {
            Precondition::Absent => return Err(StoreErrorKind::Precondition.into()),
            Precondition::VersionIs(version) => self.must_be(&found.state, version)?,
            Precondition::Always => {}
        }
        // A snapshot, or the source itself, may be a hard link to this very file.
        if !item_path.directory && rustix::fs::fstat(&found.file).map_err(write)?.st_nlink > 1 {
            return Ok(ChangeResult::Shared(found.state.version(self.clock)));
        }
        self.set(&found, plan)
    }

    /// Sets the properties of an item. Other programs do not take the lock. Their writes change the mtime, and are seen
    /// by it until this sets the mtime. So this sets it only if it must; then the version proves nothing, and the file
    /// is read again.
    fn set(&self, found: &FoundItem, plan: &PropertyPlan) -> Result<ChangeResult, FolderError> {
        let fit = plan.apply_all_but_time(&found.file, Some(&found.state)).map_err(write)?;
        let mut now = still(found)?;
        let time = plan.time_to_set(now.modified);
        if let Some(time) = time {
            now = properties::set_time(&found.file, time).map_err(write)?;
        }
        let fit = plan.store_lost(&found.file, &now, fit).map_err(write)?;
        if self.singly {
            self.flusher.sync_file(&found.file)?;
        }
        if time.is_none() {
            let now = still(found)?;
            return Ok(ChangeResult::Item(now.version_as_written(self.clock), fit));
        }
        let now = FileState::of(&rustix::fs::fstat(&found.file).map_err(write)?);
        // A directory has no bytes that somebody could have written.
        let as_written = now.kind() == FileType::Directory;
        let version = if as_written { now.version_as_written(self.clock) } else { now.version(self.clock) };
        Ok(ChangeResult::Item(version, fit))
    }

    fn remove(&mut self, item_path: &ItemPath, when: &Precondition) -> Result<ChangeResult, FolderError> {
        let parent = match self.root.waypoint_within(item_path.parent()) {
            Ok(parent) => parent,
            Err(Errno::XDEV) => return Err(write(Errno::XDEV)),
            Err(errno) => return absent_or_error::<()>(self.root, item_path, errno).map(|_| ChangeResult::WasAbsent),
        };
        let state = if item_path.directory {
            match find(self.root, item_path)? {
                Presence::Present(found) => found.state,
                Presence::Absent => {
                    if matches!(when, Precondition::Always)
                        && spelling::is_own(self.root, item_path, &parent).is_ok_and(|own| own)
                    {
                        // A directory that is not empty stays, without the properties of an item.
                        let _ = directory_in(&parent, item_path.name()).and_then(properties::remove_attribute);
                    }
                    return Ok(ChangeResult::WasAbsent);
                }
            }
        } else {
            match rustix::fs::statat(&parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileState::of(&stat),
                Err(errno) => {
                    return absent_or_error::<()>(self.root, item_path, errno).map(|_| ChangeResult::WasAbsent);
                }
            }
        };
        if let Some(refusal) = item_reader::refusal(state.kind()) {
            return Err(FolderError::refused(refusal));
        }
        if (state.kind() == FileType::Directory) != item_path.directory {
            return Ok(ChangeResult::WasAbsent);
        }
        if !spelling::is_own(self.root, item_path, &parent).map_err(write)? {
            return Ok(ChangeResult::WasAbsent);
        }
        match when {
            Precondition::Absent => return Err(StoreErrorKind::Precondition.into()),
            Precondition::VersionIs(version) => self.must_be(&state, version)?,
            Precondition::Always => {}
        }
        let how = if item_path.directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&parent, item_path.name(), how) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NOTEMPTY) => return Ok(ChangeResult::WasAbsent),
            Err(errno) => return Err(write(errno)),
        }
        crash_point(crash_points::FOLDER_REMOVED);
        self.touch(item_path.parent(), 0);
        self.unmake_implied(item_path);
        Ok(ChangeResult::Removed)
    }

    /// Removes the directories that existed only for the removed item: if empty, they would be items. A directory with
    /// properties is an item of its own, and stays.
    fn unmake_implied(&mut self, item_path: &ItemPath) {
        let mut path = item_path.parent();
        while path.len() > item_path.space().len() {
            // A directory that may not be read is removed if it is empty.
            if let Ok(directory) = self.root.directory(path) {
                let empty = Dirents::is_empty(&directory).unwrap_or(false);
                if !empty || StoredProperties::read(directory).is_ok_and(|stored| stored.is_said()) {
                    return;
                }
            }
            self.unmake(path, 1);
            path = split(path).0;
        }
    }

    /// The parent directory of an item, and how many levels of it this created.
    fn parent(&mut self, item_path: &ItemPath) -> Result<(OwnedFd, usize), FolderError> {
        if let Some((path, directory)) = self.beside.take()
            && path == item_path.parent()
        {
            return Ok((directory, 0));
        }
        match self.root.waypoint_within(item_path.parent()) {
            Ok(directory) => {
                spelling::parent_must_be_own(self.root, item_path)?;
                return Ok((directory, 0));
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(write(errno)),
        }
        item_reader::space(self.root, item_path.space())?;
        let (mut at, mut made) = (item_path.space().len(), 0);
        while at < item_path.parent().len() {
            let rest = &item_path.parent()[at + usize::from(at > 0)..];
            let from = item_path.parent().len() - rest.len();
            let end = from + rest.find('/').unwrap_or(rest.len());
            let (above, name) = split(&item_path.parent()[..end]);
            let step = self.root.waypoint_within(above).and_then(|above| {
                match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o777)) {
                    Err(Errno::EXIST) => Ok(false),
                    made => made.map(|()| true),
                }
            });
            match step {
                Ok(true) => {
                    crash_point(crash_points::FOLDER_DIRECTORY_MADE);
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
        // If one level exists under another spelling, the levels below it were created in that one.
        let found = self.root.waypoint_within(item_path.parent()).map_err(write);
        let own = found.and_then(|directory| spelling::parent_must_be_own(self.root, item_path).map(|()| directory));
        match own {
            Ok(directory) => Ok((directory, made)),
            Err(error) => {
                self.unmake(item_path.parent(), made);
                Err(error)
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

    fn create_space(&mut self, name: &str) -> Result<ChangeResult, FolderError> {
        self.touch("", 0);
        match rustix::fs::mkdirat(self.root, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(ChangeResult::Space),
            Err(Errno::EXIST) => match item_reader::space(self.root, name) {
                Ok(_) => Ok(ChangeResult::Space),
                Err(FolderError { kind: StoreErrorKind::SpaceAbsent, .. }) => {
                    match spelling::space_twin(self.root, name).map_err(write)? {
                        Some(twin) => Err(spelling::taken_by_space(&twin)),
                        None => Err(write(Errno::NOTDIR)),
                    }
                }
                Err(error) => Err(error),
            },
            Err(errno) => Err(write(errno)),
        }
    }

    fn remove_space(&mut self, name: &str) -> Result<ChangeResult, FolderError> {
        self.beside = None;
        self.touch("", 0);
        if spelling::space_twin(self.root, name).map_err(write)?.is_some() {
            return Ok(ChangeResult::Space);
        }
        match rustix::fs::unlinkat(self.root, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(ChangeResult::Space),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(StoreErrorKind::Precondition.into()),
            Err(Errno::BUSY) => Err(FolderError::refused(RefusalReason::UnrepresentableId(
                "something is mounted there, or it is in use".to_owned(),
            ))),
            Err(errno) => Err(write(errno)),
        }
    }
}

/// The error of a rename between directories of different quotas: within one mount a file system reports `EXDEV` for
/// it.
fn takes_none_from_elsewhere() -> FolderError {
    let why = "its directory takes no file by renaming, as one does that has a quota or project of its own (`lsattr -pd` \
               shows it); give all of the folder one project, or make that directory a store of its own";
    FolderError::refused(RefusalReason::Unwritable(why.to_owned()))
}

/// The state of a file now. Fails if somebody has written it since it was found.
fn still(found: &FoundItem) -> Result<FileState, FolderError> {
    let now = FileState::of(&rustix::fs::fstat(&found.file).map_err(write)?);
    let still = now.kind() == FileType::Directory || now.has_same_content_as(&found.state);
    if still { Ok(now) } else { Err(StoreErrorKind::Precondition.into()) }
}

/// The file at an item's path. Anything else there is an error, since it is no copy and must not be replaced.
fn found(parent: &OwnedFd, item_path: &ItemPath) -> Result<Option<FileState>, FolderError> {
    let stat = match rustix::fs::statat(parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(write(errno)),
    };
    let state = FileState::of(&stat);
    match state.kind() {
        FileType::RegularFile => Ok(Some(state)),
        FileType::Directory => Err(FolderError::of(FileOperation::Write, Errno::ISDIR)),
        kind => Err(taken(kind)),
    }
}

/// The error for something else at the path of an item to be written.
fn taken(kind: FileType) -> FolderError {
    let by = match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory that is not empty",
        FileType::Symlink => "a symbolic link",
        _ => "something that is neither file nor directory",
    };
    FolderError::refused(RefusalReason::PathConflict(by.to_owned()))
}
