//! The arguments of the kind `duplicate`.

use serde::{Deserialize, Serialize};

use super::{TaskArgs, TaskKind};
use crate::ids::{AccountId, ContentId, ItemAddress, SpaceId, StoreAddress, StoreId};
use crate::space_pair::SpacePair;

/// Compares a space, or some of its items, at both ends of a store policy, and brings the destination in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "DuplicateMembers", try_from = "DuplicateMembers")]
pub struct DuplicateTask {
    /// The space, at both ends.
    pub pair: SpacePair,
    /// The part of the space.
    pub scope: DuplicateScope,
}

/// The part of a space that a `duplicate` task is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DuplicateScope {
    /// The space itself: its existence and its properties.
    Space,
    /// One item.
    Item(ContentId),
    /// Two or more items. No version of Mill sends such tasks yet; all versions read them.
    Items(Vec<ContentId>),
}

/// The written form.
#[derive(Serialize, Deserialize)]
struct DuplicateMembers {
    account: AccountId,
    source: StoreId,
    destination: StoreId,
    space: SpaceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    item: Option<ContentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    items: Option<Vec<ContentId>>,
}

impl DuplicateTask {
    /// Makes the task for one item, or for the space itself.
    pub fn of(pair: SpacePair, item: Option<ContentId>) -> Self {
        Self { pair, scope: item.map_or(DuplicateScope::Space, DuplicateScope::Item) }
    }
}

impl TaskArgs for DuplicateTask {
    const KIND: TaskKind = TaskKind::of("duplicate");

    fn account(&self) -> &AccountId {
        &self.pair.account
    }

    fn subject(&self) -> String {
        let SpacePair { account, space, .. } = &self.pair;
        match &self.scope {
            DuplicateScope::Space => format!("{account}/{space}"),
            DuplicateScope::Item(id) => {
                format!("{account}/{}", ItemAddress { space: space.clone(), id: id.clone() })
            }
            DuplicateScope::Items(ids) => format!("{account}/{space} ({} items)", ids.len()),
        }
    }

    fn stores(&self) -> Vec<StoreAddress> {
        self.pair.stores().to_vec()
    }

    fn space(&self) -> Option<&SpaceId> {
        Some(&self.pair.space)
    }

    fn items(&self) -> &[ContentId] {
        match &self.scope {
            DuplicateScope::Space => &[],
            DuplicateScope::Item(id) => std::slice::from_ref(id),
            DuplicateScope::Items(ids) => ids,
        }
    }
}

impl From<DuplicateTask> for DuplicateMembers {
    fn from(task: DuplicateTask) -> Self {
        let SpacePair { account, source, destination, space } = task.pair;
        let (item, items) = match task.scope {
            DuplicateScope::Space => (None, None),
            DuplicateScope::Item(id) => (Some(id), None),
            DuplicateScope::Items(ids) => (None, Some(ids)),
        };
        Self { account, source, destination, space, item, items }
    }
}

impl TryFrom<DuplicateMembers> for DuplicateTask {
    type Error = &'static str;

    fn try_from(members: DuplicateMembers) -> Result<Self, &'static str> {
        let DuplicateMembers { account, source, destination, space, item, items } = members;
        let scope = match (item, items) {
            (None, None) => DuplicateScope::Space,
            (Some(id), None) => DuplicateScope::Item(id),
            (Some(_), Some(_)) => return Err("it has both `item` and `items`"),
            // A task without items must never be read as one of the whole space.
            (None, Some(ids)) => match <[ContentId; 1]>::try_from(ids) {
                Ok([id]) => DuplicateScope::Item(id),
                Err(ids) if ids.is_empty() => return Err("its `items` are none"),
                Err(ids) => DuplicateScope::Items(ids),
            },
        };
        Ok(Self { pair: SpacePair { account, source, destination, space }, scope })
    }
}
