//! The accounts of a session: reads which accounts exist, loads the rows of each, and forgets accounts that are no longer
//! listed.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::AccountId;
use mill_ports::error_chain;
use mill_records::Versioned;
use mill_records::producer_state::{
    AccountRunRows, MorselRow as _, MorselSubject as _, ProducerRows, RunOfAllAccounts,
};
use tracing::{info, warn};

use super::plan::{MorselOf, MorselSubjectOf, Plan};
use super::report::ProducerError;
use super::runs::ActiveRun;
use super::shares::AccountShares;
use super::{Session, SurveyFailures};

/// The loaded rows of the runs in progress, by account.
pub(super) type PartsByAccount<M> = BTreeMap<AccountId, AccountRunRows<M>>;

impl<P: Plan> Session<'_, P> {
    /// Takes the loaded rows into the session. Returns the parts of the listed accounts or, if the list cannot be read, of all.
    pub(super) async fn load_parts(
        &mut self,
        loaded: ProducerRows<P::Rows>,
    ) -> Result<PartsByAccount<MorselOf<P>>, ProducerError> {
        let ProducerRows { runs, run_of_all, accounts, morsels, plan, queue_size: _, shares, failures } = loaded;
        self.shares = AccountShares::of(shares);
        self.failures = SurveyFailures::of(failures);
        self.plan.load(plan);
        self.runs = ActiveRun::of_all(runs);
        let mut parts = PartsByAccount::<MorselOf<P>>::new();
        for kept in accounts {
            let account = kept.record.account.clone();
            parts.entry(account).or_default().unanswered = Some(kept);
        }
        for kept in morsels {
            let account = kept.record.subject().account().clone();
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
            let mut gone = self.plan.accounts();
            gone.extend(self.runs.keys().chain(parts.keys()).cloned());
            gone.retain(|account| !self.accounts.contains(account));
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
        parts: &PartsByAccount<MorselOf<P>>,
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
        parts: AccountRunRows<MorselOf<P>>,
    ) -> Result<(), ProducerError> {
        info!(%account, "the account is no longer listed; its run is forgotten");
        self.remove_from_rounds(account);
        self.state.remove_all(parts.unanswered.as_slice()).await?;
        self.state.remove_all(&parts.morsels).await?;
        P::forget_rows(self, account, None).await?;
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
        self.waiting.retain(|(_, _, subject), _| subject.account() != account);
        self.paused_morsels.retain(|(_, (_, _, subject)), _| subject.account() != account);
        self.plan.remove_from_rounds(account);
        self.later_accounts.retain(|(_, later), _| later != account);
        self.background_reads.forget_account(account);
    }

    /// Removes an account's previous run from the report, since its next run begins.
    pub(super) fn remove_from_report(&mut self, account: &AccountId, last: Option<&ActiveRun<MorselSubjectOf<P>>>) {
        if !last.is_some_and(ActiveRun::is_worked_on) {
            return;
        }
        let report = &mut self.report;
        report.accounts_failed.retain(|(failed, _)| failed != account);
        report.spaces_failed.retain(|failed| failed.account != *account);
        report.accounts_idle.retain(|(idle, _)| idle != account);
        P::forget_findings(self, account);
    }
}
