//! Which process holds which body, and whether a body waits although nothing blocks it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mill_model::{Monotonic, QueueName, StoreAddress, TaskArgs as _};
use mill_ports::{Delivery, Receipt};
use mill_testkit::QueuedBody;

use super::attempts::Attempts;
use super::event::DecodedBody;
use super::fairness::Fairness;
use super::sim_process::SimProcess;
use super::sim_queue::SimQueue;
use super::world::World;

/// A task that nothing blocks begins within this time: the longest pause of an idle workman and after a failed queue call, a
/// minute each, and the time of calls.
pub(super) const SOON: Duration = Duration::from_mins(5);

/// The promise that what can begin does.
const BEGINS: &str = "what can begin begins soon";
/// The promise that a process keeps its leases and settles its deliveries.
const SETTLES: &str = "who is well keeps what it received until it is settled";

/// The bodies in flight, by queue and by number in it.
#[derive(Debug, Default)]
pub(crate) struct InFlightBodies(BTreeMap<(QueueName, u64), InFlightBody>);

#[derive(Debug)]
struct InFlightBody {
    process: Weak<SimProcess>,
    by: String,
    receipt: Receipt,
    decoded: Arc<DecodedBody>,
    received: Monotonic,
    /// Whether its processor has started.
    begun: bool,
}

/// The number of a body in its queue.
fn number(receipt: &Receipt) -> Option<u64> {
    receipt.0.split_once('#')?.0.parse().ok()
}

impl InFlightBodies {
    /// Notes that a process holds a body from now on, and judges the previous holder. Without `decoded`, the process never learns
    /// of the delivery.
    pub(crate) fn received(
        process: &Arc<SimProcess>,
        queue: QueueName,
        delivery: &Delivery,
        decoded: Option<&Arc<DecodedBody>>,
    ) {
        let world = &process.world;
        let Some(id) = number(&delivery.receipt).filter(|_| queue != QueueName::DeadLetter) else { return };
        let body = decoded.map(|decoded| InFlightBody {
            process: Arc::downgrade(process),
            by: process.name.clone(),
            receipt: delivery.receipt.clone(),
            decoded: decoded.clone(),
            received: world.now(),
            begun: false,
        });
        let before = {
            let in_flight_bodies = &mut world.in_flight_bodies.lock().0;
            let before = in_flight_bodies.remove(&(queue, id));
            in_flight_bodies.extend(body.map(|body| ((queue, id), body)));
            before
        };
        let was_well = |before: &InFlightBody| {
            let well = before.process.upgrade().and_then(|process| process.well_since());
            well.is_some_and(|since| since < before.received)
        };
        if let Some(before) = before.filter(|before| delivery.receive_count > 1 && was_well(before)) {
            let InFlightBody { by, decoded, .. } = before;
            world.violated(SETTLES, format!("{by} was well, and what it had in hand came again: {decoded} in {queue}"));
        }
    }

    /// Notes that a process uses a receipt that may be stale: the current holder may lose the body by that.
    pub(crate) fn touched(process: &SimProcess, queue: QueueName, receipt: &Receipt) {
        let Some(id) = number(receipt) else { return };
        let in_flight_bodies = &mut process.world.in_flight_bodies.lock().0;
        if in_flight_bodies.get(&(queue, id)).is_some_and(|body| body.receipt != *receipt) {
            in_flight_bodies.remove(&(queue, id));
        }
    }

    /// The queue and the receipt of the task with that key that the process received last.
    pub(crate) fn held(process: &SimProcess, key: &str) -> Option<(QueueName, Receipt)> {
        let in_flight_bodies = process.world.in_flight_bodies.lock();
        let held = |body: &InFlightBody| body.by == process.name && body.decoded.key == key;
        let bodies = in_flight_bodies.0.iter().filter(|(_, body)| held(body));
        let last = bodies.max_by_key(|(_, body)| body.received);
        last.map(|((queue, _), body)| (*queue, body.receipt.clone()))
    }

    /// Whether a process holds a body and has started its task.
    pub(crate) fn is_begun(world: &World, queue: QueueName, id: u64) -> bool {
        world.in_flight_bodies.lock().0.get(&(queue, id)).is_some_and(|body| body.begun)
    }

    /// Notes that a process has started a task.
    pub(crate) fn begun(process: &SimProcess, key: &str) {
        let mut in_flight_bodies = process.world.in_flight_bodies.lock();
        for body in in_flight_bodies.0.values_mut().filter(|body| body.by == process.name && body.decoded.key == key) {
            body.begun = true;
        }
    }
}

/// The stores that a task needs.
pub(super) fn stores(decoded: &DecodedBody) -> Vec<StoreAddress> {
    match decoded.duplicate() {
        Some(task) => task.stores(),
        None => decoded.remove().map(|task| task.stores()).unwrap_or_default(),
    }
}

/// Judges everything that waits now.
pub(crate) fn judge(world: &World) {
    if let Err(what) = Attempts::judge_slots(world) {
        world.violated("no slot is held by a task that waits", what);
    }
    Fairness::judge(world);
    for sim_queue in world.sim_queues.values().filter(|sim_queue| sim_queue.name != QueueName::DeadLetter) {
        if let Some(what) = sim_queue.inner.snapshot().iter().find_map(|standing| waits(world, sim_queue, standing)) {
            return world.violated(BEGINS, what);
        }
    }
}

/// Describes the body if it has waited too long.
fn waits(world: &World, sim_queue: &SimQueue, standing: &QueuedBody) -> Option<String> {
    match standing.visible_since {
        Some(since) => waits_in_queue(world, sim_queue.name, standing, since),
        None if standing.in_flight => waits_in_flight(world, sim_queue.name, standing.id),
        None => None,
    }
}

fn waits_in_queue(world: &World, queue: QueueName, standing: &QueuedBody, since: Monotonic) -> Option<String> {
    let now = world.now();
    if now.since(since) <= SOON {
        return None;
    }
    let decoded = DecodedBody::of(&standing.body);
    let room = Attempts::room_since(world, &stores(&decoded))?;
    let ready = world.workmen().iter().filter_map(|process| ready_since(process)).min()?;
    let waits = now.since(since.max(room).max(ready));
    // A task without a place on the bench goes back at once, so it waits in the queue for the permits of dead workmen too.
    (waits > with_permits_of_the_gone(world))
        .then(|| format!("{decoded} has been in {queue} for {waits:?}, and nothing was in its way"))
}

fn waits_in_flight(world: &World, queue: QueueName, id: u64) -> Option<String> {
    let (process, received, decoded) = {
        let in_flight_bodies = world.in_flight_bodies.lock();
        let body = in_flight_bodies.0.get(&(queue, id)).filter(|body| !body.begun)?;
        (body.process.upgrade()?, body.received, body.decoded.clone())
    };
    let (now, by) = (world.now(), &process.name);
    if now.since(received) <= SOON {
        return None;
    }
    // A body that could not be settled without an attempt is no longer held, and hidden for a while.
    let soon = with_permits_of_the_gone(world);
    let room = Attempts::room_since(world, &stores(&decoded))?;
    let share = match &decoded.envelope {
        Some(envelope) => Attempts::share_since(&process, &envelope.task.account)?,
        None => Monotonic::default(),
    };
    let waits = now.since(received.max(room).max(share).max(ready_since(&process)?));
    (waits > soon).then(|| format!("{by} has had {decoded} of {queue} for {waits:?}, and nothing was in its way"))
}

/// The permits of a dead workman last until another workman sees them expire.
fn with_permits_of_the_gone(world: &World) -> Duration {
    SOON + world.swarm.visibility * 2
}

/// Since when a workman is well and has free slots for any queue.
pub(super) fn ready_since(process: &SimProcess) -> Option<Monotonic> {
    Some(process.well_since()?.max(Attempts::slots_since(process)?))
}
