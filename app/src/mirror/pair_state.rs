//! The state of a pair: its folder, and the marker file in it.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mill_local::{Identity, LocalEngine, RememberedDatabase};

use crate::files::{private_folder, replace_in_place, write_private};
use crate::local_state::{open_scratch, open_watched, set_marker};

/// The folder of one pair's state, under the user's state folder.
#[derive(Debug, Clone)]
pub(crate) struct PairState {
    folder: PathBuf,
    /// The two ends, for messages and for people who look into the folder.
    pair: String,
}

/// The beginning of the third line of `pair.txt`; the first two lines name the pair.
const IDENTITY: &str = "state ";

impl PairState {
    pub(crate) fn new(folder: PathBuf, source: &impl ToString, destination: &impl ToString) -> Self {
        Self { folder, pair: format!("{}\n→ {}\n", source.to_string(), destination.to_string()) }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that is there once the pair's source has become its copy.
    fn superseded(&self) -> PathBuf {
        self.folder.join("superseded")
    }

    /// Whether the pair's source has become its copy by `--take-over` of the pair with its ends swapped.
    pub(crate) fn is_superseded(&self) -> Result<bool> {
        let path = self.superseded();
        path.try_exists().with_context(|| format!("`{}` cannot be looked at", path.display()))
    }

    /// Notes which of a pair and the one with its ends swapped counts from now on: this one. Only a known pair is noted.
    pub(crate) fn supersede(&self, swapped: &Self) -> Result<()> {
        if swapped.known()?.is_some() {
            write_private(&swapped.superseded(), b"").context("the state folder cannot be written")?;
        }
        self.note_counts()
    }

    /// Notes that the pair is mirrored in this direction from now on.
    pub(crate) fn note_counts(&self) -> Result<()> {
        match fs::remove_file(self.superseded()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("`{}` cannot be removed", self.superseded().display()))
            }
            _ => Ok(()),
        }
    }

    fn marker(&self) -> PathBuf {
        self.folder.join("pair.txt")
    }

    /// Locks the pair against other processes while the file is open. Makes the folder private to this user, even an
    /// older one that was not.
    pub(crate) fn lock(&self) -> Result<File> {
        let shown = self.folder.display();
        private_folder(&self.folder).with_context(|| format!("the state folder `{shown}` cannot be made"))?;
        let file = File::create(self.folder.join("lock")).with_context(|| format!("`{shown}` cannot be written"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(self.busy()),
            Err(TryLockError::Error(error)) => return Err(error).context("the state folder cannot be locked"),
        }
        for (path, mode) in [(self.folder.clone(), 0o700), (self.folder.join("lock"), 0o600)] {
            fs::set_permissions(&path, Permissions::from_mode(mode))
                .with_context(|| format!("`{}` cannot be made private", path.display()))?;
        }
        Ok(file)
    }

    /// Checks that no process mirrors the pair now. Changes nothing, and keeps nobody away.
    ///
    /// # Errors
    /// One does.
    pub(crate) fn ensure_idle(&self) -> Result<()> {
        let file = match File::open(self.folder.join("lock")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).context("the lock of the state folder cannot be read"),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => bail!(self.busy()),
            Err(TryLockError::Error(error)) => Err(error).context("the lock of the state folder cannot be read"),
        }
    }

    fn busy(&self) -> String {
        format!("another `mill mirror` is at work on `{}`", self.pair.trim_end().replace('\n', " "))
    }

    /// The remembered identity of the pair's database.
    pub(crate) fn remembered(&self) -> Result<RememberedDatabase> {
        let text = match fs::read_to_string(self.marker()) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RememberedDatabase::Nothing),
            Err(error) => {
                return Err(error).with_context(|| format!("`{}` cannot be read", self.marker().display()));
            }
        };
        // The marker of an earlier version has no such line. Even a damaged marker shows that there was a state.
        let identity = text.lines().find_map(|line| line.strip_prefix(IDENTITY)?.parse().ok());
        Ok(identity.map_or(RememberedDatabase::Existence, RememberedDatabase::Identity))
    }

    /// The same for a command that creates no pair; `None` if there is none yet.
    pub(crate) fn known(&self) -> Result<Option<RememberedDatabase>> {
        let remembered = self.remembered()?;
        // A mirror that was killed before it wrote the marker has left a database.
        let is_new =
            remembered == RememberedDatabase::Nothing && !self.folder.join(LocalEngine::DATABASE).try_exists()?;
        Ok((!is_new).then_some(remembered))
    }

    /// Opens the pair's engine. Its database must be the remembered one.
    pub(crate) fn open(&self, remembered: &RememberedDatabase) -> Result<(LocalEngine, Identity)> {
        open_watched(&self.folder, remembered, self.way_out())
    }

    /// Opens an engine with a scratch copy of the pair's database, which must be the remembered one.
    pub(crate) fn open_scratch(&self, remembered: &RememberedDatabase) -> Result<LocalEngine> {
        open_scratch(&self.folder, remembered, self.way_out())
    }

    fn way_out(&self) -> String {
        format!(
            "delete `{}` to begin anew: the copy stays as it is, and what is the same is not copied again",
            self.folder.display()
        )
    }

    /// Remembers the pair and the identity of its database.
    pub(crate) fn remember(&self, remembered: &RememberedDatabase, identity: Identity) -> Result<()> {
        let is_known = match remembered {
            RememberedDatabase::Identity(known) if *known == identity => true,
            // It is outdated if a process was killed.
            RememberedDatabase::Identity(known) => {
                replace_in_place(&self.marker(), &known.to_string(), &identity.to_string()).is_ok()
            }
            _ => false,
        };
        if !is_known || !self.is_private() {
            let text = format!("{}{IDENTITY}{identity}\n", self.pair);
            write_private(&self.marker(), text.as_bytes()).context("the state folder cannot be written")?;
        }
        set_marker(self.marker(), identity);
        Ok(())
    }

    /// Whether the marker is readable by this user alone and has the right content: an earlier version wrote addresses
    /// as they were given, with a password if there was one.
    fn is_private(&self) -> bool {
        let private = fs::metadata(self.marker()).is_ok_and(|facts| facts.permissions().mode() & 0o777 == 0o600);
        private && fs::read_to_string(self.marker()).is_ok_and(|text| text.starts_with(&self.pair))
    }
}
