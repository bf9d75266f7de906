//! Caps that workmen share: their book is asked, and what it answers holds.

use mill_ports::{RngExt as _, error_chain};
use mill_records::permits::PermitRepository;
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, error, warn};

use super::RunLoop;
use crate::permits::{PermitKeeper, PermitResult};

impl RunLoop {
    /// Asks the book of permits what is to be asked now.
    pub(super) fn keep_permits(&mut self) {
        let (Some(keeper), Some(book)) = (&mut self.keeper, &self.shared.permits) else { return };
        for store in keeper.lose() {
            warn!(%store, "permits could not be kept; the tasks that use them begin anew");
            self.shared.in_flight.cancel_those_at(&store);
            self.admission.note_permits(&store, 0);
        }
        let now = self.shared.clock.monotonic();
        for need in self.admission.needs() {
            if let Some(question) = keeper.question(&need, now) {
                self.admission.note_permits(&need.store, keeper.held(&need.store));
                self.permit_calls.spawn(question.ask(book.clone()));
            }
        }
    }

    /// Takes in what the book answered.
    pub(super) fn take_permits(&mut self, answer: Result<PermitResult, JoinError>) {
        let Some(keeper) = &mut self.keeper else { return };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return error!(%error, "a question for permits broke down"),
        };
        let (store, now) = (answer.store.clone(), self.shared.clock.monotonic());
        let jitter = self.shared.chance.jitter(std::time::Duration::from_secs(1));
        match keeper.answer(answer, jitter, now) {
            Ok(lost) => {
                if lost {
                    warn!(%store, "another workman has taken permits over; the tasks that use them begin anew");
                    self.shared.in_flight.cancel_those_at(&store);
                }
                self.admission.note_permits(&store, keeper.held(&store));
            }
            Err(error) => {
                if let Some(suppressed) = self.shared.warnings.due("permits", now) {
                    let error = error_chain(&error);
                    warn!(%store, error, suppressed, "the book of permits does not answer; tasks of capped stores wait");
                }
            }
        }
    }
}

/// Gives back all permits, so that others need not wait until they run out.
pub(super) async fn give_permits_back(book: Option<PermitRepository>, keeper: Option<PermitKeeper>) {
    let (Some(book), Some(mut keeper)) = (book, keeper) else { return };
    let mut calls = JoinSet::new();
    for question in keeper.give_back() {
        calls.spawn(question.ask(book.clone()));
    }
    while let Some(answer) = calls.join_next().await {
        if let Ok(PermitResult { store, granted: Err(error), .. }) = answer {
            debug!(%store, error = error_chain(&error), "permits were not given back; they run out");
        }
    }
}
