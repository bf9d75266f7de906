//! The stores that policies name, opened when they are first asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mill_engine::Limited;
use mill_local::folder::{FolderSettings, FolderStore, Layout};
use mill_model::{AccountId, StoreAddress, StoreId};
use mill_policy::{StoreKind, StoreSpec};
use mill_ports::{Clock, DeletableStore, DestinationStore, SourceStore, StoreError, StoreErrorKind, Stores, Table};
use mill_records::policies::{PolicyBook, PolicyError};

use crate::fleet;

/// What every folder store of an installation is opened with.
#[derive(Debug, Clone)]
pub(crate) struct FolderOpener {
    pub(crate) clock: Arc<dyn Clock>,
    /// The book for properties that a file system cannot keep.
    pub(crate) sidecars: Arc<dyn Table>,
}

impl FolderOpener {
    /// A folder as a store.
    pub(crate) fn open(&self, address: StoreAddress, root: PathBuf, layout: Layout) -> Arc<FolderStore> {
        Arc::new(FolderStore::open(FolderSettings {
            address,
            root,
            layout,
            sidecars: Some(self.sidecars.clone()),
            clock: self.clock.clone(),
        }))
    }
}

/// A folder as a store by itself, without an installation's books.
pub(crate) fn open_plain(
    clock: Arc<dyn Clock>,
    address: StoreAddress,
    root: PathBuf,
    layout: Layout,
) -> Arc<FolderStore> {
    Arc::new(FolderStore::open(FolderSettings { address, root, layout, sidecars: None, clock }))
}

/// Stores by address.
pub(crate) type Opened = BTreeMap<StoreAddress, (StoreSpec, Arc<dyn DeletableStore>)>;

/// The stores of the policy files.
#[derive(Debug)]
pub(crate) struct ConfiguredStores {
    pub(crate) policies: Arc<PolicyBook>,
    pub(crate) folders: FolderOpener,
    /// Where relative roots begin.
    pub(crate) base: PathBuf,
    /// Those opened, each with what it was opened as: a store whose definition changes is opened anew.
    pub(crate) open: Mutex<Opened>,
    /// Those from which this process has removed what others had left unfinished.
    pub(crate) tidied: Mutex<BTreeSet<StoreAddress>>,
}

impl ConfiguredStores {
    async fn get(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        let address = StoreAddress { account: account.clone(), store: store.clone() };
        let failed = |kind, source: Option<mill_ports::BoxError>| StoreError {
            kind,
            op: "opening",
            store: address.clone(),
            subject: store.to_string(),
            source,
        };
        let policy = self.policies.account(account).await.map_err(|error| {
            let kind = match error {
                PolicyError::NotListed { .. } => StoreErrorKind::NotConfigured,
                _ => StoreErrorKind::Unavailable,
            };
            failed(kind, Some(error.into()))
        })?;
        let Some(spec) = policy.store(store) else {
            return Err(failed(StoreErrorKind::NotConfigured, None));
        };
        if let Some(opened) = self.opened(&address, spec) {
            return Ok(opened);
        }
        let plain: Arc<dyn DeletableStore> = match &spec.kind {
            StoreKind::Folder { root } => self.folders.open(address.clone(), self.base.join(root), Layout::Spaces),
            StoreKind::S3(s3) => fleet::open_store(address.clone(), s3, &self.base, self.folders.clock.clone())
                .await
                .map_err(|why| failed(StoreErrorKind::NotConfigured, Some(why.into())))?,
        };
        let store: Arc<dyn DeletableStore> = match transfers(spec, policy.workers()) {
            Some(most) => Arc::new(Limited::new(plain, most)),
            None => plain,
        };
        // Another task may have opened it meanwhile: all of them use the same, so that its limits hold for their sum.
        if let Some(opened) = self.opened(&address, spec) {
            return Ok(opened);
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(address.clone(), (spec.clone(), store.clone()));
        Ok(store)
    }

    fn opened(&self, address: &StoreAddress, spec: &StoreSpec) -> Option<Arc<dyn DeletableStore>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(address).filter(|(opened_as, _)| opened_as == spec).map(|(_, opened)| opened.clone())
    }
}

/// The transfers that a store may have at once: its own cap, or what the job asks for where that is less.
/// `None` for no limit.
fn transfers(spec: &StoreSpec, workers: Option<u32>) -> Option<u32> {
    let asked = workers.filter(|workers| *workers > 0);
    match (spec.transfers_max, asked) {
        (Some(cap), Some(asked)) if asked > cap => {
            tracing::warn!(store = %spec.id, asked, cap, "the store takes fewer transfers at once than the policy's `workers`; its cap holds");
            Some(cap)
        }
        (cap, asked) => asked.or(cap),
    }
}

#[async_trait]
impl Stores for ConfiguredStores {
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        Ok(self.get(account, store).await?)
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        Ok(self.deletable(account, store).await?)
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        let opened = self.get(account, store).await?;
        let address = StoreAddress { account: account.clone(), store: store.clone() };
        let first = self.tidied.lock().unwrap_or_else(PoisonError::into_inner).insert(address);
        if first {
            opened.tidy().await;
        }
        Ok(opened)
    }
}

/// The two stores of a one-off mirror.
#[derive(Debug)]
pub(crate) struct MirrorStores {
    pub(crate) source: Arc<dyn DeletableStore>,
    pub(crate) destination: Arc<dyn DeletableStore>,
    pub(crate) source_id: StoreId,
}

#[async_trait]
impl Stores for MirrorStores {
    async fn source(&self, _: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        Ok(if *store == self.source_id { self.source.clone() } else { self.destination.clone() })
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        Ok(self.deletable(account, store).await?)
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        if *store == self.source_id {
            return Err(StoreError {
                kind: StoreErrorKind::NotConfigured,
                op: "opening for writing",
                store: StoreAddress { account: account.clone(), store: store.clone() },
                subject: store.to_string(),
                source: Some("the source of a mirror is never written".into()),
            });
        }
        Ok(self.destination.clone())
    }
}
