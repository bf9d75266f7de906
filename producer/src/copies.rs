//! A nibble of copies: the next items of a morsel that are to be queued, and what else stands between them.

use mill_model::ids::escape_for_display;
use mill_model::{ContentId, SurveySum};
use mill_policy::Compare;
use mill_ports::RefusalReason;
use mill_records::sync_proofs::SpacePair;
use tracing::warn;

use crate::merge::{Found, Merge, MergeError};
use crate::report::{EntryClass, NamedEntry};

/// What was gathered from a merge, from one marker to the next.
#[derive(Debug)]
pub(crate) struct Nibble {
    pair: SpacePair,
    /// Whether it leaves out what is proven to be in sync.
    compare: Compare,
    /// The items to be queued, with their sizes.
    pub(crate) items: Vec<(ContentId, u64)>,
    /// How many of them are not proven to be in sync.
    pub(crate) unproven: u64,
    /// The last item that was looked at.
    pub(crate) last: Option<ContentId>,
    /// What was made of all entries up to that item. The items are not queued yet, and not in it.
    sum: SurveySum,
    /// What was made of the entries behind it: they are listed again when the listing is opened anew.
    behind: SurveySum,
    /// The entries that are not copied, by name; more than can be kept are in the log already.
    named: Vec<NamedEntry>,
    /// How many of them stand behind the last item.
    named_behind: usize,
    /// Whether nothing comes behind it.
    pub(crate) end: bool,
    /// Why nothing more can be gathered. What was gathered before is true all the same.
    pub(crate) broken: Option<MergeError>,
}

impl Nibble {
    /// So many items proven in sync are passed for each one that may be queued, before the marker is saved and the
    /// next morsel has its turn.
    const UNCHANGED_PER_ITEM: usize = 100;
    /// Most names that are kept until the nibble is settled.
    const NAMES_MAX: usize = 10_000;

    /// With nothing in it.
    pub(crate) fn new(pair: &SpacePair, compare: Compare) -> Self {
        Self {
            pair: pair.clone(),
            compare,
            items: Vec::new(),
            unproven: 0,
            last: None,
            sum: SurveySum::default(),
            behind: SurveySum::default(),
            named: Vec::new(),
            named_behind: 0,
            end: false,
            broken: None,
        }
    }

    /// The same with up to `most` items gathered. It ends behind an item, or at the end.
    pub(crate) async fn gather(mut self, merge: &mut Merge, most: usize) -> Self {
        let passed_max = most.saturating_mul(Self::UNCHANGED_PER_ITEM) as u64;
        while self.items.len() < most && self.sum.unchanged + self.sum.refused + self.sum.hidden < passed_max {
            match merge.next().await {
                Ok(Some(found)) => self.add(found, merge),
                Ok(None) => {
                    self.ends(merge);
                    break;
                }
                Err(error) => {
                    self.breaks(error);
                    break;
                }
            }
        }
        self
    }

    /// Takes in what a merge found. What only the destination has is not a nibble's business.
    pub(crate) fn add(&mut self, found: Found, merge: &mut Merge) {
        match found {
            Found::AtSource { id, size, proof, .. } => {
                if proof.is_complete() && self.compare == Compare::Differences {
                    self.behind.unchanged += 1;
                } else {
                    self.unproven += u64::from(!proof.is_complete());
                    self.items.push((id.clone(), size));
                }
                self.last = Some(id);
                self.pass(merge);
            }
            Found::Crowded { id, by } => {
                self.behind.refused += 1;
                let by = format!("`{by}`, which is at the source too: this store can hold one of the two");
                self.name(escape_for_display(id.as_str()), EntryClass::Refused(RefusalReason::PathConflict(by)));
                self.last = Some(id);
                self.pass(merge);
            }
            Found::Refused { shown, reason: RefusalReason::Reserved } => {
                self.behind.ignored += 1;
                self.name(shown, EntryClass::Ignored(RefusalReason::Reserved));
            }
            Found::Refused { shown, reason } => {
                self.behind.refused += 1;
                self.name(shown, EntryClass::Refused(reason));
            }
            Found::Hidden { shown } => {
                self.behind.hidden += 1;
                self.name(shown, EntryClass::Hidden);
            }
            Found::OnlyAtDestination { .. } => {}
        }
    }

    /// Nothing comes any more.
    pub(crate) fn ends(&mut self, merge: &mut Merge) {
        self.pass(merge);
        self.end = true;
    }

    /// Nothing more is known. What stands behind the last item is met again.
    fn breaks(&mut self, error: MergeError) {
        self.named.truncate(self.named.len().saturating_sub(self.named_behind));
        self.broken = Some(error);
    }

    fn pass(&mut self, merge: &mut Merge) {
        self.behind.listed = merge.listed_since();
        self.sum += std::mem::take(&mut self.behind);
        self.named_behind = 0;
    }

    fn name(&mut self, shown: String, class: EntryClass) {
        let SpacePair { account, source, space, .. } = self.pair.clone();
        let entry = NamedEntry { account, source, space, shown, class };
        if self.named.len() < Self::NAMES_MAX {
            self.named_behind += 1;
            self.named.push(entry);
        } else {
            log(&entry);
        }
    }

    /// How many entries that are not copied it keeps by name.
    pub(crate) fn names(&self) -> usize {
        self.named.len()
    }

    /// What was made of its entries, so many of its items being in the queue; and those that are not copied, by name.
    pub(crate) fn settled(&mut self, queued: u64) -> (SurveySum, Vec<NamedEntry>) {
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

fn log(NamedEntry { account, source, space, shown, class }: &NamedEntry) {
    warn!(%account, %space, %source, item = shown, why = %class, "an entry of the source is not copied");
}

#[cfg(test)]
mod tests;
