//! What is done with a space.

use std::time::Duration;

use mill_ports::{Outcome, Presence, StoreErrorKind};
use mill_records::owners::OwnerError;
use tracing::{info, warn};

use super::sides::{Sides, of_book};
use super::stop::Stop;

/// How often the removal of a space waits for its items to be deleted: about a quarter of an hour in all, in which a
/// queue full of deletes is worked off.
const WAITS_MAX: u32 = 20;
/// The longest of these waits; the first is a second, and each the double of the one before.
const WAIT_MAX: Duration = Duration::from_mins(1);

impl Sides<'_> {
    /// Brings the destination space itself in step; its items have their own tasks.
    pub(super) async fn space(&self, retire: bool) -> Result<(), Stop> {
        let space = &self.pair.space;
        match self.source_space().await? {
            Presence::Here(_) => self.create_space().await,
            Presence::Absent if !retire => {
                self.left_in_place(space, "its source space is not there, and nobody confirmed that it goes");
                Ok(())
            }
            Presence::Absent if !self.policy.remove_vanished => {
                self.left_in_place(space, "the policy keeps what vanished");
                Ok(())
            }
            Presence::Absent => self.retire_space().await,
        }
    }

    /// Removes the space if nothing is in it. Its items are deleted one by one, each by its own task.
    async fn retire_space(&self) -> Result<(), Stop> {
        let space = &self.pair.space;
        self.belongs_to_source().await?;
        self.attempt.may_act()?;
        match self.room.tries.of(|| self.destination.remove_empty_space(space)).await {
            Ok(()) => {}
            Err(error) if error.kind == StoreErrorKind::Precondition => return self.something_is_in_it(),
            Err(error) => return Err(error.into()),
        }
        self.room.claims.forget(self.pair);
        info!(account = %self.pair.account, destination = %self.pair.destination, %space, "removed the empty space");
        match self.room.deps.owners.release(&self.place()).await {
            Ok(_) => Ok(()),
            Err(OwnerError::Table(error)) => Err(of_book(error)),
            Err(other) => Err(Stop::Refused { reason: other.to_string() }),
        }
    }

    /// Its items' own tasks may still be on their way; they are waited for, but not for ever.
    fn something_is_in_it(&self) -> Result<(), Stop> {
        let waits = self.attempt.envelope.snoozes;
        if waits >= WAITS_MAX {
            warn!(account = %self.pair.account, destination = %self.pair.destination, space = %self.pair.space,
                "the space is not empty after all this while and stays; the next run finds it again");
            return Ok(());
        }
        let delay = WAIT_MAX.min(Duration::from_secs(1) * 2_u32.saturating_pow(waits));
        Err(Stop::Outcome(Outcome::Snooze { delay, task: None }))
    }
}
