//! What the kind promises, on stores in memory and under paused time.

mod decisions;
mod faults;
mod order;
mod policies;
mod reading;
mod respelling;
mod server_side_copy;
mod spaces;

use std::time::Duration;

use mill_engine::{MemoryStore, MemoryStores, MemoryTable, StoreBehavior};
use mill_model::{Algorithm, QueueName, Task, TaskKind};
use mill_ports::Registry;

use super::*;
use crate::fixture::*;
