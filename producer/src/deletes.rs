//! What only the destination has: whether it may be deleted unasked, and no more of it in memory than that.

use mill_model::ContentId;
use mill_model::ids::shown;
use mill_ports::{Planted, planted};

use crate::copies::Nibble;
use crate::merge::{Found, Merge, MergeError};

/// More deletes of one pass than this are held, whatever their share.
const UNASKED_MAX: u64 = 1_000;
/// So few are not held, unless they are the whole space.
const FEW: u64 = 20;
/// More than this share of the destination's items, in percent, is held if they are more than a few.
const SHARE_PERCENT: u64 = 1;

/// Whether `count` deletes out of `items_total` items wait for a person.
pub(crate) fn are_too_many(count: u64, items_total: u64) -> bool {
    let large_share = count.saturating_mul(100) > items_total.saturating_mul(SHARE_PERCENT);
    if planted(Planted::DeleteThresholdOff) {
        return false;
    }
    count > UNASKED_MAX || (count > FEW && large_share) || (count > 0 && count >= items_total)
}

/// Both sides of a space, gone through from end to end.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Items that only the destination has: at most one more than may be queued unasked.
    pub(crate) vanished: Vec<ContentId>,
    /// How many there are.
    pub(crate) count: u64,
    /// How many items the destination has.
    pub(crate) items_total: u64,
    /// What there is to copy, when it is no more than one nibble: then the space need not be listed once more.
    pub(crate) copies: Option<Nibble>,
}

impl Survey {
    /// Goes through a merge from its beginning to its end: both listings are complete, or it is an error.
    ///
    /// With `copies_max`, up to so many items to copy are kept too; the merge must have the seals then.
    pub(crate) async fn of(merge: &mut Merge, copies_max: Option<usize>) -> Result<Self, MergeError> {
        if merge.destination_is_over().await? {
            return Ok(Self::default());
        }
        let mut survey = Self { copies: copies_max.map(|_| Nibble::default()), ..Self::default() };
        let most = copies_max.unwrap_or(0);
        let mut hidden = Hidden::default();
        while let Some(found) = merge.next().await? {
            match &found {
                // It comes after what may hide it: a directory's name with a slash is before all that lies in it.
                Found::OnlyAtDestination { id } if hidden.may_hide(id) => continue,
                Found::OnlyAtDestination { id } => {
                    survey.count += 1;
                    if survey.count <= UNASKED_MAX + 1 {
                        survey.vanished.push(id.clone());
                    }
                    continue;
                }
                Found::Refused { shown, .. } | Found::Hidden { shown } => hidden.add(shown),
                Found::AtSource { .. } => {}
            }
            if let Some(copies) = &mut survey.copies {
                copies.add(found);
                if copies.items.len() > most || copies.refused.len() > most {
                    survey.copies = None;
                }
            }
        }
        survey.items_total = merge.items_at_destination();
        survey.vanished.retain(|id| !hidden.may_hide(id));
        if let Some(copies) = &mut survey.copies {
            copies.end = true;
        }
        Ok(survey)
    }
}

/// Items that only the destination has, behind a marker, of a pass that a person confirmed.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    pub(crate) items: Vec<ContentId>,
    pub(crate) end: bool,
}

impl Confirmed {
    /// Gathers up to `most` items.
    pub(crate) async fn gather(merge: &mut Merge, most: usize) -> Result<Self, MergeError> {
        let mut confirmed = Self::default();
        let mut hidden = Hidden::default();
        while confirmed.items.len() < most {
            match merge.next().await? {
                Some(Found::OnlyAtDestination { id }) if !hidden.may_hide(&id) => confirmed.items.push(id),
                Some(Found::Refused { shown, .. } | Found::Hidden { shown }) => hidden.add(&shown),
                Some(_) => {}
                None => {
                    confirmed.end = true;
                    break;
                }
            }
        }
        Ok(confirmed)
    }
}

/// Entries of the source that cannot be items. What stands beneath one, an unreadable directory perhaps, is not known
/// to be gone. (The processor asks the source for each item too; this spares it the asking.)
#[derive(Debug, Default)]
struct Hidden(Vec<String>);

impl Hidden {
    const KEPT_MAX: usize = 1_000;

    fn add(&mut self, shown: &str) {
        if self.0.len() < Self::KEPT_MAX {
            self.0.push(shown.trim_end_matches('/').to_owned());
        }
    }

    fn may_hide(&self, id: &ContentId) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let id = shown(id.as_str());
        self.0.iter().any(|hidden| match id.strip_prefix(&**hidden) {
            // A name too long to be shown whole ends in `…`; of all that begin like it, none is known to be gone.
            Some(rest) => rest.is_empty() || rest.starts_with(['/', '…']),
            None => false,
        })
    }
}
