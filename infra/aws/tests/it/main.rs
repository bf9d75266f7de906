//! The fleet's adapters on servers that speak as the services do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unused_async, clippy::print_stdout)]

mod answers;
mod canned;
mod connections;
mod contract;
mod deployed;
mod directories;
mod item_answers;
mod listening;
mod lists;
mod ministack;
mod needs_a_person;
#[path = "../../../../workman/tests/it/nothing.rs"]
mod nothing;
mod odd_keys;
mod overlap;
mod queues;
mod reach;
mod renamed;
mod seaweed;
mod servers;
mod speed;
mod stack;
mod stores;
mod tables;
mod taking;
mod template;
mod verified;
mod verifying;
