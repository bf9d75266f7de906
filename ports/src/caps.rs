//! How many tasks may use a store at once.

use std::fmt;
use std::num::NonZeroU32;

use async_trait::async_trait;
use mill_model::StoreAddress;

/// Says how many tasks may use each store at once.
#[async_trait]
pub trait StoreCaps: fmt::Debug + Send + Sync + 'static {
    /// The cap of a store as people want it today. `None` where it has none, and where none can be told now: a store whose
    /// policy cannot be read is not used by any task either.
    async fn cap(&self, store: &StoreAddress) -> Option<NonZeroU32>;
}

/// No store has a cap.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCaps;

#[async_trait]
impl StoreCaps for NoCaps {
    async fn cap(&self, _: &StoreAddress) -> Option<NonZeroU32> {
        None
    }
}
