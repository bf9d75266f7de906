//! What a run did, as sums of counters. Each counter is one row of a table here, which gives its name, unit, meaning,
//! addition and written form.
//!
//! Two sums are never mixed ([`RunSum`]). A *survey* puts each entry that a listing of a source names into exactly one
//! class. An *outcome* is what became of an item that the survey queued: one for each item, however often its task was
//! tried. [`WorkCounts`] counts everything else.

use std::ops::AddAssign;

/// A counter, as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Its name, in JSON and in the code. In JSON, counters of one name in several sums are added up.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// What it means.
    pub about: &'static str,
}

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($counter:ident: $unit:literal = $about:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name { $(#[doc = $about] pub $counter: u64,)* }

        impl $name {
            /// Its counters, in order.
            pub const COUNTERS: &'static [Counter] =
                &[$(Counter { name: stringify!($counter), unit: $unit, about: $about },)*];

            /// Each counter and its value, in order.
            pub fn each(&self) -> impl Iterator<Item = (&'static Counter, u64)> {
                Self::COUNTERS.iter().zip([$(self.$counter,)*])
            }

            /// Makes a sum: `read` returns the value of each counter by its name.
            pub fn read(mut read: impl FnMut(&str) -> u64) -> Self {
                Self { $($counter: read(stringify!($counter)),)* }
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$counter += other.$counter;)*
            }
        }
    };
}

counters! {
    /// The classes of the entries that a survey listed.
    SurveySum {
        listed: "entries" = "Entries that listings of sources named";
        unchanged: "items" = "Items that are equal at both sides: by a sync proof, or as their tasks found";
        queued: "items" = "Items that a survey queued, to be compared and copied where they differ";
        refused: "entries" = "Entries that cannot be copied, each named with the reason";
        hidden: "entries" = "Entries of a source that could not be seen or entered; what lies beneath is unknown";
        ignored: "entries" = "Entries of a source that a rule leaves out, each named with the rule";
    }
}

counters! {
    /// What became of the items that were queued. Each is counted once, when its task ends.
    ItemOutcomes {
        copied: "items" = "Items that were missing at the destination and now are there";
        updated: "items" = "Items that were there and now have the source's bytes, properties or spelling";
        unchanged: "items" = "Items that are equal at both sides: by a sync proof, or as their tasks found";
        vanished: "items" = "Items that were gone at the source when their turn came, after they had been listed there";
        refused: "items" = "Entries that cannot be copied, each named with the reason";
        unread: "items" = "Items that only their bytes decide, which a dry run does not read; a run reads and compares them";
        dropped: "items" = "Items that no policy asked for any more when their turn came";
        dead_lettered: "tasks" = "Tasks and unreadable messages that were dead-lettered";
    }
}

counters! {
    /// What else was done.
    WorkCounts {
        deleted: "items" = "Items removed from a destination";
        held: "items" = "Deletes held back until a person confirms them";
        left_out: "entries" = "Spaces and entries beside spaces that a rule leaves out, each named with the rule";
        failed: "executions" = "Executions that failed (a task may fail and succeed later)";
        dead_lettered: "tasks" = "Tasks and unreadable messages that were dead-lettered";
        bytes: "bytes" = "Content bytes written to destinations";
        storage_classes_left: "items" = "Items copied whose source has a storage class that the copy does not get";
        encryption_keys_left: "items" = "Items copied whose source is encrypted with a key that the copy does not get";
        locks_left: "items" = "Items copied whose source has a lock or a legal hold that the copy does not get";
        tags_left: "items" = "Items copied whose source has tags that the copy does not get";
        owners_left: "items" = "Items copied whose source belongs to another user than the copy";
        access_lists_left: "items" = "Items copied whose source has an access list that the copy does not get";
        attributes_left: "items" = "Items copied whose source has extended attributes that the copy does not get";
        hard_links_left: "items" = "Items copied whose source has further names (hard links); the copy is a file of its own";
    }
}

/// What became of one item that was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemOutcome {
    /// It was equal at both sides.
    Unchanged,
    /// It existed and now has the source's bytes, properties or spelling.
    Updated,
    /// It was missing at the destination and is now there.
    Copied,
    /// It was gone at the source when its task ran.
    Vanished,
    /// It cannot be copied.
    Refused,
    /// Only its bytes tell whether it is equal, and a dry run reads none.
    Unread,
    /// No policy covers it any more.
    Dropped,
    /// Its task failed for good.
    DeadLettered,
}

impl ItemOutcomes {
    /// Counts one.
    pub fn add(&mut self, outcome: ItemOutcome) {
        *match outcome {
            ItemOutcome::Unchanged => &mut self.unchanged,
            ItemOutcome::Updated => &mut self.updated,
            ItemOutcome::Copied => &mut self.copied,
            ItemOutcome::Vanished => &mut self.vanished,
            ItemOutcome::Refused => &mut self.refused,
            ItemOutcome::Unread => &mut self.unread,
            ItemOutcome::Dropped => &mut self.dropped,
            ItemOutcome::DeadLettered => &mut self.dead_lettered,
        } += 1;
    }

    /// The number of items.
    pub fn items(&self) -> u64 {
        self.each().map(|(_, count)| count).sum()
    }
}

/// Entries were listed that fell into no class, or into more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{listed} entries were listed at the source, and {explained} are accounted for")]
pub struct SumMismatch {
    /// How many were listed.
    pub listed: u64,
    /// How many are unchanged, queued, refused, hidden or ignored.
    pub explained: u64,
}

impl SurveySum {
    /// Checks that each entry fell into exactly one class.
    ///
    /// # Errors
    /// [`SumMismatch`] when the classes do not add up to the number of listed entries.
    pub fn check(&self) -> Result<(), SumMismatch> {
        let Self { listed, unchanged, queued, refused, hidden, ignored } = *self;
        let explained = unchanged + queued + refused + hidden + ignored;
        if listed == explained { Ok(()) } else { Err(SumMismatch { listed, explained }) }
    }
}

/// What a run has to account for: what its survey listed, and what became of what it queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunSum {
    /// The survey's sum.
    pub survey: SurveySum,
    /// The outcomes of the items that the survey queued.
    pub outcomes: ItemOutcomes,
}

/// What a run's sum proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Each entry that was listed is equal at both sides, or was named as one that is not copied.
    Complete,
    /// The outcome of each item is known, and not all of them are in sync.
    NotAll,
    /// The outcomes of some queued items are not known here.
    Open {
        /// How many.
        items: u64,
    },
    /// The sum itself is wrong.
    SumMismatch(SumMismatch),
}

impl RunSum {
    /// What the sum proves.
    pub fn evidence(&self) -> Evidence {
        if let Err(unexplained) = self.survey.check() {
            return Evidence::SumMismatch(unexplained);
        }
        let (queued, ended) = (self.survey.queued, self.outcomes.items());
        if ended > queued {
            return Evidence::SumMismatch(SumMismatch { listed: queued, explained: ended });
        }
        if ended < queued {
            return Evidence::Open { items: queued - ended };
        }
        let ItemOutcomes { vanished, unread, dropped, dead_lettered, .. } = self.outcomes;
        if vanished + unread + dropped + dead_lettered > 0 { Evidence::NotAll } else { Evidence::Complete }
    }

    /// How many of the listed entries are finished, for progress. Never more than were listed.
    pub fn done(&self) -> u64 {
        let SurveySum { listed, queued, .. } = self.survey;
        listed.saturating_sub(queued.saturating_sub(self.outcomes.items()))
    }
}

/// All that a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunTotals {
    /// What its survey listed, and the outcomes.
    pub sum: RunSum,
    /// What else was done.
    pub work: WorkCounts,
}

impl AddAssign for RunTotals {
    fn add_assign(&mut self, other: Self) {
        self.sum.survey += other.sum.survey;
        self.sum.outcomes += other.sum.outcomes;
        self.work += other.work;
    }
}

impl RunTotals {
    /// Each counter, in order; counters of one name are added up.
    pub fn each(&self) -> Vec<(&'static Counter, u64)> {
        let mut all: Vec<(&'static Counter, u64)> = Vec::new();
        for (counter, count) in self.sum.survey.each().chain(self.sum.outcomes.each()).chain(self.work.each()) {
            match all.iter_mut().find(|(known, _)| known.name == counter.name) {
                Some((_, sum)) => *sum += count,
                None => all.push((counter, count)),
            }
        }
        all
    }

    /// Items found to be equal at both sides.
    pub fn unchanged(&self) -> u64 {
        self.sum.survey.unchanged + self.sum.outcomes.unchanged
    }

    /// Entries that cannot be copied.
    pub fn refused(&self) -> u64 {
        self.sum.survey.refused + self.sum.outcomes.refused
    }

    /// Tasks and messages that were dead-lettered.
    pub fn dead_lettered(&self) -> u64 {
        self.sum.outcomes.dead_lettered + self.work.dead_lettered
    }

    /// Items examined, at either side.
    pub fn examined(&self) -> u64 {
        let ItemOutcomes { copied, updated, unchanged, vanished, refused, .. } = self.sum.outcomes;
        self.sum.survey.unchanged + copied + updated + unchanged + vanished + refused
    }

    /// Whether anything at a destination was changed.
    pub fn changed(&self) -> bool {
        self.sum.outcomes.copied + self.sum.outcomes.updated + self.work.deleted > 0
    }
}

#[cfg(test)]
mod tests;
