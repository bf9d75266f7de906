//! `<account>-stores.json`: what "store 1" is.
//!
//! ```json
//! { "stores": [
//!   { "id": "1", "type": "folder", "root": "/srv/archive", "primary": true, "transfersMax": 8 },
//!   { "id": "2", "type": "s3", "bucketPrefix": "archive-", "region": "eu-central-1",
//!     "credentials": { "accessKeyIdEnv": "ARCHIVE_KEY_ID", "secretAccessKeyFile": "/run/secrets/archive" } }
//! ] }
//! ```
//!
//! A secret itself never stands in it: only the name of the environment variable, or the file, that holds it.

use mill_model::StoreId;

use crate::store_types::StoreKind;

/// Most transfers at once that a store may be set to.
pub const TRANSFERS_MAX: u32 = 1024;

/// One store of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// What policies and tasks call it.
    pub id: StoreId,
    /// What it is.
    pub kind: StoreKind,
    /// Whether it is the account's primary store; exactly one is.
    pub primary: bool,
    /// Most transfers at once; `None` for as many as the back end takes.
    pub transfers_max: Option<u32>,
}

/// What is said where the source and the destination of a policy lie in one another.
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
