//! A mirror whose ends are swapped: its source is the copy of its destination, and would overwrite what is newer there.

use std::path::Path;

use anyhow::{Result, bail};

use super::endpoint::Endpoint;
use super::pair::{MirrorPair, state_folder};
use super::pair_state::PairState;
use crate::wait_limit::WaitLimit;

impl MirrorPair {
    /// Checks that this is not a known pair with its ends swapped, and not one whose source has become its copy since. Into an empty
    /// folder a copy can come back without harm.
    ///
    /// # Errors
    /// It is one.
    pub(super) async fn ensure_not_swapped(&self, wait_limit: &WaitLimit) -> Result<()> {
        let (original, copy) = (&self.destination, &self.source);
        let known = |state: &PairState| Ok((state.known()?.is_some(), state.is_superseded()?));
        let (is_known, is_superseded) = self.look_at_state(wait_limit, known).await?;
        if is_known && !is_superseded || original.is_empty_folder(wait_limit).await? {
            return Ok(());
        }
        let swapped = self.swapped(wait_limit).await?;
        let folder = swapped.folder().to_owned();
        if wait_limit.look(&folder, move || swapped.known()).await?.is_some() {
            bail!(
                "`{copy}` is the copy that `mill mirror` keeps of `{original}`. To mirror it to its original would overwrite what \
                 is newer there, so nothing was changed. Are the two swapped? To bring the copy's items back into another folder, \
                 use `mill restore --mirror {original} {copy} FOLDER`. If `{copy}` is the original from now on, pass --take-over"
            );
        }
        Ok(())
    }

    /// Notes that the source is the original from now on, whatever it was before: the pair with its ends swapped is refused then.
    ///
    /// # Errors
    /// The states of the two pairs cannot be written.
    pub(super) async fn supersede_swapped(&self, wait_limit: &WaitLimit) -> Result<()> {
        let swapped = self.swapped(wait_limit).await?;
        self.look_at_state(wait_limit, move |state| state.supersede(&swapped)).await
    }

    /// The state of the pair with its ends swapped.
    async fn swapped(&self, wait_limit: &WaitLimit) -> Result<PairState> {
        let Self { source, destination, .. } = self;
        Ok(PairState::new(state_folder(destination, source, wait_limit).await?, destination, source))
    }
}

impl Endpoint {
    /// Whether this is a folder in which nothing is, or that is not there.
    async fn is_empty_folder(&self, wait_limit: &WaitLimit) -> Result<bool> {
        let Self::Folder(folder) = self else { return Ok(false) };
        let look = |path: &Path| match std::fs::read_dir(path) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) => Ok(error.kind() == std::io::ErrorKind::NotFound),
        };
        folder.look(wait_limit, look).await
    }
}
