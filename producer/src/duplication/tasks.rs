//! The tasks of the duplication producer.

use mill_model::{ContentId, DeleteListId, DuplicateTask, RemoveTask, SpacePair, Task};

/// One task for each of `items`, or for the space itself where it is `None`.
pub(super) fn copy_tasks<'i>(
    pair: &SpacePair,
    items: impl ExactSizeIterator<Item = Option<&'i ContentId>>,
) -> impl ExactSizeIterator<Item = Task> {
    items.map(|item| {
        let SpacePair { account, source, destination, space } = pair.clone();
        DuplicateTask { account, source, destination, space, item: item.cloned() }.into_task()
    })
}

/// One task for each of these rows of a delete list, or for the space itself where it is `None`.
pub(super) fn remove_tasks(
    pair: &SpacePair,
    list: DeleteListId,
    rows: impl ExactSizeIterator<Item = Option<u32>>,
) -> impl ExactSizeIterator<Item = Task> {
    rows.map(move |row| {
        let SpacePair { account, source, destination, space } = pair.clone();
        RemoveTask { account, source, destination, space, list, row }.into_task()
    })
}
