//! What the sync proof of an item says of two copies whose bytes differ.

use std::fmt;

use mill_model::{Checksum, ContentId, SpacePair, Version};
use mill_ports::error_chain;
use mill_records::sync_proofs::{SyncProof, SyncProofs};
use tracing::warn;

/// The sync proofs of a pair of copies: what was known of their bytes when both were equal.
#[derive(Debug, Clone)]
pub struct Witness {
    /// The sync proofs.
    pub proofs: SyncProofs,
    /// The pair.
    pub pair: SpacePair,
}

/// Which side has other bytes than it had in the same version, and so is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DamagedSide {
    /// Nothing shows that one is: there is no proof, or a side was written since.
    #[default]
    Unknown,
    /// The copy.
    Copy,
    /// The source.
    Source,
    /// Both.
    Both,
}

impl fmt::Display for DamagedSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "",
            Self::Copy => "; the copy is damaged: its bytes changed and its version did not",
            Self::Source => {
                "; the source is damaged: its bytes changed and its version did not, and the copy has those of before"
            }
            Self::Both => "; both are damaged: their bytes changed and their versions did not",
        })
    }
}

/// What a sync proof tells of two sides with other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Judgement {
    /// Which of them is damaged.
    pub(super) damage: DamagedSide,
    /// Whether the next run compares the two again, by their bytes.
    pub(super) is_compared_again: bool,
}

impl Witness {
    /// Which of two sides is damaged, and notes it for the next run. Without a proof that can be read, nothing is known.
    pub(super) async fn judge(
        &self,
        item: &ContentId,
        source: (&Checksum, &Version),
        destination: (&Checksum, &Version),
    ) -> Judgement {
        let proof = match self.proofs.get(&self.pair, item).await {
            Ok(Some(proof)) => proof,
            Ok(None) => return Judgement { is_compared_again: true, ..Judgement::default() },
            Err(error) => {
                warn!(%item, "what was proven of an item could not be read: {}", error_chain(&error));
                return Judgement::default();
            }
        };
        let is_other = |proven: Option<Checksum>, found: &Checksum| {
            proven.is_some_and(|proven| proven.algorithm == found.algorithm && proven != *found)
        };
        let is_destination = is_other(proof.checksum_of_destination(destination.1), destination.0);
        let is_known = proof.damaged_source().is_some_and(|known| known == *source.0);
        let is_source = is_known || is_other(proof.checksum_of_source(source.1), source.0);
        let changed = !proof.holds(source.1, destination.1);
        let (damage, is_compared_again) = match (is_source, is_destination) {
            (false, false) => (DamagedSide::Unknown, changed),
            (false, true) => (DamagedSide::Copy, self.forget(item).await || changed),
            (true, is_both) => {
                self.remember(item, &proof, source.0).await;
                (if is_both { DamagedSide::Both } else { DamagedSide::Source }, false)
            }
        };
        Judgement { damage, is_compared_again }
    }

    /// Whether the next run compares two sides again whose bytes are equal and whose properties are not.
    pub(super) async fn is_compared_again(&self, item: &ContentId, source: &Version, destination: &Version) -> bool {
        self.proofs.get(&self.pair, item).await.is_ok_and(|proof| proof.is_none_or(|it| !it.holds(source, destination)))
    }

    /// Removes the proof of an item whose copy is damaged, so that the next run compares both sides again. Returns whether it did.
    async fn forget(&self, item: &ContentId) -> bool {
        let removed = self.proofs.remove(&self.pair, item).await;
        if let Err(error) = &removed {
            warn!(%item, "the proof of a damaged copy could not be removed, so no run repairs it: {}", error_chain(error));
        }
        removed.is_ok()
    }

    /// Remembers the bytes of a damaged source, so that no run copies them, whatever version they get.
    async fn remember(&self, item: &ContentId, proof: &SyncProof, found: &Checksum) {
        let Some(damaged) = proof.with_damaged_source(found) else { return };
        if let Err(error) = self.proofs.put(&self.pair, item, &damaged).await {
            warn!(
                %item,
                "that its source is damaged could not be written down, so a run copies it once it is touched: {}",
                error_chain(&error)
            );
        }
    }
}
