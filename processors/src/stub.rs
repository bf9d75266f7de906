//! Stands in for the policy room until it is there.
#![allow(missing_docs)]
use mill_model::{AccountId, SpaceId, StoreId};
use std::sync::Arc;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Everything,
    Differences,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePolicy {
    pub source: StoreId,
    pub destination: StoreId,
    pub compare: Compare,
    pub remove_vanished: bool,
}
#[derive(Debug, Clone)]
pub struct AccountPolicy {
    account: AccountId,
    space: SpaceId,
    policy: StorePolicy,
}
impl AccountPolicy {
    pub fn covering(&self, space: &SpaceId, source: &StoreId, destination: &StoreId) -> Option<StorePolicy> {
        (self.space == *space && self.policy.source == *source && self.policy.destination == *destination)
            .then(|| self.policy.clone())
    }
    pub fn mirror(
        account: AccountId,
        space: SpaceId,
        source: StoreId,
        destination: StoreId,
        compare: Compare,
        remove_vanished: bool,
    ) -> Self {
        Self { account, space, policy: StorePolicy { source, destination, compare, remove_vanished } }
    }
}
#[derive(Debug, Clone)]
pub struct PolicyBook(Vec<Arc<AccountPolicy>>);
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("not listed")]
    NotListed { account: AccountId },
    #[error("unknown")]
    Unknown,
}
impl PolicyBook {
    pub fn fixed(policies: Vec<AccountPolicy>) -> Self {
        Self(policies.into_iter().map(Arc::new).collect())
    }
    pub async fn account(&self, account: &AccountId) -> Result<Arc<AccountPolicy>, PolicyError> {
        self.0
            .iter()
            .find(|p| p.account == *account)
            .cloned()
            .ok_or_else(|| PolicyError::NotListed { account: account.clone() })
    }
}
