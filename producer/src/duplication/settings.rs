//! The dependencies and the settings of the duplication producer.

use mill_records::delete_lists::{DeleteLists, DeleteThresholds};
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

/// What it means that a source store reports a space as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsentSource {
    /// Unknown: the source of a one-off mirror may not be mounted. The space fails.
    Unknown,
    /// The space is missing. After 24 h it counts as gone once a person confirms it.
    Retire,
}
