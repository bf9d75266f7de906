//! The dependencies and the settings of the duplication producer.

use mill_records::delete_lists::DeleteLists;
use mill_records::owners::Owners;
use mill_records::sync_proofs::SyncProofs;

use crate::looping::settings::{LoopingDeps, LoopingSettings};

/// The ports and tables of a duplication producer. Its queue is `duplication-low`.
#[derive(Debug, Clone)]
pub struct ProducerDeps {
    /// Those of every looping producer.
    pub looping: LoopingDeps,
    /// The items that were proven in sync before.
    pub sync_proofs: SyncProofs,
    /// The delete lists: what may be deleted, and who granted it.
    pub delete_lists: DeleteLists,
    /// The owners of destination spaces.
    pub owners: Owners,
}

/// The settings of a duplication producer.
#[derive(Debug, Clone)]
pub struct ProducerSettings {
    /// Those of every looping producer.
    pub looping: LoopingSettings,
    /// How many deletes a person need not be asked about.
    pub thresholds: DeleteThresholds,
    /// What an absent source space means.
    pub absent_source: AbsentSource,
}

/// How many deletes of a pair the rule grants within 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteThresholds {
    /// More deletes than this are held, whatever their share.
    pub unasked_max: u64,
    /// So few deletes are not held, unless they are half of the space, or all of it.
    pub few: u64,
    /// A larger share of the destination's items than this, in per cent, is held, if it is more than `few` items.
    pub share_percent: u64,
    /// Half of a space is held, however few that is, if it has so many items: of fewer, one item may be half.
    pub half_from: u64,
}

impl Default for DeleteThresholds {
    fn default() -> Self {
        Self { unasked_max: 1_000, few: 20, share_percent: 1, half_from: 4 }
    }
}

/// What it means that a source store reports a space as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsentSource {
    /// Unknown: the source of a one-off mirror may not be mounted. The space fails.
    Unknown,
    /// The space is missing. After 24 h it counts as gone once a person confirms it.
    Retire,
}
