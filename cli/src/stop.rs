//! Signals: the first asks to stop gently, the second stops at once.

use anyhow::Result;
use mill_ports::{CrashPoint, crash_point};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// It was stopped before it had anything to sum up.
#[derive(Debug, thiserror::Error)]
#[error("it was stopped before it began{0}; run it again")]
pub(crate) struct StoppedEarly(pub(crate) String);

/// The two ways to be stopped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping {
    /// Take nothing new; finish what is in hand.
    pub(crate) gentle: CancellationToken,
    /// Give back what is in hand.
    pub(crate) at_once: CancellationToken,
}

impl Stopping {
    /// Stops at once when the state is found damaged. To be called when it is open.
    pub(crate) fn when_damaged(&self) {
        let stopping = self.clone();
        tokio::spawn(async move {
            crate::local_state::until_damaged().await;
            tracing::error!("the state is damaged; stopping at once");
            stopping.gentle.cancel();
            stopping.at_once.cancel();
        });
    }
}

/// Listens to SIGINT, SIGTERM and SIGHUP for as long as the returned guard's runtime lives.
pub(crate) fn on_signals() -> Result<Stopping> {
    let stopping = Stopping::default();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let heard = stopping.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            crash_point(CrashPoint::CliStopping);
            if heard.gentle.is_cancelled() {
                tracing::warn!("stopping at once");
                heard.at_once.cancel();
            } else {
                tracing::warn!("stopping when the items in hand are done; signal again to stop at once");
                heard.gentle.cancel();
            }
        }
    });
    Ok(stopping)
}
