//! A workman over queues in memory, under virtual time: its promises, one test each.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::similar_names)]

mod account_counts;
mod admission;
mod blind;
mod counting;
mod crashes;
mod draining;
mod exclusion;
mod fates;
mod fixture;
mod leases;
mod nothing;
mod priorities;
mod probe;
mod requests;
mod sharing;
mod speed;
mod stopping;
