//! The accounts of a session: reads which accounts exist, loads the rows of each, and forgets accounts that are no longer
//! listed.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::AccountId;
use mill_ports::error_chain;
use mill_records::Versioned;
use mill_records::producer_state::{AccountRunRows, ProducerRows, ProducerStateError, RunOfAllAccounts};
use tracing::{info, warn};

use super::runs::ActiveRun;
use super::shares::AccountShares;
use super::{Session, SurveyFailures, missing_key};
use crate::report::ProducerError;

/// The loaded rows of the runs in progress, by account.
pub(super) type PartsByAccount = BTreeMap<AccountId, AccountRunRows>;

impl Session<'_> {
    /// Takes the loaded rows into the session. Returns the parts of the listed accounts or, if the list cannot be read, of all.
    pub(super) async fn load_parts(&mut self, loaded: ProducerRows) -> Result<PartsByAccount, ProducerError> {
        let ProducerRows { runs, run_of_all, accounts, morsels, missing, queue_size: _, shares, failures } = loaded;
        self.shares = AccountShares::of(shares);
        self.failures = SurveyFailures::of(failures);
        self.missing.extend(missing.into_iter().map(|kept| (missing_key(&kept.record), kept)));
        self.runs = ActiveRun::of_all(runs);
        let mut parts = PartsByAccount::new();
        for kept in accounts {
            let account = kept.record.account.clone();
            parts.entry(account).or_default().unanswered = Some(kept);
        }
        for kept in morsels {
            let account = kept.record.pair.account.clone();
            parts.entry(account).or_default().morsels.push(kept);
        }
        let is_listed = match self.list_accounts().await {
            Ok(()) => true,
            Err(error) if parts.is_empty() && !self.runs.values().any(ActiveRun::has_work_left) => return Err(error),
            Err(error) => {
                warn!(error = error_chain(&error), "no run begins; those that are going on are resumed");
                false
            }
        };
        if let Some(of_all) = run_of_all {
            self.split_run_of_all(of_all, &parts, is_listed).await?;
        }
        for (account, run) in &self.runs {
            if run.has_work_left() {
                parts.entry(account.clone()).or_default();
            }
        }
        if is_listed {
            let known = self.runs.keys().chain(parts.keys()).chain(self.missing.keys().map(|(account, ..)| account));
            let gone: BTreeSet<AccountId> = known.filter(|account| !self.accounts.contains(account)).cloned().collect();
            for account in gone {
                self.forget_account(&account, parts.remove(&account).unwrap_or_default()).await?;
            }
        }
        Ok(parts)
    }

    /// Reads which accounts exist.
    pub(super) async fn list_accounts(&mut self) -> Result<(), ProducerError> {
        self.accounts = self.deps.policies.account_ids().await.map_err(ProducerError::Accounts)?;
        self.report.accounts = self.accounts.len() as u64;
        Ok(())
    }

    /// Gives each account a run of its own, if the rows come from a version of Mill that had one run for all accounts.
    async fn split_run_of_all(
        &mut self,
        of_all: Versioned<RunOfAllAccounts>,
        parts: &PartsByAccount,
        is_listed: bool,
    ) -> Result<(), ProducerError> {
        let accounts: BTreeSet<AccountId> = self.accounts.iter().chain(parts.keys()).cloned().collect();
        for account in &accounts {
            let run = of_all.record.of(account.clone());
            match self.runs.get_mut(account) {
                Some(own) if own.row.record.started >= run.started => {}
                Some(own) => own.row.record = run,
                None => drop(self.runs.insert(account.clone(), ActiveRun::of(Versioned::unsaved(run)))),
            }
        }
        let rows = self.runs.iter_mut().filter(|(account, _)| accounts.contains(account)).map(|(_, run)| &mut run.row);
        self.state.save_all_over_earlier(rows).await?;
        if is_listed {
            self.state.remove(&of_all).await?;
        }
        Ok(())
    }

    /// Forgets an account that is no longer listed. The row of its run goes last.
    pub(super) async fn forget_account(
        &mut self,
        account: &AccountId,
        parts: AccountRunRows,
    ) -> Result<(), ProducerError> {
        info!(%account, "the account is no longer listed; its run is forgotten");
        self.remove_from_rounds(account);
        self.state.remove_all(parts.unanswered.as_slice()).await?;
        self.state.remove_all(&parts.morsels).await?;
        self.forget_missing(account, None).await?;
        self.forget_failures_of(account).await?;
        self.state.remove_all(&self.state.surveys_of(account).await?).await?;
        match self.runs.remove(account) {
            Some(run) => Ok(self.state.remove(&run.row).await?),
            None => Ok(()),
        }
    }

    /// Removes an account from the rounds: its morsels, their open listings and its background reads. A listing of one run must
    /// not serve the next one.
    pub(super) fn remove_from_rounds(&mut self, account: &AccountId) {
        self.waiting.retain(|(_, _, pair), _| pair.account != *account);
        self.paused_morsels.retain(|(_, (_, _, pair)), _| pair.account != *account);
        self.open_morsels.retain(|pair, _| pair.account != *account);
        self.later_accounts.retain(|(_, later), _| later != account);
        self.background_reads.forget_account(account);
    }

    /// Forgets which source spaces of an account were missing, except for those that run `run` found missing.
    pub(super) async fn forget_missing(
        &mut self,
        account: &AccountId,
        run: Option<u64>,
    ) -> Result<(), ProducerStateError> {
        let of_account = self.missing.iter().filter(|((owner, ..), _)| owner == account);
        let stale = of_account.filter(|(_, kept)| Some(kept.record.run) != run).map(|(key, _)| key.clone());
        for key in stale.collect::<Vec<_>>() {
            if let Some(kept) = self.missing.remove(&key) {
                self.state.remove(&kept).await?;
            }
        }
        Ok(())
    }

    /// Removes an account's previous run from the report, since its next run begins.
    pub(super) fn remove_from_report(&mut self, account: &AccountId, last: Option<&ActiveRun>) {
        let Some(last) = last.filter(|last| last.is_worked_on()) else { return };
        let report = &mut self.report;
        report.accounts_failed.retain(|(failed, _)| failed != account);
        report.spaces_failed.retain(|failed| failed.account != *account);
        report.held.retain(|held| held.account != *account);
        report.named_first.retain(|named| named.account != *account);
        report.left_out.first.retain(|entry| entry.account != *account);
        report.left_out.count -= last.left_out.min(report.left_out.count);
        report.sources_absent.retain(|absent| absent.account != *account);
        report.accounts_idle.retain(|(idle, _)| idle != account);
    }
}
