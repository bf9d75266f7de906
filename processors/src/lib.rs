//! Does the work of tasks, with a module for each kind: [`duplicate`] and [`remove`]. Also works on whole copies for a person,
//! without a task: [`verify`] and [`restore`].
//!
//! The promise: a task is a reason to look, never an order. Its processor looks at both sides and at the current policy, and does
//! what they require. So any task may run any number of times, in any order, with the same end state. And a copy is verified by
//! its bytes, read again: an item that differs from the other side or from its seal is named, and bytes that no seal proves
//! replace nothing unasked.
//!
//! Reading order: [`duplicate`] (the kind: handler, decision table), [`remove`] (the one kind that deletes),
//! `current_policy` (the policy of a task), `early_exit` (why a task ends before its end), `failure` (what a store's failure
//! means for a task), `retry` (the few tries of one call), `rate_limited_log` (warnings that could come with every item),
//! `slow_items` (items at which a store always asks to slow down), [`refusals`] (what cannot be copied, by name); then
//! [`verify`] (both sides of a space, read byte by byte) and [`restore`] (a space back from one of its copies, judged by the
//! seals).
//!
//! **Invariant:** no queue and no receipt appears here. Stores that are only read (a task's source, both sides of a verification,
//! the copy that is restored) are held as a `SourceStore`, which has no method that writes. No error is read as absence. Every
//! effect of a task is preceded by `Attempt::may_act`.

mod current_policy;
pub mod duplicate;
mod early_exit;
mod failure;
#[cfg(test)]
mod fixture;
pub mod listing;
mod rate_limited_log;
pub mod refusals;
pub mod remove;
pub mod restore;
mod retry;
mod slow_items;
pub mod verify;

pub use duplicate::{DuplicateDeps, DuplicateHandler};
pub use refusals::{Refusal, Refusals};
pub use remove::RemoveHandler;
