//! The suites, on every back end and wrapper; and what holds of the repository as a whole: rooms, documents, names of types.

// A subject is opened in async code, whether or not its back end needs that.
#![allow(clippy::unused_async, clippy::unwrap_used, clippy::expect_used)]

mod backends;
mod documents;
mod folder;
mod hostile;
mod queue;
mod reference;
mod rooms;
mod sqlite;
mod store;
mod table;
mod type_names;
