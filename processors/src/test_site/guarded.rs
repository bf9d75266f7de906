//! Stores of which a test says whether they hold something in common, and whether a place is another's.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use mill_ports::{DeletableStore, DestinationStore, RefusalReason, SourceStore, StoreError, StoreErrorKind, Stores};

/// What the stores say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    /// Source and destination hold nothing in common.
    pub(crate) apart: bool,
    /// No other Mill keeps the destination's place in sync.
    pub(crate) ours: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self { apart: true, ours: true }
    }
}

#[derive(Debug)]
pub(crate) struct Guarded {
    inner: Arc<dyn Stores>,
    guards: Guards,
    claims: Mutex<Vec<bool>>,
}

impl Guarded {
    pub(crate) fn new(inner: Arc<dyn Stores>, guards: Guards) -> Self {
        Self { inner, guards, claims: Mutex::default() }
    }

    /// Whether each question about a place was a claim.
    pub(crate) fn claims(&self) -> Vec<bool> {
        self.claims.lock().unwrap().clone()
    }
}

fn refused(account: &AccountId, store: &StoreId, kind: StoreErrorKind) -> StoreError {
    let store = StoreAddress { account: account.clone(), store: store.clone() };
    StoreError { kind, op: "guard", store, subject: "guarded".into(), source: None }
}

#[async_trait]
impl Stores for Guarded {
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        self.inner.source(account, store).await
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        self.inner.destination(account, store).await
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        self.inner.deletable(account, store).await
    }

    async fn apart(&self, account: &AccountId, _: &StoreId, destination: &StoreId) -> Result<(), StoreError> {
        if self.guards.apart { Ok(()) } else { Err(refused(account, destination, StoreErrorKind::NotConfigured)) }
    }

    async fn keep(&self, account: &AccountId, store: &StoreId, _: &SpaceId, claim: bool) -> Result<bool, StoreError> {
        self.claims.lock().unwrap().push(claim);
        if self.guards.ours {
            return Ok(true);
        }
        Err(refused(account, store, StoreErrorKind::Refused(RefusalReason::AnothersDestination("another".into()))))
    }
}
