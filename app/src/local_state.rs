//! The state of the local engine. Checks that it is the remembered one, and that it stays intact while a command runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, bail};
use mill_local::{Damage, Database, Identity, KnownIdentity, LocalEngine, OpenError, RememberedDatabase, Standstill};
use mill_run::StateWatch;
use mill_run::progress::StateStandstill;
use parking_lot::Mutex;

use crate::config::Config;
use crate::files::replace_in_place;
use crate::state_marker::StateMarker;
use crate::wait_limit::WaitLimit;

/// The databases that this process has opened, the engine's first. Damage to one of them ends the process as an error,
/// however a command handles the error itself.
static OPENED: Mutex<Vec<Arc<OpenDatabase>>> = Mutex::new(Vec::new());

fn opened() -> Vec<Arc<OpenDatabase>> {
    OPENED.lock().clone()
}

#[derive(Debug)]
struct OpenDatabase {
    damage: Arc<Damage>,
    path: PathBuf,
    /// What a person must do if the state is damaged.
    way_out: String,
    identity: KnownIdentity,
    /// The marker file of the database, and the identity in it.
    marker: OnceLock<(PathBuf, Identity)>,
}

/// Opens the local engine of an installation, whose marker identifies its state.
pub async fn open(config: &Config, wait_limit: &WaitLimit) -> Result<LocalEngine> {
    let data = config.engine.data.clone();
    let (of, at) = (config.clone(), data.clone());
    let look = move || {
        // A hanging mount is detected here, where there is a time limit.
        let _ = at.metadata();
        let marker = StateMarker::of(&of)?;
        let remembered = remembered(&at, &marker)?;
        Ok((marker, remembered))
    };
    let (marker, remembered) = wait_limit.look(&data, look).await?;
    // Checking a large state may take long.
    let at = data.clone();
    wait_limit.unlimited().look(&data, move || open_known(&at, marker, &remembered)).await
}

fn open_known(data: &Path, marker: StateMarker, remembered: &RememberedDatabase) -> Result<LocalEngine> {
    let way_out = format!(
        "bring it back from a backup. Or begin anew: delete `{}`, and `{}` if it is there; the copies stay, and each is compared \
         again",
        marker.path().display(),
        data.join(LocalEngine::DATABASE).display()
    );
    let (engine, identity) = open_watched(data, remembered, way_out)?;
    let is_same = |known: &str| known.parse().is_ok_and(|known: Identity| known.id == identity.id);
    if let Some(file) = marker.remember(&resolved(data), &identity.to_string(), is_same) {
        set_marker(file, identity);
    }
    Ok(engine)
}

/// Opens the local engine whose state is in the folder `data`, and creates the state if none is remembered. If the
/// state is found damaged, this process ends as an error. `way_out` says what a person must do if the state is gone or
/// damaged. The caller must remember the returned identity.
pub fn open_watched(data: &Path, remembered: &RememberedDatabase, way_out: String) -> Result<(LocalEngine, Identity)> {
    let engine = LocalEngine::open(data, remembered).map_err(|error| unusable(&error, &way_out))?;
    let identity = engine.database().identity().get();
    watch(engine.database(), way_out);
    Ok((engine, identity))
}

/// The same with a scratch copy of the state, which is only read.
pub fn open_scratch(data: &Path, remembered: &RememberedDatabase, way_out: String) -> Result<LocalEngine> {
    let engine = LocalEngine::scratch(data, remembered).map_err(|error| unusable(&error, &way_out))?;
    watch(engine.database(), way_out);
    Ok(engine)
}

fn unusable(error: &OpenError, way_out: &str) -> anyhow::Error {
    let advice = if error.is_about_the_state() { format!("; {way_out}") } else { String::new() };
    anyhow!("{}{advice}", mill_ports::error_chain(error)).context("mill's own state cannot be used")
}

/// The folder's path without links.
fn resolved(data: &Path) -> String {
    data.canonicalize().unwrap_or_else(|_| data.to_owned()).display().to_string()
}

fn remembered(data: &Path, marker: &StateMarker) -> Result<RememberedDatabase> {
    let shown = marker.path().display();
    if let Some(identity) = marker.remembered(&resolved(data)) {
        let identity = identity.parse().with_context(|| {
            format!("the marker of the state, `{shown}`, is damaged; if the state is whole, delete it")
        })?;
        return Ok(RememberedDatabase::Identity(identity));
    }
    match marker.another() {
        Some(other) if !data.join(LocalEngine::DATABASE).exists() => bail!(
            "the state of this installation is in `{other}`, and `engine.data` says `{}`, where there is none: move it there, \
             or delete `{shown}` to begin anew",
            data.display()
        ),
        _ => Ok(RememberedDatabase::Nothing),
    }
}

/// Makes this process end as an error once the database is found damaged.
pub fn watch(database: &Database, way_out: String) {
    let (damage, path, identity) = (database.damage(), database.path().to_owned(), database.identity());
    let opened = Arc::new(OpenDatabase { damage, path, way_out, identity, marker: OnceLock::new() });
    OPENED.lock().push(opened);
}

/// Sets the marker file of the engine's state, so that it is updated at the end.
pub fn set_marker(file: PathBuf, identity: Identity) {
    if let Some(opened) = opened().first() {
        let _ = opened.marker.set((file, identity));
    }
}

/// The result of a command, or an error if its state was found damaged meanwhile: then nothing that it reports of
/// copies is reliable.
pub fn unless_damaged<T>(ended: Result<T>) -> Result<T> {
    for opened in opened() {
        if let Some(found) = opened.damage.found() {
            bail!("the state of mill in `{}` is damaged: {found}; {}", opened.path.display(), opened.way_out);
        }
        let now = opened.identity.get();
        if let Some((file, said)) = opened.marker.get()
            && *said != now
        {
            // An outdated marker misses only copies of the database made in the last minutes, and another process may
            // have updated it already.
            if let Err(error) = replace_in_place(file, &said.to_string(), &now.to_string()) {
                tracing::debug!(%error, file = %file.display(), "the marker of the state lags behind");
            }
        }
    }
    ended
}

/// If nothing can be written to the state that this process has opened: since when, and why.
fn standstill() -> Option<Standstill> {
    let still = opened().into_iter().filter_map(|opened| opened.damage.standstill());
    still.min_by_key(|still| still.since)
}

/// The state that this process has opened, for a run that waits for it.
#[derive(Debug)]
pub struct OpenedState;

impl StateWatch for OpenedState {
    fn standstill(&self) -> Option<StateStandstill> {
        let Standstill { why, since, last } = standstill()?;
        Some(StateStandstill { why, first_failed: since.elapsed(), last_failed: last.elapsed() })
    }

    fn abandon(&self) {
        give_up();
    }
}

/// Makes pending writes to the state fail soon, if nothing can be written to it.
fn give_up() {
    for opened in opened() {
        opened.damage.abandon();
    }
}

/// Completes when the state that this process has opened is found damaged.
pub async fn until_damaged() {
    let opened = opened();
    if opened.is_empty() {
        return std::future::pending().await;
    }
    let waiting = opened.iter().map(|opened| Box::pin(opened.damage.until_found()));
    futures::future::select_all(waiting).await;
}
