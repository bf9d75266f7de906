//! A nibble of copies: the next items of a morsel that are not proven to be in step.

use mill_model::ContentId;
use mill_ports::Refusal;

use crate::merge::{Found, Merge, MergeError};

/// What was gathered from a merge, from one marker to the next.
#[derive(Debug, Default)]
pub(crate) struct Nibble {
    /// The items to be queued, with their sizes.
    pub(crate) items: Vec<(ContentId, u64)>,
    /// The last item that was looked at.
    pub(crate) last: Option<ContentId>,
    /// How many items seals proved to be in step.
    pub(crate) unchanged: u64,
    /// Entries that cannot be items, as shown, and why.
    pub(crate) refused: Vec<(String, Refusal)>,
    /// Whether nothing comes behind it.
    pub(crate) end: bool,
    /// Why nothing more can be gathered. What was gathered before is true all the same.
    pub(crate) broken: Option<MergeError>,
}

impl Nibble {
    /// So many items proven in step are passed for each one that may be queued, before the marker is saved and the
    /// next morsel has its turn.
    const UNCHANGED_PER_ITEM: usize = 100;

    /// Gathers up to `most` items.
    pub(crate) async fn gather(merge: &mut Merge, most: usize) -> Self {
        let mut nibble = Self::default();
        let unchanged_max = most.saturating_mul(Self::UNCHANGED_PER_ITEM) as u64;
        while nibble.items.len() < most && nibble.refused.len() < most && nibble.unchanged < unchanged_max {
            match merge.next().await {
                Ok(Some(found)) => nibble.add(found),
                Ok(None) => {
                    nibble.end = true;
                    break;
                }
                Err(error) => {
                    nibble.broken = Some(error);
                    break;
                }
            }
        }
        nibble
    }

    /// Takes in what a merge found. What only the destination has is not a nibble's business.
    pub(crate) fn add(&mut self, found: Found) {
        match found {
            Found::AtSource { id, proven: true, .. } => {
                self.unchanged += 1;
                self.last = Some(id);
            }
            Found::AtSource { id, size, proven: false, .. } => {
                self.last = Some(id.clone());
                self.items.push((id, size));
            }
            Found::Refused { shown, reason } => self.refused.push((shown, reason)),
            Found::OnlyAtDestination { .. } | Found::Hidden { .. } => {}
        }
    }

    /// The content bytes of its items.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().map(|(_, size)| size).sum()
    }
}
