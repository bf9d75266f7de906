//! A producer that stays: session after session, as cron would have them, and no longer pauses than the work wants.
//!
//! Between two sessions it holds nothing, not even the lease, and asks nothing. So any number may stay: one works, and the
//! others look now and then whether it still does.

use std::pin::pin;
use std::time::Duration;

use futures::future::select;
use mill_model::Timestamp;
use mill_ports::{TableErrorKind, error_chain};
use mill_records::producer_state::StateError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::duplication::DuplicationProducer;
use crate::report::{Ended, ProducerError, SessionReport};

/// How a producer stays.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// The shortest between two sessions: where another is at work, or a loop is due again at once.
    pub least: Duration,
    /// The longest: what is begun beside it, or failed, is taken up after this.
    pub most: Duration,
}

impl DuplicationProducer {
    /// Works session after session until it is told to stop, and tells what came of each.
    ///
    /// # Errors
    /// As [`Self::session`], but only those that do not pass by themselves.
    pub async fn stay(
        &self,
        pauses: Pauses,
        stop: &CancellationToken,
        tell: &mut (dyn FnMut(&SessionReport) + Send),
    ) -> Result<(), ProducerError> {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let pause = match self.session(stop).await {
                Ok(report) => {
                    failures = 0;
                    tell(&report);
                    self.pause_after(&report.ended, pauses)
                }
                Err(error) if may_pass(&error) => {
                    failures += 1;
                    let pause = (pauses.least * 2_u32.pow(failures.min(10) - 1)).min(pauses.most);
                    warn!(
                        error = error_chain(&error),
                        ?pause,
                        "the session failed; the next one goes on after a pause"
                    );
                    pause
                }
                Err(error) => return Err(error),
            };
            // The first is asked first.
            select(pin!(stop.cancelled()), pin!(self.deps.clock.sleep(pause))).await;
        }
        Ok(())
    }

    fn pause_after(&self, ended: &Ended, Pauses { least, most }: Pauses) -> Duration {
        let until = |due: Timestamp| due.since(self.deps.clock.now());
        match ended {
            Ended::Finished { next_run } | Ended::NotDue { next_run } => until(*next_run).clamp(least, most),
            Ended::QueueFull | Ended::HeldByAnother { .. } => least,
            Ended::Stopped => Duration::ZERO,
        }
    }
}

/// Whether the same may succeed later with nothing done about it.
fn may_pass(error: &ProducerError) -> bool {
    match error {
        ProducerError::Queue(error) => error.kind.is_retryable(),
        ProducerError::State(StateError::Table(error)) => match error.kind {
            TableErrorKind::Throttled | TableErrorKind::Unavailable | TableErrorKind::Unexpected => true,
            TableErrorKind::Conflict | TableErrorKind::TooLarge | TableErrorKind::Denied => false,
        },
        // Files are written anew, and another's lease ends.
        ProducerError::Accounts(_)
        | ProducerError::DeleteLists(_)
        | ProducerError::State(StateError::TakenOver { .. })
        | ProducerError::HeldByAnother { .. } => true,
        ProducerError::Wire(_) => false,
    }
}
