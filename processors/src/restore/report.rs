//! What became of the items of a restoration.

use mill_model::{ContentId, PropertyDifference};
use mill_ports::error_chain;

use crate::each_item::{EachItemReport, ItemResult};
use crate::verify::{CopyFault, ItemFinding};

/// The report of a restoration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestorationReport {
    /// Items restored.
    pub copied: u64,
    /// Items that were there already, byte for byte.
    pub unchanged: u64,
    /// How many of both had a sync proof of their bytes.
    pub proven: u64,
    /// Content bytes written.
    pub bytes: u64,
    /// Each item that was not restored, or not as it was proven, and why.
    pub faults: Vec<ItemFinding>,
    /// Each restored item of which its new place does not keep all properties.
    pub not_kept: Vec<ItemFinding>,
}

impl RestorationReport {
    /// Items at the destination whose bytes no sync proof covers.
    pub fn unproven(&self) -> u64 {
        (self.copied + self.unchanged).saturating_sub(self.proven)
    }
}

/// What became of one item.
pub(crate) enum RestoreOutcome {
    /// `lost` is what its new place does not keep of its properties.
    Restored {
        bytes: u64,
        proven: bool,
        lost: Option<PropertyDifference>,
    },
    AlreadyPresent {
        proven: bool,
    },
    Skipped(String),
    RestoredUnproven {
        bytes: u64,
        why: String,
    },
    PresentUnproven(String),
}

impl EachItemReport for RestorationReport {
    type Outcome = RestoreOutcome;

    fn note(&mut self, result: ItemResult<RestoreOutcome>) {
        let (item, why) = match result {
            Ok((id, Ok(outcome))) => match outcome {
                RestoreOutcome::Restored { bytes, proven, lost } => {
                    self.note_restored(bytes, proven);
                    self.not_kept.extend(lost.map(|lost| not_kept(&id, &lost)));
                    return;
                }
                RestoreOutcome::AlreadyPresent { proven } => {
                    self.unchanged += 1;
                    self.proven += u64::from(proven);
                    return;
                }
                RestoreOutcome::RestoredUnproven { bytes, why } => {
                    self.note_restored(bytes, false);
                    (id.to_string(), format!("brought back, but {why}"))
                }
                RestoreOutcome::PresentUnproven(why) => {
                    self.unchanged += 1;
                    (id.to_string(), format!("there already, but {why}"))
                }
                RestoreOutcome::Skipped(why) => (id.to_string(), why),
            },
            Ok((id, Err(error))) => (id.to_string(), error_chain(&error)),
            Err(error) => ("?".to_owned(), error.to_string()),
        };
        self.add_fault(ItemFinding { item, what: CopyFault::NotRestored(why) });
    }

    fn add_fault(&mut self, fault: ItemFinding) {
        self.faults.push(fault);
    }
}

impl RestorationReport {
    fn note_restored(&mut self, bytes: u64, proven: bool) {
        self.copied += 1;
        self.proven += u64::from(proven);
        self.bytes += bytes;
    }
}

impl RestoreOutcome {
    /// The same outcome, but it is not known whether the bytes are those that were copied.
    pub(super) fn unproven_because(self, reason: &str) -> Self {
        self.unproven(&format!("whether its bytes are those that were copied could not be told: {reason}"))
    }

    /// The same outcome, but its bytes are not proven.
    pub(super) fn unproven(self, why: &str) -> Self {
        let why = why.to_owned();
        match self {
            Self::Restored { bytes, lost: Some(PropertyDifference::Property(name)), .. } => {
                Self::RestoredUnproven { bytes, why: format!("{why}; and its property `{name}` is another there") }
            }
            Self::Restored { bytes, .. } => Self::RestoredUnproven { bytes, why },
            Self::AlreadyPresent { .. } => Self::PresentUnproven(why),
            Self::RestoredUnproven { bytes, why: more } => {
                Self::RestoredUnproven { bytes, why: format!("{why}; and {more}") }
            }
            Self::PresentUnproven(_) | Self::Skipped(_) => self,
        }
    }
}

fn not_kept(id: &ContentId, lost: &PropertyDifference) -> ItemFinding {
    let what = match lost {
        PropertyDifference::Property(name) => {
            format!("brought back, but its property `{name}` is not kept there as it was")
        }
        PropertyDifference::Unknown => "brought back, but its properties cannot be read there".to_owned(),
    };
    ItemFinding { item: id.to_string(), what: CopyFault::NotRestored(what) }
}
