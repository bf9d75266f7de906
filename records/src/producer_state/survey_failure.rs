//! The row of what could not be surveyed.

use bytes::Bytes;
use mill_model::{AccountId, StoreAddress, StoreId, Timestamp};
use serde::{Deserialize, Serialize};

use super::plan_rows::MorselSubject;
use super::rows::{Record, json};

/// What a survey was to be of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SurveySubject<S> {
    /// Which spaces a store has.
    Store(StoreAddress),
    /// What a morsel is about.
    Morsel(S),
}

/// That something could not be surveyed since it last was. The row goes with the next survey of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyFailure<S> {
    /// Of what.
    pub subject: SurveySubject<S>,
    /// When that was first so.
    pub first: Timestamp,
    /// When it was last tried.
    pub last: Timestamp,
    /// Why it failed then.
    pub reason: String,
}

impl<S: MorselSubject> SurveySubject<S> {
    /// Its owner.
    pub fn account(&self) -> &AccountId {
        match self {
            Self::Store(store) => &store.account,
            Self::Morsel(subject) => subject.account(),
        }
    }

    /// Whether a morsel cannot be surveyed where this cannot.
    pub fn concerns(&self, subject: &S) -> bool {
        match self {
            Self::Store(StoreAddress { account, store }) => {
                account == subject.account() && subject.stores().any(|of| of == store)
            }
            Self::Morsel(of) => of == subject,
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

impl<S: MorselSubject> Record for SurveyFailure<S> {
    const PREFIX: &str = "failure/";

    fn sort(&self) -> String {
        match &self.subject {
            SurveySubject::Store(StoreAddress { account, store }) => {
                [Self::PREFIX, account.as_str(), "/", store.as_str()].concat()
            }
            SurveySubject::Morsel(subject) => format!("{}{}", Self::PREFIX, subject.key()),
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
            _ => SurveySubject::Morsel(S::parse(ids)?),
        };
        let SurveyFailureValue { first, last, reason, .. } = serde_json::from_slice(value).ok()?;
        Some(Self { subject, first: Timestamp::from_millis(first), last: Timestamp::from_millis(last), reason })
    }
}
