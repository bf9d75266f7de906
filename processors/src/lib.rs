//! What is done with tasks, a folder or file for each kind: [`duplicate`] and [`remove`]; and what a person asks for of
//! whole copies, without any task: [`verify`] and [`restore`].
//!
//! The promise: a task is a reason to look, never an order. Its processor looks at both sides and at today's policy,
//! and does what they ask for; so any task may run any number of times, in any order, and the end state is the same.
//! And a copy is judged by its bytes, read again: what differs from the other side or from its seal is named, and
//! nothing that cannot be vouched for is brought back unasked.
//!
//! Reading order: [`duplicate`] (the kind: factory, processor, decision table), [`remove`] (the one kind that deletes),
//! `today` (the policy of a task), `stop` (why a look ended), `fate` (what a store's failure means
//! for a task), `tries` (the few tries of one call), `seldom` (warnings that could come with every item), `slow_items`
//! (items at which a store always asks to slow down), [`refusals`]
//! (what cannot be copied, by name); then [`verify`] (both sides of a space, read byte by byte) and [`restore`] (a
//! space back from one of its copies, judged by the seals).
//!
//! **Invariant:** no queue and no receipt appears here; what is read from (a task's source, both sides of a
//! verification, the copy that is restored) is only ever held as a `SourceStore`, which has no method that writes; no
//! error is read as absence; every effect of a task is preceded by `Attempt::may_act`.

pub mod duplicate;
mod fate;
pub mod listing;
pub mod refusals;
pub mod remove;
pub mod restore;
mod seldom;
mod slow_items;
mod stop;
#[cfg(test)]
mod test_site;
mod today;
mod tries;
pub mod verify;

pub use duplicate::{Deps, DuplicateFactory};
pub use refusals::{Refusals, Refused};
pub use remove::RemoveFactory;
