//! The rooms together, on back ends in memory.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod malformed;
mod retirement;
mod simulation;
