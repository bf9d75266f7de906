//! Hooks by which tests of Mill itself reach into code that ships: [`planted_bugs`] (bugs on purpose), [`crash`] (points at which
//! a test kills the process) and [`slot_probe`] (what no port shows).
//!
//! **Invariant:** a hook is one line where it stands, and performs no effect of its own. Without the feature `test-hooks` it
//! compiles to nothing: no shipped build has the feature, and none holds a hook's name. This crate imports no other room.

pub mod crash;
pub mod planted_bugs;
pub mod slot_probe;

pub use crash::{CrashPoint, crash_point};
pub use planted_bugs::{PlantedBug, is_planted};
pub use slot_probe::report_slots;
