//! The rows of the duplication producer. Its morsels are pairs of spaces.

use std::collections::BTreeMap;

use bytes::Bytes;
use mill_model::{AccountId, ContentId, DeleteListId, SpaceId, SpacePair, StoreId, SurveySum, Timestamp};
use serde::{Deserialize, Serialize};

use super::plan_rows::{MorselRow, MorselSubject, PlanRows, SurveyRow};
use super::rows::Record;
use super::{ProducerState, ProducerStateError};
use crate::elapsed::ElapsedTime;
use crate::pair_key::{pair_key, parse_pair_key};
use crate::stored_rows::json;
use crate::versioned::Versioned;

/// The rows of the duplication producer besides its morsels and their surveys.
#[derive(Debug, Default)]
pub struct DuplicationRows {
    /// The source spaces that were missing at the last check.
    pub missing: Vec<Versioned<MissingSpace>>,
}

impl PlanRows for DuplicationRows {
    type Morsel = PairMorsel;
    type Survey = PairSurvey;

    async fn read(state: &ProducerState<Self>, epoch_max: u64) -> Result<Self, ProducerStateError> {
        Ok(Self { missing: state.rows_up_to(epoch_max).await? })
    }

    async fn claim(self, state: &ProducerState<Self>) -> Result<(), ProducerStateError> {
        state.claim(self.missing).await
    }
}

impl MorselSubject for SpacePair {
    fn key(&self) -> String {
        pair_key(self)
    }

    fn parse(key: &str) -> Option<Self> {
        parse_pair_key(key)
    }

    fn account(&self) -> &AccountId {
        &self.account
    }

    fn space(&self) -> &SpaceId {
        &self.space
    }

    fn store(&self) -> &StoreId {
        &self.source
    }

    fn destination(&self) -> Option<&StoreId> {
        Some(&self.destination)
    }
}

/// A morsel: one space of one store policy, and how far the run has come with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairMorsel {
    /// The space and both stores.
    pub pair: SpacePair,
    /// The run it belongs to.
    pub run: u64,
    /// The number of nibbles taken; zero for a fresh morsel.
    pub nibbles: u64,
    /// The progress of its deletes.
    pub deletes: DeleteProgress,
    /// The last content id that was compared and, if necessary, queued.
    pub marker: Option<ContentId>,
    /// When its source was first listed in this run.
    pub began: Option<Timestamp>,
    /// The classes of all entries up to the marker.
    pub sum: SurveySum,
    /// The number of queued items that are not proven to be in sync. The others are queued because the policy compares
    /// everything.
    pub unproven: u64,
}

/// The last complete survey of a morsel, and the time as of which all of it is known to be in sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairSurvey {
    /// The space and both stores.
    pub pair: SpacePair,
    /// The run that made it.
    pub run: u64,
    /// When it began. It saw everything that was at the source by then.
    pub began: Timestamp,
    /// The classes of its entries.
    pub sum: SurveySum,
    /// The number of queued items that listings and sync proofs do not prove to be in sync.
    pub unproven: u64,
    /// Deletes that wait for a person.
    pub held: u64,
    /// The time as of which every entry is known to be in sync, or is reported as not copied; `None` while that is
    /// unknown.
    pub in_sync: Option<Timestamp>,
}

/// The progress of a morsel's deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteProgress {
    /// They are not determined yet.
    Pending,
    /// The tasks of a granted delete list are being queued.
    Sending {
        /// The list.
        list: DeleteListId,
        /// The next step in its order.
        next: u32,
    },
    /// A person must decide; none is queued.
    Held {
        /// The number of deletes.
        count: u64,
        /// The number of items at the destination.
        items_total: u64,
    },
    /// Queued, or there are none.
    Done,
}

/// A source space that a store policy covers and whose store reports that it is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingSpace {
    /// The owner.
    pub account: AccountId,
    /// The source.
    pub store: StoreId,
    /// The space.
    pub space: SpaceId,
    /// When it was first found missing since it last existed.
    pub first: Timestamp,
    /// The last run that found it missing. A run that did not check it breaks the chain.
    pub run: u64,
    /// How long it has been missing, as two clocks agree.
    pub elapsed: ElapsedTime,
}

#[derive(Serialize, Deserialize)]
struct MorselValue {
    epoch: u64,
    run: u64,
    nibbles: u64,
    deletes: DeletesValue,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    marker: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sum: BTreeMap<String, u64>,
    #[serde(default)]
    unproven: Option<u64>,
}

/// A sum by the names of its counters, without those that are zero.
fn written_sum(sum: &SurveySum) -> BTreeMap<String, u64> {
    sum.each().filter(|(_, count)| *count > 0).map(|(counter, count)| (counter.name.to_owned(), count)).collect()
}

fn read_sum(written: &BTreeMap<String, u64>) -> SurveySum {
    SurveySum::read(|name| written.get(name).copied().unwrap_or(0))
}

/// An earlier version did not write it: then none of the queued items counts as proven.
fn read_unproven(written: Option<u64>, sum: &SurveySum) -> u64 {
    written.unwrap_or(sum.queued)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DeletesValue {
    Pending,
    /// Of an earlier version, which kept no lists: read as not determined.
    Confirmed {},
    Sending {
        list: String,
        next: u32,
    },
    Held {
        count: u64,
        items_total: u64,
    },
    Done,
}

impl MorselRow for PairMorsel {
    type Subject = SpacePair;

    fn fresh(pair: SpacePair, run: u64) -> Self {
        let (marker, began, sum) = (None, None, SurveySum::default());
        Self { pair, run, nibbles: 0, deletes: DeleteProgress::Pending, marker, began, sum, unproven: 0 }
    }

    fn subject(&self) -> &SpacePair {
        &self.pair
    }

    fn run(&self) -> u64 {
        self.run
    }

    fn nibbles(&self) -> u64 {
        self.nibbles
    }
}

impl Record for PairMorsel {
    const PREFIX: &str = "morsel/";

    fn sort(&self) -> String {
        format!("{}{}", Self::PREFIX, pair_key(&self.pair))
    }

    fn value(&self, epoch: u64) -> Bytes {
        let text = |id: &ContentId| id.as_str().to_owned();
        let deletes = match &self.deletes {
            DeleteProgress::Pending => DeletesValue::Pending,
            DeleteProgress::Sending { list, next } => DeletesValue::Sending { list: list.to_string(), next: *next },
            DeleteProgress::Held { count, items_total } => {
                DeletesValue::Held { count: *count, items_total: *items_total }
            }
            DeleteProgress::Done => DeletesValue::Done,
        };
        let (run, nibbles) = (self.run, self.nibbles);
        json(&MorselValue {
            epoch,
            run,
            nibbles,
            deletes,
            marker: self.marker.as_ref().map(text),
            began: self.began.map(Timestamp::as_millis),
            sum: written_sum(&self.sum),
            unproven: Some(self.unproven),
        })
    }

    fn read(sort: &str, value: &[u8]) -> Option<Self> {
        let pair = parse_pair_key(sort.strip_prefix(Self::PREFIX)?)?;
        let MorselValue { run, nibbles, deletes, marker, began, sum, unproven, .. } =
            serde_json::from_slice(value).ok()?;
        let deletes = match deletes {
            DeletesValue::Pending | DeletesValue::Confirmed {} => DeleteProgress::Pending,
            DeletesValue::Sending { list, next } => {
                DeleteProgress::Sending { list: DeleteListId::parse(&list).ok()?, next }
            }
            DeletesValue::Held { count, items_total } => DeleteProgress::Held { count, items_total },
            DeletesValue::Done => DeleteProgress::Done,
        };
        let (began, sum) = (began.map(Timestamp::from_millis), read_sum(&sum));
        let unproven = read_unproven(unproven, &sum);
        Some(Self { pair, run, nibbles, deletes, marker: content(marker).ok()?, began, sum, unproven })
    }
}

#[derive(Serialize, Deserialize)]
struct PairSurveyValue {
    epoch: u64,
    run: u64,
    began: u64,
    sum: BTreeMap<String, u64>,
    #[serde(default)]
    unproven: Option<u64>,
    #[serde(default)]
    held: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_sync: Option<u64>,
}

impl SurveyRow for PairSurvey {
    type Subject = SpacePair;

    fn subject(&self) -> &SpacePair {
        &self.pair
    }

    fn run(&self) -> u64 {
        self.run
    }

    fn sum(&self) -> SurveySum {
        self.sum
    }
}

impl Record for PairSurvey {
    const PREFIX: &str = "survey/";

    fn sort(&self) -> String {
        format!("{}{}", Self::PREFIX, pair_key(&self.pair))
    }

    fn value(&self, epoch: u64) -> Bytes {
        let (began, in_sync) = (self.began.as_millis(), self.in_sync.map(Timestamp::as_millis));
        let (sum, unproven) = (written_sum(&self.sum), Some(self.unproven));
        json(&PairSurveyValue { epoch, run: self.run, began, sum, unproven, held: self.held, in_sync })
    }

    fn read(sort: &str, value: &[u8]) -> Option<Self> {
        let pair = parse_pair_key(sort.strip_prefix(Self::PREFIX)?)?;
        let PairSurveyValue { run, began, sum, unproven, held, in_sync, .. } = serde_json::from_slice(value).ok()?;
        let (began, in_sync) = (Timestamp::from_millis(began), in_sync.map(Timestamp::from_millis));
        let sum = read_sum(&sum);
        Some(Self { pair, run, began, sum, unproven: read_unproven(unproven, &sum), held, in_sync })
    }
}

fn content(id: Option<String>) -> Result<Option<ContentId>, mill_model::IdError> {
    id.map(ContentId::new).transpose()
}

#[derive(Serialize, Deserialize)]
struct MissingSpaceValue {
    epoch: u64,
    first: u64,
    run: u64,
    #[serde(default)]
    elapsed: ElapsedTime,
}

impl Record for MissingSpace {
    const PREFIX: &str = "missing/";

    fn sort(&self) -> String {
        let Self { account, store, space, .. } = self;
        [Self::PREFIX, account.as_str(), "/", store.as_str(), "/", space.as_str()].concat()
    }

    fn value(&self, epoch: u64) -> Bytes {
        json(&MissingSpaceValue { epoch, first: self.first.as_millis(), run: self.run, elapsed: self.elapsed.clone() })
    }

    fn read(sort: &str, value: &[u8]) -> Option<Self> {
        let mut ids = sort.strip_prefix(Self::PREFIX)?.splitn(3, '/');
        let MissingSpaceValue { first, run, elapsed, .. } = serde_json::from_slice(value).ok()?;
        Some(Self {
            account: AccountId::new(ids.next()?).ok()?,
            store: StoreId::new(ids.next()?).ok()?,
            space: SpaceId::new(ids.next()?).ok()?,
            first: Timestamp::from_millis(first),
            run,
            elapsed,
        })
    }
}
