//! A pair of ends outside of a run: the state of their mirror, if there was one, and both ends, opened to be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use mill_local::{OsClock, RememberedDatabase};
use mill_model::{AccountId, SpaceId, SpacePair, StoreAddress, StoreId};
use mill_ports::Engine;
use mill_records::policies::PolicyRepository;

use super::MirrorRequest;
use super::endpoint::{Endpoint, FolderPath};
use super::pair::{MirrorPair, state_folder};
use super::pair_state::PairState;
use super::source::lists_something;
use crate::destination_places::DestinationPlaces;
use crate::installation::Installation;
use crate::placement_checks::PlacementChecks;
use crate::store_choice::OpenedStore;
use crate::store_registry::{FolderOpener, InstallationIdentity, StoreRegistry};
use crate::subject_names::SubjectNames;
use crate::verify::ComparedTypes;
use crate::wait_limit::WaitLimit;

/// Opens the engine with the state of a mirror. Its ends may be gone.
///
/// # Errors
/// There is no such mirror yet, or its state cannot be used.
pub async fn engine_of(request: &MirrorRequest) -> Result<Arc<dyn Engine>> {
    let wait_limit = WaitLimit::endless();
    let pair = MirrorPair::remembered(request, &wait_limit).await?;
    pair.known_state(&wait_limit)
        .await?
        .with_context(|| format!("there was no `mill mirror` from `{}` to `{}` yet", pair.source, pair.destination))
}

/// Opens the queues and tables of a mirror, without its ends, which may be gone.
///
/// # Errors
/// There is no such mirror yet, or its state cannot be used.
pub async fn queues_of(request: &MirrorRequest) -> Result<Installation> {
    let engine = engine_of(request).await?;
    let (misplaced, places) = (Arc::<PlacementChecks>::default(), Arc::new(DestinationPlaces::of(&*engine)));
    let policies = Arc::new(PolicyRepository::fixed(Vec::new()));
    // Nothing can be opened by it.
    let stores = Arc::new(StoreRegistry::new(
        (policies.clone(), PathBuf::new()),
        FolderOpener::of(&*engine),
        (misplaced.clone(), places.clone()),
        (None, InstallationIdentity { names: Vec::new(), shown: String::new() }),
    ));
    Ok(Installation::of(engine, policies, (stores, Arc::default()), (misplaced, places)))
}

/// The pair of spaces that a mirror's tables speak of.
pub(crate) fn space_pair() -> Result<SpacePair> {
    Ok(SpacePair {
        account: AccountId::new(SubjectNames::MIRROR_ACCOUNT)?,
        source: StoreId::new(SubjectNames::MIRROR_SOURCE)?,
        destination: StoreId::new(SubjectNames::MIRROR_DESTINATION)?,
        space: SpaceId::new(SubjectNames::MIRROR_SPACE)?,
    })
}

/// The stores of a mirror's pair: its source and its destination.
pub(crate) fn addresses(pair: &SpacePair) -> (StoreAddress, StoreAddress) {
    (StoreAddress::of(&pair.account, &pair.source), StoreAddress::of(&pair.account, &pair.destination))
}

/// Opens folders with what the state of a mirror knows of their files, if it is known here.
fn folders_with(state: Option<&dyn Engine>) -> FolderOpener {
    state.map_or_else(|| FolderOpener::plain(Arc::new(OsClock)), FolderOpener::of)
}

/// The two ends of a pair, opened to be read, with the properties that a mirror stored for a file system that cannot.
#[derive(Debug)]
pub(crate) struct OpenedEnds {
    pub(crate) source: OpenedStore,
    pub(crate) destination: OpenedStore,
    /// What they are in the tables of a mirror.
    pub(crate) pair: SpacePair,
    /// What kinds of store the ends are.
    pub(crate) types: ComparedTypes,
    /// The engine with the state of their mirror, if it is known here.
    pub(crate) state: Option<Arc<dyn Engine>>,
}

impl OpenedEnds {
    /// Opens both. A state of a mirror that cannot be used is passed over: what it stored of the destination's files is not
    /// known then.
    ///
    /// # Errors
    /// An end cannot be used, or is not there, or both are one place.
    pub(crate) async fn open(request: &MirrorRequest) -> Result<Self> {
        let wait_limit = WaitLimit::endless();
        let ends = MirrorPair::of(request, &wait_limit).await?;
        let state = ends.known_state(&wait_limit).await.unwrap_or_else(|error| {
            tracing::warn!("what a mirror of these two wrote down cannot be used: {error:#}");
            None
        });
        let folders = folders_with(state.as_deref());
        ends.destination.ensure_there("destination", &wait_limit).await?;
        let pair = space_pair()?;
        let (source, destination) = addresses(&pair);
        Ok(Self {
            source: ends.source.open(&folders, source, &pair.space).await?,
            destination: ends.destination.open(&folders, destination, &pair.space).await?,
            types: ends.source.types().and(ends.destination.types()),
            state,
            pair,
        })
    }
}

/// The destination of a mirror, opened to be read. Its source may be gone.
#[derive(Debug)]
pub(crate) struct RememberedMirror {
    pub(crate) destination: Endpoint,
    pub(crate) opened: OpenedStore,
    /// What it is in the tables of the mirror.
    pub(crate) pair: SpacePair,
    /// The engine with the state of the mirror, if it is known here.
    pub(crate) state: Option<Arc<dyn Engine>>,
}

impl RememberedMirror {
    /// Opens it.
    ///
    /// # Errors
    /// It cannot be used, there is nothing in it, or the state of the mirror cannot be used.
    pub(crate) async fn open(request: &MirrorRequest) -> Result<Self> {
        let wait_limit = WaitLimit::endless();
        let ends = MirrorPair::remembered(request, &wait_limit).await?;
        ends.destination.ensure_there("destination", &wait_limit).await?;
        let state = ends.known_state(&wait_limit).await?;
        let folders = folders_with(state.as_deref());
        let pair = space_pair()?;
        let opened = ends.destination.open(&folders, addresses(&pair).1, &pair.space).await?;
        // A store that cannot be listed is not empty.
        let listed = lists_something(&*opened.store, &pair.space).await;
        if !listed.with_context(|| format!("`{}` cannot be listed", ends.destination))?
            && !ends.destination.holds_something(&*opened.store, &folders, (&wait_limit, false)).await?
        {
            bail!("`{}` holds nothing: is it the right one, and is it mounted?", ends.destination);
        }
        Ok(Self { destination: ends.destination, opened, pair, state })
    }
}

impl MirrorPair {
    /// A pair that was mirrored before. Its folders may be gone, and are not looked at.
    pub(super) async fn remembered(request: &MirrorRequest, wait_limit: &WaitLimit) -> Result<Self> {
        let MirrorRequest { source, destination, source_options, destination_options, .. } = request;
        let source = Endpoint::remembered((source, source_options), "source", wait_limit).await?;
        let destination = Endpoint::remembered((destination, destination_options), "destination", wait_limit).await?;
        let state = state_folder(&source, &destination, wait_limit).await?;
        let state = PairState::new(state, &source, &destination);
        Ok(Self { source, destination, state })
    }

    /// The engine with the pair's state; `None` if the pair was never mirrored.
    pub(super) async fn known_state(&self, wait_limit: &WaitLimit) -> Result<Option<Arc<dyn Engine>>> {
        let Some(remembered) = self.look_at_state(wait_limit, PairState::known).await? else { return Ok(None) };
        let (engine, identity, remembered) = self.open_state(wait_limit, remembered).await?;
        // A first run that could not begin has left a state, and no pair.
        if remembered != RememberedDatabase::Nothing {
            self.remember_state(wait_limit, (remembered, identity)).await?;
        }
        Ok(Some(engine))
    }
}

impl Endpoint {
    fn types(&self) -> ComparedTypes {
        let s3 = matches!(self, Self::S3(_));
        ComparedTypes { s3, folder: !s3 }
    }

    /// Checks that a folder is there. A bucket that is missing is found by its listing.
    pub(crate) async fn ensure_there(&self, which: &'static str, wait_limit: &WaitLimit) -> Result<()> {
        let Self::Folder(folder) = self else { return Ok(()) };
        let typed = folder.typed.clone();
        let look = move |path: &Path| {
            if !path.is_dir() {
                bail!("the {which} `{}` is not there; is it mistyped, and is its disk mounted?", typed.display());
            }
            Ok(())
        };
        folder.look(wait_limit, look).await
    }
}

impl FolderPath {
    /// A folder that may be gone: its path is without links as far as it is there.
    pub(crate) async fn remembered(typed: &Path, wait_limit: &WaitLimit) -> Result<Self> {
        let named = typed.to_owned();
        let look = move || {
            let absolute = std::path::absolute(&named)?;
            let there = absolute.ancestors().find_map(|part| Some((part, std::fs::canonicalize(part).ok()?)));
            Ok(match there.and_then(|(part, found)| Some(found.join(absolute.strip_prefix(part).ok()?))) {
                // A join with nothing would end in a slash.
                Some(found) => found.components().collect(),
                None => absolute,
            })
        };
        Ok(Self { path: wait_limit.look(typed, look).await?, typed: typed.to_owned() })
    }
}
