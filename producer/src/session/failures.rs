//! What could not be surveyed, written down until a survey of it succeeds: a copy that was in sync is not looked at since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, StoreAddress, StoreId, Timestamp};
use mill_records::producer_state::{Kept, StateError, SurveyFailure, SurveySubject};

use super::{ActiveRun, Session};

/// What is known to have failed since it was last surveyed.
#[derive(Default)]
pub(crate) struct Failures {
    rows: BTreeMap<SurveySubject, Kept<SurveyFailure>>,
    /// Those that the book does not have so yet.
    unsaved: BTreeSet<SurveySubject>,
}

impl Failures {
    /// A reason may quote a server's whole answer; the log has all of it.
    const REASON_CHARS: usize = 500;
    const SAVED_EVERY: Duration = Duration::from_mins(10);

    pub(crate) fn of(rows: Vec<Kept<SurveyFailure>>) -> Self {
        let rows = rows.into_iter().map(|kept| (kept.row.subject.clone(), kept)).collect();
        Self { rows, unsaved: BTreeSet::new() }
    }

    /// Notes that a survey failed at a time, for a reason. What an earlier session of the run has noted, and the session before
    /// tried only seconds ago, is not written down each time.
    fn note(&mut self, subject: SurveySubject, (at, is_new_run): (Timestamp, bool), reason: &str) {
        let reason: String = reason.chars().take(Self::REASON_CHARS).collect();
        if let Some(kept) = self.rows.get_mut(&subject) {
            if is_new_run || at.since(kept.row.last) >= Self::SAVED_EVERY {
                (kept.row.last, kept.row.reason) = (at, reason);
                self.unsaved.insert(subject);
            }
            return;
        }
        let fresh = SurveyFailure { subject: subject.clone(), first: at, last: at, reason };
        self.rows.insert(subject.clone(), Kept::fresh(fresh));
        self.unsaved.insert(subject);
    }
}

impl Session<'_> {
    /// Notes that a survey failed now.
    pub(super) fn note_failure(&mut self, subject: SurveySubject, reason: &str) {
        let is_new_run = self.runs.get(subject.account()).is_none_or(ActiveRun::is_new);
        self.failures.note(subject, (self.deps.clock.now(), is_new_run), reason);
    }

    /// Writes down what has failed since this was last done.
    pub(crate) async fn save_failures(&mut self) -> Result<(), StateError> {
        while let Some(subject) = self.failures.unsaved.pop_first() {
            if let Some(kept) = self.failures.rows.get_mut(&subject) {
                self.state.save_over_earlier(kept).await?;
            }
        }
        Ok(())
    }

    /// Forgets that a survey failed: there is a later one.
    pub(crate) async fn forget_failure(&mut self, subject: &SurveySubject) -> Result<(), StateError> {
        self.failures.unsaved.remove(subject);
        match self.failures.rows.remove(subject) {
            Some(kept) => self.state.remove(&kept).await,
            None => Ok(()),
        }
    }

    /// Forgets that stores of an account did not tell their spaces, but for those that still do not.
    pub(super) async fn forget_failed_stores(
        &mut self,
        account: &AccountId,
        unanswered: &[StoreId],
    ) -> Result<(), StateError> {
        let answers = |subject: &SurveySubject| match subject {
            SurveySubject::Store(StoreAddress { account: owner, store }) => {
                owner == account && !unanswered.contains(store)
            }
            SurveySubject::SpacePair(_) => false,
        };
        self.forget_failures(answers).await
    }

    /// Forgets all failures of an account: nothing of it has failed, or nobody asks for it any more.
    pub(super) async fn forget_failures_of(&mut self, account: &AccountId) -> Result<(), StateError> {
        self.forget_failures(|subject| subject.account() == account).await
    }

    async fn forget_failures(&mut self, which: impl Fn(&SurveySubject) -> bool) -> Result<(), StateError> {
        let these: Vec<SurveySubject> = self.failures.rows.keys().filter(|subject| which(subject)).cloned().collect();
        for subject in &these {
            self.forget_failure(subject).await?;
        }
        Ok(())
    }
}
