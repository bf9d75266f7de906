//! Lists that wait for a person: an index finds them, and tokens confirm them.

use std::fmt;

use futures::stream::TryStreamExt as _;
use mill_model::{Algorithm, Checksum, DeleteListId, SpacePair, Timestamp};
use mill_ports::{RowKey, RowPrecondition, TableErrorKind};
use sha2::{Digest as _, Sha256};

use super::head::{DeleteListHead, DeleteListState, GrantedBy, HoldReason};
use super::{DeleteListError, DeleteLists};
use crate::pair_key::{pair_key, parse_pair_key};
use crate::versioned::Versioned;

/// The partition of the index. No pair's partition has this name: those contain slashes.
const INDEX: &str = "held";

/// Identifies exactly one list: its pair, its id, and the number and digest of its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldListToken(String);

impl HeldListToken {
    fn of(pair: &SpacePair, list: DeleteListId, head: &DeleteListHead) -> Self {
        let all = format!("{}\n{list}\n{}\n{}", pair_key(pair), head.count, head.digest);
        let hash = Sha256::digest(all);
        let short = Checksum { algorithm: Algorithm::Sha256, value: hash[..8].into() };
        Self(format!("{}-{}", head.count, short.hex()))
    }
}

impl fmt::Display for HeldListToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A list that waits for a person.
#[derive(Debug, Clone)]
pub struct HeldList {
    /// The space and both stores.
    pub pair: SpacePair,
    /// The list.
    pub list: DeleteListId,
    /// Its head.
    pub head: Versioned<DeleteListHead>,
}

impl HeldList {
    /// How many items it names.
    pub fn count(&self) -> u64 {
        self.head.record.count
    }

    /// The token by which a person confirms it.
    pub fn token(&self) -> HeldListToken {
        HeldListToken::of(&self.pair, self.list, &self.head.record)
    }
}

impl DeleteLists {
    /// Records that a list of a pair waits for a person. A pair has one such list at a time.
    ///
    /// # Errors
    /// The table's.
    pub async fn note_held(&self, pair: &SpacePair, list: DeleteListId) -> Result<(), DeleteListError> {
        let key = RowKey::new(INDEX, pair_key(pair));
        self.table.put(&key, list.to_string().into(), RowPrecondition::Always).await?;
        Ok(())
    }

    /// Records that this list of a pair no longer waits. If another list was recorded meanwhile, it stays.
    ///
    /// # Errors
    /// The table's.
    pub async fn note_not_held(&self, pair: &SpacePair, list: DeleteListId) -> Result<(), DeleteListError> {
        let key = RowKey::new(INDEX, pair_key(pair));
        let Some(row) = self.table.get(&key).await?.filter(|row| row.value == list.to_string()) else { return Ok(()) };
        match self.table.delete(&key, RowPrecondition::VersionIs(row.version)).await {
            Err(error) if error.kind == TableErrorKind::Conflict => Ok(()),
            other => Ok(other?),
        }
    }

    /// All lists that wait for a person, by pair.
    ///
    /// # Errors
    /// The table's; [`DeleteListError::Unreadable`].
    pub async fn held(&self) -> Result<Vec<HeldList>, DeleteListError> {
        let rows: Vec<_> = self.partition_rows(INDEX.to_owned(), String::new()).try_collect().await?;
        let mut held = Vec::new();
        for row in rows {
            let list = std::str::from_utf8(&row.value).ok().and_then(|text| DeleteListId::parse(text).ok());
            let Some((pair, list)) = parse_pair_key(&row.sort).zip(list) else {
                return Err(DeleteListError::Unreadable { sort: row.sort });
            };
            // The index is written before the head and removed after it, so the head decides.
            if let Some(head) = self.head(&pair, list).await?
                && head.record.held().is_some()
            {
                held.push(HeldList { pair, list, head });
            }
        }
        Ok(held)
    }

    /// The held list that `token` names.
    ///
    /// # Errors
    /// [`DeleteListError::NoSuchToken`]; as [`Self::held`].
    pub async fn by_token(&self, token: &str) -> Result<HeldList, DeleteListError> {
        let held = self.held().await?;
        let found = held.into_iter().find(|held| held.token().0 == token);
        found.ok_or_else(|| DeleteListError::NoSuchToken { token: mill_model::ids::shorten_for_display(token) })
    }

    /// Grants a held list. Each of its ids is deleted if it is still gone from the source by then.
    ///
    /// # Errors
    /// [`DeleteListError::NotMissingForADay`] for a space that may only be out of sight; [`DeleteListError::Changed`]
    /// when the list was changed meanwhile; the table's.
    pub async fn grant(&self, held: &mut HeldList, person: &str, now: Timestamp) -> Result<(), DeleteListError> {
        if let Some(HoldReason::SpaceMissing { for_a_day: false, .. }) = held.head.record.held() {
            return Err(DeleteListError::NotMissingForADay);
        }
        let granted = DeleteListState::Granted { by: GrantedBy::Person(person.to_owned()), at: now.as_millis() };
        self.settle(held, granted).await
    }

    /// Withdraws a held list. Its items stay; the next survey makes a new list of those that are still gone.
    ///
    /// # Errors
    /// [`DeleteListError::Changed`] when the list was changed meanwhile; the table's.
    pub async fn withdraw(&self, held: &mut HeldList) -> Result<(), DeleteListError> {
        self.settle(held, DeleteListState::Withdrawn).await
    }

    async fn settle(&self, held: &mut HeldList, state: DeleteListState) -> Result<(), DeleteListError> {
        held.head.record.state = state;
        self.save_head(&held.pair, held.list, &mut held.head).await?;
        self.note_not_held(&held.pair, held.list).await
    }
}
