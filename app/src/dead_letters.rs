//! Dead letters, and what a person decides about them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use mill_model::{DuplicateTask, QueueName, TaskArgs as _, Timestamp};
use mill_ports::EngineExt as _;
use mill_producer::DuplicationProducer;
use mill_records::dead_letters::{
    DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterState, DeadLetters, OperatorDecision,
};
use mill_records::producer_state::{DuplicationRows, ProducerState};
use mill_records::tables;
use serde::Serialize;

use crate::installation::Installation;
use crate::run_record;
use crate::subject_names::SubjectNames;

/// Dead letters read in one call.
const PAGE: usize = 100;

/// A dead letter, as user interfaces show it. Times are texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterEntry {
    /// Its id.
    pub id: String,
    /// When the task was dead-lettered.
    pub at: String,
    /// Why.
    pub reason: String,
    /// The account of the task, if the body can be decoded.
    pub account: Option<String>,
    /// The kind of the task, if the body can be decoded.
    pub kind: Option<String>,
    /// What the task is about, if that is known.
    pub subject: Option<String>,
    /// The queue to which a retry goes, if known.
    pub origin: Option<String>,
    /// How many executions failed.
    pub failures: u32,
    /// The failures, oldest first.
    pub history: Vec<FailureEntry>,
    /// What a person decided.
    pub state: DecisionEntry,
    /// The body as text.
    pub body: String,
}

/// One execution that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureEntry {
    /// When.
    pub at: String,
    /// At which workman.
    pub workman: String,
    /// Why.
    pub reason: String,
}

/// What a person decided about a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum DecisionEntry {
    /// Nothing yet.
    Open,
    /// It was sent again.
    Retried {
        /// By whom.
        by: String,
        /// When.
        at: String,
    },
    /// It will not be done.
    Discarded {
        /// Why not.
        reason: String,
        /// By whom.
        by: String,
        /// When.
        at: String,
    },
}

impl DecisionEntry {
    fn of(state: &DeadLetterState) -> Self {
        match state {
            DeadLetterState::Open => Self::Open,
            DeadLetterState::Retried { by, at } => Self::Retried { by: by.clone(), at: at.to_string() },
            DeadLetterState::Discarded { reason, by, at } => {
                Self::Discarded { reason: reason.clone(), by: by.clone(), at: at.to_string() }
            }
        }
    }

    /// The name of the state.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Retried { .. } => "retried",
            Self::Discarded { .. } => "discarded",
        }
    }
}

impl DeadLetterEntry {
    fn of(letter: &DeadLetter, names: &SubjectNames) -> Self {
        let history = letter.history.iter().map(|failure| FailureEntry {
            at: failure.at.to_string(),
            workman: failure.workman.clone(),
            reason: names.text(&failure.reason),
        });
        Self {
            id: letter.id.as_str().to_owned(),
            at: letter.at.to_string(),
            reason: names.text(&letter.reason),
            account: letter.account.as_ref().map(|account| account.as_str().to_owned()),
            kind: letter.kind.as_ref().map(|kind| kind.as_str().to_owned()),
            subject: letter.subject.as_deref().map(|subject| names.text(subject)),
            origin: letter.origin.map(|origin| origin.as_str().to_owned()),
            failures: letter.failures,
            history: history.collect(),
            state: DecisionEntry::of(&letter.state),
            body: String::from_utf8_lossy(&letter.body).into_owned(),
        }
    }
}

/// Some dead letters, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterListing {
    /// The dead letters of this page.
    pub letters: Vec<DeadLetterEntry>,
    /// The cursor of the next page, if there may be more.
    pub next: Option<String>,
}

/// The dead letters of an installation, for a person who decides about them.
#[derive(Debug)]
pub struct DeadLetterReview<'i> {
    installation: &'i Installation,
    names: SubjectNames,
    table: DeadLetters,
}

impl<'i> DeadLetterReview<'i> {
    /// Moves what is still in the dead-letter queue into the table, and begins a review. `names` are the names of the stores in
    /// it.
    ///
    /// # Errors
    /// When the queue or the table does not answer.
    pub async fn begin(installation: &'i Installation, names: SubjectNames) -> Result<Self> {
        installation.drain_dead_letters().await?;
        Ok(Self { installation, names, table: installation.dead_letters() })
    }

    /// What a command about these dead letters ends with, after a blank.
    pub fn mirror_option(&self) -> String {
        self.names.mirror_option()
    }

    /// A page of the dead letters that wait for a person, or, with `all`, of all dead letters, after the cursor
    /// `after`.
    ///
    /// # Errors
    /// When the table does not answer or cannot be read.
    pub async fn page(&self, all: bool, after: Option<String>) -> Result<DeadLetterListing> {
        let page = self.table.list(&filter(all), after.map(DeadLetterId::new).as_ref(), PAGE).await?;
        let letters = page.letters.iter().map(|letter| DeadLetterEntry::of(letter, &self.names)).collect();
        Ok(DeadLetterListing { letters, next: page.next.map(|next| next.as_str().to_owned()) })
    }

    /// Since when a mirror is in sync, if its last run left it so. Dead letters from before are of no matter any more.
    ///
    /// # Errors
    /// When the table does not answer or cannot be read.
    pub async fn mirror_in_sync_since(&self) -> Result<Option<String>> {
        if self.names == SubjectNames::Policies {
            return Ok(None);
        }
        let engine = &self.installation.engine;
        let table = engine.table(tables::PRODUCER_STATE);
        let state = ProducerState::<DuplicationRows>::to_read(table, engine.clock(), DuplicationProducer::NAME);
        let surveys = state.surveys().await?;
        Ok(surveys.into_iter().filter_map(|survey| survey.record.in_sync).max().map(|at| at.to_string()))
    }

    /// How many entries the last run refused. None of them is a dead letter.
    ///
    /// # Errors
    /// When the table does not answer or cannot be read.
    pub async fn refused_by_last_run(&self) -> Result<u64> {
        let runs = run_record::log_of(&self.installation.engine).list().await?;
        Ok(runs.first().and_then(|(_, head)| head.sums.get("refused").copied()).unwrap_or(0))
    }

    /// How many dead letters wait for a person.
    ///
    /// # Errors
    /// When the table does not answer or cannot be read.
    pub async fn count_open(&self) -> Result<u64> {
        Ok(self.table.count(&filter(false)).await?)
    }

    /// One dead letter.
    ///
    /// # Errors
    /// When there is none of that id.
    pub async fn show(&self, id: &str) -> Result<DeadLetterEntry> {
        Ok(DeadLetterEntry::of(&self.table.get(&DeadLetterId::new(id)).await?, &self.names))
    }

    /// Sends a task again with its count of failures at zero. Returns the queue.
    ///
    /// # Errors
    /// When a person has decided about it already, or its queue does not accept it.
    pub async fn retry(&self, id: &str, by: &str) -> Result<QueueName> {
        let queues = self.installation.engine.queues();
        Ok(self.table.retry(&DeadLetterId::new(id), None, &queues, self.deciding(by)).await?)
    }

    /// Closes a dead letter, with a reason.
    ///
    /// # Errors
    /// When a person has decided about it already.
    pub async fn discard(&self, id: &str, reason: &str, by: &str) -> Result<()> {
        Ok(self.table.discard(&DeadLetterId::new(id), reason, self.deciding(by)).await?)
    }

    fn deciding(&self, by: &str) -> OperatorDecision {
        OperatorDecision { by: by.to_owned(), at: self.installation.engine.clock().now() }
    }
}

fn filter(all: bool) -> DeadLetterFilter {
    DeadLetterFilter { state: (!all).then_some(DeadLetterState::Open.as_str()), ..DeadLetterFilter::default() }
}

/// Closes the dead letters from before a run that left all copies in sync: each item is equal by now, or gone from the source.
/// Those of items that the run refused stay open.
pub(crate) async fn settle(installation: &Installation, took: Duration) {
    let now = installation.engine.clock().now();
    let began = Timestamp::from_millis(now.as_millis().saturating_sub(took.as_millis().try_into().unwrap_or(u64::MAX)));
    let table = installation.dead_letters();
    let is_settled = |letter: &DeadLetter| {
        let is_of_item = letter.kind.as_ref() == Some(&DuplicateTask::KIND);
        let is_refused = letter.subject.as_ref().is_none_or(|subject| installation.refusals.contains(subject));
        letter.at < began && is_of_item && !is_refused
    };
    let closing = async {
        for letter in open_letters(&table).await?.into_iter().filter(is_settled) {
            let decision = OperatorDecision { by: "mill".to_owned(), at: now };
            table.discard(&letter.id, &format!("in sync since the run that began at {began}"), decision).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = closing.await {
        tracing::warn!("a dead letter of an item in sync could not be closed: {error:#}");
    }
}

/// All dead letters that wait for a person.
async fn open_letters(table: &DeadLetters) -> Result<Vec<DeadLetter>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = table.list(&filter(false), after.as_ref(), PAGE).await?;
        found.extend(page.letters);
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// The open dead letters, one sentence each, for a run's summary.
pub async fn open_remarks(installation: &Installation, names: &SubjectNames) -> Result<Vec<String>> {
    Ok(remarks(&open_letters(&installation.dead_letters()).await?, names, !installation.dry_run))
}

/// Of several dead letters with the same subject and reason, only the last is named. `kept`: whether they can be shown later.
fn remarks(letters: &[DeadLetter], names: &SubjectNames, kept: bool) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut last: Vec<&DeadLetter> = letters.iter().rev().collect();
    last.retain(|it| it.subject.is_none() || seen.insert((it.subject.as_deref(), it.reason.as_str())));
    let id = |it: &DeadLetter| kept.then(|| it.id.as_str().to_owned());
    last.iter().rev().map(|it| names.given_up(id(it).as_deref(), it.subject.as_deref(), &it.reason)).collect()
}

#[cfg(test)]
mod tests {
    use mill_model::Timestamp;

    use super::*;

    #[test]
    fn what_was_given_up_twice_for_one_reason_is_named_once() {
        let letter = |id: &str, subject: Option<&str>, reason: &str| DeadLetter {
            id: DeadLetterId::new(id),
            at: Timestamp::default(),
            reason: reason.into(),
            account: None,
            kind: None,
            subject: subject.map(str::to_owned),
            origin: None,
            failures: 5,
            history: Vec::new(),
            body: Vec::new().into(),
            state: DeadLetterState::Open,
        };
        let letters = [
            letter("1", Some("a/s/x"), "damaged"),
            letter("2", Some("a/s/y"), "damaged"),
            letter("3", Some("a/s/x"), "damaged"),
            letter("4", Some("a/s/x"), "too large"),
            letter("5", None, "unreadable"),
            letter("6", None, "unreadable"),
        ];
        let said = remarks(&letters, &SubjectNames::Policies, true);
        let ids: Vec<&str> = said.iter().filter_map(|it| it.rsplit_once(' ')?.1.strip_suffix(')')).collect();
        assert_eq!(ids, ["2", "3", "4", "5", "6"], "{said:?}");
    }
}
