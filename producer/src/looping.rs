//! What is the same for every producer that loops: over and over it looks through all that accounts have, and queues tasks. What
//! it looks for and which tasks it queues is its plan's.
//!
//! Reading order: `plan` (what a plan decides), `producer` (the lease), `session` (the state of one session), `session_loop` (one
//! session after another), `accounts` and `runs` (each account has runs of its own), `discovery` and `account_discovery` (which
//! morsels a run has, as far as stores list their spaces), `rounds` (which morsel has the next turn), `gate`, `queue_sizer` and
//! `shares` (how many tasks the queue may hold, and how many of each account), `background_read` (reads that take long),
//! `failures` (what could not be looked at), `task_sender` (tasks into the queue), `settings`, `report`.
//!
//! **Invariant:** nothing here knows a plan. `tests::second_plan` keeps it so: another plan loops in the same way.

mod account_discovery;
mod accounts;
mod background_read;
mod discovery;
mod failures;
mod gate;
mod plan;
mod producer;
mod queue_sizer;
pub(crate) mod report;
mod rounds;
mod runs;
mod session;
pub(crate) mod session_loop;
pub(crate) mod settings;
mod shares;
mod task_sender;

pub(crate) use background_read::{ReadBasis, ReadKey, ReadOutcome, ReaderPanicked};
pub(crate) use discovery::{SpacesByStore, StoreSpaces};
pub(crate) use failures::SurveyFailures;
pub(crate) use gate::Gate;
pub(crate) use plan::{MorselCoverage, MorselError, OpenAs, Plan};
pub(crate) use producer::{Leased, LoopingProducer};
pub(crate) use rounds::TurnOutcome;
pub(crate) use runs::ActiveRun;
pub(crate) use session::{Session, StepError};

use account_discovery::AccountDiscovery;
use session::RoundPriority;
