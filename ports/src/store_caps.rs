//! How many tasks may use a store at once.

use std::fmt;
use std::num::NonZeroU32;

use async_trait::async_trait;
use mill_model::StoreAddress;

/// Says how many tasks may use each store at once.
#[async_trait]
pub trait StoreCaps: fmt::Debug + Send + Sync + 'static {
    /// The cap of a store as people want it today, if it has one.
    ///
    /// # Errors
    /// [`CapUnknownError`] where it cannot be told now: what was known before holds on.
    async fn cap(&self, store: &StoreAddress) -> Result<Option<NonZeroU32>, CapUnknownError>;

    /// Whether tasks of more than one account may come. `true` where that cannot be told now.
    async fn several_accounts(&self) -> bool;
}

/// It cannot be told now how many tasks may use a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store's cap is not known now")]
pub struct CapUnknownError;

/// No store has a cap, and there is one account.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCaps;

#[async_trait]
impl StoreCaps for NoCaps {
    async fn cap(&self, _: &StoreAddress) -> Result<Option<NonZeroU32>, CapUnknownError> {
        Ok(None)
    }

    async fn several_accounts(&self) -> bool {
        false
    }
}
