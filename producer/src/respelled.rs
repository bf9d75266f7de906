//! Items that are at the source under another spelling than at a destination that takes the two for one.
//!
//! There a rename that changes only case leaves `README` at the destination, where it vanished, and `readme` at the source.
//! Its copy is not to be deleted: the task of `readme` gives it the new spelling.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use mill_model::ContentId;
use mill_model::spelling::folded;

use crate::merge::{Found, Merge, MergeError};

/// What only the source has, by what its names are taken for. Eight bytes an item: two that share them by chance keep one
/// copy from being deleted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Respelled(Vec<u64>);

impl Respelled {
    /// Goes through a merge from its beginning to its end.
    pub(crate) async fn of(merge: &mut Merge) -> Result<Self, MergeError> {
        let mut alone = Vec::new();
        while let Some(found) = merge.next().await? {
            if let Found::AtSource { id, size, alone: true, .. } = found {
                alone.push(mark(&id, size));
            }
        }
        alone.sort_unstable();
        alone.dedup();
        Ok(Self(alone))
    }

    /// Whether the source may have an item of that size under another spelling, and the destination has it under this alone.
    pub(crate) fn may_have(&self, id: &ContentId, size: u64) -> bool {
        !self.0.is_empty() && self.0.binary_search(&mark(id, size)).is_ok()
    }
}

fn mark(id: &ContentId, size: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (folded(id.as_str()), size).hash(&mut hasher);
    hasher.finish()
}
