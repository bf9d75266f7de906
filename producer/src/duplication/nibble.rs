//! A nibble: the next items of a morsel to be queued, and the other entries that lie between them.

use mill_model::ids::escape_for_display;
use mill_model::{ContentId, SpacePair, SurveySum};
use mill_policy::Compare;
use mill_ports::RefusalReason;
use tracing::warn;

use super::merge::{Merge, MergeError, MergedEntry};
use super::report::{EntryClass, UncopiedEntry};

/// The entries that a merge returned, from one marker to the next.
#[derive(Debug)]
pub(crate) struct Nibble {
    pair: SpacePair,
    /// Whether items that are proven to be in sync are left out.
    compare: Compare,
    /// The items to be queued, with their sizes.
    pub(crate) items: Vec<(ContentId, u64)>,
    /// How many of them are not proven to be in sync.
    pub(crate) unproven: u64,
    /// The last item that was examined.
    pub(crate) last: Option<ContentId>,
    /// How the entries up to `last` were classified. `items` are not counted: they are not queued yet.
    sum: SurveySum,
    /// How the entries after `last` were classified. They are listed again when the listing is reopened at the marker.
    behind: SurveySum,
    /// How many entries up to `last` only the destination has, and how many after it.
    pub(crate) only_in_copy: (u64, u64),
    /// The entries that are not copied, by name, at most `NAMES_MAX`; the log names the others at once.
    named: Vec<UncopiedEntry>,
    /// How many of `named` come after `last`.
    named_behind: usize,
    /// Whether every entry is kept by name, for somebody who wants to know of each.
    names_all: bool,
    /// The items that are unchanged, if every entry is kept by name.
    pub(crate) unchanged: Vec<ContentId>,
    /// Whether the listing ends after it.
    pub(crate) end: bool,
    /// Why the merge failed. The entries before the failure are valid all the same.
    pub(crate) broken: Option<MergeError>,
}

impl Nibble {
    /// How many items in sync are passed per item that may be queued, before the marker is saved and the next morsel has its
    /// turn.
    const UNCHANGED_PER_ITEM: usize = 100;
    /// The most names that are kept until [`Self::settle`].
    const NAMES_MAX: usize = 10_000;

    /// An empty nibble.
    pub(crate) fn new(pair: &SpacePair, compare: Compare) -> Self {
        Self {
            pair: pair.clone(),
            compare,
            items: Vec::new(),
            unproven: 0,
            last: None,
            sum: SurveySum::default(),
            behind: SurveySum::default(),
            only_in_copy: (0, 0),
            named: Vec::new(),
            named_behind: 0,
            names_all: false,
            unchanged: Vec::new(),
            end: false,
            broken: None,
        }
    }

    /// The same, with every entry kept by name.
    pub(crate) fn naming_all(self, names_all: bool) -> Self {
        Self { names_all, ..self }
    }

    /// Collects up to `most` items. The nibble ends after an item or at the end of the listing.
    pub(crate) async fn gather(mut self, merge: &mut Merge, most: usize) -> Self {
        let passed_max = most.saturating_mul(Self::UNCHANGED_PER_ITEM) as u64;
        while self.items.len() < most && self.sum.unchanged + self.sum.refused + self.sum.hidden < passed_max {
            match merge.next().await {
                Ok(Some(found)) => self.add(found, merge),
                Ok(None) => {
                    self.finish(merge);
                    break;
                }
                Err(error) => {
                    self.break_off(error);
                    break;
                }
            }
        }
        self
    }

    /// Adds an entry of the merge. Entries that only the destination has are counted.
    pub(crate) fn add(&mut self, found: MergedEntry, merge: &mut Merge) {
        match found {
            MergedEntry::AtSource { id, size, proof, .. } => {
                if proof.is_complete() && self.compare == Compare::Differences {
                    self.behind.unchanged += 1;
                    if self.names_all {
                        self.unchanged.push(id.clone());
                    }
                } else {
                    self.unproven += u64::from(!proof.is_complete());
                    self.items.push((id.clone(), size));
                }
                self.last = Some(id);
                self.count_passed(merge);
            }
            MergedEntry::PathConflict { id, by } => {
                self.behind.refused += 1;
                let by = format!("`{by}`, which is at the source too: this store can hold one of the two");
                self.name(escape_for_display(id.as_str()), EntryClass::Refused(RefusalReason::PathConflict(by)));
                self.last = Some(id);
                self.count_passed(merge);
            }
            MergedEntry::Refused { shown, reason: RefusalReason::Reserved } => {
                self.behind.ignored += 1;
                self.name(shown, EntryClass::Ignored(RefusalReason::Reserved));
            }
            MergedEntry::Refused { shown, reason } => {
                self.behind.refused += 1;
                self.name(shown, EntryClass::Refused(reason));
            }
            MergedEntry::Hidden { shown } => {
                self.behind.hidden += 1;
                self.name(shown, EntryClass::Hidden);
            }
            MergedEntry::OnlyAtDestination { .. } => self.only_in_copy.1 += 1,
        }
    }

    /// The listing is complete.
    pub(crate) fn finish(&mut self, merge: &mut Merge) {
        self.count_passed(merge);
        self.end = true;
    }

    /// The merge failed. The entries after the last item are listed again later.
    fn break_off(&mut self, error: MergeError) {
        self.named.truncate(self.named.len().saturating_sub(self.named_behind));
        self.broken = Some(error);
    }

    fn count_passed(&mut self, merge: &mut Merge) {
        self.behind.listed = merge.listed_since();
        self.sum += std::mem::take(&mut self.behind);
        self.only_in_copy.0 += std::mem::take(&mut self.only_in_copy.1);
        self.named_behind = 0;
    }

    fn name(&mut self, shown: String, class: EntryClass) {
        let SpacePair { account, source, space, .. } = self.pair.clone();
        let entry = UncopiedEntry { account, source, space, shown, class };
        if self.named.len() < Self::NAMES_MAX || self.names_all {
            self.named_behind += 1;
            self.named.push(entry);
        } else {
            log(&entry);
        }
    }

    /// How many entries that are not copied it holds by name. Unchanged ones are small, and count as one for a hundred.
    pub(crate) fn names(&self) -> usize {
        self.named.len() + self.unchanged.len() / Self::UNCHANGED_PER_ITEM
    }

    /// Returns how its entries were classified once `queued` items are in the queue, and the entries that are not copied.
    pub(crate) fn settle(&mut self, queued: u64) -> (SurveySum, Vec<UncopiedEntry>) {
        let mut sum = std::mem::take(&mut self.sum);
        sum.queued += queued;
        self.named.iter().for_each(log);
        (sum, std::mem::take(&mut self.named))
    }

    /// The content bytes of its items.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().map(|(_, size)| size).sum()
    }
}

fn log(UncopiedEntry { account, source, space, shown, class }: &UncopiedEntry) {
    warn!(target: mill_ports::REPORTED, %account, %space, %source, item = shown, why = %class,
        "an entry of the source is not copied");
}

#[cfg(test)]
mod tests;
