//! Spaces that are out of sight for a while, with all that they hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use mill_model::{ContentId, Monotonic, Properties, SpaceId};

use super::SimStore;

/// A space that is out of sight.
#[derive(Debug)]
pub(crate) struct HiddenSpace {
    pub(crate) space: SpaceId,
    pub(crate) contents: BTreeMap<ContentId, (Bytes, Properties)>,
    pub(crate) until: Monotonic,
}

impl SimStore {
    /// Hides a space, unless another one is hidden. Returns whether it did.
    pub(crate) fn hide(&self, what: HiddenSpace) -> bool {
        let mut hidden = self.hidden.lock();
        hidden.is_none() && hidden.replace(what).is_none()
    }

    /// Whether this space is hidden.
    pub(crate) fn hides(&self, space: &SpaceId) -> bool {
        self.hidden.lock().as_ref().is_some_and(|hidden| hidden.space == *space)
    }

    /// Takes the hidden space if its time is over.
    pub(crate) fn hidden_until(&self, now: Monotonic) -> Option<HiddenSpace> {
        self.hidden.lock().take_if(|hidden| hidden.until <= now)
    }
}
