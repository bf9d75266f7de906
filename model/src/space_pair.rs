//! A space of two stores.

use crate::ids::{AccountId, SpaceId, StoreId};

/// One space of one store policy: what is copied, and from where to where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpacePair {
    /// The owner of both stores.
    pub account: AccountId,
    /// The store that is read.
    pub source: StoreId,
    /// The store that is written.
    pub destination: StoreId,
    /// The space, of one id at both ends.
    pub space: SpaceId,
}
