//! Who has which body in hand, and whether anything waits although nothing is in its way.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mill_engine::QueuedBody;
use mill_model::{AccountId, Monotonic, QueueName, StoreAddress, StoreId};
use mill_ports::{Delivery, Receipt};

use super::attempts::Attempts;
use super::desk::Desk;
use super::event::Sealed;
use super::line::Line;
use super::turns::Turns;
use super::world::{World, lock};

/// What nothing is in the way of begins within this time: the longest rest of an idle workman and of a queue that failed, a
/// minute each, and what calls take.
pub(super) const SOON: Duration = Duration::from_mins(5);

/// The promise that what can begin does.
const BEGINS: &str = "what can begin begins soon";
/// The promise that leases are kept, and deliveries settled.
const SETTLES: &str = "who is well keeps what it received until it is settled";

/// All of them, by queue and by number there.
#[derive(Debug, Default)]
pub(crate) struct Hands(BTreeMap<(QueueName, u64), Hand>);

#[derive(Debug)]
struct Hand {
    line: Weak<Line>,
    by: String,
    receipt: Receipt,
    sealed: Arc<Sealed>,
    received: Monotonic,
    /// Whether its processor was started.
    begun: bool,
}

/// The number of a body in its queue.
fn number(receipt: &Receipt) -> Option<u64> {
    receipt.0.split_once('#')?.0.parse().ok()
}

impl Hands {
    /// Notes that a process has a body in hand from now on, and judges whoever had it before. Without `sealed` the process never
    /// learns of it.
    pub(crate) fn received(line: &Arc<Line>, queue: QueueName, delivery: &Delivery, sealed: Option<&Arc<Sealed>>) {
        let world = &line.world;
        let Some(id) = number(&delivery.receipt).filter(|_| queue != QueueName::DeadLetter) else { return };
        let hand = sealed.map(|sealed| Hand {
            line: Arc::downgrade(line),
            by: line.name.clone(),
            receipt: delivery.receipt.clone(),
            sealed: sealed.clone(),
            received: world.now(),
            begun: false,
        });
        let before = {
            let hands = &mut lock(&world.hands).0;
            let before = hands.remove(&(queue, id));
            hands.extend(hand.map(|hand| ((queue, id), hand)));
            before
        };
        let was_well = |before: &Hand| {
            let well = before.line.upgrade().and_then(|line| line.well_since());
            well.is_some_and(|since| since < before.received)
        };
        if let Some(before) = before.filter(|before| delivery.receive_count > 1 && was_well(before)) {
            let Hand { by, sealed, .. } = before;
            world.violated(SETTLES, format!("{by} was well, and what it had in hand came again: {sealed} in {queue}"));
        }
    }

    /// Notes that a process acts by a receipt that may be stale: whoever has the body in hand may lose it by that.
    pub(crate) fn touched(line: &Line, queue: QueueName, receipt: &Receipt) {
        let Some(id) = number(receipt) else { return };
        let hands = &mut lock(&line.world.hands).0;
        if hands.get(&(queue, id)).is_some_and(|hand| hand.receipt != *receipt) {
            hands.remove(&(queue, id));
        }
    }

    /// Whether a body is in the hands of a process that has started to do its task.
    pub(crate) fn is_begun(world: &World, queue: QueueName, id: u64) -> bool {
        lock(&world.hands).0.get(&(queue, id)).is_some_and(|hand| hand.begun)
    }

    /// Notes that a process has started to do a task.
    pub(crate) fn begun(line: &Line, key: &str) {
        let mut hands = lock(&line.world.hands);
        for hand in hands.0.values_mut().filter(|hand| hand.by == line.name && hand.sealed.key == key) {
            hand.begun = true;
        }
    }
}

/// The stores that a task needs.
pub(super) fn stores(sealed: &Sealed) -> Vec<StoreAddress> {
    let of = |account: AccountId, stores: [StoreId; 2]| {
        stores.map(|store| StoreAddress { account: account.clone(), store }).to_vec()
    };
    if let Some(task) = sealed.duplicate() {
        return of(task.account, [task.source, task.destination]);
    }
    sealed.remove().map(|task| of(task.account, [task.source, task.destination])).unwrap_or_default()
}

/// Judges all that waits now.
pub(crate) fn judge(world: &World) {
    if let Err(what) = Attempts::judge_slots(world) {
        world.violated("no slot is held by a task that waits", what);
    }
    Turns::judge(world);
    for desk in world.desks.values().filter(|desk| desk.name != QueueName::DeadLetter) {
        if let Some(what) = desk.inner.snapshot().iter().find_map(|standing| waits(world, desk, standing)) {
            return world.violated(BEGINS, what);
        }
    }
}

/// Says what waits for too long, if this does.
fn waits(world: &World, desk: &Desk, standing: &QueuedBody) -> Option<String> {
    match standing.visible_since {
        Some(since) => waits_in_queue(world, desk.name, standing, since),
        None if standing.in_flight => waits_in_hand(world, desk.name, standing.id),
        None => None,
    }
}

fn waits_in_queue(world: &World, queue: QueueName, standing: &QueuedBody, since: Monotonic) -> Option<String> {
    let now = world.now();
    if now.since(since) <= SOON {
        return None;
    }
    let sealed = Sealed::of(&standing.body);
    let room = Attempts::room_since(world, &stores(&sealed))?;
    let ready = world.workmen().iter().filter_map(|line| ready_since(line)).min()?;
    let waits = now.since(since.max(room).max(ready));
    // What cannot be benched goes back at once: so it waits here, too, for the permits of who is gone.
    (waits > with_permits_of_the_gone(world))
        .then(|| format!("{sealed} has been in {queue} for {waits:?}, and nothing was in its way"))
}

fn waits_in_hand(world: &World, queue: QueueName, id: u64) -> Option<String> {
    let (line, received, sealed) = {
        let hands = lock(&world.hands);
        let hand = hands.0.get(&(queue, id)).filter(|hand| !hand.begun)?;
        (hand.line.upgrade()?, hand.received, hand.sealed.clone())
    };
    let (now, by) = (world.now(), &line.name);
    if now.since(received) <= SOON {
        return None;
    }
    // What could not be settled without an attempt is out of its hands, and hidden for a while.
    let soon = with_permits_of_the_gone(world);
    let room = Attempts::room_since(world, &stores(&sealed))?;
    let share = match &sealed.envelope {
        Some(envelope) => Attempts::share_since(&line, &envelope.task.account)?,
        None => Monotonic::default(),
    };
    let waits = now.since(received.max(room).max(share).max(ready_since(&line)?));
    (waits > soon).then(|| format!("{by} has had {sealed} of {queue} for {waits:?}, and nothing was in its way"))
}

/// Who had permits and is gone keeps them until they run out, as somebody watches.
fn with_permits_of_the_gone(world: &World) -> Duration {
    SOON + world.swarm.visibility * 2
}

/// Since when a workman is well and has free slots for any queue.
pub(super) fn ready_since(line: &Line) -> Option<Monotonic> {
    Some(line.well_since()?.max(Attempts::slots_since(line)?))
}
