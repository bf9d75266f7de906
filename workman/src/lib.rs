//! Runs tasks: receives deliveries from the queues by priority, has each executed, and decides what becomes of it.
//!
//! Reading order: [`settings`] (what a workman is given and how it ends), `poller` (which queue is asked next),
//! `stages` (a delivery's way: received, decoded, settled), `admission` (which tasks may begin), `permits` (how much of a
//! store's cap is this workman's), `attempt` (one execution), `disposition` (what becomes of the delivery),
//! `completer` (sends, then acknowledges), `in_flight` and [`heartbeat`] (keep leases), `store_backoff` (stores that cannot
//! be used now), `run` (the loop, and stopping), [`drain`] (records dead letters).
//!
//! ```text
//! receive ─► ReceivedTask ─► DecodedTask ─► (bench) ─► (attempt) ─► SettledTask ─► sends, then acknowledge
//!                 │               │            └─ requeued ─────────────┤
//!                 └─ not an envelope: dead letter ──────────────────────┘   a crash anywhere: the queue delivers it again
//! ```
//!
//! **Invariant:** a workman sends first and acknowledges then, so that a crash may repeat a task and never loses one. It does
//! not know what a task means. [`Workman::run`] owns everything that runs: when its future is dropped, nothing runs on.

// Every `select!` of this crate is `biased`, so that simulation replays; a test reads them all. (The lint cannot be allowed
// for less than a crate.)
#![allow(clippy::disallowed_macros)]

pub mod drain;
pub mod heartbeat;
pub mod settings;

mod account_counter;
mod admission;
mod attempt;
mod completer;
mod crash_points;
mod disposition;
mod in_flight;
mod permits;
mod poller;
mod run;
mod stages;
mod store_backoff;
mod warnings;

pub use admission::AWAY_MAX;
pub use crash_points::CRASH_POINTS;
pub use drain::{DeadLetterDrain, DrainError, DrainSettings};
pub use heartbeat::Heartbeat;
pub use run::Workman;
pub use settings::{
    OnFinalFailure, OnUnavailable, Queues, StopSignal, WorkmanDeps, WorkmanEndReason, WorkmanError, WorkmanSettings,
};

#[cfg(test)]
mod tests {
    #[test]
    fn every_select_is_biased() {
        let mut seen = 0;
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
            let path = entry.unwrap().path();
            let Some(text) = path.is_file().then(|| std::fs::read_to_string(&path).unwrap()) else { continue };
            for after in text.split("tokio::select! {").skip(1).filter(|after| !after.starts_with('"')) {
                assert!(after.trim_start().starts_with("biased;"), "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen >= 5, "the selects must be found at all");
    }
}
