//! The tasks that one run sent and that have not ended yet. Each task's end is counted once, however often it was tried
//! or delivered.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use mill_model::{ItemOutcome, ItemOutcomes, Task, TaskId};

/// A hash of a task's content: tasks with the same content are about the same item.
pub type SubjectHash = u64;

/// A task that was settled and acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct EndedTask {
    /// Its id.
    pub id: TaskId,
    /// What became of its item, if it was about one.
    pub outcome: Option<ItemOutcome>,
    /// What it was about, if [the statistics need it](crate::Statistics::asks_for_subject).
    pub subject: Option<SubjectHash>,
}

/// How the outcome of a task is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedAs {
    /// With the outcomes of this run.
    OfRun(ItemOutcome),
    /// With those of tasks that another run had sent.
    OfOthers(ItemOutcome),
}

/// Tracks the tasks of one run, from before they are sent until they have ended.
#[derive(Debug, Default)]
pub struct RunTasks {
    follows: bool,
    /// Whether the tracked run has begun.
    begun: bool,
    /// The open tasks, and whether each is about an item.
    open: BTreeMap<TaskId, bool>,
    outcomes: ItemOutcomes,
    others: ItemOutcomes,
    /// Items that tasks of an earlier run changed during this one. This run's own task for such an item finds it equal.
    changed_before: BTreeMap<SubjectHash, ItemOutcome>,
}

impl RunTasks {
    /// The most tasks that are remembered. Without a limit, a run whose tasks end in other processes would fill the
    /// memory.
    const OPEN_MAX: usize = 500_000;

    /// Tracks the tasks of the next run.
    pub(crate) fn follow(&mut self) {
        self.follows = true;
    }

    /// Begins a run. Tasks sent before count as another run's.
    pub(crate) fn begin_run(&mut self) {
        self.begun = true;
        self.open.clear();
        self.others += std::mem::take(&mut self.outcomes);
    }

    /// Records a task that is about to be sent.
    pub(crate) fn open(&mut self, id: TaskId, of_item: bool) {
        if !self.follows || !self.begun {
            return;
        }
        // The end of a task that is not remembered counts as another run's, so that this run's sum stays open.
        if self.open.len() < Self::OPEN_MAX {
            self.open.insert(id, of_item);
        }
    }

    /// Whether a task is one of this run's, about an item, and has not ended.
    pub(crate) fn is_open_item(&self, id: &TaskId) -> bool {
        self.open.get(id) == Some(&true)
    }

    /// Whether [`EndedTask::subject`] is needed when this task ends.
    pub(crate) fn asks_for_subject(&self, id: &TaskId) -> bool {
        self.follows && (!self.changed_before.is_empty() || !self.open.contains_key(id))
    }

    /// How the outcome of a task would be counted if it ended now. A process that tracks no run counts all alike.
    pub(crate) fn counts_as(&self, ended: &EndedTask) -> Option<CountedAs> {
        let outcome = ended.outcome?;
        if !self.follows || outcome == ItemOutcome::DeadLettered {
            return Some(CountedAs::OfRun(outcome));
        }
        match self.open.get(&ended.id) {
            None => Some(CountedAs::OfOthers(outcome)),
            Some(false) => None,
            Some(true) => {
                let before = ended.subject.and_then(|subject| self.changed_before.get(&subject));
                Some(CountedAs::OfRun(of_this_run(outcome, before.copied())))
            }
        }
    }

    /// Counts a task that has ended.
    pub(crate) fn end(&mut self, EndedTask { id, outcome, subject }: EndedTask) {
        let Some(of_item) = self.open.remove(&id) else {
            // Dead letters are counted when they are sent, whichever run sent the task.
            let Some(outcome) = outcome.filter(|outcome| *outcome != ItemOutcome::DeadLettered) else { return };
            self.others.add(outcome);
            if let (Some(subject), ItemOutcome::Copied | ItemOutcome::Updated) = (subject, outcome)
                && self.changed_before.len() < Self::OPEN_MAX
            {
                self.changed_before.entry(subject).and_modify(|known| *known = outcome.max(*known)).or_insert(outcome);
            }
            return;
        };
        let Some(outcome) = outcome.filter(|_| of_item) else { return };
        let before = subject.and_then(|subject| self.changed_before.remove(&subject));
        self.outcomes.add(of_this_run(outcome, before));
    }

    /// The outcomes of this run's items.
    pub(crate) fn outcomes(&self) -> ItemOutcomes {
        self.outcomes
    }

    /// The outcomes of items whose tasks are not this run's, or are not tracked.
    pub(crate) fn others(&self) -> ItemOutcomes {
        self.others
    }
}

/// The outcome of an item in this run. What a task of an earlier run did to it `before`, within this run, is this run's too.
fn of_this_run(outcome: ItemOutcome, before: Option<ItemOutcome>) -> ItemOutcome {
    before.filter(|_| outcome == ItemOutcome::Unchanged).unwrap_or(outcome)
}

/// The hash of what a task is about.
pub fn subject_of(task: &Task) -> SubjectHash {
    let mut hasher = DefaultHasher::new();
    task.kind.hash(&mut hasher);
    task.account.hash(&mut hasher);
    // The members are sorted by name.
    for (member, value) in &task.detail {
        (member, value.to_string()).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use mill_model::Timestamp;

    use super::*;

    fn id(number: u8) -> TaskId {
        TaskId::new(Timestamp::from_millis(0), [number; 10])
    }

    fn ended(number: u8, outcome: ItemOutcome) -> EndedTask {
        EndedTask { id: id(number), outcome: Some(outcome), subject: Some(u64::from(number % 100)) }
    }

    #[test]
    fn a_task_counts_once_however_often_it_ends() {
        let mut ledger = RunTasks::default();
        ledger.follow();
        ledger.begin_run();
        ledger.open(id(1), true);
        ledger.open(id(2), false);
        for _ in 0..3 {
            ledger.end(ended(1, ItemOutcome::Copied));
            ledger.end(EndedTask { id: id(2), outcome: None, subject: None });
        }
        assert_eq!(ledger.outcomes(), ItemOutcomes { copied: 1, ..ItemOutcomes::default() });
        assert_eq!(ledger.others().copied, 2, "seen, but not of this run any more");
    }

    #[test]
    fn tasks_of_an_earlier_run_are_no_items_of_this_one() {
        let mut ledger = RunTasks::default();
        ledger.follow();
        ledger.open(id(101), true);
        ledger.begin_run();
        (1..=3).for_each(|number| ledger.open(id(number), true));
        // The first ended for the earlier run and copied; this run's own for the same item finds it equal.
        ledger.end(ended(101, ItemOutcome::Copied));
        ledger.end(ended(1, ItemOutcome::Unchanged));
        ledger.end(ended(2, ItemOutcome::Updated));
        assert_eq!(ledger.outcomes(), ItemOutcomes { copied: 1, updated: 1, ..ItemOutcomes::default() });
        assert_eq!(ledger.outcomes().items(), 2, "the third is still open");
        ledger.begin_run();
        assert_eq!(ledger.outcomes(), ItemOutcomes::default());
        ledger.end(ended(3, ItemOutcome::Copied));
        assert_eq!(ledger.outcomes(), ItemOutcomes::default());
        assert_eq!(ledger.others().items(), 4);
    }

    #[test]
    fn tasks_are_about_the_same_where_they_ask_for_the_same() {
        let task = |item: &str| {
            let mut detail = serde_json::Map::new();
            detail.insert("space".into(), "s".into());
            detail.insert("item".into(), item.into());
            Task {
                kind: mill_model::TaskKind::new("duplicate"),
                account: mill_model::AccountId::new("a").unwrap(),
                detail,
            }
        };
        assert_eq!(subject_of(&task("x")), subject_of(&task("x")));
        assert_ne!(subject_of(&task("x")), subject_of(&task("y")));
    }
}
