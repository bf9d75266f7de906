//! What every user interface of Mill uses: an installation opened from its configuration, the stores of its policies,
//! and the operations on them. User interfaces parse, call and print; nothing here reads arguments, prints or exits.

pub mod audit_log;
mod audit_parts;
#[cfg(feature = "aws")]
mod aws;
mod closing_events;
pub mod config;
pub mod counted;
mod crash_points;
pub mod dead_letters;
pub mod destination_places;
pub mod engine_choice;
pub mod event_line;
pub mod files;
pub mod held_deletes;
mod host;
pub mod installation;
pub mod item_report;
pub mod local_state;
pub mod mirror;
mod new_space_command;
#[cfg(feature = "aws")]
mod notifications;
mod open_faults;
pub mod placement_checks;
pub mod policy_files;
mod redact;
pub mod restore;
pub mod result_code;
pub mod run_conclusion;
pub mod run_events;
pub mod run_record;
pub mod run_summary;
mod s3_location;
mod secrets;
pub mod space_owners;
mod state_marker;
pub mod status_report;
pub mod stop_tokens;
mod store_choice;
pub mod store_registry;
pub mod subject_names;
#[cfg(feature = "aws")]
mod table_recognition;
pub mod verify;
pub mod wait_limit;
pub mod watch;
pub mod worker_processes;
pub mod workers;
pub mod write_log;

pub use crash_points::CRASH_POINTS;

/// A request that is well formed but makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
