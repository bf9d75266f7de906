//! `<account>-stores.json`: the stores of an account.
//!
//! ```json
//! { "stores": [
//!   { "id": "1", "type": "folder", "root": "/srv/archive", "primary": true, "transfersMax": 8 },
//!   { "id": "2", "type": "s3", "bucketPrefix": "archive-", "region": "eu-central-1",
//!     "credentials": { "accessKeyIdEnv": "ARCHIVE_KEY_ID", "secretAccessKeyFile": "/run/secrets/archive" } }
//! ] }
//! ```
//!
//! It never contains a secret, only the name of the environment variable or file that holds it.

use mill_model::StoreId;

use crate::store_types::StoreKind;

/// The highest `transfersMax` of a store.
pub const TRANSFERS_MAX: u32 = 1024;

/// One store of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// Its id in policies and tasks.
    pub id: StoreId,
    /// Its type and settings.
    pub kind: StoreKind,
    /// Whether it is the account's primary store; exactly one is.
    pub primary: bool,
    /// The most concurrent transfers; `None` for as many as the back end allows.
    pub transfers_max: Option<u32>,
    /// Whether each change that Mill makes to it is recorded in the account's audit log.
    pub audited: bool,
}

/// The message for a policy whose source and destination overlap.
pub(crate) fn overlap_message(source: &StoreSpec, destination: &StoreSpec) -> String {
    format!(
        "stores `{}` ({}) and `{}` ({}) lie in one another, so that copying would go round; give them separate places",
        source.id,
        source.kind.place(),
        destination.id,
        destination.kind.place()
    )
}

#[cfg(test)]
mod tests;
