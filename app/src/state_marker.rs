//! The marker beside `mill.toml`: it records that the state of this installation exists, and its identity.
//!
//! A state that is gone looks like one that never existed. So its identity is stored elsewhere: beside the
//! configuration, or, if that is not writable, in the host's or the user's state folder.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mill_model::{Algorithm, Checksum};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::files::{private_folder, replace_in_place, write_private};
use crate::host;

/// The head of the file, for people who open it.
const HEAD: &str = "\
# Written by mill, which remembers here that the state named below exists: so its loss is noticed.
# Delete this file to begin anew, or to go on with a state that was put in the other's place.
";

/// The marker of one installation.
#[derive(Debug)]
pub(crate) struct StateMarker {
    /// Its possible paths; the first that can be written is used.
    paths: Vec<PathBuf>,
    states: Vec<RememberedState>,
}

/// One state that was seen under this configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RememberedState {
    /// The folder or tables, as messages name them.
    at: String,
    /// Its identity, as the engine writes it.
    identity: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct MarkerFile {
    #[serde(default)]
    state: Vec<RememberedState>,
}

impl StateMarker {
    /// Reads the marker of a configuration; an empty one if there is none.
    ///
    /// # Errors
    /// There is one that cannot be read: it must not count as absent.
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let file = config.file();
        let mut beside = file.as_os_str().to_owned();
        beside.push(".state");
        let hash = Sha256::digest(file.as_os_str().as_bytes())[..8].into();
        let name = Checksum { algorithm: Algorithm::Sha256, value: hash }.hex();
        let elsewhere = host::shared_folder().ok().map(|folder| folder.join("markers").join(name));
        Self::at([Some(beside.into()), elsewhere].into_iter().flatten().collect())
    }

    fn at(paths: Vec<PathBuf>) -> Result<Self> {
        let mut states: Vec<RememberedState> = Vec::new();
        for path in &paths {
            for state in read(path)? {
                if !states.iter().any(|known| known.at == state.at) {
                    states.push(state);
                }
            }
        }
        Ok(Self { paths, states })
    }

    /// The remembered identity of the state at `at`.
    pub(crate) fn remembered(&self, at: &str) -> Option<&str> {
        self.states.iter().find(|state| state.at == at).map(|state| &*state.identity)
    }

    /// Another state that was seen under this configuration, if any was.
    pub(crate) fn another(&self) -> Option<&str> {
        self.states.first().map(|state| &*state.at)
    }

    /// The file to delete in order to start again.
    pub(crate) fn path(&self) -> &Path {
        let there = self.paths.iter().find(|path| path.exists());
        there.or(self.paths.first()).map_or(Path::new("mill.toml.state"), |path| path)
    }

    /// Remembers the state at `at`, durably, and returns the marker file. `is_same` returns whether an identity is this
    /// state, which has then been moved here.
    ///
    /// If no path can be written, a warning says so: the state can be used, but its loss would not be noticed.
    pub(crate) fn remember(mut self, at: &str, identity: &str, is_same: impl Fn(&str) -> bool) -> Option<PathBuf> {
        if self.remembered(at) == Some(identity) {
            return Some(self.path().to_owned());
        }
        if let Some(known) = self.remembered(at).filter(|known| is_same(known)) {
            // It is outdated if a process was killed; then it misses only copies of the database made in the last
            // minutes.
            let _ = replace_in_place(self.path(), known, identity);
            return Some(self.path().to_owned());
        }
        self.states.retain(|state| state.at != at && !is_same(&state.identity));
        self.states.insert(0, RememberedState { at: at.to_owned(), identity: identity.to_owned() });
        let mut why = String::new();
        for path in &self.paths {
            match write(path, &self.states) {
                Ok(()) => return Some(path.clone()),
                Err(error) => why = format!("{why}; `{}`: {error:#}", path.display()),
            }
        }
        tracing::warn!("should the state at `{at}` be lost, that could not be noticed: no marker can be written{why}");
        None
    }
}

fn read(path: &Path) -> Result<Vec<RememberedState>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        // A file in place of the user's state folder means that there is no marker.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("the marker of the state, `{}`, cannot be read", path.display()));
        }
    };
    match toml::from_str::<MarkerFile>(&text) {
        Ok(written) => Ok(written.state),
        Err(error) => bail!(
            "the marker of the state, `{}`, is damaged ({}); if the state is whole, delete the marker: it is written anew",
            path.display(),
            error.message()
        ),
    }
}

fn write(path: &Path, states: &[RememberedState]) -> Result<()> {
    let text = format!("{HEAD}\n{}", toml::to_string(&MarkerFile { state: states.to_vec() })?);
    let folder = path.parent().context("it has no folder")?;
    if !folder.is_dir() {
        private_folder(folder)?;
    }
    write_private(path, text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn remember(folder: &Path, at: &str, identity: &str) {
        let is_same = |known: &str| known[..2] == identity[..2];
        assert!(marker(folder).remember(at, identity, is_same).is_some());
    }

    fn marker(folder: &Path) -> StateMarker {
        StateMarker::at(vec![folder.join("beside/mill.toml.state"), folder.join("elsewhere/deep/x")]).unwrap()
    }

    #[test]
    fn what_is_remembered_is_there_for_the_next_process_and_for_no_other_user() {
        let folder = tempfile::tempdir().unwrap();
        remember(folder.path(), "/data", "id 1");
        for (at, identity) in [("/data", "id 2"), ("/other", "jd 1")] {
            remember(folder.path(), at, identity);
        }
        let read = marker(folder.path());
        assert_eq!((read.remembered("/data"), read.remembered("/other")), (Some("id 2"), Some("jd 1")));
        assert_eq!(read.remembered("/new"), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(read.path()), mode(read.path().parent().unwrap())), (0o600, 0o700));
        // A state that was moved is not kept under both names.
        remember(folder.path(), "/moved", "id 3");
        assert_eq!(marker(folder.path()).remembered("/data"), None);
    }

    #[test]
    fn where_it_cannot_stand_beside_the_configuration_it_stands_in_the_users_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        // A file where the folder would be.
        fs::write(folder.path().join("beside"), "").unwrap();
        remember(folder.path(), "/data", "id 1");
        assert_eq!(marker(folder.path()).remembered("/data"), Some("id 1"));
        assert!(folder.path().join("elsewhere/deep/x").is_file());
    }

    #[test]
    fn a_marker_that_cannot_be_read_is_not_taken_for_absent() {
        let folder = tempfile::tempdir().unwrap();
        remember(folder.path(), "/data", "id 1");
        fs::write(folder.path().join("beside/mill.toml.state"), "[[state]]\nat = ").unwrap();
        let paths = vec![folder.path().join("beside/mill.toml.state")];
        let error = StateMarker::at(paths).unwrap_err().to_string();
        assert!(error.contains("mill.toml.state") && error.contains("delete"), "{error}");
    }
}
