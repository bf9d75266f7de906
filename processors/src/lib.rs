//! Does the work of tasks, with a module for each kind: [`duplicate`], [`remove`],
//! [`audit`] and [`publish_log`]. Also works on whole copies for a person,
//! without a task: [`verify`] and [`restore`].
//!
//! The promise: a task is a reason to look, never an order. Its processor looks at both sides and at the current
//! policy, and does what they require. So any task may run any number of times, in any order, with the same end state.
//! And a copy is verified by its bytes, read again: an item that differs from the other side or from its sync proof is
//! named, and unproven bytes replace nothing without a person's request.
//!
//! Reading order: [`registry`] (all kinds), [`duplicate`] (the kind: handler, decision table), [`remove`] (the one kind
//! that deletes), [`audit`] (records what happened), [`publish_log`] (publishes the audit log), `current_policy` (the
//! policy of a task), `early_exit` (why a task ends before its end), `failure` (what a store's failure means for a
//! task), `retry` (the few tries of one call), `item_lookup` (an item at either side), `slow_items` (items at which a
//! store always asks to slow down), [`refusals`] (what cannot be copied, by name); then [`verify`] (both sides of a
//! space, read byte by byte) and [`restore`] (a space from one of its copies, verified by the sync proofs). Shared by
//! both: `digest_item` (the checksums of bytes), `verified_body` (bytes verified while they pass) and `each_item` (a
//! few items at once).
//!
//! **Invariant:** no queue and no receipt appears here. Stores that are only read (a task's source, both sides of a
//! verification, the copy that is restored) are held as a `SourceStore`, which has no method that writes. No error is
//! read as absence. Every effect of a task is preceded by `Attempt::may_act`.

pub mod audit;
mod crash_points;
mod current_policy;
mod digest_item;
pub mod duplicate;
mod each_item;
mod early_exit;
mod failure;
#[cfg(test)]
mod fixture;
mod item_lookup;
pub mod publish_log;
pub mod refusals;
pub mod remove;
pub mod restore;
mod retry;
mod slow_items;
mod verified_body;
pub mod verify;

use std::sync::Arc;
use std::time::Duration;

use mill_ports::{Clock, Registry, Rng, Statistics, Stores};
use mill_records::delete_lists::DeleteLists;
use mill_records::owners::Owners;
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;

pub use audit::{AuditDeps, NewSpaceListener};
pub use crash_points::CRASH_POINTS;
pub use refusals::{ANOTHER_SOURCE, Refusal, Refusals, RefusedDeed};

use self::audit::AuditHandler;
use self::duplicate::DuplicateHandler;
use self::publish_log::PublishLogHandler;
use self::remove::RemoveHandler;

/// What the processors of all kinds work with.
#[derive(Debug, Clone)]
pub struct ProcessorDeps {
    /// Today's policies.
    pub policies: Arc<PolicyRepository>,
    /// All accounts' stores.
    pub stores: Arc<dyn Stores>,
    /// The items that may be deleted, and who granted that.
    pub delete_lists: DeleteLists,
    /// Pairs of versions proven in sync.
    pub sync_proofs: SyncProofs,
    /// Which source a destination space belongs to.
    pub owners: Owners,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub chance: Arc<dyn Rng>,
    /// Counts bytes, deletes and transfers under way. The outcome of an item is noted in the attempt, and counted by the workman.
    pub statistics: Arc<Statistics>,
    /// Records the names of items that cannot be copied.
    pub refusals: Arc<Refusals>,
    /// Whether tasks end just before they would write or delete, and note what that would be. Their stores cannot write then.
    pub dry_run: bool,
    /// Whether another place is where the source was: the bytes of its copies stay as they are then.
    pub another_source: bool,
    /// An item is refused by name once its store has throttled it for so long while it served others.
    pub give_up_after: Duration,
    /// What records changes; `None` where tasks about them are not run.
    pub audit: Option<AuditDeps>,
}

/// All kinds of task that Mill knows, each with what does its tasks.
pub fn registry(deps: &ProcessorDeps) -> Registry {
    let registry =
        Registry::default().register(DuplicateHandler::new(deps.clone())).register(RemoveHandler::new(deps.clone()));
    let Some(audit) = &deps.audit else { return registry };
    registry
        .register(AuditHandler::new(deps.clone(), audit.clone()))
        .register(PublishLogHandler::new(deps.clone(), audit.clone()))
}
