//! What a run did, as one set of sums.

use std::ops::AddAssign;

/// Sums over a run or a part of one; those of several parts add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Items looked at, at either side.
    pub examined: u64,
    /// Items that were missing at the destination and now are there.
    pub copied: u64,
    /// Items that were there and now have the source's bytes or properties.
    pub updated: u64,
    /// Items removed from a destination.
    pub deleted: u64,
    /// Items found in step.
    pub unchanged: u64,
    /// Items that cannot be copied, each named in the log with its reason.
    pub refused: u64,
    /// Items that were gone at the source when their turn came, after they had been listed there.
    pub vanished: u64,
    /// Deletions held back until a person confirms them.
    pub held: u64,
    /// Executions that failed (a task may fail and succeed later).
    pub failed: u64,
    /// Tasks given up and put among the dead letters.
    pub dead_lettered: u64,
    /// Content bytes written to destinations.
    pub bytes: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.examined += other.examined;
        self.copied += other.copied;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.unchanged += other.unchanged;
        self.refused += other.refused;
        self.vanished += other.vanished;
        self.held += other.held;
        self.failed += other.failed;
        self.dead_lettered += other.dead_lettered;
        self.bytes += other.bytes;
    }
}

impl Totals {
    /// Whether anything at a destination was changed.
    pub fn changed(&self) -> bool {
        self.copied + self.updated + self.deleted > 0
    }
}
