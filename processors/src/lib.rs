//! What is done with tasks, a folder or file for each kind. So far one: [`duplicate`].
//!
//! The promise: a task is a reason to look, never an order. Its processor looks at both sides and at today's policy,
//! and does what they ask for; so any task may run any number of times, in any order, and the end state is the same.
//!
//! Reading order: [`duplicate`] (the kind: factory, processor, decision table), `fate` (what a store's failure means
//! for a task), `tries` (the few tries of one call), [`refusals`] (what cannot be copied, by name).
//!
//! **Invariant:** no queue and no receipt appears here; the source is only ever held as a `SourceStore`, which has no
//! method that writes; no error is read as absence; every effect is preceded by `Attempt::may_act`.

pub mod duplicate;
mod fate;
pub mod refusals;
pub mod restore;
mod seldom;
mod tries;
pub mod verify;

pub use duplicate::{Deps, DuplicateFactory};
pub use refusals::{Refusals, Refused};
