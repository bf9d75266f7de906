//! The fleet in a simulated world: the production producer, workman, processors and records on back ends in memory,
//! where everything goes wrong, from one seed.
//!
//! Reading order: [`mod@seed`] (one world from beginning to end), `swarm` (what a seed draws), `world` and `truth` (what
//! is there, and what is so), `line` (where a process dies), `desk`, `shelf`, `ledger` (its ways to queues, stores and
//! tables), `fleet` (the processes), `weather`, `people`, `policies`, `operator`, `spite` (what happens meanwhile), `event` and
//! `invariants` (what is judged, all along), `rest`, `checker` and `drills` (what is judged at the end), [`campaign`]
//! (many seeds). `docs/simulation.md` tells how to run, replay and extend it.
//!
//! **Invariant:** one seed decides everything. Two runs of it have the same trace, to the last event.

// A shelf and the shelves, a line and its life: the names are alike as the things are.
#![allow(clippy::similar_names)]

pub mod campaign;
pub mod fault;
pub mod seed;

mod attempts;
mod checker;
mod desk;
mod dice;
mod drills;
mod errand;
mod event;
mod fleet;
mod hands;
mod invariants;
mod ledger;
mod line;
mod operator;
mod people;
mod policies;
mod rest;
mod shelf;
mod spite;
mod swarm;
mod trace;
mod truth;
mod turns;
mod watched;
mod weather;
mod wishes;
mod world;

pub use seed::{Outcome, run};
pub use world::Violation;
