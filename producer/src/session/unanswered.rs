//! Accounts of which a store did not say what spaces it has: asked again within the session, as spaces that fail are.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::{AccountId, Monotonic, StoreAddress, StoreId};
use mill_ports::{CrashPoint, StoreError, StoreWait, crash_point, error_chain};
use mill_records::producer_state::{AccountRow, Kept};
use mill_records::sync_proofs::SpacePair;
use tracing::warn;

use super::Session;
use super::rounds::Failing;
use crate::report::ProducerError;
use crate::stores::Silence;

/// The accounts that are looked through again, by when.
pub(crate) type LaterAccounts = BTreeMap<(Monotonic, AccountId), Unanswered>;

/// An account of which more is to be known.
pub(crate) struct Unanswered {
    pub(crate) row: Kept<AccountRow>,
    /// The pairs that were found of it in this session. Some may be done by now.
    pub(crate) found: BTreeSet<SpacePair>,
    failing: Failing,
    /// Whether it was looked through in this session before.
    again: bool,
    /// The stores that were said to be waited for.
    awaited: Vec<StoreAddress>,
    /// The stores that were said to have failed.
    failed: BTreeSet<StoreId>,
}

impl Unanswered {
    /// The stores that are asked again; `None` where all are asked, for the first time in this session.
    pub(crate) fn asked_again(&self) -> Option<&[StoreId]> {
        self.again.then_some(&self.row.row.unanswered)
    }
}

impl Session<'_> {
    /// What is known of an account so far, where it is not looked through for the first time.
    pub(crate) fn first_look(&self, row: Kept<AccountRow>) -> Unanswered {
        let failing = Failing::since(self.deps.clock.monotonic());
        Unanswered { row, found: BTreeSet::new(), failing, again: false, awaited: Vec::new(), failed: BTreeSet::new() }
    }

    /// Notes which stores of an account did not tell their spaces: those that failed, and those that are still asked. Where
    /// it may pass in time they are asked again, else the spaces are not known in this session.
    pub(crate) async fn ask_later(
        &mut self,
        mut account: Unanswered,
        errors: BTreeMap<StoreId, StoreError>,
        asked: BTreeSet<StoreId>,
    ) -> Result<(), ProducerError> {
        let name = account.row.row.account.clone();
        account.again = true;
        let unanswered: Vec<StoreId> = errors.keys().chain(&asked).cloned().collect();
        let before = std::mem::replace(&mut account.row.row.unanswered, unanswered);
        let mut answered = std::mem::take(&mut account.awaited);
        answered.retain(|store| errors.values().all(|error| error.store != *store));
        self.deps.statistics.used_stores(&answered);
        self.forget_failed_stores(&name, &account.row.row.unanswered).await?;
        if errors.is_empty() && asked.is_empty() {
            self.state.remove(&account.row).await?;
            return self.account_listed(&name, false).await;
        }
        if before != account.row.row.unanswered {
            self.state.save_over_earlier(&mut account.row).await?;
        }
        if errors.is_empty() {
            self.account_listed(&name, true).await?;
            self.looked_through_later(account);
            return Ok(());
        }
        let now = self.deps.clock.monotonic();
        let is_tried_again = |error: &StoreError| error.kind.may_pass() && !Silence::is_why(error);
        let may_pass = errors.values().any(is_tried_again);
        let pause = if may_pass { self.patience(&mut account.failing, now) } else { None };
        for (store, error) in &errors {
            if pause.is_some() && is_tried_again(error) {
                account.awaited.push(error.store.clone());
                self.deps
                    .statistics
                    .note_store_wait(&error.store, StoreWait { reason: error_chain(error), may_pass: true });
                warn!(account = %name, error = error_chain(error), "the store is asked again which spaces it has");
            } else if account.failed.insert(store.clone()) {
                self.store_failed(&name, store, error);
            }
        }
        self.account_listed(&name, pause.is_some() || !asked.is_empty()).await?;
        if let Some(pause) = pause {
            self.later_accounts.insert((now.plus(pause), name), account);
        } else if !asked.is_empty() {
            self.looked_through_later(account);
        }
        Ok(())
    }

    /// Notes that an account's morsels are in the book, as far as its stores answered.
    async fn account_listed(&mut self, account: &AccountId, asks_later: bool) -> Result<(), ProducerError> {
        let Some(run) = self.runs.get_mut(account) else { return Ok(()) };
        run.asks_later = asks_later;
        if !run.row.row.listed {
            run.row.row.listed = true;
            self.state.save(&mut run.row).await?;
            crash_point(CrashPoint::ProducerAccountListed);
        }
        Ok(())
    }

    /// Looks those accounts through again whose time has come.
    pub(crate) async fn look_again(&mut self, now: Monotonic) -> Result<(), ProducerError> {
        while let Some(due) = self.later_accounts.first_entry().filter(|first| first.key().0 <= now) {
            let known = due.remove();
            let account = known.row.row.account.clone();
            self.look_through(known).await?;
            self.finish_if_done(&account).await?;
        }
        Ok(())
    }
}
