//! The two ends of a mirror, and the state of their pair.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use mill_local::folder::mode_for_copy;
use mill_local::{Identity, RememberedDatabase};
use mill_model::{Algorithm, Checksum};
use mill_ports::Engine;
use sha2::{Digest, Sha256};

use super::MirrorRequest;
use super::endpoint::{Endpoint, FolderPath};
use super::pair_state::PairState;
use crate::UsageError;
use crate::files::{create_folder, create_folder_with};
use crate::host;
use crate::wait_limit::WaitLimit;

/// The two ends, and the state of their pair.
#[derive(Debug)]
pub(super) struct MirrorPair {
    pub(super) source: Endpoint,
    pub(super) destination: Endpoint,
    pub(super) state: PairState,
}

impl MirrorPair {
    pub(super) async fn of(request: &MirrorRequest, wait_limit: &WaitLimit) -> Result<Self> {
        let MirrorRequest { source, destination, source_options, destination_options, .. } = request;
        let source = match source_options.end_in_s3(source, "source").await? {
            Some(end) => end,
            None => Endpoint::Folder(FolderPath::source(source, wait_limit).await?),
        };
        let destination = match destination_options.end_in_s3(destination, "destination").await? {
            Some(end) => end,
            None => Endpoint::Folder(FolderPath::destination(destination, wait_limit).await?),
        };
        if let Some(why) = source.overlap(&destination, wait_limit).await? {
            return Err(UsageError(why).into());
        }
        let state = state_folder(&source, &destination, wait_limit).await?;
        let state = PairState::new(state, &source, &destination);
        Ok(Self { source, destination, state })
    }

    /// Reads the folder of the state.
    pub(super) async fn look_at_state<T: Send + 'static>(
        &self,
        wait_limit: &WaitLimit,
        look: impl FnOnce(&PairState) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = self.state.clone();
        wait_limit.look(self.state.folder(), move || look(&state)).await
    }

    /// Opens the state, which must be the remembered one. Checking a large state may take long.
    pub(super) async fn open_state(
        &self,
        wait_limit: &WaitLimit,
        remembered: RememberedDatabase,
    ) -> Result<(Arc<dyn Engine>, Identity, RememberedDatabase)> {
        let open = |state: &PairState| {
            let (engine, identity) = state.open(&remembered)?;
            Ok((Arc::new(engine) as Arc<dyn Engine>, identity, remembered))
        };
        self.look_at_state(&wait_limit.unlimited(), open).await
    }

    /// Checks that a report lies in neither end: it would be an item of the source, or an extra file of the copy.
    ///
    /// # Errors
    /// It does.
    pub(super) async fn ensure_report_is_outside(&self, report: &Path, wait_limit: &WaitLimit) -> Result<()> {
        let path = FolderPath::remembered(report, wait_limit).await?.path;
        let holds = |end: &&Endpoint| matches!(end, Endpoint::Folder(end) if path.starts_with(&end.path));
        match [&self.source, &self.destination].into_iter().find(holds) {
            Some(end) => {
                let why = format!(
                    "the report `{}` would lie in `{end}`, which is mirrored; name a file elsewhere",
                    report.display()
                );
                Err(UsageError(why).into())
            }
            None => Ok(()),
        }
    }

    /// Remembers the identity of the pair's state.
    pub(super) async fn remember_state(
        &self,
        wait_limit: &WaitLimit,
        (remembered, identity): (RememberedDatabase, Identity),
    ) -> Result<()> {
        self.look_at_state(&wait_limit.unlimited(), move |state| state.remember(&remembered, identity)).await
    }

    /// Checks that Mill does not overwrite or delete its own state while it is in use.
    pub(super) async fn ensure_state_is_outside(&self, wait_limit: &WaitLimit) -> Result<()> {
        let path = host::state_folder()?;
        let mut state = FolderPath { typed: path.clone(), path };
        let is_missing = state.look(wait_limit, |path| Ok(!path.is_dir())).await?;
        if is_missing {
            // Only a dry run meets it: its paths alone say where it would be.
            state = FolderPath::remembered(&state.typed, wait_limit).await?;
        }
        let lies_within = |end: &Endpoint| matches!(end, Endpoint::Folder(end) if state.path.starts_with(&end.path));
        let [in_destination, in_source] = [&self.destination, &self.source].map(lies_within);
        let state = Endpoint::Folder(state);
        let overlaps = async |end: &Endpoint, lies_within: bool| {
            let known = if is_missing { lies_within } else { state.overlap(end, wait_limit).await?.is_some() };
            Ok::<_, anyhow::Error>(known)
        };
        if overlaps(&self.destination, in_destination).await? {
            return Err(UsageError(format!(
                "the destination `{}` holds Mill's own state, `{state}`, which is in use; let XDG_STATE_HOME name a \
                 folder elsewhere",
                self.destination
            ))
            .into());
        }
        if overlaps(&self.source, in_source).await? {
            tracing::warn!(
                "the source holds Mill's own state, `{state}`, which changes while it is copied: its copy is of no use"
            );
        }
        Ok(())
    }

    /// Creates the destination, unless it existed before: then its disk may just not be mounted. Returns whether it was created.
    pub(super) async fn make_destination(&self, create: bool, wait_limit: &WaitLimit) -> Result<bool> {
        let Endpoint::Folder(destination) = &self.destination else { return Ok(false) };
        let source = match &self.source {
            Endpoint::Folder(source) => Some(source.path.clone()),
            Endpoint::S3(_) => None,
        };
        let make = move |path: &Path| {
            let shown = path.display();
            if path.is_dir() {
                return Ok(false);
            }
            if !create {
                bail!(missing_destination(path));
            }
            let made = match &source {
                // It is as private as its original.
                Some(source) => {
                    let mode = mode_for_copy(source)
                        .with_context(|| format!("the source `{}` cannot be read", source.display()))?;
                    create_folder_with(path, mode)
                }
                None => create_folder(path),
            };
            made.with_context(|| format!("the destination `{shown}` cannot be made"))?;
            Ok(true)
        };
        destination.look(wait_limit, make).await
    }

    /// Removes a destination that was created for a run which may not use it, if nobody has put anything into it since.
    pub(super) async fn unmake_destination(&self, wait_limit: &WaitLimit) {
        let Endpoint::Folder(destination) = &self.destination else { return };
        if let Err(error) = destination.look(wait_limit, |path| Ok(std::fs::remove_dir(path)?)).await {
            tracing::debug!("the new destination stays: {error:#}");
        }
    }
}

/// The message where a destination that was there is missing: its disk may just not be mounted.
pub(super) fn missing_destination(path: &Path) -> String {
    format!(
        "the destination `{}` was there at the last run and is missing now; mount it, or pass --create to make it anew",
        path.display()
    )
}

/// The folder of a pair's state: under the user's state folder, so that neither end contains anything of Mill's.
///
/// A pair whose state stands where Mill put it before, by the address as it was typed, keeps it there.
pub(super) async fn state_folder(source: &Endpoint, destination: &Endpoint, wait_limit: &WaitLimit) -> Result<PathBuf> {
    let all = host::state_folder()?.join("mirror");
    let here = all.join(folder_name(&source.bytes(), &destination.bytes()));
    let before = all.join(folder_name(&source.typed_bytes(), &destination.typed_bytes()));
    if here == before {
        return Ok(here);
    }
    let stands = |path: &Path| {
        path.try_exists().with_context(|| format!("whether there is a state `{}` is not known", path.display()))
    };
    wait_limit.look(&all, move || Ok(if !stands(&here)? && stands(&before)? { before } else { here })).await
}

fn folder_name(source: &[u8], destination: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(source);
    hasher.update([0]);
    hasher.update(destination);
    let value = hasher.finalize()[..8].into();
    Checksum { algorithm: Algorithm::Sha256, value }.hex()
}
