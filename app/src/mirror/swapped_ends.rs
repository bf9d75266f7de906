//! A mirror whose ends are swapped: its source is the copy of its destination, and would overwrite what is newer there.

use std::path::Path;

use anyhow::{Result, bail};

use super::endpoint::Endpoint;
use super::pair::{MirrorPair, state_folder};
use super::pair_state::PairState;
use crate::wait_limit::WaitLimit;

impl MirrorPair {
    /// Checks that a pair that was never mirrored is not a known one with its ends swapped. Into an empty folder a copy can
    /// come back without harm.
    ///
    /// # Errors
    /// It is one.
    pub(super) async fn ensure_not_swapped(&self, wait_limit: &WaitLimit) -> Result<()> {
        let (original, copy) = (&self.destination, &self.source);
        let is_known = self.look_at_state(wait_limit, PairState::known).await?.is_some();
        if is_known || original.is_empty_folder(wait_limit).await? {
            return Ok(());
        }
        let swapped = PairState::new(state_folder(original, copy, wait_limit).await?, original, copy);
        let known = wait_limit.look(swapped.folder(), {
            let swapped = swapped.clone();
            move || swapped.known()
        });
        if known.await?.is_some() {
            bail!(
                "`{copy}` is the copy that `mill mirror` keeps of `{original}`; the other way round it would overwrite what is \
                 newer there. Nothing was changed. To bring the copy back, use `mill restore --mirror {original} {copy} FOLDER`; \
                 if it is the original from now on, pass --take-over"
            );
        }
        Ok(())
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
