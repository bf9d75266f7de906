//! The runs of accounts. Each begins, ends and comes due independently of the others.
//!
//! ```text
//!                begin                    all morsels are in the table         none of them is left
//!   new or due ─────────▶ not listed yet ───────────────────────────▶ listed ──────────────────────▶ finished
//!       ▲                                                                                               │
//!       └────────────────────────── a frequency after it began ─────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::{AccountId, SurveySum, Timestamp};
use mill_ports::error_chain;
use mill_records::Versioned;
use mill_records::producer_state::{
    AccountRun, AccountRunRows, MorselRow as _, MorselSubject, SurveyRow as _, UnansweredStores,
};
use tracing::{debug, info, warn};

use super::Session;
use super::accounts::PartsByAccount;
use super::plan::{MorselCoverage, MorselOf, MorselSubjectOf, Plan};
use super::report::ProducerError;
use super::rounds::CurrentCoverage;
use super::settings::RunStart;
use crate::crash_points;

/// How often a session checks for new accounts.
const LIST_EVERY: Duration = Duration::from_mins(1);

/// How a session takes part in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Participation {
    None,
    Begun,
    Resumed,
}

/// An account's run and its state in this session.
pub(crate) struct ActiveRun<S> {
    pub(crate) row: Versioned<AccountRun>,
    /// Its open morsels: those that wait, rest or have their turn.
    pub(crate) open: BTreeSet<S>,
    /// Its morsels that failed. Their rows stay.
    pub(super) passed_over: BTreeSet<S>,
    /// Whether some of its stores are asked for their spaces again.
    pub(crate) rediscovers_later: bool,
    participation: Participation,
    failed: bool,
    /// How many morsels have been given a rank.
    ranks: usize,
    /// How this session classified its entries; once the run is finished, over all its sessions.
    pub(crate) surveyed: SurveySum,
    /// How many morsels it has, as far as this session discovered them.
    pub(super) morsels: u64,
}

impl<S: MorselSubject> ActiveRun<S> {
    pub(crate) fn of(row: Versioned<AccountRun>) -> Self {
        Self {
            row,
            open: BTreeSet::new(),
            passed_over: BTreeSet::new(),
            rediscovers_later: false,
            participation: Participation::None,
            failed: false,
            ranks: 0,
            surveyed: SurveySum::default(),
            morsels: 0,
        }
    }

    /// Indexes runs by account.
    pub(crate) fn of_all(rows: Vec<Versioned<AccountRun>>) -> BTreeMap<AccountId, Self> {
        rows.into_iter().map(|row| (row.record.account.clone(), Self::of(row))).collect()
    }

    pub(super) fn is_worked_on(&self) -> bool {
        self.participation != Participation::None
    }

    /// Whether this session has begun it.
    pub(super) fn is_new(&self) -> bool {
        self.participation == Participation::Begun
    }

    fn is_going_on(&self) -> bool {
        self.row.record.finished.is_none()
    }

    /// Whether work may be left: the run is not finished, or its account could not be discovered.
    pub(super) fn has_work_left(&self) -> bool {
        self.is_going_on() || !self.row.record.listed
    }
}

impl<P: Plan> Session<'_, P> {
    /// The accounts whose runs begin at the start of this session.
    pub(super) fn due_at_start(&self) -> BTreeSet<AccountId> {
        let now = self.deps.clock.now();
        let going_on = self.runs.values().any(ActiveRun::is_going_on);
        let (forced, none) = match self.settings.run_start {
            RunStart::WhenDue => (false, false),
            RunStart::Now => (true, false),
            RunStart::Together => (true, going_on),
        };
        let none = none || is_planted(PlantedBug::OneRunOverAll) && going_on;
        self.accounts.iter().filter(|account| !none && self.is_due(account, now, forced)).cloned().collect()
    }

    fn is_due(&self, account: &AccountId, now: Timestamp, forced: bool) -> bool {
        let Some(run) = self.runs.get(account) else { return true };
        let started = run.row.record.started;
        // A start in the future counts as due: the clock was wrong when it was written.
        !run.is_going_on() && (forced || now >= self.next_run_after(started) || started > now)
    }

    fn next_run_after(&self, started: Timestamp) -> Timestamp {
        started.plus(self.settings.frequency)
    }

    /// When the next run of any account is due.
    pub(crate) fn next_run(&self) -> Timestamp {
        let first = self.runs.values().map(|run| run.row.record.started).min();
        self.next_run_after(first.unwrap_or_else(|| self.deps.clock.now()))
    }

    /// Resumes the runs in progress and begins those that are due.
    pub(super) async fn prepare(
        &mut self,
        mut parts: PartsByAccount<MorselOf<P>>,
        due: BTreeSet<AccountId>,
    ) -> Result<(), ProducerError> {
        let begun: Vec<(AccountId, AccountRunRows<MorselOf<P>>)> =
            due.into_iter().map(|account| (account.clone(), parts.remove(&account).unwrap_or_default())).collect();
        for (account, parts) in parts {
            self.resume(&account, parts).await?;
        }
        for (account, parts) in begun {
            if self.stop.is_cancelled() {
                break;
            }
            self.begin(&account, parts).await?;
        }
        self.plan_due_check();
        Ok(())
    }

    async fn resume(&mut self, account: &AccountId, parts: AccountRunRows<MorselOf<P>>) -> Result<(), ProducerError> {
        let Some(run) = self.runs.get_mut(account) else { return Ok(()) };
        run.participation = Participation::Resumed;
        self.report.resumed = true;
        let (number, listed) = (run.row.record.number, run.row.record.listed);
        let AccountRunRows { unanswered, morsels } = parts;
        info!(%account, started = %run.row.record.started, morsels = morsels.len(), "resumes a run");
        P::resume(self, &morsels).await?;
        self.enqueue(account, morsels);
        let unanswered = match unanswered {
            Some(late) if late.record.run != number => {
                // A producer that slept wrote this row after its run had ended.
                self.state.remove(&late).await?;
                None
            }
            other => other,
        };
        if (unanswered.is_some() || !listed) && !self.stop.is_cancelled() {
            let row = unanswered.unwrap_or_else(|| Versioned::unsaved(blank(account, number)));
            self.discover_account(self.new_discovery(row)).await?;
        }
        self.finish_if_done(account).await
    }

    /// Begins an account's run. Forgets the rest of the previous run.
    async fn begin(&mut self, account: &AccountId, parts: AccountRunRows<MorselOf<P>>) -> Result<(), ProducerError> {
        let last = self.runs.remove(account);
        // A morsel that the last run skipped may be read at this moment.
        self.remove_from_rounds(account);
        self.remove_from_report(account, last.as_ref());
        let last = last.map(|run| run.row);
        let last_number = last.as_ref().map(|last| last.record.number);
        P::forget_rows(self, account, last_number).await?;
        let number = AccountRun::number(self.state.epoch(), self.begun, last.as_ref().map(|last| &last.record));
        let started = self.deps.clock.now();
        let run = AccountRun { account: account.clone(), number, started, listed: false, finished: None };
        let mut row = match last {
            Some(mut last) => {
                last.record = run;
                last
            }
            None => Versioned::unsaved(run),
        };
        // The row of the run is saved before the old rows are removed: another producer may have begun a run since they were
        // read, and then the save fails. Until they are removed, old morsel rows count as fresh ones.
        self.state.save_over_earlier(&mut row).await?;
        crash_point(crash_points::PRODUCER_RUN_BEGUN);
        self.state.remove_all(parts.unanswered.as_slice()).await?;
        self.state.remove_all(&parts.morsels).await?;
        crash_point(crash_points::PRODUCER_CLEARED);
        if self.begun == 0 {
            self.deps.statistics.begin_run();
        }
        self.begun += 1;
        self.accounts_failed.remove(account);
        info!(%account, run = number, "begins a run");
        self.runs.insert(account.clone(), ActiveRun { participation: Participation::Begun, ..ActiveRun::of(row) });
        self.discover_account(self.new_discovery(Versioned::unsaved(blank(account, number)))).await?;
        self.finish_if_done(account).await
    }

    /// Begins runs that have come due since the last check, and runs of new accounts, while other runs are in progress.
    pub(super) async fn begin_due(&mut self) -> Result<(), ProducerError> {
        let now = self.deps.clock.monotonic();
        if self.next_due_check.is_none_or(|look| now < look) || !self.has_work() || self.stop.is_cancelled() {
            return Ok(());
        }
        match self.list_accounts().await {
            Ok(()) => {
                let gone = self.runs.keys().filter(|account| !self.accounts.contains(*account)).cloned();
                for account in gone.collect::<Vec<_>>() {
                    let parts = self.state.parts_of(&account).await?;
                    self.forget_account(&account, parts).await?;
                }
            }
            Err(error) => debug!(error = error_chain(&error), "the accounts are those that were known"),
        }
        let now = self.deps.clock.now();
        let due = self.accounts.iter().filter(|account| self.is_due(account, now, false)).cloned();
        for account in due.collect::<Vec<_>>() {
            if self.stop.is_cancelled() {
                break;
            }
            let parts = self.state.parts_of(&account).await?;
            self.begin(&account, parts).await?;
        }
        self.plan_due_check();
        Ok(())
    }

    fn has_work(&self) -> bool {
        !(self.waiting.is_empty()
            && self.paused_morsels.is_empty()
            && self.later_accounts.is_empty()
            && self.background_reads.is_idle())
    }

    /// Plans the next check for due runs: when the next run is due, or when there may be new accounts.
    fn plan_due_check(&mut self) {
        let again = self.settings.run_start != RunStart::Together
            && !self.settings.frequency.is_zero()
            && !is_planted(PlantedBug::OneRunOverAll);
        let now = self.deps.clock.now();
        let done = self.runs.values().filter(|run| !run.is_going_on()).map(|run| run.row.record.started);
        let until = done.map(|started| self.next_run_after(started).since(now)).min();
        let until = until.unwrap_or(LIST_EVERY).min(LIST_EVERY);
        self.next_due_check = again.then(|| self.deps.clock.monotonic().plus(until));
    }

    /// Adds morsels to the rounds, behind those that have had their turn in the current round.
    pub(crate) fn enqueue(&mut self, account: &AccountId, mut morsels: Vec<Versioned<MorselOf<P>>>) {
        let Some(run) = self.runs.get_mut(account) else { return };
        let number = run.row.record.number;
        let is_known = |subject: &MorselSubjectOf<P>| run.open.contains(subject) || run.passed_over.contains(subject);
        morsels.retain(|morsel| !is_known(morsel.record.subject()));
        morsels.sort_by(|a, b| {
            let (a, b) = (a.record.subject(), b.record.subject());
            (a.space(), a.store(), a.destination()).cmp(&(b.space(), b.store(), b.destination()))
        });
        for morsel in &mut morsels {
            // A producer that slept may write a row of an earlier run after this one has begun. Its counts are not of this run.
            if morsel.record.run() != number {
                morsel.record = MorselOf::<P>::fresh(morsel.record.subject().clone(), number);
            }
        }
        // Within an account, the morsel with the fewest nibbles is first. Between accounts, earlier nibbles do not count:
        // otherwise an account with many short runs would keep another one waiting for ever.
        let fewest = morsels.iter().map(|morsel| morsel.record.nibbles()).min().unwrap_or(0);
        for morsel in morsels {
            run.ranks += 1;
            let round = self.round + (morsel.record.nibbles() - fewest);
            let subject = morsel.record.subject().clone();
            run.open.insert(subject.clone());
            self.waiting.insert((round, run.ranks, subject), morsel);
        }
    }

    /// Finishes an account's run once only failed morsels are left.
    pub(super) async fn finish_if_done(&mut self, account: &AccountId) -> Result<(), ProducerError> {
        self.save_failures().await?;
        let Some(run) = self.runs.get_mut(account) else { return Ok(()) };
        if !run.open.is_empty() || run.rediscovers_later || !run.is_worked_on() {
            return Ok(());
        }
        if run.is_going_on() {
            crash_point(crash_points::PRODUCER_BEFORE_FINISH);
            run.row.record.finished = Some(self.deps.clock.now());
            self.state.save(&mut run.row).await?;
            crash_point(crash_points::PRODUCER_FINISHED);
        }
        if run.failed {
            warn!(target: mill_ports::REPORTED, %account,
                "the loop is complete but for what failed; that is tried again in the next session");
        }
        let due = self.next_run_after(self.runs[account].row.record.started);
        let now = self.deps.clock.monotonic();
        let look = now.plus(due.since(self.deps.clock.now()));
        self.next_due_check = self.next_due_check.map(|planned| planned.min(look));
        self.summarize_run(account).await
    }

    /// Adds the surveys of earlier sessions of a run, and removes the surveys of what no policy covers any more.
    async fn summarize_run(&mut self, account: &AccountId) -> Result<(), ProducerError> {
        let Some(run) = self.runs.get_mut(account) else { return Ok(()) };
        if run.participation == Participation::Begun && run.failed {
            return Ok(());
        }
        let surveys = self.state.surveys_of(account).await?;
        let (ours, others): (Vec<_>, Vec<_>) =
            surveys.into_iter().partition(|kept| kept.record.run() == run.row.record.number);
        if run.participation == Participation::Resumed {
            run.surveyed = SurveySum::default();
            run.morsels = ours.len() as u64;
            for kept in &ours {
                run.surveyed += kept.record.sum();
            }
        }
        let SurveySum { listed, queued, refused, .. } = run.surveyed;
        info!(%account, listed, queued, refused, failed = run.failed, "the account's loop is complete");
        if !run.failed {
            let mut gone = Vec::new();
            for kept in others {
                let coverage = self.current_coverage(kept.record.subject()).await;
                if matches!(coverage, CurrentCoverage::Known(MorselCoverage::NotCovered)) {
                    gone.push(kept);
                }
            }
            self.state.remove_all(&gone).await?;
            self.forget_failures_of(account).await?;
        }
        Ok(())
    }

    /// Reports the sums of all runs that this session worked on.
    pub(super) fn report_sums(&mut self) {
        let began = self.runs.values().filter(|run| run.is_worked_on()).map(|run| run.row.record.started).min();
        self.report.began = began.unwrap_or_else(|| self.deps.clock.now());
        for run in self.runs.values().filter(|run| run.is_worked_on()) {
            self.report.survey += run.surveyed;
            self.report.pairs += run.morsels;
            self.report.runs += 1;
        }
    }

    /// The number of an account's run; 0 where it has none.
    pub(crate) fn run_number(&self, account: &AccountId) -> u64 {
        self.runs.get(account).map_or(0, |run| run.row.record.number)
    }

    pub(super) fn run_failed(&mut self, account: &AccountId) {
        if let Some(run) = self.runs.get_mut(account) {
            run.failed = true;
        }
    }

    /// Notes that a morsel needs no further turn: it is done or `failed`.
    pub(super) async fn finish_morsel(
        &mut self,
        subject: &MorselSubjectOf<P>,
        failed: bool,
    ) -> Result<(), ProducerError> {
        if let Some(run) = self.runs.get_mut(subject.account()) {
            run.open.remove(subject);
            self.background_reads.forget(|read| read.belongs_to(subject));
            if failed {
                run.failed = true;
                run.passed_over.insert(subject.clone());
            }
        }
        self.finish_if_done(subject.account()).await
    }
}

/// The row of an account whose stores were not asked yet.
fn blank(account: &AccountId, run: u64) -> UnansweredStores {
    UnansweredStores { account: account.clone(), run, unanswered: Vec::new() }
}
