//! Caps on the number of tasks that use a store at once.

use std::fmt;
use std::num::NonZeroU32;

use async_trait::async_trait;
use mill_model::StoreAddress;

/// Says how many tasks may use each store at once.
#[async_trait]
pub trait StoreCaps: fmt::Debug + Send + Sync + 'static {
    /// The store's cap in today's configuration, if it has one.
    ///
    /// # Errors
    /// [`CapUnknownError`] when the cap cannot be read now: the last known cap stays in force.
    async fn cap(&self, store: &StoreAddress) -> Result<Option<NonZeroU32>, CapUnknownError>;

    /// Whether there may be tasks of more than one account. `true` if that cannot be found out now.
    async fn several_accounts(&self) -> bool;
}

/// The caps of stores cannot be read now.
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
