//! Repositories over tables and stores: what a row means, and the rules for writing it.
//!
//! Reading order: [`policies`] (today's policies, and the last good ones), [`sync_proofs`] (pairs of versions proven in
//! sync), [`owners`] (the source of each destination space), [`destinations`] (owners across all installations of a
//! host), [`places`] (what was at the root of each destination), [`delete_lists`] (what may be deleted), [`elapsed`]
//! (time that two clocks agree on), [`lease`] and [`producer_state`] (how far a producer has come), [`account_counts`]
//! and [`queue_shares`] (queue depth by account, for queues that do not report it), [`dead_letters`] (dead-lettered
//! tasks), [`permits`] (how many tasks use a store across the fleet), [`installation`] (which installation the tables
//! belong to), [`run_log`] (what the last runs came to), [`tables`] (the list of all tables).
//!
//! **Invariant:** a repository enforces the rules of its rows and makes no other decision. A table that cannot be read
//! is an error, never an empty one.

pub mod account_counts;
pub mod audit_intents;
pub mod audit_log;
pub mod audit_sender;
pub mod audited_store;
pub mod content_index;
mod crash_points;
pub mod dead_letters;
pub mod delete_lists;
pub mod destinations;
pub mod elapsed;
pub mod installation;
pub mod lease;
pub mod owners;
mod pair_key;
pub mod permits;
pub mod places;
pub mod policies;
pub mod producer_state;
pub mod queue_shares;
pub mod run_log;
mod stored_rows;
pub mod sync_proofs;
pub mod tables;
#[cfg(test)]
mod test_table;
mod versioned;

pub use crash_points::CRASH_POINTS;
pub use versioned::Versioned;
