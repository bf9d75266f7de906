//! The binary as a person uses it: real folders, real processes, and checkers that share no code with Mill.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod audit;
mod audit_verified;
mod audit_world;
#[path = "../../src/crash_points.rs"]
mod crash_points;
mod crashes;
mod deployment;
mod disks;
mod dry_run;
#[cfg(feature = "aws")]
mod fleet;
mod folding;
mod hangs;
mod hostile;
mod installed;
mod kills;
mod leftovers;
mod mirror;
mod mistakes;
mod moving;
mod one_space;
mod output;
mod places;
mod policies;
mod reach;
mod reality;
mod reports;
mod state;
mod status;
mod sums;
mod trouble;
mod verified;
mod watch;
mod world;
