//! The row of a failed survey.

use bytes::Bytes;
use mill_model::{AccountId, StoreAddress, StoreId, Timestamp};
use serde::{Deserialize, Serialize};

use super::plan_rows::MorselSubject;
use super::rows::Record;
use crate::stored_rows::json;

/// The subject of a survey.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SurveySubject<S> {
    /// The list of a store's spaces.
    Store(StoreAddress),
    /// A morsel's subject.
    Morsel(S),
}

/// A subject that could not be surveyed since its last survey. The next successful survey removes the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyFailure<S> {
    /// The subject.
    pub subject: SurveySubject<S>,
    /// When it first failed.
    pub first: Timestamp,
    /// When it last failed.
    pub last: Timestamp,
    /// The reason of the last failure.
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

    /// Whether this failure prevents the survey of a morsel.
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
