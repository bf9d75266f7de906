//! The head of a delete list: its subject, whether it is granted, and by whom.

use std::fmt;

use mill_model::Timestamp;
use mill_ports::Place;
use serde::{Deserialize, Serialize};

/// The head of a delete list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteListHead {
    /// What vanished.
    pub of: DeletionScope,
    /// When the survey ended, by the host's clock, in milliseconds since 1970. It is shown to people; nothing is
    /// decided by it.
    pub made: u64,
    /// How many ids it names.
    pub count: u64,
    /// How many items the destination had.
    pub items_total: u64,
    /// How many rows it has.
    pub rows: u32,
    /// The SHA-256 of its ids in order, each followed by a zero byte, in hexadecimal.
    pub digest: String,
    /// The places of the source at the survey: path and identity. An id is deleted only while the places on the way to
    /// it are the same.
    pub places: Vec<(String, String)>,
    /// Whether it may be executed.
    pub state: DeleteListState,
}

/// What vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletionScope {
    /// Items of a source space that exists.
    Items,
    /// The source space itself, with all its items.
    Space,
}

/// Whether a list may be executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteListState {
    /// It waits for a person.
    Held {
        /// Why.
        reason: HoldReason,
    },
    /// It may be executed.
    Granted {
        /// Who granted it.
        by: GrantedBy,
        /// When, in milliseconds since 1970.
        at: u64,
    },
    /// It may not be executed any more: what it names is back, another list took its place, or a person withdrew it.
    Withdrawn,
    /// It was executed: each row has its result.
    Done {
        /// Who granted it.
        by: GrantedBy,
        /// How many items were deleted.
        deleted: u64,
    },
}

/// Who granted a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantedBy {
    /// The rule: the items are few enough, and this pair wrote or proved all of them.
    Rule,
    /// A person.
    Person(String),
}

/// Why a list waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldReason {
    /// It names too many ids, counted together with the deletes that the rule granted in the last 24 hours.
    TooMany {
        /// The number of deletes that the rule granted in the last 24 hours.
        unasked_today: u64,
    },
    /// It names copies that Mill neither wrote nor proved equal to an item of this source.
    Unproven {
        /// How many.
        count: u64,
    },
    /// A place of the source above some of its ids has changed or is missing.
    PlaceChanged {
        /// Where it begins, relative to the space; empty for the source's root.
        path: String,
    },
    /// The source space was missing, and some of its items are still missing now that it is back.
    HeldBefore,
    /// The places of the source were never seen before: what is missing may be on a place that is not mounted.
    PlacesUnknown,
    /// A person withdrew an earlier list with some of these ids, without confirming their deletion.
    ListWithdrawn,
    /// More directories of the source were unreadable than can be remembered.
    TooMuchHidden,
    /// The source space itself is missing.
    SpaceMissing {
        /// Since when, in milliseconds since 1970.
        since: u64,
        /// Whether two clocks agree that it has been missing for a day: only then can it be granted.
        for_a_day: bool,
    },
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { unasked_today: 0 } => {
                write!(f, "that is too many, or too large a part of the copy, to delete without asking you")
            }
            Self::TooMany { unasked_today } => {
                write!(
                    f,
                    "{unasked_today} were deleted in the last 24 hours already: together that is too many, or too large a part of \
                     the copy, to delete without asking you"
                )
            }
            Self::Unproven { count } => {
                let were = if *count == 1 { "was" } else { "were" };
                write!(f, "{count} of them {were} neither written by mill nor ever seen at this source")
            }
            Self::PlaceChanged { path } if path.is_empty() => {
                f.write_str("another disk or folder than before stands at the source")
            }
            Self::PlaceChanged { path } => {
                write!(f, "what was mounted at `{path}` of the source is not there, or something else is")
            }
            Self::HeldBefore => f.write_str("they were held before, and are still missing"),
            Self::PlacesUnknown => f.write_str(
                "mill had not seen the disks of this source before, so it cannot know whether one of them is missing",
            ),
            Self::ListWithdrawn => f.write_str("a person dropped the list in which some of them stood"),
            Self::TooMuchHidden => f.write_str("too many folders of the source could not be entered"),
            Self::SpaceMissing { since, for_a_day } => {
                let day = if *for_a_day { "" } else { "; it can be confirmed after a day" };
                write!(f, "the source space itself is missing since {}{day}", Timestamp::from_millis(*since))
            }
        }
    }
}

impl HoldReason {
    /// The reason for which the remaining deletes of a held list stay held.
    #[must_use]
    pub fn still(&self) -> Self {
        match self {
            Self::SpaceMissing { .. } => Self::HeldBefore,
            other => other.clone(),
        }
    }
}

impl DeleteListHead {
    /// The places of the source at the survey.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.places.iter().map(|(path, identity)| Place { path: path.clone(), identity: identity.clone() })
    }

    /// Whether the places on the way to `id` are those of the survey.
    pub fn has_same_places(&self, id: &str, now: &[Place]) -> bool {
        let then = self.places().filter(|place| id.starts_with(&place.path));
        let mut now: Vec<&Place> = now.iter().collect();
        now.sort();
        let mut then: Vec<Place> = then.collect();
        then.sort();
        then.iter().eq(now)
    }

    /// When the survey ended.
    pub fn made_at(&self) -> Timestamp {
        Timestamp::from_millis(self.made)
    }

    /// Whether it may be carried out now.
    pub fn is_granted(&self) -> bool {
        matches!(self.state, DeleteListState::Granted { .. })
    }

    /// Why it waits for a person, if it does.
    pub fn held(&self) -> Option<&HoldReason> {
        match &self.state {
            DeleteListState::Held { reason } => Some(reason),
            _ => None,
        }
    }
}
