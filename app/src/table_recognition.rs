//! Checks that the tables of an engine are those that this host knows, and that none is missing.

use std::time::Duration;

use anyhow::{Result, anyhow};
use mill_ports::{Backoff, Engine};
use mill_records::installation::{InstallationError, InstallationTables};

use crate::config::Config;
use crate::state_marker::StateMarker;

/// How often a service that fails is asked again, over some seconds. Processes that work try longer.
const RECOGNISE_TRIES: u32 = 4;
const RECOGNISE_TRIES_TO_WORK: u32 = 5;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(10));

/// Checks that the tables of an engine are the remembered ones of the state `at`. A process that `works` also writes
/// the installation's id into new tables.
///
/// # Errors
/// They belong to another installation, one of them was emptied or is gone, or they do not answer.
pub(crate) async fn recognise_tables(engine: &dyn Engine, at: &str, config: &Config, works: bool) -> Result<()> {
    let marker = StateMarker::of(config)?;
    let installation = InstallationTables::open(|name| engine.table(name));
    let (clock, rng) = (engine.clock(), engine.rng());
    let tries_max = if works { RECOGNISE_TRIES_TO_WORK } else { RECOGNISE_TRIES };
    let mut tries = 0;
    let recognised = loop {
        match installation.recognise(marker.remembered(at), works.then_some(&*rng)).await {
            Err(InstallationError::Table(error)) if tries < tries_max && error.kind.is_retryable() => {
                tries += 1;
                clock.sleep(BACKOFF.pause(tries)).await;
            }
            other => break other,
        }
    };
    let recognised = recognised.map_err(|error| {
        let advice = match &error {
            InstallationError::Table(_) => "; `mill infra check` names what is not as it should be".to_owned(),
            _ => format!(
                "; bring them back (point-in-time recovery), or, to begin anew with the copies as they are, remove all of \
                 them and `{}`, and make them again",
                marker.path().display()
            ),
        };
        anyhow!("{}{advice}", mill_ports::error_chain(&error)).context("the tables of mill cannot be used")
    })?;
    if let Some(id) = recognised {
        // If it cannot be written, a warning says so, and the ids in the tables remain.
        let _ = marker.remember(at, &id, |_| false);
    }
    Ok(())
}
