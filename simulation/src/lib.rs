//! The whole fleet in a simulated world: the real producer, workman, processors and records on in-memory back ends, with
//! faults injected everywhere, all drawn from one seed.
//!
//! Reading order: [`mod@seed`] (one world from beginning to end), `swarm` (the settings that a seed draws), `world` and `model`
//! (the back ends, and the state that the world knows them to be in), `sim_process` (where a process dies), `sim_queue`,
//! `sim_store`, `sim_table` (a process's clients of queues, stores and tables), `fleet` (the processes), `sim_run` and
//! `run_scenario` (a run that ends by itself), `audit_world` (audit logs and notifications), `chaos`, `users`, `policies`,
//! `operator`, `targeted_races` (what happens meanwhile), `planted_calls` (bugs on purpose), `event` and `invariants` (what is
//! judged all along), `quiescence`, `checker`, `audit_checks` and `scripted_checks` (what is judged at the end), [`campaign`]
//! (many seeds). Beside it stand [`hostile_copies`] and [`audited_changes`], suites that need all rooms too.
//! `docs/simulation.md` says how to run, replay and extend it.
//!
//! **Invariant:** one seed decides everything. Two runs of it have the same trace, to the last event.

// Only tests run this crate: a broken promise is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]
// One queue and all queues, one store and all stores: their names differ in a letter.
#![allow(clippy::similar_names)]

pub mod audited_changes;
pub mod campaign;
pub mod fault;
pub mod hostile_copies;
pub mod seed;

mod attempts;
mod audit_checks;
mod audit_world;
mod chaos;
mod checker;
mod desired_policies;
mod event;
mod fairness;
mod fleet;
mod in_flight_bodies;
mod instrumented_processor;
mod invariants;
mod model;
mod operator;
mod planted_calls;
mod policies;
mod probe_task;
mod quiescence;
mod rng;
mod run_scenario;
mod scripted_checks;
mod sim_process;
mod sim_queue;
mod sim_run;
mod sim_store;
mod sim_table;
mod swarm;
mod targeted_races;
mod trace;
mod users;
mod world;

pub use seed::{Outcome, run};
pub use world::Violation;
