//! Items whose spelling at the source differs from that of their copy, at a destination that folds names.
//!
//! There a rename that changes only case leaves `readme` at the source, and `README` at the destination, as if it had vanished.
//! The copy must not be deleted: the task of `readme` gives it the new spelling.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use mill_model::ContentId;
use mill_model::name_folding::fold_name;

use super::merge::{Merge, MergeError, MergedEntry};

/// The items that only the source has, by a hash of folded name and size. A hash has eight bytes; two items that share one by
/// chance keep one copy from being deleted.
#[derive(Debug, Clone, Default)]
pub(crate) struct RespelledItems(Vec<u64>);

impl RespelledItems {
    /// Reads a whole merge.
    pub(crate) async fn of(merge: &mut Merge) -> Result<Self, MergeError> {
        let mut alone = Vec::new();
        while let Some(found) = merge.next().await? {
            if let MergedEntry::AtSource { id, size, alone: true, .. } = found {
                alone.push(mark(&id, size));
            }
        }
        alone.sort_unstable();
        alone.dedup();
        Ok(Self(alone))
    }

    /// Whether the source may have an item of that size under another spelling that the destination lacks.
    pub(crate) fn may_have(&self, id: &ContentId, size: u64) -> bool {
        !self.0.is_empty() && self.0.binary_search(&mark(id, size)).is_ok()
    }
}

fn mark(id: &ContentId, size: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (fold_name(id.as_str()), size).hash(&mut hasher);
    hasher.finish()
}
