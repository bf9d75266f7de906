//! The fleet's adapters on servers that speak as the services do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unused_async, clippy::print_stdout)]

mod canned;
mod connections;
mod contract;
mod ministack;
mod queues;
mod servers;
mod speed;
mod stores;
mod tables;
mod verified;
mod verifying;
