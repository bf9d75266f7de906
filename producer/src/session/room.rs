//! Room in the queue: whether a step may begin, and how many tasks the queue may hold.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use mill_model::AccountId;
use mill_records::producer_state::{Kept, QueueSize};
use tracing::info;

use super::Session;
use crate::drain::Drain;
use crate::report::{Ended, ProducerError};
use crate::settings::{QueueSizing, WhenFull};
use crate::turn::Turn;

/// Whether a step may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    Full,
    /// Not yet, and another account's run is due meanwhile.
    Due,
    Stopped,
}

impl Session<'_> {
    /// Whether the next step of an account may begin: asked before each.
    pub(crate) async fn room(&mut self, account: &AccountId) -> Result<Room, ProducerError> {
        let mut pause = Duration::ZERO;
        loop {
            if self.stop.is_cancelled() {
                return Ok(Room::Stopped);
            }
            let depth = self.sending.depth().await?;
            self.note_depth(depth, false);
            let max = self.queue_max();
            if depth < max || self.may_add_to_a_full_queue(account).await? {
                return Ok(Room::Yes);
            }
            let now = self.deps.clock.monotonic();
            let due = self.next_look.map(|look| look.since(now));
            if due.is_some_and(|due| due.is_zero()) {
                return Ok(Room::Due);
            }
            match self.settings.when_full {
                WhenFull::Leave => {
                    info!(depth, max, "the queue is too full to nibble");
                    return Ok(Room::Full);
                }
                WhenFull::Wait { poll, poll_most } => {
                    pause = (pause * 2).clamp(poll, poll_most.max(poll));
                    let pause = due.map_or(pause, |due| pause.min(due));
                    if self.unless_stopped(self.deps.clock.sleep(pause)).await.is_none() {
                        return Ok(Room::Stopped);
                    }
                }
            }
        }
    }

    /// How a turn ends for which there is no room.
    pub(crate) fn without_room(&self, room: Room) -> Turn {
        match room {
            Room::Yes | Room::Due => Turn::Later(self.deps.clock.monotonic()),
            Room::Full => Turn::Full,
            Room::Stopped => Turn::Stopped,
        }
    }

    /// How many tasks the queue may hold.
    pub(super) fn queue_max(&self) -> u64 {
        match self.settings.queue_sizing {
            QueueSizing::Fixed => self.settings.queue_max,
            QueueSizing::Lasting(_) => self.drain().max(),
        }
    }

    /// Sizes the queue anew, where that is to be found out, now that it holds so many tasks; `full` where no account may have
    /// more in it.
    pub(super) fn note_depth(&self, depth: u64, full: bool) {
        if let QueueSizing::Lasting(lasting) = self.settings.queue_sizing {
            self.drain().looked(self.deps.clock.monotonic(), (depth, full), lasting);
        }
    }

    pub(crate) fn drain(&self) -> MutexGuard<'_, Drain> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sizes the queue by what earlier sessions found, and by what it has lost since the last one left it full.
    pub(super) async fn size_queue(&self, known: Option<Kept<QueueSize>>) -> Result<Kept<QueueSize>, ProducerError> {
        let fresh = || Kept::fresh(QueueSize { max: self.settings.queue_max, full: None });
        let size = known.unwrap_or_else(fresh);
        if self.settings.queue_sizing == QueueSizing::Fixed {
            return Ok(size);
        }
        let mut drain = Drain::new(size.row.max, 2 * self.settings.nibble.get() as u64);
        if let Some((left, held)) = size.row.full {
            let away = self.deps.clock.now().since(left);
            // The next session may come a little later than this one did.
            let lasting = away + away / 2;
            drain.measured(away, (held, 0, self.sending.depth().await?), lasting);
        }
        *self.drain() = drain;
        Ok(size)
    }

    /// Remembers for the next session how many tasks the queue may hold, and how many it holds if it is full.
    pub(super) async fn remember_size(&self, mut size: Kept<QueueSize>) -> Result<(), ProducerError> {
        if self.settings.queue_sizing == QueueSizing::Fixed {
            return Ok(());
        }
        let full = match self.report.ended {
            Ended::QueueFull => Some((self.deps.clock.now(), self.sending.depth().await?)),
            _ => None,
        };
        let before = std::mem::replace(&mut size.row, QueueSize { max: self.drain().max(), full });
        if size.row != before || size.is_fresh() {
            self.state.save(&mut size).await?;
        }
        Ok(())
    }
}
