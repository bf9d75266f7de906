//! Scans both sides of a space for items that only the destination has, and decides whether they may be deleted unasked.

use std::collections::BTreeSet;

use mill_model::ContentId;
use mill_model::ids::escape_for_display;
use mill_ports::Place;
use mill_records::delete_lists::rows::IdsDigest;
use mill_records::delete_lists::{DeletePairState, DeleteThresholds, HoldReason, ListedId};
use mill_records::sync_proofs::VersionDigest;

use super::merge::{Merge, MergeError, MergedEntry};
use super::nibble::Nibble;
use super::respelled_items::RespelledItems;

/// The result of a complete scan.
#[derive(Debug, Default)]
pub(crate) struct DeleteScan {
    /// Items that only the destination has, at most one more than may be deleted unasked.
    pub(crate) vanished: Vec<ListedId>,
    /// How many such items there are.
    pub(crate) count: u64,
    /// One checksum over their ids.
    pub(crate) digest: String,
    /// How many of them this pair neither wrote nor proved equal.
    pub(crate) unproven: u64,
    /// How many items the destination has.
    pub(crate) items_total: u64,
    /// The places of the source.
    pub(crate) places: Vec<Place>,
    /// Whether the source has more unreadable entries than could be remembered.
    pub(crate) too_much_hidden: bool,
    /// The parts of the source that could not be read.
    hidden: UnreadablePrefixes,
    /// Items of the source that the destination may have under another spelling.
    pub(crate) respelled: RespelledItems,
    /// Items that do not count as vanished for that reason.
    excused: PossibleTwins,
    /// The items to copy, if they fit into one nibble. Then the space need not be listed again.
    pub(crate) copies: Option<Nibble>,
}

impl DeleteScan {
    /// Reads a whole merge. Fails unless both listings are complete.
    ///
    /// Keeps at most `keep_max` vanished items. With `copies`, a nibble and its most items, collects the items to copy too.
    /// An item that is only `respelled` has not vanished.
    pub(crate) async fn of(
        merge: &mut Merge,
        (keep_max, copies): (u64, Option<(Nibble, usize)>),
        respelled: RespelledItems,
    ) -> Result<Self, MergeError> {
        let (copies, most) = copies.unzip();
        let mut survey = Self { copies, ..Self::default() };
        let most = most.unwrap_or(0);
        let mut digest = IdsDigest::default();
        let mut vanishing = VanishedFilter::new(respelled);
        while let Some(found) = merge.next().await? {
            if let Some((listed, ours)) = vanishing.vanished_item(&found) {
                survey.count += 1;
                survey.unproven += u64::from(!ours);
                digest.add(&listed.id);
                if survey.count <= keep_max {
                    survey.vanished.push(listed);
                }
            }
            if let Some(copies) = &mut survey.copies {
                copies.add(found, merge);
                if copies.items.len() > most || copies.names() > most {
                    survey.copies = None;
                }
            }
        }
        survey.digest = digest.finish();
        survey.items_total = merge.items_at_destination();
        survey.places = merge.source_places().to_vec();
        // An unreadable prefix comes before the items beneath it. If one comes late, items beneath it were counted already.
        let late = survey.vanished.iter().any(|listed| vanishing.hidden.may_hide(&listed.id));
        survey.too_much_hidden = vanishing.hidden.overflowed || late;
        survey.hidden = vanishing.hidden;
        (survey.respelled, survey.excused) = (vanishing.respelled, vanishing.excused);
        if let Some(copies) = &mut survey.copies {
            copies.finish(merge);
        }
        Ok(survey)
    }

    /// Why a person must decide about the vanished items; `None` if the rule grants their deletion. `changed`: the changed
    /// places beneath which items vanished; `None` if no places are known from before.
    pub(crate) fn hold_reason(
        &self,
        thresholds: &DeleteThresholds,
        unasked_today: u64,
        changed: Option<&[String]>,
    ) -> Option<HoldReason> {
        let Some(changed) = changed else { return Some(HoldReason::PlacesUnknown) };
        if let Some(path) = changed.first() {
            return Some(HoldReason::PlaceChanged { path: path.clone() });
        }
        if self.too_much_hidden {
            return Some(HoldReason::TooMuchHidden);
        }
        if thresholds.are_exceeded(self.count, unasked_today, self.items_total) {
            return Some(HoldReason::TooMany { unasked_today });
        }
        (self.unproven > 0).then_some(HoldReason::Unproven { count: self.unproven })
    }

    /// Whether there are items that may or may not have vanished.
    pub(crate) fn has_unknown(&self) -> bool {
        !self.hidden.names.is_empty() || !self.excused.ids.is_empty()
    }

    /// Whether an item that the source did not list may be there all the same: in an unreadable part, or under another
    /// spelling.
    pub(crate) fn may_be_there(&self, id: &ContentId) -> bool {
        self.hidden.may_hide(id) || self.excused.may_hold(id)
    }

    /// The paths of changed places beneath which items vanished. If not all vanished items are kept, every changed place
    /// counts.
    pub(crate) fn changed_beneath(&self, state: &DeletePairState) -> Vec<String> {
        let all_kept = self.vanished.len() as u64 == self.count;
        let mut changed = state.changed_places(&self.places);
        changed.retain(|path| {
            let beneath = self.vanished.iter().any(|listed| listed.id.as_str().starts_with(path.as_str()));
            beneath || (!all_kept && self.count > 0)
        });
        changed
    }
}

/// Selects the vanished items from the entries of a merge.
#[derive(Debug, Default)]
pub(crate) struct VanishedFilter {
    hidden: UnreadablePrefixes,
    respelled: RespelledItems,
    excused: PossibleTwins,
}

impl VanishedFilter {
    pub(crate) fn new(respelled: RespelledItems) -> Self {
        Self { respelled, ..Self::default() }
    }

    /// Returns the item if it vanished, and whether this pair wrote it or proved it equal.
    pub(crate) fn vanished_item(&mut self, found: &MergedEntry) -> Option<(ListedId, bool)> {
        match found {
            MergedEntry::OnlyAtDestination { id, size, version, ours, no_twin } if !self.hidden.may_hide(id) => {
                if !no_twin && self.respelled.may_have(id, *size) {
                    self.excused.add(id);
                    return None;
                }
                Some((ListedId { id: id.clone(), seen: VersionDigest::of(version) }, *ours))
            }
            MergedEntry::Refused { shown, .. } | MergedEntry::Hidden { shown } => {
                self.hidden.add(shown);
                None
            }
            MergedEntry::OnlyAtDestination { .. } | MergedEntry::AtSource { .. } | MergedEntry::PathConflict { .. } => {
                None
            }
        }
    }
}

/// Items that the source may have under another spelling. Whether it does is unknown until their tasks have read both, so a
/// hold on them does not end.
#[derive(Debug, Default)]
struct PossibleTwins {
    ids: BTreeSet<ContentId>,
    overflowed: bool,
}

impl PossibleTwins {
    const IDS_MAX: usize = 1_000;

    fn add(&mut self, id: &ContentId) {
        if self.ids.len() < Self::IDS_MAX {
            self.ids.insert(id.clone());
        } else {
            self.overflowed = true;
        }
    }

    fn may_hold(&self, id: &ContentId) -> bool {
        self.overflowed || self.ids.contains(id)
    }
}

/// Entries of the source that cannot be items, such as unreadable directories. Items beneath one are not known to be gone.
#[derive(Debug, Default)]
struct UnreadablePrefixes {
    names: Vec<String>,
    overflowed: bool,
}

impl UnreadablePrefixes {
    const NAMES_MAX: usize = 1_000;

    fn add(&mut self, shown: &str) {
        if self.names.len() < Self::NAMES_MAX {
            self.names.push(shown.trim_end_matches('/').to_owned());
        } else {
            self.overflowed = true;
        }
    }

    fn may_hide(&self, id: &ContentId) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let id = escape_for_display(id.as_str());
        self.names.iter().any(|hidden| match id.strip_prefix(&**hidden) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        })
    }
}
