//! Waiting for what a person named and does not answer: a path on a mount that hangs, a server before the first listing.
//!
//! A call on a mount that hangs never returns, and no signal ends it. So each look at a path is made on a thread of its own,
//! and who waits for it is free to hear a signal, to say for what it waits, and to give up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mill_ports::{StoreError, StoreErrorKind, error_chain};
use mill_run::silence::{one_answer_max, time};
use tokio_util::sync::CancellationToken;

use crate::stop_tokens::StoppedError;

const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A look that takes longer is said to be waited for.
const SAID_AFTER: Duration = Duration::from_secs(10);

/// How long something is waited for, and what ends that early.
#[derive(Debug, Clone)]
pub struct WaitLimit {
    /// How long.
    pub give_up_after: Duration,
    /// What ends the waiting.
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
    /// That of a command that has no time limit of its own, and that a signal ends at once.
    pub fn endless() -> Self {
        Self::until(CancellationToken::new())
    }

    /// That of a command that waits until it is stopped.
    pub fn until(stop: CancellationToken) -> Self {
        Self { give_up_after: Duration::MAX, stop }
    }

    /// The same without a time limit: for work that may take long.
    #[must_use]
    pub fn unlimited(&self) -> Self {
        Self::until(self.stop.clone())
    }

    /// What a look at a path tells, made on a thread of its own. Messages name the path as it is given here. Once begun, the
    /// look runs to its end, also when nobody waits for it any more.
    ///
    /// # Errors
    /// What the look says; [`NoAnswerError`] when the time is up, which is ten seconds at least; [`StoppedError`].
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

    /// What a store answers, once it does.
    ///
    /// # Errors
    /// What the store says of all else, at once; or that it does not answer, when the time is up.
    pub async fn wait_for<T>(&self, asked: impl AsyncFn() -> Result<T, StoreError>) -> Result<T> {
        let (began, mut pause) = (Instant::now(), PAUSE);
        loop {
            let error = match asked().await {
                Err(error) if error.kind == StoreErrorKind::Unreachable => error,
                answered => return Ok(answered?),
            };
            if began.elapsed() >= self.give_up_after {
                return Err(error.into());
            }
            tracing::warn!("waits for store `{}`: {}", error.store, error_chain(&error));
            tokio::select! {
                () = self.stop.cancelled() => {
                    return Err(StoppedError(format!(", while it waited: {}", error_chain(&error))).into());
                }
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
