//! The key of a pair of spaces: its ids with slashes between them. Tables use it as a partition key, and with a prefix
//! as a sort key.

use mill_model::{AccountId, SpaceId, SpacePair, StoreId};

/// No id contains a `/`, so two pairs never share a key.
pub(crate) fn pair_key(SpacePair { account, source, destination, space }: &SpacePair) -> String {
    [account.as_str(), source.as_str(), destination.as_str(), space.as_str()].join("/")
}

/// The pair of a key; `None` for any other text.
pub(crate) fn parse_pair_key(key: &str) -> Option<SpacePair> {
    let mut ids = key.splitn(4, '/');
    Some(SpacePair {
        account: AccountId::new(ids.next()?).ok()?,
        source: StoreId::new(ids.next()?).ok()?,
        destination: StoreId::new(ids.next()?).ok()?,
        space: SpaceId::new(ids.next()?).ok()?,
    })
}
