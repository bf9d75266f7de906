//! The AWS adapters on servers that speak the same protocols.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unused_async, clippy::print_stdout)]

mod canned_server;
mod connections;
mod deployed;
mod deployment_check;
mod directory_order;
mod engines;
mod failure_scope;
mod item_responses;
mod listener;
mod listing_responses;
mod ministack;
#[path = "../../../../workman/tests/it/nothing.rs"]
mod nothing;
mod odd_keys;
mod overlap;
mod permanent_errors;
mod queues;
mod renamed_keys;
mod seaweed;
mod server_side_copy;
mod servers;
mod signature_server;
mod signed_requests;
mod space_confirmation;
mod speed;
mod stack;
mod stores;
mod tables;
mod tags;
mod template;
