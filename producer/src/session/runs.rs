//! The runs of accounts: each begins, ends and comes due by itself, whatever those of other accounts do.
//!
//! ```text
//!                begin                    all morsels are in the book          none of them is left
//!   new or due ─────────▶ not listed yet ───────────────────────────▶ listed ──────────────────────▶ finished
//!       ▲                                                                                               │
//!       └────────────────────────── a frequency after it began ─────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, SurveySum, Timestamp};
use mill_ports::{CrashPoint, PlantedBug, crash_point, error_chain, planted};
use mill_records::producer_state::{AccountParts, AccountRow, AccountRun, Kept, Morsel};
use mill_records::sync_proofs::SpacePair;
use tracing::{debug, info, warn};

use super::Session;
use super::accounts::Parts;
use super::rounds::Today;
use crate::report::ProducerError;
use crate::settings::Begins;

/// While a session lasts, it is looked so often whether there are new accounts.
const LIST_EVERY: Duration = Duration::from_mins(1);

/// Whether a session works at a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    None,
    Begun,
    Resumed,
}

/// An account's run, and what this session has made of it.
pub(crate) struct ActiveRun {
    pub(crate) row: Kept<AccountRun>,
    /// Its morsels that wait, rest or have their turn.
    pub(crate) open: BTreeSet<SpacePair>,
    /// Those that failed. They stay in the book.
    pub(super) passed_over: BTreeSet<SpacePair>,
    /// Whether some of its stores are asked again which spaces they have.
    pub(crate) asks_later: bool,
    hand: Hand,
    failed: bool,
    /// How many morsels have been given a rank.
    ranks: usize,
    /// What this session made of its entries; of the whole run, once it is finished.
    pub(crate) surveyed: SurveySum,
    /// How many pairs it has, as far as this session found them.
    pub(crate) pairs: u64,
    /// How many entries a rule leaves out, or lie in no space.
    pub(crate) left_out: u64,
}

impl ActiveRun {
    pub(crate) fn of(row: Kept<AccountRun>) -> Self {
        Self {
            row,
            open: BTreeSet::new(),
            passed_over: BTreeSet::new(),
            asks_later: false,
            hand: Hand::None,
            failed: false,
            ranks: 0,
            surveyed: SurveySum::default(),
            pairs: 0,
            left_out: 0,
        }
    }

    /// By account.
    pub(crate) fn of_all(rows: Vec<Kept<AccountRun>>) -> BTreeMap<AccountId, Self> {
        rows.into_iter().map(|row| (row.row.account.clone(), Self::of(row))).collect()
    }

    pub(super) fn is_in_hand(&self) -> bool {
        self.hand != Hand::None
    }

    /// Whether this session has begun it.
    pub(super) fn is_new(&self) -> bool {
        self.hand == Hand::Begun
    }

    fn is_going_on(&self) -> bool {
        self.row.row.finished.is_none()
    }

    /// Whether something of it may be left: its policy could not be read, or it was not brought to its end.
    pub(super) fn is_left(&self) -> bool {
        self.is_going_on() || !self.row.row.listed
    }
}

impl Session<'_> {
    /// The accounts whose runs this session begins at once.
    pub(super) fn due_at_first(&self) -> BTreeSet<AccountId> {
        let now = self.deps.clock.now();
        let going_on = self.runs.values().any(ActiveRun::is_going_on);
        let (forced, none) = match self.settings.begins {
            Begins::WhenDue => (false, false),
            Begins::Now => (true, false),
            Begins::Together => (true, going_on),
        };
        let none = none || planted(PlantedBug::OneRunOverAll) && going_on;
        self.accounts.iter().filter(|account| !none && self.is_due(account, now, forced)).cloned().collect()
    }

    fn is_due(&self, account: &AccountId, now: Timestamp, forced: bool) -> bool {
        let Some(run) = self.runs.get(account) else { return true };
        let started = run.row.row.started;
        // A time in the future is none: the clock was wrong when it was written.
        !run.is_going_on() && (forced || now >= self.next_run_after(started) || started > now)
    }

    fn next_run_after(&self, started: Timestamp) -> Timestamp {
        started.plus(self.settings.frequency)
    }

    /// When the next run of any account is due.
    pub(crate) fn next_run(&self) -> Timestamp {
        let first = self.runs.values().map(|run| run.row.row.started).min();
        self.next_run_after(first.unwrap_or_else(|| self.deps.clock.now()))
    }

    /// Resumes what is going on, and begins what is due.
    pub(super) async fn prepare(&mut self, mut parts: Parts, due: BTreeSet<AccountId>) -> Result<(), ProducerError> {
        let begun: Vec<(AccountId, AccountParts)> =
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
        self.plan_look();
        Ok(())
    }

    async fn resume(&mut self, account: &AccountId, parts: AccountParts) -> Result<(), ProducerError> {
        let Some(run) = self.runs.get_mut(account) else { return Ok(()) };
        run.hand = Hand::Resumed;
        self.report.resumed = true;
        let (number, listed) = (run.row.row.number, run.row.row.listed);
        let AccountParts { unanswered, morsels } = parts;
        info!(%account, started = %run.row.row.started, morsels = morsels.len(), "resumes a run");
        self.report_what_is_held(&morsels).await?;
        self.line_up(account, morsels);
        let unanswered = match unanswered {
            Some(late) if late.row.run != number => {
                // A producer that slept wrote it.
                self.state.remove(&late).await?;
                None
            }
            other => other,
        };
        if (unanswered.is_some() || !listed) && !self.stop.is_cancelled() {
            let row = unanswered.unwrap_or_else(|| Kept::fresh(blank(account, number)));
            self.look_through(self.first_look(row)).await?;
        }
        self.finish_if_done(account).await
    }

    /// Begins an account's run: what is left of the one before is forgotten.
    async fn begin(&mut self, account: &AccountId, parts: AccountParts) -> Result<(), ProducerError> {
        let last = self.runs.remove(account);
        // What the last run had passed over may be under way once more.
        self.leave_the_rounds(account);
        self.forget_in_report(account, last.as_ref());
        let last = last.map(|run| run.row);
        let last_number = last.as_ref().map(|last| last.row.number);
        // A space that the last run did not find missing may have been there since.
        self.forget_missing(account, last_number).await?;
        let number = AccountRun::number(self.state.epoch(), self.begun, last.as_ref().map(|last| &last.row));
        let started = self.deps.clock.now();
        let run = AccountRun { account: account.clone(), number, started, listed: false, finished: None };
        let mut row = match last {
            Some(mut last) => {
                last.row = run;
                last
            }
            None => Kept::fresh(run),
        };
        // Only whose run it is may forget what is left: another may have begun one since this was read. Until it is forgotten
        // its morsels are taken for fresh ones.
        self.state.save_over_earlier(&mut row).await?;
        crash_point(CrashPoint::ProducerRunBegun);
        self.state.remove_all(parts.unanswered.as_slice()).await?;
        self.state.remove_all(&parts.morsels).await?;
        crash_point(CrashPoint::ProducerCleared);
        if self.begun == 0 {
            self.deps.statistics.begin_run();
        }
        self.begun += 1;
        self.accounts_failed.remove(account);
        info!(%account, run = number, "begins a run");
        self.runs.insert(account.clone(), ActiveRun { hand: Hand::Begun, ..ActiveRun::of(row) });
        self.look_through(self.first_look(Kept::fresh(blank(account, number)))).await?;
        self.finish_if_done(account).await
    }

    /// Begins the runs that have come due since the last look, and those of new accounts, while others are going on.
    pub(super) async fn begin_due(&mut self) -> Result<(), ProducerError> {
        let now = self.deps.clock.monotonic();
        if self.next_look.is_none_or(|look| now < look) || !self.has_work() || self.stop.is_cancelled() {
            return Ok(());
        }
        match self.list().await {
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
        self.plan_look();
        Ok(())
    }

    fn has_work(&self) -> bool {
        !(self.waiting.is_empty()
            && self.resting.is_empty()
            && self.later_accounts.is_empty()
            && self.readings.is_idle())
    }

    /// When it is looked again whether a run is due: when the next one is, or there may be new accounts.
    fn plan_look(&mut self) {
        let again = self.settings.begins != Begins::Together
            && !self.settings.frequency.is_zero()
            && !planted(PlantedBug::OneRunOverAll);
        let now = self.deps.clock.now();
        let done = self.runs.values().filter(|run| !run.is_going_on()).map(|run| run.row.row.started);
        let until = done.map(|started| self.next_run_after(started).since(now)).min();
        let until = until.unwrap_or(LIST_EVERY).min(LIST_EVERY);
        self.next_look = again.then(|| self.deps.clock.monotonic().plus(until));
    }

    /// Puts morsels into their places in the rounds, behind what has had its turn in this one.
    pub(crate) fn line_up(&mut self, account: &AccountId, mut morsels: Vec<Kept<Morsel>>) {
        let Some(run) = self.runs.get_mut(account) else { return };
        let number = run.row.row.number;
        morsels.retain(|morsel| !run.open.contains(&morsel.row.pair) && !run.passed_over.contains(&morsel.row.pair));
        morsels.sort_by(|a, b| {
            let (a, b) = (&a.row.pair, &b.row.pair);
            (&a.space, &a.source, &a.destination).cmp(&(&b.space, &b.source, &b.destination))
        });
        for morsel in &mut morsels {
            // A producer that slept may write rows of an earlier run after this one has begun. What they count is not of this one.
            if morsel.row.run != number {
                morsel.row = Morsel::fresh(morsel.row.pair.clone(), number);
            }
        }
        // Of an account the morsel with the fewest nibbles is the first. Of two accounts none has to make up for the nibbles that
        // the other has had before: else one whose loops are short and many would keep the other waiting for ever.
        let fewest = morsels.iter().map(|morsel| morsel.row.nibbles).min().unwrap_or(0);
        for morsel in morsels {
            run.ranks += 1;
            let round = self.round + (morsel.row.nibbles - fewest);
            run.open.insert(morsel.row.pair.clone());
            self.waiting.insert((round, run.ranks, morsel.row.pair.clone()), morsel);
        }
    }

    /// Ends an account's run if nothing of it is left but what failed.
    pub(super) async fn finish_if_done(&mut self, account: &AccountId) -> Result<(), ProducerError> {
        self.save_failures().await?;
        let Some(run) = self.runs.get_mut(account) else { return Ok(()) };
        if !run.open.is_empty() || run.asks_later || !run.is_in_hand() {
            return Ok(());
        }
        if run.is_going_on() {
            crash_point(CrashPoint::ProducerBeforeFinish);
            run.row.row.finished = Some(self.deps.clock.now());
            self.state.save(&mut run.row).await?;
            crash_point(CrashPoint::ProducerFinished);
        }
        if run.failed {
            warn!(%account, "the loop is complete but for what failed; that is tried again in the next session");
        }
        let due = self.next_run_after(self.runs[account].row.row.started);
        let now = self.deps.clock.monotonic();
        let look = now.plus(due.since(self.deps.clock.now()));
        self.next_look = self.next_look.map(|planned| planned.min(look));
        self.sum_up(account).await
    }

    /// Adds what earlier sessions of a run surveyed, and forgets what is known of pairs that no policy covers any more.
    async fn sum_up(&mut self, account: &AccountId) -> Result<(), ProducerError> {
        let Some(run) = self.runs.get_mut(account) else { return Ok(()) };
        if run.hand == Hand::Begun && run.failed {
            return Ok(());
        }
        let surveys = self.state.surveys_of(account).await?;
        let (ours, others): (Vec<_>, Vec<_>) = surveys.into_iter().partition(|kept| kept.row.run == run.row.row.number);
        if run.hand == Hand::Resumed {
            run.surveyed = SurveySum::default();
            run.pairs = ours.len() as u64;
            for kept in &ours {
                run.surveyed += kept.row.sum;
            }
        }
        let SurveySum { listed, queued, refused, .. } = run.surveyed;
        info!(%account, listed, queued, refused, failed = run.failed, "the account's loop is complete");
        if !run.failed {
            let mut gone = Vec::new();
            for kept in others {
                if matches!(self.today(&kept.row.pair).await, Today::NotCovered) {
                    gone.push(kept);
                }
            }
            self.state.remove_all(&gone).await?;
            self.forget_failures_of(account).await?;
        }
        Ok(())
    }

    /// Reports the sums of all runs that this session worked at.
    pub(super) fn report_sums(&mut self) {
        let began = self.runs.values().filter(|run| run.is_in_hand()).map(|run| run.row.row.started).min();
        self.report.began = began.unwrap_or_else(|| self.deps.clock.now());
        for run in self.runs.values().filter(|run| run.is_in_hand()) {
            self.report.survey += run.surveyed;
            self.report.pairs += run.pairs;
            self.report.runs += 1;
        }
    }

    /// The number of an account's run; 0 where it has none.
    pub(crate) fn run_number(&self, account: &AccountId) -> u64 {
        self.runs.get(account).map_or(0, |run| run.row.row.number)
    }

    pub(super) fn run_failed(&mut self, account: &AccountId) {
        if let Some(run) = self.runs.get_mut(account) {
            run.failed = true;
        }
    }

    /// Notes that a morsel needs no more turn: it is done, or `failed`.
    pub(super) async fn morsel_over(&mut self, pair: &SpacePair, failed: bool) -> Result<(), ProducerError> {
        if let Some(run) = self.runs.get_mut(&pair.account) {
            run.open.remove(pair);
            self.readings.forget(|read| read.is_of(pair));
            if failed {
                run.failed = true;
                run.passed_over.insert(pair.clone());
            }
        }
        self.finish_if_done(&pair.account).await
    }
}

/// A row that says that nothing is known of an account.
fn blank(account: &AccountId, run: u64) -> AccountRow {
    AccountRow { account: account.clone(), run, unanswered: Vec::new() }
}
