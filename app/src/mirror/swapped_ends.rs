//! A mirror whose ends are swapped: its source is the copy of its destination, and would overwrite what is newer there.

use std::path::Path;

use anyhow::{Result, bail};
use mill_local::RememberedDatabase;
use mill_ports::PlacedStore;
use mill_records::destinations::DestinationKeeper;

use super::MirrorRequest;
use super::endpoint::Endpoint;
use super::known_pair::space_pair;
use super::pair::{MirrorPair, state_folder};
use super::pair_state::PairState;
use crate::destination_places::{DestinationPlaces, FoundCopy};
use crate::host;
use crate::wait_limit::WaitLimit;

impl MirrorPair {
    /// Whether the source was mirrored to the destination before, and has not become its copy since.
    pub(super) async fn goes_on(&self, wait_limit: &WaitLimit) -> Result<bool> {
        let goes_on =
            |state: &PairState| Ok(state.remembered()? != RememberedDatabase::Nothing && !state.is_superseded()?);
        self.look_at_state(wait_limit, goes_on).await
    }

    /// Checks that this is not a known pair with its ends swapped, and not one whose source has become its copy since. Into an empty
    /// folder a copy can come back without harm.
    ///
    /// # Errors
    /// It is one.
    pub(super) async fn ensure_not_swapped(&self, wait_limit: &WaitLimit) -> Result<()> {
        let (original, copy) = (&self.destination, &self.source);
        if original.is_empty_folder(wait_limit).await? {
            return Ok(());
        }
        let swapped = self.swapped(wait_limit).await?;
        let folder = swapped.folder().to_owned();
        // A run that was refused, or whose ends could not be opened, has left a state and no copy.
        if wait_limit.look(&folder, move || swapped.remembered()).await? != RememberedDatabase::Nothing {
            bail!(copy_of((copy, original), &own_copy(copy, original), &own_restore(copy, original)));
        }
        Ok(())
    }

    /// The same by the marks on the source, which show its keeper also where a directory was renamed, is mounted elsewhere too, or
    /// another user mirrored it. With `--take-over`, the source is nobody's copy from now on.
    ///
    /// # Errors
    /// The destination's own mirror keeps the source, or that of a directory around it.
    pub(super) async fn ensure_not_kept_by_destination(
        &self,
        (source, destination): (&dyn PlacedStore, &dyn PlacedStore),
        places: &DestinationPlaces,
        (request, wait_limit): (&MirrorRequest, &WaitLimit),
    ) -> Result<()> {
        let space = space_pair()?.space;
        let mut names = self.destination.keeper_names(destination).await?;
        if let Endpoint::Folder(folder) = &self.destination {
            names.extend(folder.path.ancestors().skip(1).map(keeper_name_of_path));
        }
        let is_named = |keeper: &DestinationKeeper| keeper.names.iter().any(|name| names.contains(name));
        let kept = places.keepers(source, &space).await?.into_iter().find(|(_, keeper)| is_named(keeper));
        let ends = ((source, &space), (destination, &space));
        // A mark of before 2026-11-30 has only names.
        let found = match kept {
            Some((place, keeper)) => Some(FoundCopy { place, keeper }),
            None => match places.copy_of(ends.0, ends.1).await? {
                Some(found) => Some(found),
                None => places.copy_near(ends.0, ends.1).await?,
            },
        };
        let Some(FoundCopy { place, keeper }) = found else { return Ok(()) };
        if request.take_over {
            if !request.dry_run
                && let Err(error) = places.release(source, &space).await
            {
                tracing::warn!("`{place}` still bears the mark of a copy: {error:#}");
            }
            return Ok(());
        }
        if self.destination.is_empty_folder(wait_limit).await? {
            return Ok(());
        }
        let (copy, original) = (&self.source, &self.destination);
        let of_mirror = keeper.names.iter().any(|name| name.starts_with(MIRROR));
        let (what, restore) = if of_mirror {
            (own_copy(copy, original), own_restore(copy, original))
        } else {
            (format!("`{copy}` holds the copy that {} keeps of `{original}`", keeper.shown), RESTORE_SPACE.to_owned())
        };
        bail!(copy_of((copy, original), &format!("{what} (`{place}` bears the mark of {})", keeper.shown), &restore));
    }

    /// Notes that the source is the original from now on, whatever it was before: the pair with its ends swapped is refused then.
    ///
    /// # Errors
    /// The states of the two pairs cannot be written.
    pub(super) async fn supersede_swapped(&self, wait_limit: &WaitLimit) -> Result<()> {
        let swapped = self.swapped(wait_limit).await?;
        self.look_at_state(wait_limit, move |state| state.supersede(&swapped)).await
    }

    /// Notes that the pair counts from now on if it begins with an empty folder: the next run finds that folder filled.
    ///
    /// # Errors
    /// The state of the pair cannot be written.
    pub(super) async fn note_empty_destination(&self, wait_limit: &WaitLimit) -> Result<()> {
        if self.destination.is_empty_folder(wait_limit).await? {
            self.look_at_state(wait_limit, PairState::note_counts).await?;
        }
        Ok(())
    }

    /// The state of the pair with its ends swapped.
    async fn swapped(&self, wait_limit: &WaitLimit) -> Result<PairState> {
        let Self { source, destination, .. } = self;
        Ok(PairState::new(state_folder(destination, source, wait_limit).await?, destination, source))
    }
}

/// How the keeper names of mirrors begin.
const MIRROR: &str = "mirror|";

const RESTORE_SPACE: &str = "mill restore ACCOUNT SPACE FOLDER";

fn own_copy(copy: &Endpoint, original: &Endpoint) -> String {
    format!("`{copy}` is the copy that `mill mirror` keeps of `{original}`")
}

fn own_restore(copy: &Endpoint, original: &Endpoint) -> String {
    format!("mill restore --mirror {original} {copy} FOLDER")
}

/// The message for a source that is the copy of its destination.
fn copy_of((copy, original): (&Endpoint, &Endpoint), what: &str, restore: &str) -> String {
    format!(
        "{what}. To mirror it back would overwrite newer items of `{original}`, so nothing was changed. Did you swap the two? To \
         bring the copy's items back into another folder, use `{restore}`. Only if `{copy}` is the original from now on, pass \
         --take-over: then it overwrites `{original}`"
    )
}

fn keeper_name_of_path(path: &Path) -> String {
    format!("{MIRROR}{}|{}", host::name(), path.display())
}

impl Endpoint {
    /// The names of the mirror of this end: by its path on this host, or its address, and by its identity.
    pub(super) async fn keeper_names(&self, placed: &dyn PlacedStore) -> Result<Vec<String>> {
        let mut names = match self {
            Self::Folder(folder) => vec![keeper_name_of_path(&folder.path)],
            // The second is how it was named before 2026-11-30.
            Self::S3(remote) => vec![format!("{MIRROR}{}", remote.identity()), format!("{MIRROR}{remote}")],
        };
        names.dedup();
        if let Some(facts) = placed.root_facts().await? {
            names.push(format!("{MIRROR}{}", facts.identity));
        }
        Ok(names)
    }

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
