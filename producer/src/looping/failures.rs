//! Records each failed survey until a later one succeeds: since then nobody knows whether the copy is in sync.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, StoreAddress, StoreId, Timestamp};
use mill_records::Versioned;
use mill_records::producer_state::{MorselSubject, ProducerStateError, SurveyFailure, SurveySubject};

use super::plan::{MorselSubjectOf, Plan};
use super::{ActiveRun, Session};

/// The failures since the last successful survey, by subject.
pub(crate) struct SurveyFailures<S> {
    rows: BTreeMap<SurveySubject<S>, Versioned<SurveyFailure<S>>>,
    /// The subjects whose rows are not saved yet.
    unsaved: BTreeSet<SurveySubject<S>>,
}

impl<S: MorselSubject> SurveyFailures<S> {
    /// The most characters of a reason that are saved: it may quote a server's whole response. The log has all of it.
    const REASON_CHARS: usize = 500;
    const SAVED_EVERY: Duration = Duration::from_mins(10);

    pub(crate) fn of(rows: Vec<Versioned<SurveyFailure<S>>>) -> Self {
        let rows = rows.into_iter().map(|kept| (kept.record.subject.clone(), kept)).collect();
        Self { rows, unsaved: BTreeSet::new() }
    }

    /// Notes that a survey failed. A failure that an earlier session of the same run noted is saved again only every
    /// [`Self::SAVED_EVERY`].
    fn note(&mut self, subject: SurveySubject<S>, (at, is_new_run): (Timestamp, bool), reason: &str) {
        let reason: String = reason.chars().take(Self::REASON_CHARS).collect();
        if let Some(kept) = self.rows.get_mut(&subject) {
            if is_new_run || at.since(kept.record.last) >= Self::SAVED_EVERY {
                (kept.record.last, kept.record.reason) = (at, reason);
                self.unsaved.insert(subject);
            }
            return;
        }
        let fresh = SurveyFailure { subject: subject.clone(), first: at, last: at, reason };
        self.rows.insert(subject.clone(), Versioned::unsaved(fresh));
        self.unsaved.insert(subject);
    }
}

impl<P: Plan> Session<'_, P> {
    /// Notes that a survey failed now.
    pub(super) fn note_failure(&mut self, subject: SurveySubject<MorselSubjectOf<P>>, reason: &str) {
        let is_new_run = self.runs.get(subject.account()).is_none_or(ActiveRun::is_new);
        self.failures.note(subject, (self.deps.clock.now(), is_new_run), reason);
    }

    /// Saves the failures that are not saved yet.
    pub(crate) async fn save_failures(&mut self) -> Result<(), ProducerStateError> {
        while let Some(subject) = self.failures.unsaved.pop_first() {
            if let Some(kept) = self.failures.rows.get_mut(&subject) {
                self.state.save_over_earlier(kept).await?;
            }
        }
        Ok(())
    }

    /// Forgets a failure, since a later survey succeeded.
    pub(crate) async fn forget_failure(
        &mut self,
        subject: &SurveySubject<MorselSubjectOf<P>>,
    ) -> Result<(), ProducerStateError> {
        self.failures.unsaved.remove(subject);
        match self.failures.rows.remove(subject) {
            Some(kept) => self.state.remove(&kept).await,
            None => Ok(()),
        }
    }

    /// Forgets that stores of an account failed to list their spaces, except for those in `unanswered`.
    pub(super) async fn forget_failed_stores(
        &mut self,
        account: &AccountId,
        unanswered: &[StoreId],
    ) -> Result<(), ProducerStateError> {
        let answers = |subject: &SurveySubject<MorselSubjectOf<P>>| match subject {
            SurveySubject::Store(StoreAddress { account: owner, store }) => {
                owner == account && !unanswered.contains(store)
            }
            SurveySubject::Morsel(_) => false,
        };
        self.forget_failures(answers).await
    }

    /// Forgets all failures of an account: its run had none, or the account is no longer listed.
    pub(super) async fn forget_failures_of(&mut self, account: &AccountId) -> Result<(), ProducerStateError> {
        self.forget_failures(|subject| subject.account() == account).await
    }

    async fn forget_failures(
        &mut self,
        which: impl Fn(&SurveySubject<MorselSubjectOf<P>>) -> bool,
    ) -> Result<(), ProducerStateError> {
        let these: Vec<SurveySubject<MorselSubjectOf<P>>> =
            self.failures.rows.keys().filter(|subject| which(subject)).cloned().collect();
        for subject in &these {
            self.forget_failure(subject).await?;
        }
        Ok(())
    }
}
