//! How the loop ends: what was begun is finished or given back, and what was decided is settled.

use std::time::Duration;

use mill_model::Monotonic;
use tracing::{debug, warn};

use super::shared_permits::give_permits_back;
use super::{RunLoop, answered, note, rested};
use crate::in_flight::CancelCause;
use crate::settings::StopSignal;

impl RunLoop {
    /// After an immediate stop, everything has so long to be given back.
    const LET_GO: Duration = Duration::from_secs(5);
    /// A receive under way when the workman stops is waited for so long: one that has found nothing by then would
    /// only go on listening.
    const LAST_RECEIVE: Duration = Duration::from_secs(1);

    /// Finishes what was begun, or gives it back.
    pub(super) async fn wind_down(mut self, stop: &StopSignal) {
        let shared = self.shared.clone();
        let began = shared.clock.monotonic();
        let grace = began.plus(shared.settings.grace);
        let mut let_go: Option<Monotonic> = None;
        let last_receive = began.plus(Self::LAST_RECEIVE);
        self.give_back_those_waiting();
        loop {
            let now = shared.clock.monotonic();
            if last_receive <= now {
                (self.asking, self.listening) = (None, None);
            }
            let is_receiving = self.asking.is_some() || self.listening.is_some();
            if self.attempts.is_empty() && self.asked.is_empty() && !is_receiving {
                break;
            }
            if let_go.is_none() && (stop.immediate.is_cancelled() || grace <= now) {
                debug!("what is in hand is given back");
                shared.in_flight.cancel_all(CancelCause::Stopping);
                let_go = Some(now.plus(Self::LET_GO));
            }
            if let_go.is_some_and(|until| until <= now) {
                warn!(attempts = self.attempts.len(), "attempts do not let go; their tasks will come again");
                break;
            }
            let tick = self.tick_if_due(now);
            self.keep_permits();
            let patience = let_go.unwrap_or(grace);
            let patience = if is_receiving { patience.min(last_receive) } else { patience };
            tokio::select! {
                biased;
                () = stop.immediate.cancelled(), if let_go.is_none() => {}
                Some(joined) = self.attempts.join_next() => note(joined),
                Some(news) = self.asked.join_next() => self.give_back_arrived(news),
                Some(answer) = self.permit_calls.join_next() => self.take_permits(answer),
                () = rested(shared.clock.as_ref(), tick) => {}
                (ask, received) = answered(&mut self.asking) => self.give_back(&ask, received),
                (ask, received) = answered(&mut self.listening) => self.give_back(&ask, received),
                () = shared.clock.sleep(patience.since(now)) => {}
            }
        }
        self.finish(stop).await;
    }

    /// Waits for the settler, which ends when nobody is left to decide anything.
    async fn finish(mut self, stop: &StopSignal) {
        drop(self.attempts);
        drop(self.asked);
        drop(self.decided);
        drop(self.permit_calls);
        let given_back = give_permits_back(self.shared.permits.clone(), self.keeper.take());
        let (mut counting, counted) = self.counting;
        let settled = async {
            let (joined, ()) = futures::join!(self.settler.join_next(), given_back);
            counted.cancel();
            [joined, counting.join_next().await]
        };
        let hurried = async {
            stop.immediate.cancelled().await;
            self.shared.clock.sleep(Self::LET_GO).await;
        };
        tokio::select! {
            biased;
            joined = settled => joined.into_iter().flatten().for_each(note),
            () = hurried => warn!("the queues do not answer; some tasks will come again"),
        }
    }
}
