//! What every face of Mill uses: an installation opened from its configuration, the stores that its policies name, and the
//! operations on them. Faces parse, call and show; nothing here reads arguments, prints or exits.

#[cfg_attr(not(feature = "aws"), path = "no_aws.rs")]
pub mod aws;
pub mod conclude;
pub mod config;
pub mod dead_letters;
pub mod destination_places;
pub mod engine;
pub mod exit;
pub mod files;
pub mod held_deletes;
mod host;
pub mod installation;
pub mod local_state;
pub mod mirror;
pub mod names;
pub mod patience;
pub mod placement_checks;
pub mod policy_buckets;
pub mod policy_roots;
mod redact;
pub mod run_until_done;
pub mod snapshot;
mod state_marker;
pub mod stop;
pub mod store_registry;
pub mod summary;
pub mod worker_processes;

/// A request that is well formed and makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
