//! How the loop ends: begun tasks are finished or given back, and dispositions are completed.

use std::time::Duration;

use mill_model::Monotonic;
use tracing::{debug, warn};

use super::shared_permits::release_permits;
use super::{RunLoop, finished, note, sleep_or_wait};
use crate::in_flight::CancelCause;
use crate::settings::StopSignal;

impl RunLoop {
    /// How long everything in flight has to be given back after an immediate stop.
    const FORCED_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
    /// How long a stop waits for a receive under way. One that has found nothing by then would only go on waiting.
    const LAST_RECEIVE: Duration = Duration::from_secs(1);

    /// Finishes the begun tasks, or gives them back.
    pub(super) async fn wind_down(mut self, stop: &StopSignal) {
        let shared = self.shared.clone();
        let began = shared.clock.monotonic();
        let grace = began.plus(shared.settings.grace);
        let mut forced_end: Option<Monotonic> = None;
        let last_receive = began.plus(Self::LAST_RECEIVE);
        self.give_back_waiting();
        loop {
            let now = shared.clock.monotonic();
            if last_receive <= now {
                (self.receiving, self.listening) = (None, None);
            }
            let is_receiving = self.receiving.is_some() || self.listening.is_some();
            if self.attempts.is_empty() && self.lookups.is_empty() && !is_receiving {
                break;
            }
            if forced_end.is_none() && (stop.immediate.is_cancelled() || grace <= now) {
                debug!("what is in hand is given back");
                shared.in_flight.cancel_all(CancelCause::Stopping);
                forced_end = Some(now.plus(Self::FORCED_SHUTDOWN_TIMEOUT));
            }
            if forced_end.is_some_and(|until| until <= now) {
                warn!(attempts = self.attempts.len(), "attempts do not let go; their tasks will come again");
                break;
            }
            let tick = self.tick_if_due(now);
            self.keep_permits();
            let wake_at = forced_end.unwrap_or(grace);
            let wake_at = if is_receiving { wake_at.min(last_receive) } else { wake_at };
            tokio::select! {
                biased;
                () = stop.immediate.cancelled(), if forced_end.is_none() => {}
                Some(joined) = self.attempts.join_next() => note(joined),
                Some(lookup) = self.lookups.join_next() => self.give_back_looked_up(lookup),
                Some(result) = self.permit_calls.join_next() => self.take_permit_result(result),
                () = sleep_or_wait(shared.clock.as_ref(), tick) => {}
                (request, result) = finished(&mut self.receiving) => self.give_back(&request, result),
                (request, result) = finished(&mut self.listening) => self.give_back(&request, result),
                () = shared.clock.sleep(wake_at.since(now)) => {}
            }
        }
        self.finish(stop).await;
    }

    /// Waits for the completer, which ends when nobody is left to decide anything.
    async fn finish(mut self, stop: &StopSignal) {
        drop(self.attempts);
        drop(self.lookups);
        drop(self.settled);
        drop(self.permit_calls);
        let given_back = release_permits(self.shared.permits.clone(), self.keeper.take());
        let (mut account_counter, counted) = self.account_counter;
        let settled = async {
            let (joined, ()) = futures::join!(self.completer.join_next(), given_back);
            counted.cancel();
            [joined, account_counter.join_next().await]
        };
        let hurried = async {
            stop.immediate.cancelled().await;
            self.shared.clock.sleep(Self::FORCED_SHUTDOWN_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            joined = settled => joined.into_iter().flatten().for_each(note),
            () = hurried => warn!("the queues do not answer; some tasks will come again"),
        }
    }
}
