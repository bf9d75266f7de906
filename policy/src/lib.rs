//! The decisions of Mill: which store policies apply to a space today, and why.
//!
//! Promise: from the bytes of an account's files comes either a policy that can be obeyed or every fault at once, each
//! with its file, line, column and member. DuraCloud's own files are read unchanged.
//!
//! Reading order: [`diagnostic`] (what is wrong with a file), `json` (a tree that knows where each value stands), `json_schema`
//! (that tree against what is expected), [`members`] (which members there are), [`store_types`] (what a store may be), [`stores`]
//! (`<account>-stores.json`), `policy_file` (`<account>-duplication-policy.json`), `conflict` (cycles, two sources for one
//! destination), [`account`] (the valid whole), [`decision`] (its answers), `print` (the files again), [`folder`] (all files of a
//! folder together).
//!
//! **Invariant:** nothing here does IO, awaits, or reads a clock. No fault repeats a value that could be a secret: of
//! what stands in credentials, and of what is not JSON, only the place is told. A policy that removes nothing, covers
//! nothing or is empty asks for no deletion: deletion is only ever asked for by a store policy that covers the space.

pub mod account;
mod conflict;
pub mod decision;
pub mod diagnostic;
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
pub use decision::{Compare, Coverage, PolicyDecision, Rule, SettingOrigin, StorePolicy};
pub use diagnostic::{Diagnostic, Severity};
pub use folder::{ACCOUNTS_FILE, FILE_BYTES_MAX, PolicyFile, accounts_list, check, policies};
pub use store_types::{Buckets, Credentials, Dialect, FolderSpec, RoleSpec, S3Spec, SecretReference, StoreKind};
pub use stores::StoreSpec;
