//! The suites, on every back end and wrapper.

// A subject is opened in async code, whether or not its back end needs that.
#![allow(clippy::unused_async, clippy::unwrap_used, clippy::expect_used)]

mod backends;
mod documents;
mod folder;
mod hostile;
mod malformed;
mod queue;
mod reference;
mod retirement;
mod rooms;
mod simulation;
mod sqlite;
mod store;
mod table;
mod type_names;
