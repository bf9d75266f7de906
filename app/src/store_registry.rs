//! The stores of the policies, opened when they are first needed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use mill_local::folder::{FolderSettings, FolderStore, Layout};
use mill_model::{AccountId, SpacePair, StoreAddress, StoreId};
use mill_policy::{AuditLogSpec, StoreSpec};
use mill_ports::{
    CapUnknownError, Clock, DeletableStore, DestinationStore, Engine, PlacedStore, SourceStore, StoreCaps, StoreError,
    StoreErrorKind, Stores, Table,
};
use mill_records::audited_store::AuditedStore;
use mill_records::destinations::DestinationKeeper;
use mill_records::policies::{PolicyError, PolicyRepository};
use mill_records::tables;
use mill_wrappers::LimitedStore;
use parking_lot::Mutex;

use crate::audit_parts::StoreAuditor;
use crate::destination_places::{Advice, DestinationPlaces};
use crate::placement_checks::PlacementChecks;
use crate::store_choice::{self, OpenedStore};

/// Opens the folder stores of an installation.
#[derive(Debug, Clone)]
pub(crate) struct FolderOpener {
    pub(crate) clock: Arc<dyn Clock>,
    /// The table of properties that a file system cannot store, if there is one.
    pub(crate) sidecars: Option<Arc<dyn Table>>,
}

impl FolderOpener {
    /// Opens folders with the properties that an engine stores for them.
    pub(crate) fn of(engine: &dyn Engine) -> Self {
        Self { clock: engine.clock(), sidecars: Some(engine.table(tables::FOLDER_PROPERTIES)) }
    }

    /// Opens folders by themselves, without an installation's tables.
    pub(crate) fn plain(clock: Arc<dyn Clock>) -> Self {
        Self { clock, sidecars: None }
    }

    /// Opens a folder as a store.
    pub(crate) fn open(&self, address: StoreAddress, root: PathBuf, layout: Layout) -> Arc<FolderStore> {
        Arc::new(FolderStore::open(FolderSettings {
            address,
            root,
            layout,
            sidecars: self.sidecars.clone(),
            clock: self.clock.clone(),
        }))
    }
}

/// A store that was opened.
#[derive(Debug, Clone)]
pub(crate) struct RegisteredStore {
    /// Its definition: a store whose definition changes is opened again.
    spec: StoreSpec,
    /// Where its account's log is: it is opened again if that changes too.
    log: Option<AuditLogSpec>,
    /// Its cap at the last lookup. A changed cap applies from then on.
    cap: Option<NonZeroU32>,
    store: Arc<dyn DeletableStore>,
    plain: Arc<dyn DeletableStore>,
    placed: Arc<dyn PlacedStore>,
    /// The same store, if its changes are recorded.
    audited: Option<Arc<AuditedStore>>,
}

/// The stores of the policy files.
#[derive(Debug)]
pub struct StoreRegistry {
    policies: Arc<PolicyRepository>,
    folders: FolderOpener,
    /// The folder that relative roots are relative to.
    base: PathBuf,
    open: Mutex<BTreeMap<StoreAddress, RegisteredStore>>,
    /// The stores from which this process has removed stale uploads.
    stale_uploads_removed: Mutex<BTreeSet<StoreAddress>>,
    misplaced: Arc<PlacementChecks>,
    places: Arc<DestinationPlaces>,
    /// Records changes; `None` where nothing is changed.
    auditor: Option<StoreAuditor>,
    pub(crate) identity: InstallationIdentity,
}

/// The identity of an installation for others on its host.
#[derive(Debug)]
pub(crate) struct InstallationIdentity {
    /// Names, each of which identifies it.
    pub(crate) names: Vec<String>,
    /// Its name in messages.
    pub(crate) shown: String,
}

impl InstallationIdentity {
    /// One of its stores as the keeper of a destination.
    pub(crate) fn keeper(&self, account: &AccountId, store: &StoreId) -> DestinationKeeper {
        let name = |name: &String| format!("{name}/{}/{}", account.as_str(), store.as_str());
        DestinationKeeper {
            names: self.names.iter().map(name).collect(),
            shown: format!("store `{store}` of account `{account}` ({})", self.shown),
            original: None,
        }
    }

    /// Whether a keeper is a store of this account, whichever.
    pub(crate) fn is_of_account(&self, keeper: &DestinationKeeper, account: &AccountId) -> bool {
        let begin = |name: &String| format!("{name}/{}/", account.as_str());
        self.names.iter().map(begin).any(|begin| keeper.names.iter().any(|name| name.starts_with(&begin)))
    }
}

impl StoreRegistry {
    /// The stores of these policies. Relative roots are relative to the folder.
    pub(crate) fn new(
        (policies, base): (Arc<PolicyRepository>, PathBuf),
        folders: FolderOpener,
        (misplaced, places): (Arc<PlacementChecks>, Arc<DestinationPlaces>),
        (auditor, identity): (Option<StoreAuditor>, InstallationIdentity),
    ) -> Self {
        let (open, stale_uploads_removed) = (Mutex::default(), Mutex::default());
        Self { policies, folders, base, open, stale_uploads_removed, misplaced, places, auditor, identity }
    }

    /// A store as a place.
    pub async fn placed(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn PlacedStore>, StoreError> {
        Ok(self.get(account, store).await?.placed)
    }

    async fn get(&self, account: &AccountId, store: &StoreId) -> Result<RegisteredStore, StoreError> {
        let address = StoreAddress::of(account, store);
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
        let cap = cap(spec, policy.workers());
        if let Some(opened) = self.opened(&address, (spec, policy.audit_log()), cap) {
            return Ok(opened);
        }
        let opened = store_choice::open_store(address.clone(), &spec.kind, (&self.base, &self.folders)).await;
        let OpenedStore { store: plain, placed } =
            opened.map_err(|why| failed(StoreErrorKind::NotConfigured, Some(why.into())))?;
        // Another task may have opened it meanwhile: all tasks use the same one, so that its limits apply to all
        // together.
        if let Some(opened) = self.opened(&address, (spec, policy.audit_log()), cap) {
            return Ok(opened);
        }
        // The limits apply to the transfers alone, not to what is recorded of them.
        let stores = (&address, spec, &*policy);
        let audited = self.auditor.as_ref().and_then(|auditor| auditor.audited(plain.clone(), stores));
        let plain = audited.clone().map_or(plain, |audited| audited as Arc<dyn DeletableStore>);
        let store = limited(&plain, cap);
        let opened = RegisteredStore {
            spec: spec.clone(),
            log: policy.audit_log().cloned(),
            cap,
            store,
            plain,
            placed,
            audited,
        };
        self.open.lock().insert(address, opened.clone());
        Ok(opened)
    }

    /// Removes stale uploads again, of processes that have died since, from the stores where this process has done so
    /// before.
    pub async fn remove_stale_uploads_again(&self) {
        let stale_uploads_removed = self.stale_uploads_removed.lock().clone();
        let open = self.open.lock().clone();
        for (_, opened) in open.into_iter().filter(|(address, _)| stale_uploads_removed.contains(address)) {
            opened.store.remove_stale_uploads().await;
        }
    }

    /// Settles what lost writers left of the audited stores of these accounts, and returns how many events were sent.
    ///
    /// # Errors
    /// The policies, a store or the table did not answer; the other stores were settled all the same.
    pub async fn settle_audited(&self) -> anyhow::Result<u64> {
        let mut sent = 0;
        let mut failure = None;
        for account in self.policies.account_ids().await? {
            let Ok(policy) = self.policies.account(&account).await else { continue };
            for spec in policy.stores().iter().filter(|spec| spec.audited) {
                let settled = async {
                    let opened = self.get(&account, &spec.id).await?;
                    match &opened.audited {
                        Some(audited) => audited.settle().await,
                        None => Ok(0),
                    }
                };
                match settled.await {
                    Ok(count) => sent += count,
                    Err(error) => drop(failure.get_or_insert(error)),
                }
            }
        }
        failure.map_or(Ok(sent), |error: StoreError| Err(error.into()))
    }

    /// A store that is open already, with today's cap.
    fn opened(
        &self,
        address: &StoreAddress,
        (spec, log): (&StoreSpec, Option<&AuditLogSpec>),
        cap: Option<NonZeroU32>,
    ) -> Option<RegisteredStore> {
        let mut open = self.open.lock();
        let opened = open.get_mut(address).filter(|opened| opened.spec == *spec && opened.log.as_ref() == log)?;
        if opened.cap != cap {
            (opened.cap, opened.store) = (cap, limited(&opened.plain, cap));
        }
        Some(opened.clone())
    }
}

/// Limits a store's concurrent transfers to its cap. Tasks are admitted by the same cap before, so that none of them
/// waits here.
fn limited(plain: &Arc<dyn DeletableStore>, cap: Option<NonZeroU32>) -> Arc<dyn DeletableStore> {
    match cap {
        Some(cap) => Arc::new(LimitedStore::new(plain.clone(), cap.get())),
        None => plain.clone(),
    }
}

/// How many tasks may use a store at once: its own cap or the account's `workers`, whichever is less. `None` for no
/// limit.
fn cap(spec: &StoreSpec, workers: Option<u32>) -> Option<NonZeroU32> {
    [spec.transfers_max, workers].into_iter().flatten().filter_map(NonZeroU32::new).min()
}

#[async_trait]
impl StoreCaps for StoreRegistry {
    async fn cap(&self, store: &StoreAddress) -> Result<Option<NonZeroU32>, CapUnknownError> {
        let policy = match self.policies.account(&store.account).await {
            Ok(policy) => policy,
            Err(PolicyError::NotListed { .. }) => return Ok(None),
            Err(_) => return Err(CapUnknownError),
        };
        Ok(policy.store(&store.store).and_then(|spec| cap(spec, policy.workers())))
    }

    async fn several_accounts(&self) -> bool {
        self.policies.account_count().await.map_or(true, |accounts| accounts > 1)
    }
}

#[async_trait]
impl Stores for StoreRegistry {
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        Ok(self.get(account, store).await?.store)
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        Ok(self.deletable(account, store).await?)
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        let RegisteredStore { store: opened, placed, .. } = self.get(account, store).await?;
        let address = StoreAddress::of(account, store);
        let found = self.places.check_root(&address, &*placed).await;
        self.misplaced.record_moved(found, &format!("mill places accept {account} {store}"))?;
        let first = self.stale_uploads_removed.lock().insert(address);
        if first {
            opened.remove_stale_uploads().await;
        }
        Ok(opened)
    }

    async fn check_no_overlap(
        &self,
        account: &AccountId,
        source: &StoreId,
        destination: &StoreId,
    ) -> Result<(), StoreError> {
        let (from, to) = (self.get(account, source).await?, self.get(account, destination).await?);
        let address = |store: &StoreId| StoreAddress::of(account, store);
        self.misplaced.check_no_overlap((&address(source), &from.placed), (&address(destination), &to.placed)).await?;
        // A refused destination is not remembered as one.
        let found = self.places.check_and_remember_root(&address(destination), &*to.placed).await;
        self.misplaced.record_moved(found, &format!("mill places accept {account} {destination}"))
    }

    async fn ensure_owned(
        &self,
        SpacePair { account, source, destination, space }: &SpacePair,
        claim: bool,
    ) -> Result<bool, StoreError> {
        let (from, placed) = (self.placed(account, source).await?, self.placed(account, destination).await?);
        let way_out = |store: &StoreId| format!("mill spaces release {account} {store} '{space}'");
        let ends = ((&*from, space), (&*placed, space));
        self.places.ensure_not_copy(ends.0, ends.1, Advice(&way_out(source))).await?;
        let original = from.space_location(space).await?.map(|location| location.as_original());
        let keeper = DestinationKeeper { original, ..self.identity.keeper(account, destination) };
        let (address, way_out) = (StoreAddress::of(account, destination), way_out(destination));
        let kept = self.places.ensure_owned(&address, (&*placed, space), &keeper, (claim, Advice(&way_out))).await;
        self.misplaced.record_moved(kept, &format!("mill places accept {account} {destination}"))
    }
}

/// How a mirror uses its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DestinationAccess {
    /// It is written, and owned.
    Write,
    /// A dry run reads it.
    Read {
        /// Whether a run would take it over from its owner.
        taken_over: bool,
    },
    /// A dry run knows that it is not there, and that a run would make it.
    Missing,
}

/// The two stores of a one-off mirror.
#[derive(Debug)]
pub(crate) struct MirrorStores {
    pub(crate) source: Arc<dyn DeletableStore>,
    pub(crate) destination: Arc<dyn DeletableStore>,
    pub(crate) source_placed: Arc<dyn PlacedStore>,
    pub(crate) destination_placed: Arc<dyn PlacedStore>,
    pub(crate) misplaced: Arc<PlacementChecks>,
    pub(crate) places: Arc<DestinationPlaces>,
    /// Who keeps the destination in sync: this mirror.
    pub(crate) keeper: DestinationKeeper,
    pub(crate) source_id: StoreId,
    /// How the destination is used.
    pub(crate) access: DestinationAccess,
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
                store: StoreAddress::of(account, store),
                subject: store.to_string(),
                source: Some("the source of a mirror is never written".into()),
            });
        }
        Ok(self.destination.clone())
    }

    async fn check_no_overlap(
        &self,
        account: &AccountId,
        source: &StoreId,
        destination: &StoreId,
    ) -> Result<(), StoreError> {
        if self.access == DestinationAccess::Missing {
            // The paths were compared already, and there is nothing else to compare.
            return Ok(());
        }
        let address = |store: &StoreId| StoreAddress::of(account, store);
        let source = (&address(source), &self.source_placed);
        self.misplaced.check_no_overlap(source, (&address(destination), &self.destination_placed)).await
    }

    async fn ensure_owned(&self, pair: &SpacePair, claim: bool) -> Result<bool, StoreError> {
        let claim = match self.access {
            DestinationAccess::Write => claim,
            DestinationAccess::Read { taken_over: false } => false,
            DestinationAccess::Read { taken_over: true } | DestinationAccess::Missing => return Ok(true),
        };
        let address = pair.destination_address();
        self.places
            .ensure_owned(&address, (&*self.destination_placed, &pair.space), &self.keeper, (claim, Advice(TAKE_OVER)))
            .await
    }
}

/// How a mirror takes over a destination.
pub(crate) const TAKE_OVER: &str = "run this mirror with --take-over";
