//! The attempts that run now, of all processes: no store has more of them than people allow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{Monotonic, StoreAddress};
use mill_ports::{Attempt, Lease};

use super::line::Line;
use super::world::{World, lock};

/// All of them, by the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    next: u64,
    running: BTreeMap<u64, RunningAttempt>,
}

#[derive(Debug)]
struct RunningAttempt {
    line: Arc<Line>,
    stores: Vec<StoreAddress>,
    lease: Lease,
    began: Monotonic,
}

/// One of them, until it is dropped.
pub(crate) struct AttemptGuard {
    world: Arc<World>,
    key: u64,
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        lock(&self.world.attempts).running.remove(&self.key);
    }
}

/// A policy is obeyed so long after its refreshing time at the latest: it is read by calls that may be slow.
const READING: Duration = Duration::from_mins(10);

impl Attempts {
    /// Notes that one begins, and judges whether it may.
    pub(crate) fn begin(line: &Arc<Line>, stores: &[StoreAddress], attempt: &Attempt) -> AttemptGuard {
        let world = line.world.clone();
        let key = {
            let mut attempts = lock(&world.attempts);
            attempts.next += 1;
            let key = attempts.next;
            let (lease, began) = (attempt.lease.clone(), world.now());
            attempts.running.insert(key, RunningAttempt { line: line.clone(), stores: stores.to_vec(), lease, began });
            key
        };
        for store in stores {
            if let Err(what) = Self::judge(&world, store) {
                world.violated("no store has more tasks than its cap", what);
            }
        }
        AttemptGuard { world, key }
    }

    /// Whether those that may act at a store now are as many as people allow. One whose lease or permits are over does nothing
    /// more, and one whose process is dead neither.
    fn judge(world: &World, store: &StoreAddress) -> Result<(), String> {
        let attempts = lock(&world.attempts);
        let at_store = |running: &&RunningAttempt| {
            running.stores.contains(store) && running.lease.holds() && !running.line.is_dead()
        };
        let acting: Vec<&RunningAttempt> = attempts.running.values().filter(at_store).collect();
        let Some(since) = acting.iter().map(|running| running.began).min() else { return Ok(()) };
        let by: Vec<&str> = acting.iter().map(|running| running.line.name.as_str()).collect();
        let Some(cap) = cap_since(world, store, since) else { return Ok(()) };
        if acting.len() as u64 <= u64::from(cap) {
            return Ok(());
        }
        Err(format!("{} tasks run at {store}, of {by:?}, where at most {cap} may", acting.len()))
    }
}

/// The highest cap of a store that a process may have gone by since then; `None` where one may have known of none.
fn cap_since(world: &World, store: &StoreAddress, since: Monotonic) -> Option<u32> {
    world.truth(|truth| {
        let slack = truth.terms.refresh + READING;
        let oldest = if truth.policies_troubled.is_some() {
            Monotonic::default()
        } else {
            Monotonic::from_origin(since.since_origin().saturating_sub(slack))
        };
        let mut most = Some(0);
        for wishes in truth.wishes_since(oldest) {
            let cap = wishes.0.get(&store.account).and_then(|wish| wish.workers);
            most = most.zip(cap).map(|(most, cap): (u32, u32)| most.max(cap));
        }
        most
    })
}
