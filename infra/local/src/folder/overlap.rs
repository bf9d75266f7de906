//! Whether two folders hold the same files, whatever their paths are.
//!
//! A folder consists of the part of a file system at its path, and every part that is mounted beneath. Each part is
//! identified by its file system and the path within it. Two folders overlap if a part of the one is, or lies within, a
//! part of the other. A path alone proves nothing: `/mnt/a` and `/srv/b` may be one directory by a bind mount, a
//! subvolume, or a disk that is mounted twice.
//!
//! Some file systems show directories of others and name them: an overlay names its layers, FUSE often the directory
//! that it shows, a network mount its server and path. These parts count too. An overlap that no mount names is
//! detected by the listing itself (see `listing`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};

use super::mount_boundary::mount_id;
use super::mounts::{MountEntry, MountTable};
use super::overlay_layers;

/// How many levels of file systems that show others are followed.
const LAYERS_MAX: usize = 8;

/// The file system or server that contains a part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PartOrigin {
    /// A file system, by its current device number.
    Device(u32, u32),
    /// The paths of a server, by its name.
    Server(String),
}

/// A part of a file system, and where it appears.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FolderPart {
    origin: PartOrigin,
    within: PathBuf,
    seen_at: PathBuf,
    /// The file system, for a message: `ext4 on /dev/sda1`.
    held_by: String,
}

/// A folder, and everything that can be reached through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    path: PathBuf,
    /// The resolved path of the folder.
    found_at: PathBuf,
    parts: Vec<FolderPart>,
    /// Whether an overlay with a layer that cannot be found by its name shows the folder.
    unknown_layers: bool,
}

/// Two folders that contain the same files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Overlap {
    one: PathBuf,
    other: PathBuf,
    how: String,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { one, other, how } = self;
        if one == other {
            return write!(f, "both hold the same files, those of `{}`", one.display());
        }
        write!(f, "`{}` and `{}` hold the same files: {how}", one.display(), other.display())
    }
}

impl Extent {
    /// The folder at `path`, which may be missing if its parent exists. Symbolic links are followed.
    ///
    /// # Errors
    /// When the folder cannot be reached, or the mounts cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (directory, rest) = opened(path)?;
        Self::of_opened(&directory, rest.as_deref(), path)
    }

    /// The folder `rest` in an opened directory. `shown` is its path in messages.
    pub(super) fn of_opened(directory: impl AsFd, rest: Option<&OsStr>, shown: &Path) -> io::Result<Self> {
        let table = MountTable::now()?;
        let mut extent = Self::empty(shown);
        extent.found_at = found_in(&table, &directory)?.0;
        extent.found_at.extend(rest);
        extent.add(&table, directory, rest, LAYERS_MAX)?;
        Ok(extent)
    }

    fn empty(shown: &Path) -> Self {
        Self { path: shown.to_owned(), found_at: shown.to_owned(), parts: Vec::new(), unknown_layers: false }
    }

    /// How the two folders overlap, if they do.
    pub fn overlap(&self, other: &Self) -> Option<Overlap> {
        let nested = |a: &FolderPart, b: &FolderPart| {
            a.origin == b.origin && (a.within.starts_with(&b.within) || b.within.starts_with(&a.within))
        };
        let pairs = self.parts.iter().flat_map(|a| other.parts.iter().map(move |b| (a, b)));
        let how = match pairs.into_iter().find(|(a, b)| nested(a, b)) {
            Some((a, b)) => how(a, b),
            None => self.shared_by_an_overlay(other)?,
        };
        Some(Overlap { one: self.path.clone(), other: other.path.clone(), how })
    }

    /// A path that both folders show, if one of them is an overlay with unknown layers.
    fn shared_by_an_overlay(&self, other: &Self) -> Option<String> {
        if !self.unknown_layers && !other.unknown_layers {
            return None;
        }
        let path = overlay_layers::shared(&self.found_at, &other.found_at)?;
        let (one, there) = (self.path.join(&path), other.path.join(&path));
        Some(format!("`{}` and `{}` are one, by an overlay", one.display(), there.display()))
    }

    fn add(&mut self, table: &MountTable, directory: impl AsFd, rest: Option<&OsStr>, layers: usize) -> io::Result<()> {
        let (mut path, mount) = found_in(table, directory)?;
        path.extend(rest);
        let inner = path.strip_prefix(&mount.point).map_err(|_| {
            io::Error::other(format!("`{}` cannot be reached from the root of this process", path.display()))
        })?;
        self.add_part(table, mount, inner, &path, layers);
        for beneath in table.beneath(mount.id, &path) {
            self.add_part(table, beneath, Path::new(""), &beneath.point, layers);
        }
        Ok(())
    }

    /// Adds the part that `mount` shows at `inner`, and the parts of other file systems that it shows there.
    fn add_part(&mut self, table: &MountTable, mount: &MountEntry, inner: &Path, seen_at: &Path, layers: usize) {
        let within = joined(&mount.root, inner);
        let held_by = held_by(mount);
        let part =
            |origin, within| FolderPart { origin, within, seen_at: seen_at.to_owned(), held_by: held_by.clone() };
        self.parts.push(part(PartOrigin::Device(mount.device.0, mount.device.1), within.clone()));
        let below = within.strip_prefix("/").unwrap_or(&within);
        let mut shows = shown_by(mount);
        let known = shows.len();
        // Only the one who mounted it knows what a relative path meant.
        shows.retain(|path| path.is_absolute() && path.is_dir());
        self.unknown_layers |= mount.kind == "overlay" && shows.len() < known;
        if let Some((server, export)) = export(&mount.source) {
            self.parts.push(part(PartOrigin::Server(server.clone()), joined(&export, below)));
            if is_this_host(&server) {
                shows.push(export);
            }
        }
        for shown in shows.into_iter().filter(|_| layers > 0) {
            // A directory that cannot be reached by its name is not known to overlap.
            let at = joined(&shown, below);
            if let Ok((directory, rest)) = opened(&at).or_else(|_| opened(&shown)) {
                let _ = self.add(table, directory, rest.as_deref(), layers - 1);
            }
        }
    }
}

/// Where an opened directory is: its path, and the mount that shows it.
fn found_in(table: &MountTable, directory: impl AsFd) -> io::Result<(PathBuf, &MountEntry)> {
    let directory = directory.as_fd();
    let path = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    let mount = match mount_id(directory)? {
        Some(id) => table.mount(id),
        None => table.covering(&path),
    };
    Ok((path, mount.ok_or_else(|| io::Error::other("the directory lies in none of the mounts"))?))
}

/// The path of an opened directory, and its path within its file system.
pub(super) fn path_within(directory: impl AsFd) -> io::Result<(PathBuf, PathBuf)> {
    let table = MountTable::now()?;
    let (path, mount) = found_in(&table, directory)?;
    let inner = path.strip_prefix(&mount.point).unwrap_or(&path);
    let within = joined(&mount.root, inner);
    Ok((path, within))
}

/// The overlapping pairs of many folders, by their indexes.
pub fn overlaps(extents: &[Extent]) -> Vec<(usize, usize, Overlap)> {
    let mut first: BTreeMap<(&PartOrigin, &Path), usize> = BTreeMap::new();
    for (index, extent) in extents.iter().enumerate() {
        for part in &extent.parts {
            first.entry((&part.origin, &part.within)).or_insert(index);
        }
    }
    let mut found: BTreeMap<(usize, usize), Overlap> = BTreeMap::new();
    for (index, extent) in extents.iter().enumerate() {
        let outer = |part: &FolderPart| {
            let ancestors = part.within.ancestors().filter_map(|outer| first.get(&(&part.origin, outer)).copied());
            ancestors.collect::<Vec<_>>()
        };
        // Compared with every other folder, since no path leads to the layers of such a folder.
        let others = if extent.unknown_layers { 0..extents.len() } else { 0..0 };
        for other in extent.parts.iter().flat_map(outer).chain(others).filter(|other| *other != index) {
            let (a, b) = (index.min(other), index.max(other));
            if let Some(overlap) = extents[a].overlap(&extents[b]) {
                found.entry((a, b)).or_insert(overlap);
            }
        }
    }
    found.into_iter().map(|((a, b), overlap)| (a, b, overlap)).collect()
}

/// Opens the directory at `path`; if it is missing, returns its parent and its name.
fn opened(path: &Path) -> io::Result<(OwnedFd, Option<OsString>)> {
    const WAYPOINT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    let open = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::open(path, WAYPOINT, Mode::empty()).map_err(io::Error::from)
    };
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
            Ok((open(parent)?, Some(name.to_owned())))
        }
        opened => Ok((opened?, None)),
    }
}

fn joined(outer: &Path, inner: &Path) -> PathBuf {
    if inner.as_os_str().is_empty() { outer.to_owned() } else { outer.join(inner) }
}

fn how(a: &FolderPart, b: &FolderPart) -> String {
    let relation = if a.within == b.within { "is also at" } else { "and" };
    let (one, other) = (a.seen_at.display(), b.seen_at.display());
    if a.seen_at == b.seen_at {
        return format!("`{one}` is part of both");
    }
    if a.seen_at.starts_with(&b.seen_at) || b.seen_at.starts_with(&a.seen_at) {
        return format!("`{one}` and `{other}` lie in one another");
    }
    match relation {
        "and" => format!(
            "`{one}` is `{}` and `{other}` is `{}` of the same file system ({})",
            a.within.display(),
            b.within.display(),
            a.held_by
        ),
        _ => format!("`{one}` and `{other}` are both `{}` of one file system ({})", a.within.display(), a.held_by),
    }
}

/// The file system of a mount, with its device. Any other source may contain a password, and is left out.
fn held_by(mount: &MountEntry) -> String {
    match mount.source.to_str().filter(|source| source.starts_with("/dev/")) {
        Some(device) => format!("{} on `{device}`", mount.kind),
        None => mount.kind.clone(),
    }
}

/// The directories of other file systems that a mount shows, as far as its options name them.
fn shown_by(mount: &MountEntry) -> Vec<PathBuf> {
    match &*mount.kind {
        "overlay" => {
            let lower = mount.option("lowerdir").map(layers).unwrap_or_default();
            lower.into_iter().chain(mount.option("upperdir").map(PathBuf::from)).collect()
        }
        kind if kind.starts_with("fuse") || kind == "ecryptfs" => vec![PathBuf::from(&mount.source)],
        _ => Vec::new(),
    }
}

/// The lower layers of an overlay: separated by colons; `\:` is a colon in a name.
fn layers(option: &OsStr) -> Vec<PathBuf> {
    let mut layers = vec![Vec::new()];
    let mut bytes = option.as_bytes().iter();
    while let Some(byte) = bytes.next() {
        match (byte, layers.last_mut()) {
            (b':', _) => layers.push(Vec::new()),
            (b'\\', Some(layer)) => layer.extend(bytes.next()),
            (byte, Some(layer)) => layer.push(*byte),
            (_, None) => {}
        }
    }
    let named = layers.into_iter().filter(|layer| !layer.is_empty());
    named.map(|layer| PathBuf::from(OsString::from_vec(layer))).collect()
}

/// The server and the path on it of a network mount: `server:/path`, `user@server:/path`, `//server/share`.
fn export(source: &OsStr) -> Option<(String, PathBuf)> {
    let source = source.to_str()?;
    let (server, path) = match source.strip_prefix("//") {
        Some(share) => share.split_at_checked(share.find('/')?)?,
        None => source.split_once(":/").map(|(server, _)| (server, &source[server.len() + 1..]))?,
    };
    let server = server.rsplit('@').next().unwrap_or(server);
    let server = server.strip_prefix('[').and_then(|server| server.strip_suffix(']')).unwrap_or(server);
    let named = !server.is_empty() && !server.contains('/');
    named.then(|| (server.to_lowercase(), PathBuf::from(path)))
}

fn is_this_host(server: &str) -> bool {
    let own = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    server == "localhost" || server == "::1" || server.starts_with("127.") || own().trim().to_lowercase() == server
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &str) -> MountTable {
        MountTable::parse(lines.as_bytes()).unwrap()
    }

    /// The parts of what a mount shows at `inner`, in words.
    fn parts(lines: &str, id: u64, inner: &str) -> Vec<String> {
        let table = table(lines);
        let mount = table.mount(id).unwrap();
        let mut extent = Extent::empty(&mount.point);
        extent.add_part(&table, mount, Path::new(inner), &mount.point.join(inner), LAYERS_MAX);
        let origin = |part: &FolderPart| match &part.origin {
            PartOrigin::Device(major, minor) => format!("{major}:{minor}"),
            PartOrigin::Server(server) => server.clone(),
        };
        extent.parts.iter().map(|part| format!("{} {}", origin(part), part.within.display())).collect()
    }

    #[test]
    fn servers_are_known_by_name_and_path_whatever_is_mounted_of_them() {
        let nfs = "40 1 0:50 / /mnt/a rw - nfs4 nas:/export/a rw\n41 1 0:51 / /mnt/all rw - nfs4 NAS:/export rw\n";
        assert_eq!(parts(nfs, 40, "photos"), ["0:50 /photos", "nas /export/a/photos"]);
        assert_eq!(parts(nfs, 41, ""), ["0:51 /", "nas /export"]);
        let share = "40 1 0:50 /sub /mnt rw - cifs //nas/share rw\n";
        assert_eq!(parts(share, 40, "x"), ["0:50 /sub/x", "nas /share/sub/x"]);
        for (source, expected) in [
            ("me@host:/srv", Some(("host", "/srv"))),
            ("[fe80::1]:/srv", Some(("fe80::1", "/srv"))),
            ("/dev/sda1", None),
            ("overlay", None),
            ("a:b", None),
            ("//nas", None),
            ("/a/b:/c", None),
        ] {
            let expected = expected.map(|(server, path)| (server.to_owned(), PathBuf::from(path)));
            assert_eq!(export(OsStr::new(source)), expected, "{source}");
        }
        assert!(is_this_host("localhost") && is_this_host("127.0.0.1") && !is_this_host("nas.example"));
    }

    #[test]
    fn what_this_host_serves_to_itself_is_the_folder_that_it_serves() {
        let folder = tempfile::tempdir().unwrap();
        let served = std::fs::canonicalize(folder.path()).unwrap();
        let line = format!("40 1 0:50 / /mnt/loop rw - nfs4 localhost:{} rw\n", served.display());
        let all = format!("{line}{}", std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap());
        let found = parts(&all, 40, "");
        let real = Extent::of(&served).unwrap();
        assert!(found.contains(&format!("localhost {}", served.display())), "{found:?}");
        let device = |part: &FolderPart| {
            matches!(part.origin, PartOrigin::Device(..)).then(|| part.within.display().to_string())
        };
        let within = real.parts.iter().find_map(device).unwrap();
        assert!(found.iter().any(|part| part.ends_with(&format!(" {within}"))), "{found:?} {within}");
    }

    #[test]
    fn layers_of_an_overlay_are_told_apart_at_their_colons() {
        let split = |text: &str| layers(OsStr::new(text));
        assert_eq!(split("/a:/b"), [Path::new("/a"), Path::new("/b")]);
        assert_eq!(split("/a\\:x:/b\\\\"), [Path::new("/a:x"), Path::new("/b\\")]);
        assert_eq!(split("/a::/data"), [Path::new("/a"), Path::new("/data")]);
    }

    #[test]
    fn a_message_names_a_device_and_no_other_source() {
        let lines = "40 1 8:1 / /a rw - ext4 /dev/sda1 rw\n41 1 0:9 / /b rw - fuse.curlftpfs ftp://me:secret@h/ rw\n";
        let table = table(lines);
        assert_eq!(held_by(table.mount(40).unwrap()), "ext4 on `/dev/sda1`");
        assert_eq!(held_by(table.mount(41).unwrap()), "fuse.curlftpfs");
    }
}
