//! What is the same for every producer that loops: over and over it looks through all that accounts have, and queues tasks.
//!
//! Reading order: `session` (the state of one session), `session_loop` (one session after another), `accounts` and `runs` (each
//! account has runs of its own), `account_discovery` (stores that did not list their spaces), `rounds` (which morsel has the next
//! turn), `gate`, `queue_sizer` and `shares` (how many tasks the queue may hold, and how many of each account),
//! `background_read` (reads that take long), `failures` (what could not be looked at), `task_sender` (tasks into the queue).

mod account_discovery;
mod accounts;
mod background_read;
mod failures;
mod gate;
pub(crate) mod queue_sizer;
mod rounds;
mod runs;
mod session;
pub(crate) mod session_loop;
mod shares;
pub(crate) mod task_sender;

pub(crate) use account_discovery::AccountDiscovery;
pub(crate) use background_read::{ReadBasis, ReadKey, ReadOutcome, ReaderPanicked};
pub(crate) use failures::SurveyFailures;
pub(crate) use gate::Gate;
pub(crate) use runs::ActiveRun;
pub(crate) use session::{RoundPriority, Session, StepError, missing_key};
