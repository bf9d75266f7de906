//! Stands in for the book of policies until it is there.
#![allow(missing_docs, clippy::unused_async)]
use mill_model::AccountId;
use mill_policy::AccountPolicy;
use std::sync::Arc;
#[derive(Debug, Clone)]
pub struct PolicyBook(Vec<Arc<AccountPolicy>>);
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("not listed")]
    NotListed { account: AccountId },
}
impl PolicyBook {
    pub fn fixed(policies: Vec<AccountPolicy>) -> Self {
        Self(policies.into_iter().map(Arc::new).collect())
    }
    pub async fn account(&self, account: &AccountId) -> Result<Arc<AccountPolicy>, PolicyError> {
        let found = self.0.iter().find(|p| p.account() == account).cloned();
        found.ok_or_else(|| PolicyError::NotListed { account: account.clone() })
    }
}
