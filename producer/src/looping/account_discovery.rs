//! Accounts with stores that failed to list their spaces. Such stores are asked again within the session, like failed spaces.

use std::collections::{BTreeMap, BTreeSet};

use mill_hooks::crash_point;
use mill_model::{AccountId, Monotonic, StoreAddress, StoreId};
use mill_ports::{StoreError, StoreWait, error_chain};
use mill_records::Versioned;
use mill_records::producer_state::UnansweredStores;
use tracing::warn;

use super::Session;
use super::plan::{MorselSubjectOf, Plan};
use super::report::ProducerError;
use super::rounds::FailureStreak;
use crate::crash_points;
use crate::timed_stores::SilenceError;

/// The accounts to discover again, by due time.
pub(super) type PendingDiscoveries<S> = BTreeMap<(Monotonic, AccountId), AccountDiscovery<S>>;

/// The discovery of an account that is not complete yet.
pub(super) struct AccountDiscovery<S> {
    pub(super) row: Versioned<UnansweredStores>,
    /// What the morsels that this session discovered are about. Some may be done already.
    pub(super) found: BTreeSet<S>,
    streak: FailureStreak,
    /// Whether this session has discovered the account before.
    again: bool,
    /// The stores that the statistics show as waited for.
    awaited: Vec<StoreAddress>,
    /// The stores that were reported as failed.
    failed: BTreeSet<StoreId>,
}

impl<S> AccountDiscovery<S> {
    /// The stores to ask again; `None` if all stores are asked, for the first time in this session.
    pub(super) fn stores_to_ask_again(&self) -> Option<&[StoreId]> {
        self.again.then_some(&self.row.record.unanswered)
    }
}

impl<P: Plan> Session<'_, P> {
    /// Begins the discovery of an account.
    pub(super) fn new_discovery(&self, row: Versioned<UnansweredStores>) -> AccountDiscovery<MorselSubjectOf<P>> {
        let streak = FailureStreak::since(self.deps.clock.monotonic());
        AccountDiscovery {
            row,
            found: BTreeSet::new(),
            streak,
            again: false,
            awaited: Vec::new(),
            failed: BTreeSet::new(),
        }
    }

    /// Notes which stores of an account have not listed their spaces: `errors` failed, `asked` are still being read. Schedules
    /// another attempt if the failures may pass; otherwise reports that the spaces are unknown in this session.
    pub(super) async fn schedule_rediscovery(
        &mut self,
        mut account: AccountDiscovery<MorselSubjectOf<P>>,
        errors: BTreeMap<StoreId, StoreError>,
        asked: BTreeSet<StoreId>,
    ) -> Result<(), ProducerError> {
        let name = account.row.record.account.clone();
        account.again = true;
        let unanswered: Vec<StoreId> = errors.keys().chain(&asked).cloned().collect();
        let before = std::mem::replace(&mut account.row.record.unanswered, unanswered);
        let mut answered = std::mem::take(&mut account.awaited);
        answered.retain(|store| errors.values().all(|error| error.store != *store));
        self.deps.statistics.clear_store_waits(&answered);
        self.forget_failed_stores(&name, &account.row.record.unanswered).await?;
        if errors.is_empty() && asked.is_empty() {
            self.state.remove(&account.row).await?;
            return self.account_listed(&name, false).await;
        }
        if before != account.row.record.unanswered {
            self.state.save_over_earlier(&mut account.row).await?;
        }
        if errors.is_empty() {
            self.account_listed(&name, true).await?;
            self.rediscover_once_read(account);
            return Ok(());
        }
        let now = self.deps.clock.monotonic();
        let is_tried_again = |error: &StoreError| error.kind.may_pass() && !SilenceError::is_why(error);
        let may_pass = errors.values().any(is_tried_again);
        let pause = if may_pass { self.next_retry_pause(&mut account.streak, now) } else { None };
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
            self.rediscover_once_read(account);
        }
        Ok(())
    }

    /// Notes that an account's morsels are saved, as far as its stores answered.
    async fn account_listed(&mut self, account: &AccountId, rediscovers_later: bool) -> Result<(), ProducerError> {
        let Some(run) = self.runs.get_mut(account) else { return Ok(()) };
        run.rediscovers_later = rediscovers_later;
        if !run.row.record.listed {
            run.row.record.listed = true;
            self.state.save(&mut run.row).await?;
            crash_point(crash_points::PRODUCER_ACCOUNT_LISTED);
        }
        Ok(())
    }

    /// Discovers again the accounts whose pause is over.
    pub(super) async fn rediscover_due(&mut self, now: Monotonic) -> Result<(), ProducerError> {
        while let Some(due) = self.later_accounts.first_entry().filter(|first| first.key().0 <= now) {
            let known = due.remove();
            let account = known.row.record.account.clone();
            self.discover_account(known).await?;
            self.finish_if_done(&account).await?;
        }
        Ok(())
    }
}
