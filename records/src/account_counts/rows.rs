//! The written form of a row: JSON, with the workman's name in the sort key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mill_model::{AccountId, Timestamp};
use mill_ports::Row;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{AccountCount, CountsByAccount};

/// The counts of one workman, or of all that are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CountsRow {
    pub(super) written: Timestamp,
    /// Whether nobody writes it again.
    pub(super) last: bool,
    pub(super) counts: CountsByAccount,
    /// The rows whose counts are included in this one, and that will be deleted.
    pub(super) of: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct CountsValue {
    written: u64,
    #[serde(default)]
    last: bool,
    accounts: BTreeMap<String, (u64, u64)>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    of: BTreeSet<String>,
}

impl CountsRow {
    pub(super) fn value(&self) -> Bytes {
        let counted = |(account, counted): (&AccountId, &AccountCount)| {
            (account.as_str().to_owned(), (counted.received, counted.ended))
        };
        let accounts = self.counts.iter().map(counted).collect();
        let value = CountsValue { written: self.written.as_millis(), last: self.last, accounts, of: self.of.clone() };
        // A struct of texts and numbers is always JSON.
        serde_json::to_vec(&value).unwrap_or_default().into()
    }

    pub(super) fn read(row: &Row) -> Option<Self> {
        let CountsValue { written, last, accounts, of } = serde_json::from_slice(&row.value)
            .inspect_err(
                |error| warn!(row = row.sort, %error, "a workman's counts cannot be read; they are passed over"),
            )
            .ok()?;
        let counted =
            |(account, (received, ended))| Some((AccountId::new(account).ok()?, AccountCount { received, ended }));
        let counts = accounts.into_iter().filter_map(counted).collect();
        Some(Self { written: Timestamp::from_millis(written), last, counts, of })
    }
}
