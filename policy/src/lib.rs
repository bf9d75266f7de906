//! The decisions of Mill: which store policies apply to a space today, and why.
//!
//! Promise: the bytes of an account's files give either a valid policy or all errors at once, each with its file, line,
//! column and member. DuraCloud's own files are read unchanged.
//!
//! Reading order: [`file_content`] (what was read of a file), [`diagnostic`] (what is wrong with it), `json` (a tree
//! with the position of each value), `json_schema` (checks that tree), [`members`] (all members), [`store_types`] (the
//! types of stores), [`stores`] (`<account>-stores.json`), [`audit_log`] (where the audit log of an account is),
//! `policy_file` (`<account>-duplication-policy.json`), `conflict` (cycles, two sources for one destination),
//! [`account`] (the validated whole), [`decision`] (what applies to a space), `print` (writes the files again),
//! [`folder`] (all files of a folder together). Beside them stands [`bit_verdict`] (what the witnesses of an item say).
//!
//! **Invariant:** nothing here does IO, awaits, or reads a clock. No message repeats a value that could be a secret:
//! for credentials, and for text that is not JSON, only the position is reported. Only a store policy that covers a
//! space can ask for deletions in it.

pub mod account;
pub mod audit_log;
pub mod bit_verdict;
mod conflict;
pub mod decision;
pub mod diagnostic;
pub mod file_content;
pub mod folder;
mod json;
mod json_schema;
pub mod members;
mod object_reader;
mod policy_file;
mod print;
pub mod store_types;
pub mod stores;
mod stores_file;

pub use account::AccountPolicy;
pub use audit_log::{AUDIT_LOG_SPACE, AuditLogSpec};
pub use decision::{Compare, Coverage, PolicyDecision, Rule, SettingOrigin, StorePolicy};
pub use diagnostic::{Diagnostic, Severity};
pub use file_content::{FILE_BYTES_MAX, FileContent};
pub use folder::{ACCOUNTS_FILE, PolicyFile, accounts_list, check, policies};
pub use store_types::{
    Buckets, Credentials, Dialect, FolderSpec, RoleSpec, S3Spec, SecretReference, ServerOption, ServerOptionError,
    ServerTraits, StoreKind,
};
pub use stores::StoreSpec;
