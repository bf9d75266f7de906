//! Signals: the first asks to stop gently, the second stops at once.

use anyhow::Result;
use mill_app::stop_tokens::StopTokens;
use mill_hooks::crash_point;

use tokio::signal::unix::{SignalKind, signal};

use crate::crash_points;

/// Listens to SIGINT, SIGTERM and SIGHUP for as long as the returned guard's runtime lives.
pub(crate) fn on_signals() -> Result<StopTokens> {
    let stopping = StopTokens::default();
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
            crash_point(crash_points::CLI_STOPPING);
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
