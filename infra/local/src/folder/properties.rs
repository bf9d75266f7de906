//! How an item's properties are stored with a file.
//!
//! `file-mode` and `file-mtime` are the file's own permission bits and mtime. All others are one extended attribute,
//! a JSON map; a name mapped to `null` there is a property that the item does not have though its file has one.
//! Where the attribute does not fit, a row of the sidecar table holds the map and names the version it belongs to.
//!
//! After setting mode and time, Mill reads them back. The file may not store them as given: a time between two seconds
//! on FAT, one after 2038 on an old ext4, a set-user-id bit, which no copy gets. Then the map holds the given value as
//! a text, and the value of the file beside it. The text counts as long as the file still has that value.

use std::collections::BTreeMap;

use mill_hooks::crash_point;
use mill_model::{ItemFacts, ItemState, Properties};
use mill_ports::Clock;
use rustix::fd::AsFd;
use rustix::fs::{Mode, Stat, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;

use super::attribute_names::AttributeNames;
use super::file_state::{FileState, FileTime};
use super::{access_list, attribute, directory_modes};
use crate::crash_points;

const ATTRIBUTE: &str = "user.mill.properties";
/// The attribute's value where the properties did not fit into it.
const IN_SIDECAR: &[u8] = b"sidecar";
/// The permission bits that a copy gets: never set-user-id, set-group-id and sticky.
const MODE_BITS: u32 = 0o777;
/// The permission bits of an item: with set-user-id, set-group-id and sticky.
const ALL_MODE_BITS: u32 = 0o7777;
/// Prefix of the name under which the map holds the file's own mode or time, where it differs from the given one.
const HELD_INSTEAD: char = '\0';

/// The properties in the attribute: texts, or `None` for a property of the file that the item does not have.
pub(super) type PropertyMap = BTreeMap<String, Option<String>>;

/// The properties that are stored with an item's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoredProperties {
    /// All of them.
    InFile(PropertyMap),
    /// The sidecar has them. Without a row there they are unknown.
    InSidecar,
    /// The file system has no attributes: the sidecar may have a row.
    PerhapsInSidecar,
    /// The attribute cannot be parsed.
    Unreadable,
}

impl StoredProperties {
    /// Reads the properties of an open file or directory on that device, if it has such an attribute.
    pub(super) fn read_if_listed(file: impl AsFd, names: &AttributeNames, device: u64) -> Result<Self, Errno> {
        if names.lack(ATTRIBUTE, device) { Ok(Self::InFile(PropertyMap::new())) } else { Self::read(file) }
    }

    /// Reads the properties of an open file or directory.
    pub(super) fn read(file: impl AsFd) -> Result<Self, Errno> {
        match attribute::read(file, ATTRIBUTE, Self::of) {
            Ok(stored) => Ok(stored.unwrap_or_else(|| Self::InFile(PropertyMap::new()))),
            Err(Errno::NOTSUP | Errno::NOSYS) => Ok(Self::PerhapsInSidecar),
            Err(errno) => Err(errno),
        }
    }

    /// The meaning of the attribute's value.
    fn of(value: &[u8]) -> Self {
        if value == IN_SIDECAR {
            return Self::InSidecar;
        }
        serde_json::from_slice(value).map_or(Self::Unreadable, Self::InFile)
    }
}

/// Which of an item's properties are to be stored, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PropertyPlan {
    mode: Option<u32>,
    mtime: Option<FileTime>,
    /// The properties for the attribute.
    map: PropertyMap,
    /// Whether there is a sidecar for what does not fit.
    sidecar: bool,
    /// Whether the attribute is stored also where the map is empty.
    marks: bool,
}

/// Whether a directory has properties of its own, or was marked as an item while it held others. Then it stays when these go.
pub(super) fn is_marked(directory: impl AsFd) -> bool {
    attribute::read(directory, ATTRIBUTE, |_| ()).is_ok_and(|found| found.is_some())
}

impl PropertyPlan {
    pub(super) fn of(properties: &Properties, sidecar: bool) -> Self {
        let mode = properties.get(Properties::FILE_MODE);
        let mtime = properties.get(Properties::FILE_MTIME);
        let (read_mode, read_mtime) = (mode.and_then(mode_from), mtime.and_then(mtime_from));
        let mut map: PropertyMap =
            properties.0.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        for (name, given, read) in [
            (Properties::FILE_MODE, mode.is_some(), read_mode.is_some()),
            (Properties::FILE_MTIME, mtime.is_some(), read_mtime.is_some()),
        ] {
            match (given, read) {
                // The file itself stores it. A text that is no mode or time stays in the map.
                (true, true) => drop(map.remove(name)),
                (true, false) => {}
                (false, _) => drop(map.insert(name.to_owned(), None)),
            }
        }
        Self { mode: read_mode, mtime: read_mtime, map, sidecar, marks: false }
    }

    /// The same plan without time and mode, and with a mark that the directory is an item of its own: what still lies in it may be
    /// another's, and gets no other rights.
    pub(super) fn for_directory_with_items(&self) -> Self {
        Self { mode: None, mtime: None, marks: true, ..self.clone() }
    }

    /// Whether a property would be lost if the map were not stored.
    fn is_essential(&self) -> bool {
        self.map.values().any(Option::is_some)
    }

    /// The mode with which to create the file, before the umask.
    pub(super) fn mode_at_creation(&self) -> Mode {
        Mode::from_raw_mode(if self.mode.is_some() { 0o600 } else { 0o644 })
    }

    /// The mode with which to create a directory that is an item, before the umask.
    pub(super) fn directory_mode_at_creation(&self) -> Mode {
        directory_modes::at_creation(self.mode)
    }

    /// Sets all properties of a file that is not yet visible, and reads them back.
    ///
    /// Returns whether the map must go to the sidecar.
    pub(super) fn apply(&self, file: impl AsFd) -> Result<PropertyFit, Errno> {
        let fit = self.apply_all_but_time(&file, None)?;
        let now = match self.mtime {
            Some(mtime) => set_time(&file, mtime)?,
            None => FileState::of(&rustix::fs::fstat(&file)?),
        };
        self.store_lost(&file, &now, fit)
    }

    /// The time to set, if the file has another one.
    pub(super) fn time_to_set(&self, found: FileTime) -> Option<FileTime> {
        self.mtime.filter(|mtime| *mtime != found)
    }

    /// Sets everything but the mtime, by which the writes of others are noticed. `found` is the state of an existing
    /// file.
    pub(super) fn apply_all_but_time(&self, file: impl AsFd, found: Option<&FileState>) -> Result<PropertyFit, Errno> {
        let fit = self.apply_map(&file, found)?;
        if found.is_some() {
            crash_point(crash_points::FOLDER_PROPERTIES_BEGUN);
        }
        if let Some(mode) = self.mode {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & MODE_BITS))?;
        }
        Ok(fit)
    }

    /// Stores in the map the mode and time that the file does not hold as given, which does not change its mtime. `now`
    /// is the file's state after both were set, and `fit` the result of storing the map before.
    pub(super) fn store_lost(&self, file: impl AsFd, now: &FileState, fit: PropertyFit) -> Result<PropertyFit, Errno> {
        let lost = self.lost(&access_list::with_group_right(&file, *now, &AttributeNames::Untold)?);
        if lost.is_empty() {
            return Ok(fit);
        }
        let mut all = self.clone();
        all.map.extend(lost);
        match all.set_map_of(&file, now.mode) {
            // Neither the file nor a sidecar can store it.
            Err(Errno::NOTSUP | Errno::NOSYS) if !self.sidecar => Ok(PropertyFit::Lost),
            other => other,
        }
    }

    /// The mode and time that the file does not hold as given: the given texts, and those of the file.
    fn lost(&self, now: &FileState) -> PropertyMap {
        let mut lost = PropertyMap::new();
        let mut note = |name: &str, wanted: String, held: String| {
            if wanted != held {
                lost.insert(name.to_owned(), Some(wanted));
                lost.insert(held_instead(name), Some(held));
            }
        };
        if let Some(mode) = self.mode {
            note(Properties::FILE_MODE, mode_text(mode), mode_text(now.mode));
        }
        if let Some(mtime) = self.mtime {
            note(Properties::FILE_MTIME, mtime_text(mtime), mtime_text(now.modified));
        }
        lost
    }

    /// Stores the map. Only an existing file may have an attribute to remove.
    fn apply_map(&self, file: impl AsFd, found: Option<&FileState>) -> Result<PropertyFit, Errno> {
        if self.map.is_empty() && !self.marks {
            let removed = match found {
                Some(_) => rustix::fs::fremovexattr(&file, ATTRIBUTE),
                // Nothing to remove, but a row of the sidecar about an earlier file may have to go.
                None if self.sidecar => rustix::fs::fgetxattr(&file, ATTRIBUTE, &mut [0_u8; 0][..]).map(drop),
                None => Ok(()),
            };
            return match removed {
                Ok(()) | Err(Errno::NODATA) => Ok(PropertyFit::InFile),
                Err(Errno::NOTSUP | Errno::NOSYS) => Ok(PropertyFit::NeedsSidecar { essential: None }),
                Err(errno) => Err(errno),
            };
        }
        match found {
            Some(found) => self.set_map_of(&file, found.mode),
            None => self.set_map(&file),
        }
    }

    /// Stores the map with a file that has this mode.
    fn set_map_of(&self, file: impl AsFd, mode: u32) -> Result<PropertyFit, Errno> {
        if mode & 0o200 != 0 {
            return self.set_map(&file);
        }
        // The owner may set attributes of a read-only file only after this.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & MODE_BITS | 0o200))?;
        let fit = self.set_map(&file);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & MODE_BITS))?;
        fit
    }

    /// The result for a map that must go to the sidecar, if a property would be lost without it.
    fn nowhere(&self) -> PropertyFit {
        PropertyFit::NeedsSidecar { essential: self.is_essential().then(|| self.map.clone()) }
    }

    fn set_map(&self, file: impl AsFd) -> Result<PropertyFit, Errno> {
        let json = serde_json::to_vec(&self.map).map_err(|_| Errno::INVAL)?;
        match rustix::fs::fsetxattr(&file, ATTRIBUTE, &json, XattrFlags::empty()) {
            Ok(()) => Ok(PropertyFit::InFile),
            // Without the attribute the item only gains a mode and a time; no property is lost.
            Err(Errno::NOTSUP | Errno::NOSYS) if self.sidecar || !self.is_essential() => Ok(self.nowhere()),
            Err(Errno::TOOBIG | Errno::NOSPC | Errno::RANGE) if !self.sidecar => Err(Errno::NOTSUP),
            Err(Errno::TOOBIG | Errno::NOSPC | Errno::RANGE) => {
                match rustix::fs::fsetxattr(&file, ATTRIBUTE, IN_SIDECAR, XattrFlags::empty()) {
                    // The kernel checks the size before it checks whether the file system has attributes.
                    Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS) => Ok(self.nowhere()),
                    // On a full disk this fails too, with its own error.
                    Err(errno) => Err(errno),
                }
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Where the map of an item's properties fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PropertyFit {
    /// With the file.
    InFile,
    /// Not with the file. `essential` is the map, if a property would be lost without the sidecar.
    NeedsSidecar { essential: Option<PropertyMap> },
    /// The file's mode or time differs from the given one, and there is no sidecar to store that.
    Lost,
}

/// Adds a file's properties to its facts. `map` is that of the attribute or sidecar; `None` where it is unknown.
pub(super) fn with_properties(facts: ItemFacts, state: &FileState, map: Option<PropertyMap>) -> ItemFacts {
    let properties = map.map(|mut map| {
        let own =
            [(Properties::FILE_MODE, mode_text(state.mode)), (Properties::FILE_MTIME, mtime_text(state.modified))];
        for (name, says) in &own {
            // The file's value has changed: somebody has set it since.
            if let Some(held) = map.remove(&held_instead(name))
                && held.as_ref() != Some(says)
            {
                map.remove(*name);
            }
        }
        let mut all: BTreeMap<String, String> = own.into_iter().map(|(name, says)| (name.to_owned(), says)).collect();
        for (name, value) in map {
            match value {
                Some(value) => drop(all.insert(name, value)),
                None => drop(all.remove(&name)),
            }
        }
        Properties(all)
    });
    ItemFacts { properties, ..facts }
}

/// The facts of a file without its properties.
pub(super) fn bare_facts(state: &FileState, clock: &dyn Clock) -> ItemFacts {
    ItemFacts {
        size: state.content_size(),
        modified: Some(state.modified_at()),
        version: state.version(clock),
        checksums: Vec::new(),
        properties: None,
        state: ItemState::Online,
    }
}

/// Parses a mode. Only the canonical form is a mode; any other text stays a text.
fn mode_from(text: &str) -> Option<u32> {
    let mode = u32::from_str_radix(text, 8).ok()?;
    (mode <= ALL_MODE_BITS && text == mode_text(mode)).then_some(mode)
}

fn mode_text(mode: u32) -> String {
    format!("{:04o}", mode & ALL_MODE_BITS)
}

fn mtime_from(text: &str) -> Option<FileTime> {
    let (seconds, nanos) = text.split_once('.')?;
    let at = FileTime { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok()? };
    (at.nanos < 1_000_000_000 && text == mtime_text(at)).then_some(at)
}

fn mtime_text(at: FileTime) -> String {
    format!("{}.{:09}", at.seconds, at.nanos)
}

fn held_instead(name: &str) -> String {
    format!("{HELD_INSTEAD}{name}")
}

/// Removes the attribute with the properties.
pub(super) fn remove_attribute(file: impl AsFd) -> Result<(), Errno> {
    rustix::fs::fremovexattr(file, ATTRIBUTE)
}

/// Sets the mtime alone, and returns the file's state after it. Some file systems in user space ignore a call that does
/// not set both times: for them a second call sets the access time to its current value.
pub(super) fn set_time(file: impl AsFd, mtime: FileTime) -> Result<FileState, Errno> {
    let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let last_modification = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    rustix::fs::futimens(&file, &Timestamps { last_access: omitted, last_modification })?;
    let stat = rustix::fs::fstat(&file)?;
    let now = FileState::of(&stat);
    if now.modified == mtime {
        return Ok(now);
    }
    let last_access = accessed(&stat);
    rustix::fs::futimens(&file, &Timestamps { last_access, last_modification })?;
    Ok(FileState::of(&rustix::fs::fstat(&file)?))
}

/// The width and sign of the kernel's fields differ between processors.
#[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap, clippy::cast_lossless)]
fn accessed(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_atime as i64, tv_nsec: stat.st_atime_nsec as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        Properties(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn only_what_is_written_the_same_again_is_a_mode_or_a_time() {
        assert_eq!(mode_from("0644"), Some(0o644));
        assert_eq!(mode_from("4755"), Some(0o4755));
        assert_eq!(mtime_from("12.000000007"), Some(FileTime { seconds: 12, nanos: 7 }));
        assert_eq!(mtime_from("-5.000000000"), Some(FileTime { seconds: -5, nanos: 0 }));
        for text in ["644", "00644", "04755", "rw", "", "+644", "100644", "0899"] {
            assert_eq!(mode_from(text), None, "{text}");
        }
        for text in ["12", "12.7", "+12.000000000", "x.000000000", "12.0000000000", "1.-00000001", "1.1000000000"] {
            assert_eq!(mtime_from(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_file_says_itself_is_not_kept_twice() {
        let both = PropertyPlan::of(&properties(&[("file-mode", "0600"), ("file-mtime", "1.000000000")]), false);
        assert!(both.map.is_empty());
        let neither = PropertyPlan::of(&properties(&[("content-type", "text/plain")]), false);
        assert_eq!(neither.map["content-type"].as_deref(), Some("text/plain"));
        assert_eq!((&neither.map["file-mode"], &neither.map["file-mtime"]), (&None, &None));
        let odd = PropertyPlan::of(&properties(&[("file-mode", "644"), ("file-mtime", "1.000000000")]), false);
        assert_eq!(odd.map["file-mode"].as_deref(), Some("644"));
        assert_eq!(odd.mode, None);
    }

    fn state(mode: u32, seconds: i64) -> FileState {
        let at = FileTime { seconds, nanos: 0 };
        FileState { device: 1, inode: 2, size: 3, mode, modified: at, changed: at }
    }

    #[test]
    fn what_a_file_does_not_hold_counts_as_long_as_the_file_says_what_it_said_then() {
        let wanted = properties(&[("file-mode", "4755"), ("file-mtime", "9.000000007"), ("note", "a")]);
        let plan = PropertyPlan::of(&wanted, false);
        let mut map = plan.map.clone();
        map.extend(plan.lost(&state(0o100_755, 8)));
        let read = |file_state: &FileState| {
            let (version, state) = (mill_model::Version::unsettled("v"), ItemState::Online);
            let bare = ItemFacts { size: 3, modified: None, version, checksums: Vec::new(), properties: None, state };
            with_properties(bare, file_state, Some(map.clone())).properties.unwrap()
        };
        assert_eq!(read(&state(0o100_755, 8)), wanted);
        let touched = read(&state(0o100_700, 12));
        assert_eq!((touched.get("file-mode"), touched.get("file-mtime")), (Some("0700"), Some("12.000000000")));
        assert_eq!((touched.get("note"), touched.0.len()), (Some("a"), 3));
        assert!(
            plan.lost(&FileState { mode: 0o104_755, modified: FileTime { seconds: 9, nanos: 7 }, ..state(0, 0) })
                .is_empty()
        );
    }
}
