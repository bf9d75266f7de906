//! A space in two stores.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, SpaceId, StoreAddress, StoreId};

/// One space of one store policy: what is copied, and from where to where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpacePair {
    /// The owner of both stores.
    pub account: AccountId,
    /// The store that is read.
    pub source: StoreId,
    /// The store that is written.
    pub destination: StoreId,
    /// The space, with the same id in both stores.
    pub space: SpaceId,
}

impl SpacePair {
    /// The addresses of the source and the destination, in this order.
    pub fn stores(&self) -> [StoreAddress; 2] {
        [&self.source, &self.destination].map(|store| self.address(store))
    }

    /// The address of the source.
    pub fn source_address(&self) -> StoreAddress {
        self.address(&self.source)
    }

    /// The address of the destination.
    pub fn destination_address(&self) -> StoreAddress {
        self.address(&self.destination)
    }

    fn address(&self, store: &StoreId) -> StoreAddress {
        StoreAddress::of(&self.account, store)
    }
}
