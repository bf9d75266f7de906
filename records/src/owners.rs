//! Owners: the source from which each destination space is kept in sync.
//!
//! If two sources wrote one space, each would delete what the other copied. So one space has one owner.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{AccountId, IdError, SpaceId, SpacePair, StoreAddress, StoreId};
use mill_ports::{RowKey, RowPrecondition, Table, TableError, TableErrorKind};

/// A space of a destination store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationSpace {
    /// The store that holds it.
    pub store: StoreAddress,
    /// The space.
    pub space: SpaceId,
}

impl DestinationSpace {
    /// The space of a pair that is written.
    pub fn of(pair: &SpacePair) -> Self {
        Self { store: pair.destination_address(), space: pair.space.clone() }
    }

    fn key(&self) -> RowKey {
        // No id contains a `/`, so two stores never share a partition.
        let StoreAddress { account, store } = &self.store;
        RowKey::new(format!("{}/{}", account.as_str(), store.as_str()), self.space.as_str())
    }
}

impl fmt::Display for DestinationSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.store, self.space)
    }
}

/// Why a space may not be written from a source.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// It is kept in sync with another source.
    #[error(
        "the space `{place}` belongs to the source `{owner}`, so `{asked}` may not write it; give `{asked}` another \
         destination, or, only once no policy copies `{owner}` there any more, release it: mill spaces release {} {} '{}'",
        place.store.account, place.store.store, place.space
    )]
    Owned {
        /// The space.
        place: DestinationSpace,
        /// The owner.
        owner: StoreAddress,
        /// The source that claimed it.
        asked: StoreAddress,
    },
    /// It is the original of which the source is the copy.
    #[error(
        "the space `{place}` is the original of which `{asked}` is the copy, and would be overwritten by it; if `{asked}` is the \
         original from now on, release it: mill spaces release {} {} '{}'",
        asked.account, asked.store, place.space
    )]
    IsOriginal {
        /// The space.
        place: DestinationSpace,
        /// The source that claimed it.
        asked: StoreAddress,
    },
    /// Its row is not a store's address.
    #[error("the owner of the space `{place}` cannot be read from its row")]
    Unreadable {
        /// The space.
        place: DestinationSpace,
        /// What is wrong with the row; `None` if it does not have two parts.
        #[source]
        source: Option<IdError>,
    },
    /// The table did not answer.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The repository of owners: one row for each destination space.
#[derive(Debug, Clone)]
pub struct Owners {
    table: Arc<dyn Table>,
}

impl Owners {
    /// The repository over `table`.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// Makes `source` the owner of a space, unless it has another owner, or the source's own space is a copy of it. Claiming twice is
    /// harmless.
    ///
    /// # Errors
    /// [`OwnerError::Owned`] when another source is the owner. Of two claims at once, one gets this error.
    /// [`OwnerError::IsOriginal`] when the space is the owner of the source's.
    pub async fn claim(&self, place: &DestinationSpace, source: &StoreAddress) -> Result<(), OwnerError> {
        // Most claims repeat an earlier one, and a read is cheaper than a failed write.
        let owner = if let Some(owner) = self.owner(place).await? {
            owner
        } else {
            self.ensure_no_original(place, source).await?;
            match self.table.put(&place.key(), written(source), RowPrecondition::Absent).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind == TableErrorKind::Conflict => match self.owner(place).await? {
                    Some(owner) => owner,
                    None => return Err(error.into()), // Claimed and released meanwhile: the caller tries again.
                },
                Err(error) => return Err(error.into()),
            }
        };
        if owner == *source || is_planted(PlantedBug::OwnerIgnored) {
            return Ok(());
        }
        Err(OwnerError::Owned { place: place.clone(), owner, asked: source.clone() })
    }

    /// Checks that a space without an owner is not the original of which that source has the copy.
    ///
    /// # Errors
    /// [`OwnerError::IsOriginal`] if it is.
    pub async fn ensure_no_original(&self, place: &DestinationSpace, source: &StoreAddress) -> Result<(), OwnerError> {
        let copy = DestinationSpace { store: source.clone(), space: place.space.clone() };
        if self.owner(&copy).await?.as_ref() == Some(&place.store) && !is_planted(PlantedBug::OwnerIgnored) {
            return Err(OwnerError::IsOriginal { place: place.clone(), asked: source.clone() });
        }
        Ok(())
    }

    /// The owner of a space, if it has one.
    ///
    /// # Errors
    /// The table's, or [`OwnerError::Unreadable`].
    pub async fn owner(&self, place: &DestinationSpace) -> Result<Option<StoreAddress>, OwnerError> {
        let Some(row) = self.table.get(&place.key()).await? else { return Ok(None) };
        match read(&row.value) {
            Ok(owner) => Ok(Some(owner)),
            Err(source) => Err(OwnerError::Unreadable { place: place.clone(), source }),
        }
    }

    /// Removes the owner of a space, because a person asked or the space is gone. Returns the owner it had.
    ///
    /// # Errors
    /// The table's; [`TableErrorKind::Conflict`] when the owner changed at that moment.
    pub async fn release(&self, place: &DestinationSpace) -> Result<Option<StoreAddress>, OwnerError> {
        let Some(row) = self.table.get(&place.key()).await? else { return Ok(None) };
        self.table.delete(&place.key(), RowPrecondition::VersionIs(row.version)).await?;
        Ok(read(&row.value).ok()) // An unreadable row is released too: nothing else could remove it.
    }
}

fn written(owner: &StoreAddress) -> Bytes {
    format!("{}/{}", owner.account.as_str(), owner.store.as_str()).into()
}

fn read(value: &[u8]) -> Result<StoreAddress, Option<IdError>> {
    let text = std::str::from_utf8(value).map_err(|_| None)?;
    let (account, store) = text.split_once('/').ok_or(None)?;
    Ok(StoreAddress { account: AccountId::new(account)?, store: StoreId::new(store)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_table::TestTable;

    fn store(account: &str, store: &str) -> StoreAddress {
        StoreAddress { account: AccountId::new(account).unwrap(), store: StoreId::new(store).unwrap() }
    }

    fn place(space: &str) -> DestinationSpace {
        DestinationSpace { store: store("a", "2"), space: SpaceId::new(space).unwrap() }
    }

    #[tokio::test]
    async fn a_space_has_one_owner_until_it_is_released() {
        let owners = Owners::new(Arc::new(TestTable::default()));
        let (one, other) = (store("a", "1"), store("a", "3"));
        owners.claim(&place("p"), &one).await.unwrap();
        owners.claim(&place("p"), &one).await.unwrap();
        owners.claim(&place("q"), &other).await.unwrap();
        let refusal = owners.claim(&place("p"), &other).await.unwrap_err();
        assert!(matches!(&refusal, OwnerError::Owned { owner, .. } if *owner == one), "{refusal}");
        assert!(refusal.to_string().ends_with("mill spaces release a 2 'p'"), "{refusal}");

        assert_eq!(owners.release(&place("p")).await.unwrap(), Some(one));
        assert_eq!(owners.release(&place("p")).await.unwrap(), None);
        owners.claim(&place("p"), &other).await.unwrap();
        assert_eq!(owners.owner(&place("p")).await.unwrap(), Some(other));
    }

    #[tokio::test]
    async fn an_original_does_not_become_the_copy_of_its_copy_until_that_is_released() {
        let owners = Owners::new(Arc::new(TestTable::default()));
        let original = DestinationSpace { store: store("a", "1"), space: SpaceId::new("p").unwrap() };
        owners.claim(&place("p"), &original.store).await.unwrap();
        let refusal = owners.claim(&original, &place("p").store).await.unwrap_err();
        assert!(matches!(refusal, OwnerError::IsOriginal { .. }), "{refusal}");
        assert!(refusal.to_string().ends_with("mill spaces release a 2 'p'"), "{refusal}");
        assert_eq!(owners.owner(&original).await.unwrap(), None);
        // A copy of the copy, and another space of these stores, are others.
        owners
            .claim(&DestinationSpace { store: store("a", "3"), ..original.clone() }, &place("p").store)
            .await
            .unwrap();
        let other = DestinationSpace { space: SpaceId::new("q").unwrap(), ..original.clone() };
        owners.claim(&other, &place("q").store).await.unwrap();

        owners.release(&place("p")).await.unwrap();
        owners.claim(&original, &place("p").store).await.unwrap();
    }

    #[tokio::test]
    async fn of_two_claims_at_once_one_wins() {
        let owners = Owners::new(Arc::new(TestTable::yielding()));
        let (one, other) = (store("a", "1"), store("b", "1"));
        let place = place("p");
        let claims = futures::join!(owners.claim(&place, &one), owners.claim(&place, &other));
        assert!(claims.0.is_ok());
        assert!(matches!(claims.1, Err(OwnerError::Owned { .. })));
    }

    #[tokio::test]
    async fn a_row_that_names_no_store_refuses_everybody_and_can_be_released() {
        let table = Arc::new(TestTable::default());
        let owners = Owners::new(table.clone());
        for garbage in ["", "a", "a/../b", "/"] {
            table.put(&place("p").key(), garbage.into(), RowPrecondition::Always).await.unwrap();
            let refusal = owners.claim(&place("p"), &store("a", "1")).await;
            assert!(matches!(refusal, Err(OwnerError::Unreadable { .. })), "{garbage}");
            assert_eq!(owners.release(&place("p")).await.unwrap(), None);
        }
        owners.claim(&place("p"), &store("a", "1")).await.unwrap();
    }
}
