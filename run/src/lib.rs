//! A run that ends by itself: it produces and works at once until every copy is in sync, and then reports the result.
//!
//! Reading order: [`until_done`] (the run and its report), `completion` (when it is over, or stuck), [`silence`]
//! (distinguishes a store that does not answer from long work), [`progress`] (the progress of a run), [`in_sync`]
//! (whether all is in sync, and the evidence).
//!
//! **Invariant:** a run ends. If a store does not answer, work waits, or Mill's own state cannot be written, it gives
//! up after a time, and remaining tasks stay queued. It takes time from a [`Clock`](mill_ports::Clock) and has its
//! workers behind a port, so the simulation of the fleet runs this very code.

// Every `select!` of this crate is `biased`, so that simulation replays. (The lint cannot be allowed for less than a crate.)
#![allow(clippy::disallowed_macros)]

mod completion;
pub mod in_sync;
pub mod progress;
pub mod silence;
pub mod until_done;

pub use in_sync::InSync;
pub use progress::RunProgress;
pub use until_done::{Remedy, RunReport, RunUntilDone, RunWorkers, StateWatch};

#[cfg(test)]
mod tests {
    #[test]
    fn every_select_is_biased() {
        let mut seen = 0;
        let mut paths = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                paths.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for after in text.split("tokio::select! {").skip(1).filter(|after| !after.starts_with('"')) {
                assert!(after.trim_start().starts_with("biased;"), "{after}");
                seen += 1;
            }
        }
        assert!(seen >= 2, "the selects must be found at all");
    }
}
