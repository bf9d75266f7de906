//! Repositories over tables and stores: what a row means, and the rules by which it is written.
//!
//! Reading order: [`policies`] (today's policies, and the last good ones), [`sync_proofs`] (pairs of versions proven in sync), [`owners`]
//! (whose a destination space is), [`destinations`] (over all installations of a host), [`places`] (where destinations
//! were), [`delete_lists`] (what may be deleted) over [`elapsed`] (time that two clocks agree on), [`lease`] and
//! [`producer_state`] (where a producer stands), [`account_counts`] and [`queue_shares`] (how many tasks of each account a
//! queue holds that cannot tell), [`dead_letters`] (dead-lettered tasks), [`permits`] (how many tasks use a store over the fleet),
//! [`installation`] (whose tables they are), [`tables`] (the list of all).
//!
//! **Invariant:** a repository keeps rules and decides nothing. A table that cannot be read is an error, never an empty one.

pub mod account_counts;
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
pub mod sync_proofs;
pub mod tables;
#[cfg(test)]
mod test_table;
mod versioned;

pub use versioned::Versioned;
