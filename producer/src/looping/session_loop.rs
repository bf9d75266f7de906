//! A producer that stays: it runs one session after another, like cron, with pauses as short as the work needs.
//!
//! Between two sessions it holds nothing, not even the lease, and sends no request. So any number of producers may stay: one
//! works, and the others check now and then whether it still does.

use std::pin::pin;
use std::time::Duration;

use futures::future::select;
use mill_model::Timestamp;
use mill_ports::{Backoff, Clock, error_chain};
use mill_records::producer_state::ProducerStateError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::report::{LoopingReport, ProducerError, SessionEnd};

/// The pauses between two sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionPauses {
    /// The shortest pause: after a full queue, while another producer works, or when a run is due again at once.
    pub least: Duration,
    /// The longest pause: after it, failures are tried again and runs that others began are noticed.
    pub most: Duration,
}

/// Runs session after session until `stop` is cancelled, and passes each report to `on_report`.
///
/// # Errors
/// Those of `run_session` that do not pass by themselves.
pub(crate) async fn run_until_stopped<F>(
    run_session: impl AsyncFn() -> Result<LoopingReport<F>, ProducerError>,
    (clock, pauses): (&dyn Clock, SessionPauses),
    stop: &CancellationToken,
    on_report: &mut (dyn FnMut(&LoopingReport<F>) + Send),
) -> Result<(), ProducerError> {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let pause = match run_session().await {
            Ok(report) => {
                failures = 0;
                on_report(&report);
                pause_after(&report.ended, clock.now(), pauses)
            }
            Err(error) if may_pass(&error) => {
                failures += 1;
                let pause = Backoff::new(pauses.least, pauses.most).pause(failures);
                warn!(error = error_chain(&error), ?pause, "the session failed; the next one goes on after a pause");
                pause
            }
            Err(error) => return Err(error),
        };
        // `select` polls the first future first.
        select(pin!(stop.cancelled()), pin!(clock.sleep(pause))).await;
    }
    Ok(())
}

fn pause_after(ended: &SessionEnd, now: Timestamp, SessionPauses { least, most }: SessionPauses) -> Duration {
    match ended {
        SessionEnd::Finished { next_run } | SessionEnd::NotDue { next_run } => next_run.since(now).clamp(least, most),
        SessionEnd::QueueFull | SessionEnd::HeldByAnother { .. } => least,
        SessionEnd::Stopped => Duration::ZERO,
    }
}

/// Whether the same call may succeed later without anybody acting.
fn may_pass(error: &ProducerError) -> bool {
    match error {
        ProducerError::Queue(error) => error.kind.is_retryable(),
        ProducerError::State(ProducerStateError::Table(error)) => error.kind.is_retryable(),
        // Policy files may be fixed, and another producer's lease ends.
        ProducerError::Accounts(_)
        | ProducerError::DeleteLists(_)
        | ProducerError::State(ProducerStateError::TakenOver { .. })
        | ProducerError::HeldByAnother { .. } => true,
        ProducerError::Wire(_) => false,
    }
}
