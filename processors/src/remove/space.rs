//! Removes the space itself, once all items of its granted list are settled.

use std::time::Duration;

use mill_ports::{Backoff, Presence, StoreErrorKind, TaskOutcome};
use mill_records::delete_lists::{DeleteListState, DeletionScope, RowResult};
use mill_records::owners::DestinationSpace;
use tracing::{info, warn};

use super::{Removal, list_exit};
use crate::early_exit::EarlyExit;

/// How often the removal of a space waits for its items to be deleted: about a quarter of an hour in all, in which a queue full
/// of deletes is worked off.
const WAITS_MAX: u32 = 20;
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

impl Removal<'_> {
    /// Removes the space if it is empty.
    pub(super) async fn remove_space(self) -> Result<(), EarlyExit> {
        let (lists, space) = (&self.shared.deps.delete_lists, &self.pair.space);
        if self.head.record.of != DeletionScope::Space {
            return Err(EarlyExit::discard("its delete list is of items, not of the space"));
        }
        let results = lists.results(self.pair, self.remove.list).await.map_err(list_exit)?;
        if results.len() < self.head.record.rows as usize {
            // Once this wait is over, the next run sends the rows that have no result once more.
            return self.snooze_a_while("items of it are still to be deleted");
        }
        if self.source_space().await? != Presence::Absent {
            return Err(EarlyExit::discard("its source space is back"));
        }
        if self.shared.deps.dry_run {
            return Ok(());
        }
        match self.shared.retry.run_effect(self.attempt, || self.destination.remove_empty_space(space)).await {
            Ok(()) => {
                info!(account = %self.pair.account, destination = %self.pair.destination, %space, "removed the empty space");
                self.release_owner().await?;
            }
            // No row deleted the items that are still in it. This list ends here; the next survey makes a new one of the rest.
            Err(EarlyExit::Store(error)) if error.kind == StoreErrorKind::Precondition => {
                self.snooze_a_while("it is not empty")?;
            }
            Err(stop) => return Err(stop),
        }
        self.finish(&results).await
    }

    async fn release_owner(&self) -> Result<(), EarlyExit> {
        self.shared.deps.owners.release(&DestinationSpace::of(self.pair)).await?;
        Ok(())
    }

    /// Marks the list as done.
    async fn finish(self, results: &[(u32, RowResult)]) -> Result<(), EarlyExit> {
        let mut head = self.head;
        if let DeleteListState::Granted { by, .. } = head.record.state.clone() {
            let deleted = results.iter().map(|(_, result)| result.deleted).sum();
            head.record.state = DeleteListState::Done { by, deleted };
            let lists = &self.shared.deps.delete_lists;
            lists.save_head(self.pair, self.remove.list, &mut head).await.map_err(list_exit)?;
        }
        Ok(())
    }

    /// Snoozes the task, but not for ever.
    fn snooze_a_while(&self, why: &'static str) -> Result<(), EarlyExit> {
        let waits = self.attempt.envelope.snoozes;
        if waits >= WAITS_MAX {
            warn!(account = %self.pair.account, destination = %self.pair.destination, space = %self.pair.space, why,
                "the space stays after all this while; the next run finds it again");
            return Ok(());
        }
        let delay = BACKOFF.pause(waits + 1);
        Err(EarlyExit::TaskOutcome(TaskOutcome::Snooze { delay, task: None }))
    }
}
