//! The row of what could not be surveyed.

use bytes::Bytes;
use mill_model::{AccountId, SpacePair, StoreAddress, StoreId, Timestamp};
use serde::{Deserialize, Serialize};

use super::rows::{Record, json};
use crate::pair_key::{pair_key, parse_pair_key};

/// What a survey was to be of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SurveySubject {
    /// Which spaces a store has.
    Store(StoreAddress),
    /// One space of one store policy.
    SpacePair(SpacePair),
}

/// That something could not be surveyed since it last was. The row goes with the next survey of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyFailure {
    /// Of what.
    pub subject: SurveySubject,
    /// When that was first so.
    pub first: Timestamp,
    /// When it was last tried.
    pub last: Timestamp,
    /// Why it failed then.
    pub reason: String,
}

impl SurveyFailure {
    pub(super) const PREFIX: &str = "failure/";
}

impl SurveySubject {
    /// Its owner.
    pub fn account(&self) -> &AccountId {
        match self {
            Self::Store(store) => &store.account,
            Self::SpacePair(pair) => &pair.account,
        }
    }

    /// Whether a pair cannot be surveyed where this cannot.
    pub fn concerns(&self, pair: &SpacePair) -> bool {
        match self {
            Self::Store(StoreAddress { account, store }) => {
                *account == pair.account && [&pair.source, &pair.destination].contains(&store)
            }
            Self::SpacePair(of) => of == pair,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct SurveyFailureValue {
    epoch: u64,
    first: u64,
    last: u64,
    #[serde(default)]
    reason: String,
}

impl Record for SurveyFailure {
    fn sort(&self) -> String {
        match &self.subject {
            SurveySubject::Store(StoreAddress { account, store }) => {
                [Self::PREFIX, account.as_str(), "/", store.as_str()].concat()
            }
            SurveySubject::SpacePair(pair) => format!("{}{}", Self::PREFIX, pair_key(pair)),
        }
    }

    fn value(&self, epoch: u64) -> Bytes {
        let (first, last, reason) = (self.first.as_millis(), self.last.as_millis(), self.reason.clone());
        json(&SurveyFailureValue { epoch, first, last, reason })
    }

    fn read(sort: &str, value: &[u8]) -> Option<Self> {
        let ids = sort.strip_prefix(Self::PREFIX)?;
        let subject = match ids.split('/').collect::<Vec<_>>()[..] {
            [account, store] => {
                let (account, store) = (AccountId::new(account).ok()?, StoreId::new(store).ok()?);
                SurveySubject::Store(StoreAddress { account, store })
            }
            _ => SurveySubject::SpacePair(parse_pair_key(ids)?),
        };
        let SurveyFailureValue { first, last, reason, .. } = serde_json::from_slice(value).ok()?;
        Some(Self { subject, first: Timestamp::from_millis(first), last: Timestamp::from_millis(last), reason })
    }
}
