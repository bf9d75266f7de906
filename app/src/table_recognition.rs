//! Whether the tables of an engine are those that this host knows, and whole as a set.

use std::time::Duration;

use anyhow::{Result, anyhow};
use mill_ports::{Engine, TableErrorKind};
use mill_records::installation::{InstallationError, InstallationTables};

use crate::config::Config;
use crate::state_marker::StateMarker;

/// A service that cannot be asked now is asked again so often, over some seconds: longer by who has come to work.
const RECOGNISE_TRIES: u32 = 4;
const RECOGNISE_TRIES_TO_WORK: u32 = 5;

fn may_pass(kind: TableErrorKind) -> bool {
    matches!(kind, TableErrorKind::Throttled | TableErrorKind::Unavailable | TableErrorKind::Unexpected)
}

/// Looks whether the tables of an engine are those that are remembered of the state `at`. A process that `works` also marks
/// tables that are new.
///
/// # Errors
/// They are another installation's, one of them was emptied or is gone, or they do not answer.
pub(crate) async fn recognise_tables(engine: &dyn Engine, at: &str, config: &Config, works: bool) -> Result<()> {
    let marker = StateMarker::of(config)?;
    let installation = InstallationTables::open(|name| engine.table(name));
    let (clock, rng) = (engine.clock(), engine.rng());
    let tries_max = if works { RECOGNISE_TRIES_TO_WORK } else { RECOGNISE_TRIES };
    let mut tries = 0;
    let recognised = loop {
        match installation.recognise(marker.remembered(at), works.then_some(&*rng)).await {
            Err(InstallationError::Table(error)) if tries < tries_max && may_pass(error.kind) => {
                tries += 1;
                clock.sleep(Duration::from_millis(200) * 2_u32.pow(tries)).await;
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
        // Where it cannot be written that is said, and the tables' own marks remain.
        let _ = marker.remember(at, &id, |_| false);
    }
    Ok(())
}
