//! What is done with a space.

use mill_ports::{Presence, StoreErrorKind};
use mill_records::owners::OwnerError;
use tracing::info;

use super::sides::{Sides, of_book};
use super::stop::Stop;

impl Sides<'_> {
    /// Brings the destination space itself in step; its items have their own tasks.
    pub(super) async fn space(&self, retire: bool) -> Result<(), Stop> {
        let space = &self.pair.space;
        match self.room.tries.of(|| self.source.space(space)).await? {
            Presence::Here(_) => self.create_space().await,
            Presence::Absent if !retire => {
                self.left_in_place(space, "its source space is not there, and nobody confirmed that it goes");
                Ok(())
            }
            Presence::Absent if !self.policy.remove_vanished => {
                self.left_in_place(space, "the policy keeps what vanished");
                Ok(())
            }
            Presence::Absent => self.retire().await,
        }
    }

    /// Removes the space if nothing is in it. Its items were deleted one by one, each on its own proof, or are there.
    async fn retire(&self) -> Result<(), Stop> {
        let space = &self.pair.space;
        self.claim().await?;
        self.attempt.may_act()?;
        match self.room.tries.of(|| self.destination.remove_empty_space(space)).await {
            Ok(()) => {}
            Err(error) if error.kind == StoreErrorKind::Precondition => {
                self.left_in_place(space, "something is in it");
                return Ok(());
            }
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
}
