//! Restores a space from one of its copies, or a mirror from its destination.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use mill_local::OsClock;
use mill_model::{AccountId, SpaceId, SpacePair, StoreAddress, StoreId};
use mill_policy::{AccountPolicy, StoreKind};
use mill_ports::{Clock, PlacedStore, Presence, SourceStore};
pub use mill_processors::restore::NamedParts;
use mill_processors::restore::{Restoration, RestorationReport};
use mill_records::sync_proofs::SyncProofs;

use crate::UsageError;
use crate::config::Config;
use crate::destination_places::DestinationPlaces;
use crate::files::create_folder;
use crate::installation::Installation;
use crate::mirror::{Endpoint, EndpointOptions, FolderPath, MirrorRequest, RememberedMirror};
use crate::placement_checks::PlacementChecks;
use crate::store_choice::OpenedStore;
use crate::store_registry::FolderOpener;
use crate::wait_limit::WaitLimit;

/// Items restored at once.
const AT_ONCE: usize = 64;

/// A request to restore a copy.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The folder to restore it to, or `s3://BUCKET/PREFIX`, as it was typed.
    pub to: PathBuf,
    /// How to reach that in S3.
    pub to_options: EndpointOptions,
    /// What of the copy.
    pub parts: NamedParts,
    /// Whether to make its bucket, if that is not there.
    pub create: bool,
    /// Whether files that differ are replaced by copies that are proven to be unchanged.
    pub overwrite: bool,
    /// Whether items that are not proven are restored too, and may replace files that differ.
    pub unproven: bool,
}

/// A copy in a store of an installation.
#[derive(Debug, Clone)]
pub struct SpaceCopy {
    /// The account.
    pub account: AccountId,
    /// The space.
    pub space: SpaceId,
    /// The store that holds the copy.
    pub from: StoreId,
}

/// A copy, opened to be read.
#[derive(Debug)]
struct RestorableCopy {
    store: Arc<dyn SourceStore>,
    placed: Arc<dyn PlacedStore>,
    address: StoreAddress,
    space: SpaceId,
    /// Where it is, if that can be compared with another place before anything is made there.
    endpoint: Option<Endpoint>,
    proven_pairs: Vec<SpacePair>,
    sync_proofs: Option<SyncProofs>,
    clock: Arc<dyn Clock>,
}

/// What was restored from a mirror.
#[derive(Debug)]
pub struct MirrorRestoration {
    /// What became of the items.
    pub report: RestorationReport,
    /// Whether the mirror is known here. If it is not, no sync proof vouches for its copy.
    pub is_known: bool,
}

impl RestoreRequest {
    /// The place that a restore writes to, as errors call its store.
    pub const PLACE: &str = "restore:to";

    /// Restores a space of an installation.
    ///
    /// # Errors
    /// There is no such copy, or the place to restore it to overlaps it, cannot be made or is kept in sync by a Mill.
    pub async fn space(
        &self,
        copy: &SpaceCopy,
        installation: &Installation,
        config: &Config,
    ) -> Result<RestorationReport> {
        let SpaceCopy { account, space, from } = copy;
        let policy = installation.policies.account(account).await?;
        let Some(spec) = policy.store(from) else {
            let known: Vec<String> = policy.stores().iter().map(|store| store.id.to_string()).collect();
            bail!("account `{account}` has no store `{from}`; it has: {}", known.join(", "));
        };
        let registry = installation.configured.as_ref().context("a mirror has no stores of its own")?;
        let copy = RestorableCopy {
            store: installation.stores.source(account, from).await?,
            placed: registry.placed(account, from).await?,
            address: StoreAddress::of(account, from),
            space: space.clone(),
            endpoint: folder_of(&spec.kind, config).await?,
            proven_pairs: copy.pairs_with_proofs(&policy),
            sync_proofs: Some(installation.sync_proofs()),
            clock: installation.engine.clock(),
        };
        self.restore(copy).await
    }

    /// Restores the destination of a mirror.
    ///
    /// # Errors
    /// There is nothing at the destination, or the place to restore it to overlaps it, cannot be made or is kept in sync by a
    /// Mill.
    pub async fn mirror(&self, mirror: &MirrorRequest) -> Result<MirrorRestoration> {
        let RememberedMirror { destination, opened, pair, state } = RememberedMirror::open(mirror).await?;
        let is_known = state.is_some();
        let copy = RestorableCopy {
            store: opened.store,
            placed: opened.placed,
            address: StoreAddress::of(&pair.account, &pair.destination),
            space: pair.space.clone(),
            endpoint: Some(destination),
            proven_pairs: vec![pair],
            sync_proofs: state.map(|engine| SyncProofs::new(engine.table(mill_records::tables::SYNC_PROOFS))),
            clock: Arc::new(OsClock),
        };
        Ok(MirrorRestoration { report: self.restore(copy).await?, is_known })
    }

    async fn restore(&self, copy: RestorableCopy) -> Result<RestorationReport> {
        let wait_limit = WaitLimit::endless();
        let to = Endpoint::remembered((&self.to, &self.to_options), "to", &wait_limit).await?;
        if let Some(endpoint) = &copy.endpoint
            && let Some(overlap) = endpoint.overlap(&to, &wait_limit).await?
        {
            return Err(UsageError(overlap).into());
        }
        // Checked before anything is created for it.
        Restoration::has_copy(&*copy.store, &copy.space).await?;
        let made = to.make_folder(&wait_limit).await?;
        let restored = self.restore_to(&to, copy).await;
        if restored.is_err() && made {
            // If nothing was restored, the created folder is removed again. A folder with content stays.
            let _ = std::fs::remove_dir(&self.to);
        }
        restored
    }

    async fn restore_to(&self, to: &Endpoint, copy: RestorableCopy) -> Result<RestorationReport> {
        let address = StoreAddress { account: AccountId::new("restore")?, store: StoreId::new("to")? };
        let OpenedStore { store, placed } =
            to.open(&FolderOpener::plain(copy.clock.clone()), address.clone(), &copy.space).await?;
        if matches!(to, Endpoint::S3(_)) && !self.create && store.space(&copy.space).await? == Presence::Absent {
            bail!(to.no_bucket());
        }
        if let Some((place, keeper)) = DestinationPlaces::of_this_host().keeper_around(&*placed, &copy.space).await? {
            bail!(
                "`{place}` is kept in sync by {keeper}, which would take what is brought back for changes of its copy; restore to \
                 another place"
            );
        }
        ensure_apart((&copy.address, &copy.placed), (&address, &placed)).await?;
        let restoration = Restoration {
            copy: copy.store,
            from: copy.address,
            space: copy.space,
            parts: self.parts.clone(),
            to: store,
            proven_pairs: copy.proven_pairs,
            sync_proofs: copy.sync_proofs,
            overwrite: self.overwrite,
            unproven: self.unproven,
            concurrency: AT_ONCE.try_into()?,
        };
        restoration.to.remove_stale_uploads().await;
        Ok(restoration.run().await?)
    }
}

/// Checks that the two places are not one, whatever their names.
async fn ensure_apart(
    copy: (&StoreAddress, &Arc<dyn PlacedStore>),
    to: (&StoreAddress, &Arc<dyn PlacedStore>),
) -> Result<()> {
    let checks = PlacementChecks::default();
    checks.will_write();
    let checked = checks.check_no_overlap(copy, to).await;
    match checks.remarks().into_iter().next() {
        Some(overlap) => Err(UsageError(overlap).into()),
        None => Ok(checked?),
    }
}

/// The root of a store that is a folder.
async fn folder_of(kind: &StoreKind, config: &Config) -> Result<Option<Endpoint>> {
    let Some(root) = kind.folder_root() else { return Ok(None) };
    let root = config.base().join(root);
    Ok(Some(Endpoint::Folder(FolderPath::remembered(&root, &WaitLimit::endless()).await?)))
}

impl SpaceCopy {
    /// The pairs whose sync proofs are about copies in the store.
    fn pairs_with_proofs(&self, policy: &AccountPolicy) -> Vec<SpacePair> {
        let sources = policy.stores().iter().filter(|store| store.id != self.from);
        let pair = |source: &StoreId| SpacePair {
            account: self.account.clone(),
            source: source.clone(),
            destination: self.from.clone(),
            space: self.space.clone(),
        };
        sources.map(|store| pair(&store.id)).collect()
    }
}

impl Endpoint {
    /// Creates a folder that is not there. Returns whether it did. A bucket is created with the space in it.
    async fn make_folder(&self, wait_limit: &WaitLimit) -> Result<bool> {
        let Self::Folder(folder) = self else { return Ok(false) };
        let make = |path: &std::path::Path| {
            let made = !path.is_dir();
            if made {
                create_folder(path).with_context(|| format!("`{}` cannot be made", path.display()))?;
            }
            Ok(made)
        };
        folder.look(wait_limit, make).await
    }
}
