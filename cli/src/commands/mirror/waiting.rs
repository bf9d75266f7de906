//! Waiting for a server that does not answer before the first listing, as a run waits for it later.

use std::time::{Duration, Instant};

use anyhow::Result;
use mill_ports::{StoreError, StoreErrorKind, chain};
use tokio_util::sync::CancellationToken;

use crate::stop::StoppedEarly;

const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a store is waited for, and what ends that early.
pub(super) struct Patience<'p> {
    pub(super) give_up_after: Duration,
    pub(super) stop: &'p CancellationToken,
}

impl Patience<'_> {
    /// What a store answers, once it does.
    ///
    /// # Errors
    /// What the store says of all else, at once; or that it does not answer, when the time is up.
    pub(super) async fn wait_for<T>(&self, asked: impl AsyncFn() -> Result<T, StoreError>) -> Result<T> {
        let (began, mut pause) = (Instant::now(), PAUSE);
        loop {
            let error = match asked().await {
                Err(error) if error.kind == StoreErrorKind::Unreachable => error,
                answered => return Ok(answered?),
            };
            if began.elapsed() >= self.give_up_after {
                return Err(error.into());
            }
            tracing::warn!("waits for store `{}`: {}", error.store, chain(&error));
            tokio::select! {
                () = self.stop.cancelled() => {
                    return Err(StoppedEarly(format!(", while it waited: {}", chain(&error))).into());
                }
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
