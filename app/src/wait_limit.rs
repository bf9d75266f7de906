//! Waiting for something that a person named and that does not answer: a path on a hanging mount, a server before the
//! first listing.
//!
//! A call on a hanging mount never returns, and no signal ends it. So each operation on a path runs on its own thread.
//! The caller can still react to a signal, report what it waits for, and give up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mill_ports::{Backoff, StoreError, StoreErrorKind, error_chain};
use mill_run::silence::{one_answer_max, time};
use tokio_util::sync::CancellationToken;

use crate::stop_tokens::StoppedError;

const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// A message reports an operation that takes longer.
const SAID_AFTER: Duration = Duration::from_secs(10);

/// How long to wait for something, and what ends the wait early.
#[derive(Debug, Clone)]
pub struct WaitLimit {
    /// How long.
    pub give_up_after: Duration,
    /// Ends the wait when cancelled.
    pub stop: CancellationToken,
}

/// A path whose file system does not answer.
#[derive(Debug, thiserror::Error)]
#[error("nothing went on for {}: `{}` does not answer; `--give-up-after` allows longer", time(*.waited), .path.display())]
pub struct NoAnswerError {
    waited: Duration,
    path: PathBuf,
}

impl WaitLimit {
    /// For a command without a time limit, which a signal ends at once.
    pub fn endless() -> Self {
        Self::until(CancellationToken::new())
    }

    /// For a command that waits until it is stopped.
    pub fn until(stop: CancellationToken) -> Self {
        Self { give_up_after: Duration::MAX, stop }
    }

    /// The same without a time limit, for work that may take long.
    #[must_use]
    pub fn unlimited(&self) -> Self {
        Self::until(self.stop.clone())
    }

    /// Runs an operation on a path on its own thread, and returns its result. Messages name the path as it is given
    /// here. The operation runs to its end even if nobody waits for it any more.
    ///
    /// # Errors
    /// The operation's error; [`NoAnswerError`] after the time limit, which is at least ten seconds; [`StoppedError`].
    pub async fn look<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let most = one_answer_max(self.give_up_after);
        let began = Instant::now();
        let looking = tokio::task::spawn_blocking(look);
        let in_vain = async {
            tokio::time::sleep(most.min(SAID_AFTER)).await;
            let more = most.saturating_sub(SAID_AFTER);
            if !more.is_zero() {
                tracing::warn!("waits for `{}`, which takes long to answer", path.display());
                tokio::time::sleep(more).await;
            }
        };
        tokio::select! {
            biased;
            looked = looking => looked.context("a look at a path broke off")?,
            () = self.stop.cancelled() => {
                Err(StoppedError(format!(", while it waited for `{}`", path.display())).into())
            }
            () = in_vain => Err(NoAnswerError { waited: began.elapsed(), path: path.to_owned() }.into()),
        }
    }

    /// Waits for a store's answer.
    ///
    /// # Errors
    /// Any other error of the store, at once; or, after the time limit, that it does not answer.
    pub async fn wait_for<T>(&self, asked: impl AsyncFn() -> Result<T, StoreError>) -> Result<T> {
        let (began, mut failures) = (Instant::now(), 0);
        loop {
            let error = match asked().await {
                Err(error) if error.kind == StoreErrorKind::Unreachable => error,
                answered => return Ok(answered?),
            };
            if began.elapsed() >= self.give_up_after {
                return Err(error.into());
            }
            failures += 1;
            tracing::warn!("waits for store `{}`: {}", error.store, error_chain(&error));
            tokio::select! {
                () = self.stop.cancelled() => {
                    return Err(StoppedError(format!(", while it waited: {}", error_chain(&error))).into());
                }
                () = tokio::time::sleep(BACKOFF.pause(failures)) => {}
            }
        }
    }
}
