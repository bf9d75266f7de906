//! Caps that workmen share: calls the repository of permits, and notes what it grants.

use mill_ports::{RngExt as _, error_chain};
use mill_records::permits::PermitRepository;
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, error, warn};

use super::RunLoop;
use crate::permits::{PermitKeeper, PermitResult};

impl RunLoop {
    /// Makes the calls that are due to the repository of permits.
    pub(super) fn keep_permits(&mut self) {
        let (Some(keeper), Some(repository)) = (&mut self.keeper, &self.shared.permits) else { return };
        for store in keeper.note_expired() {
            warn!(%store, "permits could not be kept; the tasks that use them begin anew");
            self.shared.in_flight.cancel_users_of(&store);
            self.admission.note_permits(&store, 0);
        }
        let now = self.shared.clock.monotonic();
        for need in self.admission.permit_needs() {
            if let Some(call) = keeper.next_call(&need, now) {
                self.admission.note_permits(&need.store, keeper.held(&need.store));
                self.permit_calls.spawn(call.run(repository.clone()));
            }
        }
    }

    /// Notes the result of a call.
    pub(super) fn take_permit_result(&mut self, result: Result<PermitResult, JoinError>) {
        let Some(keeper) = &mut self.keeper else { return };
        let result = match result {
            Ok(result) => result,
            Err(error) => return error!(%error, "a question for permits broke down"),
        };
        let (store, now) = (result.store.clone(), self.shared.clock.monotonic());
        let jitter = self.shared.chance.jitter(std::time::Duration::from_secs(1));
        match keeper.note_result(result, jitter, now) {
            Ok(lost) => {
                if lost {
                    warn!(%store, "another workman has taken permits over; the tasks that use them begin anew");
                    self.shared.in_flight.cancel_users_of(&store);
                }
                self.admission.note_permits(&store, keeper.held(&store));
            }
            Err(error) => {
                if let Some(suppressed) = self.shared.warnings.due("permits", now) {
                    let error = error_chain(&error);
                    warn!(%store, error, suppressed, "the table of permits does not answer; tasks of capped stores wait");
                }
            }
        }
    }
}

/// Releases all permits, so that other workmen need not wait until they run out.
pub(super) async fn release_permits(repository: Option<PermitRepository>, keeper: Option<PermitKeeper>) {
    let (Some(repository), Some(mut keeper)) = (repository, keeper) else { return };
    let mut calls = JoinSet::new();
    for call in keeper.release_all() {
        calls.spawn(call.run(repository.clone()));
    }
    while let Some(result) = calls.join_next().await {
        if let Ok(PermitResult { store, granted: Err(error), .. }) = result {
            debug!(%store, error = error_chain(&error), "permits were not given back; they run out");
        }
    }
}
