//! Spaces that are out of sight for a while, with all that they hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use mill_model::{ContentId, Monotonic, Properties, SpaceId};

use super::Shelf;
use crate::sim::world::lock;

/// A space that is out of sight.
#[derive(Debug)]
pub(crate) struct Hidden {
    pub(crate) space: SpaceId,
    pub(crate) contents: BTreeMap<ContentId, (Bytes, Properties)>,
    pub(crate) until: Monotonic,
}

impl Shelf {
    /// Has this out of sight, unless it has another so.
    pub(crate) fn hide(&self, what: Hidden) -> bool {
        let mut hidden = lock(&self.hidden);
        hidden.is_none() && hidden.replace(what).is_none()
    }

    /// Whether this is out of sight.
    pub(crate) fn hides(&self, space: &SpaceId) -> bool {
        lock(&self.hidden).as_ref().is_some_and(|hidden| hidden.space == *space)
    }

    /// Takes what is to be out of sight until then at most.
    pub(crate) fn hidden_until(&self, now: Monotonic) -> Option<Hidden> {
        lock(&self.hidden).take_if(|hidden| hidden.until <= now)
    }
}
