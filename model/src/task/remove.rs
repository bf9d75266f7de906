//! The arguments of the kind `remove`.

use serde::{Deserialize, Serialize};

use super::{TaskArgs, TaskKind};
use crate::ids::{AccountId, ContentId, DeleteListId, SpaceId, StoreAddress};
use crate::space_pair::SpacePair;

/// Deletes at a destination what one row of a delete list names, or the space itself once its items are gone.
///
/// The list says which items may be deleted, and whether they may: a task alone deletes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveTask {
    /// The space, at both ends: it is deleted from the destination.
    #[serde(flatten)]
    pub pair: SpacePair,
    /// The delete list.
    pub list: DeleteListId,
    /// The row of the list, or `None` for the space itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u32>,
}

impl TaskArgs for RemoveTask {
    const KIND: TaskKind = TaskKind::of("remove");

    fn account(&self) -> &AccountId {
        &self.pair.account
    }

    fn subject(&self) -> String {
        let SpacePair { account, space, .. } = &self.pair;
        match self.row {
            Some(row) => format!("{account}/{space} (deletes, row {row})"),
            None => format!("{account}/{space}"),
        }
    }

    fn stores(&self) -> Vec<StoreAddress> {
        self.pair.stores().to_vec()
    }

    fn space(&self) -> Option<&SpaceId> {
        Some(&self.pair.space)
    }

    /// None: the list records what becomes of the items of a row.
    fn items(&self) -> &[ContentId] {
        &[]
    }
}
