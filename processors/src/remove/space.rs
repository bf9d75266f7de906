//! The space itself, once all items of a granted list of it are settled.

use std::time::Duration;

use mill_model::StoreAddress;
use mill_ports::{Presence, StoreErrorKind, TaskOutcome};
use mill_records::delete_lists::{DeletionScope, ListState, RowResult};
use mill_records::owners::DestinationSpace;
use mill_records::sync_proofs::SpacePair;
use tracing::{info, warn};

use super::{Removal, of_lists, of_owners};
use crate::early_exit::EarlyExit;

/// How often the removal of a space waits for its items to be deleted: about a quarter of an hour in all, in which a
/// queue full of deletes is worked off.
const WAITS_MAX: u32 = 20;
/// The longest of these waits; the first is a second, and each the double of the one before.
const WAIT_MAX: Duration = Duration::from_mins(1);

impl Removal<'_> {
    /// Removes the space if nothing is in it.
    pub(super) async fn space(self) -> Result<(), EarlyExit> {
        let (lists, space) = (&self.shared.deps.delete_lists, &self.pair.space);
        if self.head.record.of != DeletionScope::Space {
            return Err(EarlyExit::discard("its delete list is of items, not of the space"));
        }
        let results = lists.results(self.pair, self.remove.list).await.map_err(of_lists)?;
        if results.len() < self.head.record.rows as usize {
            // Once this wait is over, the next run sends the rows that have no result once more.
            return self.waits("items of it are still to be deleted");
        }
        if self.source_space().await? != Presence::Absent {
            return Err(EarlyExit::discard("its source space is back"));
        }
        self.attempt.may_act()?;
        match self.shared.tries.of(|| self.destination.remove_empty_space(space)).await {
            Ok(()) => {
                info!(account = %self.pair.account, destination = %self.pair.destination, %space, "removed the empty space");
                self.release_owner().await?;
            }
            // What is still in it, no row let go: the list ends here, and the next survey holds the rest under another.
            Err(error) if error.kind == StoreErrorKind::Precondition => self.waits("it is not empty")?,
            Err(error) => return Err(error.into()),
        }
        self.finish(&results).await
    }

    async fn release_owner(&self) -> Result<(), EarlyExit> {
        let SpacePair { account, destination, space, .. } = self.pair;
        let store = StoreAddress { account: account.clone(), store: destination.clone() };
        let place = DestinationSpace { store, space: space.clone() };
        self.shared.deps.owners.release(&place).await.map(drop).map_err(of_owners)
    }

    /// Notes that the list was carried out.
    async fn finish(self, results: &[(u32, RowResult)]) -> Result<(), EarlyExit> {
        let mut head = self.head;
        if let ListState::Granted { by, .. } = head.record.state.clone() {
            let deleted = results.iter().map(|(_, result)| result.deleted).sum();
            head.record.state = ListState::Done { by, deleted };
            let lists = &self.shared.deps.delete_lists;
            lists.save_head(self.pair, self.remove.list, &mut head).await.map_err(of_lists)?;
        }
        Ok(())
    }

    /// Waits a while, but not for ever.
    fn waits(&self, why: &'static str) -> Result<(), EarlyExit> {
        let waits = self.attempt.envelope.snoozes;
        if waits >= WAITS_MAX {
            warn!(account = %self.pair.account, destination = %self.pair.destination, space = %self.pair.space, why,
                "the space stays after all this while; the next run finds it again");
            return Ok(());
        }
        let delay = WAIT_MAX.min(Duration::from_secs(1) * 2_u32.saturating_pow(waits));
        Err(EarlyExit::TaskOutcome(TaskOutcome::Snooze { delay, task: None }))
    }
}
