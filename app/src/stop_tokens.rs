//! Two ways to stop: gently, and at once.

use mill_workman::StopSignal;
use tokio_util::sync::CancellationToken;

/// The command was stopped before it had anything to report.
#[derive(Debug, thiserror::Error)]
#[error("it was stopped before it began{0}; run it again")]
pub struct StoppedError(pub(crate) String);

/// The two ways to be stopped.
#[derive(Debug, Clone, Default)]
pub struct StopTokens {
    /// Take nothing new; finish what is in flight.
    pub gentle: CancellationToken,
    /// Release what is in flight.
    pub at_once: CancellationToken,
}

impl StopTokens {
    /// The same for a workman or a run.
    pub fn signal(&self) -> StopSignal {
        StopSignal { gentle: self.gentle.clone(), immediate: self.at_once.clone() }
    }

    /// Stops at once when the state is found damaged. Call it when the state is open.
    pub fn when_damaged(&self) {
        let stopping = self.clone();
        tokio::spawn(async move {
            crate::local_state::until_damaged().await;
            tracing::error!("the state is damaged; stopping at once");
            stopping.gentle.cancel();
            stopping.at_once.cancel();
        });
    }
}
