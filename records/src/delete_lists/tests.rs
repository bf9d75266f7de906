//! The promises of the repository of delete lists, on a table in memory.

mod held;
mod pair;
mod rows;

use mill_model::{AccountId, ContentId, SpaceId, StoreId, Timestamp, Version};
use mill_testkit::MemoryTable;

use super::*;
use crate::sync_proofs::VersionDigest;
use crate::test_table::TestTable;

fn pair_of_space(space: &str) -> SpacePair {
    SpacePair {
        account: AccountId::new("a").unwrap(),
        source: StoreId::new("s").unwrap(),
        destination: StoreId::new("d").unwrap(),
        space: SpaceId::new(space).unwrap(),
    }
}

fn pair() -> SpacePair {
    pair_of_space("p")
}

fn list(number: u8) -> DeleteListId {
    DeleteListId::new(Timestamp::from_millis(1_795_249_800_000), [number; 10])
}

fn listed(id: &str) -> ListedId {
    ListedId { id: ContentId::new(id).unwrap(), seen: VersionDigest::of(&Version::settled_at(id)) }
}

fn head(count: u64, state: DeleteListState) -> DeleteListHead {
    DeleteListHead {
        of: DeletionScope::Items,
        made: 1_795_249_800_000,
        count,
        items_total: 10 * count,
        rows: 1,
        digest: "d".into(),
        places: Vec::new(),
        state,
    }
}

fn held_state() -> DeleteListState {
    DeleteListState::Held { reason: HoldReason::TooMany { unasked_today: 0 } }
}

fn repository() -> (DeleteLists, Arc<MemoryTable>) {
    let table = Arc::new(MemoryTable::with_pages_of("delete-lists", 3));
    (DeleteLists::new(table.clone()), table)
}

/// Adds a held list, as the producer does.
async fn hold(lists: &DeleteLists, pair: &SpacePair, id: DeleteListId, head: DeleteListHead) -> HeldList {
    lists.note_held(pair, id).await.unwrap();
    lists.add_head(pair, id, head).await.unwrap();
    let all = lists.held().await.unwrap();
    all.into_iter().find(|held| held.pair == *pair && held.list == id).unwrap()
}
