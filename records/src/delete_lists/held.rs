//! Lists that wait for a person: the index by which they are found, and the tokens by which they are confirmed.

use std::fmt;

use futures::stream::TryStreamExt as _;
use mill_model::{Algorithm, Checksum, DeleteListId, SpacePair, Timestamp};
use mill_ports::{RowKey, RowPrecondition, TableErrorKind};
use sha2::{Digest as _, Sha256};

use super::head::{DeleteListHead, DeleteListState, GrantedBy, HoldReason};
use super::{DeleteListError, DeleteLists};
use crate::pair_key::{pair_key, parse_pair_key};
use crate::versioned::Versioned;

/// The partition of the index. No pair's partition has this name: theirs have slashes.
const INDEX: &str = "held";

/// Names exactly one list: its pair, its id, how many ids it has, and which.
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
    /// What is said of it.
    pub head: Versioned<DeleteListHead>,
}

impl HeldList {
    /// How many items it names.
    pub fn count(&self) -> u64 {
        self.head.record.count
    }

    /// What a person confirms it by.
    pub fn token(&self) -> HeldListToken {
        HeldListToken::of(&self.pair, self.list, &self.head.record)
    }
}

impl DeleteLists {
    /// Notes that a list of a pair waits for a person. A pair has one at a time.
    ///
    /// # Errors
    /// The table's.
    pub async fn note_held(&self, pair: &SpacePair, list: DeleteListId) -> Result<(), DeleteListError> {
        let key = RowKey::new(INDEX, pair_key(pair));
        self.table.put(&key, list.to_string().into(), RowPrecondition::Always).await?;
        Ok(())
    }

    /// Notes that this list of a pair does not any more. Another one that was noted meanwhile stays.
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
            // The index is written before the head and removed after it: the head decides.
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
        found.ok_or_else(|| DeleteListError::NoSuchToken { token: mill_model::ids::escape_for_display(token) })
    }

    /// Lets a held list be carried out: exactly its ids, as far as each is still gone when its turn comes.
    ///
    /// # Errors
    /// [`DeleteListError::NotMissingForADay`] of a space that may only be out of sight; [`DeleteListError::Changed`]
    /// when the list was changed meanwhile; the table's.
    pub async fn grant(&self, held: &mut HeldList, person: &str, now: Timestamp) -> Result<(), DeleteListError> {
        if let Some(HoldReason::SpaceMissing { for_a_day: false, .. }) = held.head.record.held() {
            return Err(DeleteListError::NotMissingForADay);
        }
        let granted = DeleteListState::Granted { by: GrantedBy::Person(person.to_owned()), at: now.as_millis() };
        self.settle(held, granted).await
    }

    /// Drops a held list. What it names stays; the next survey makes a new list of what is still gone.
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
