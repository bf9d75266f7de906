//! The promises of the kind, on memory stores and with paused time.

mod decisions;
mod faults;
mod order;
mod policies;
mod reading;
mod respelling;
mod server_side_copy;
mod spaces;

use std::sync::Arc;
use std::time::Duration;

use mill_model::{Algorithm, QueueName, Task, TaskKind};
use mill_ports::{Clock, Registry};
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;
use mill_testkit::{MemoryStore, MemoryStores, MemoryTable, StoreBehavior};

use super::*;
use crate::fixture::*;
