//! The queue against a reference model: the same operations have the same results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mill_model::{AccountId, QueueName, Timestamp};
use mill_ports::{
    Clock as _, Delivery, ExcludedAccounts, OutgoingMessage, QueueDepth, QueueErrorKind, Receipt, TaskQueue as _,
};
use proptest::prelude::*;

use super::{Room, most, out};
use crate::queue::{HIDDEN_MAX, RECEIVES_MAX, SqliteQueue};

const ACCOUNTS: u8 = 3;

fn account(number: u8) -> AccountId {
    AccountId::new(format!("account-{number}")).unwrap()
}

#[derive(Debug, Clone)]
enum Op {
    Send {
        account: u8,
        bodies: u8,
        delay: u64,
    },
    /// Excludes the accounts whose bit is set.
    Receive {
        excluded: u8,
        max: u8,
        visibility: u64,
    },
    Extend {
        which: usize,
        visibility: u64,
    },
    Release {
        which: usize,
    },
    Acknowledge {
        which: usize,
    },
    Pass {
        by: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let span = prop_oneof![Just(0_u64), 1..5_000_u64, Just(60_000_u64), 5_000_000..43_200_000_u64];
    let excluded = prop_oneof![Just(0_u8), 0..1_u8 << ACCOUNTS];
    let delay = prop_oneof![3 => Just(0_u64), 1 => 1..5_000_u64];
    prop_oneof![
        3 => (0..ACCOUNTS, 1..5_u8, delay).prop_map(|(account, bodies, delay)| Op::Send { account, bodies, delay }),
        5 => (excluded, 1..6_u8, span.clone())
            .prop_map(|(excluded, max, visibility)| Op::Receive { excluded, max, visibility }),
        2 => (any::<usize>(), span.clone()).prop_map(|(which, visibility)| Op::Extend { which, visibility }),
        2 => any::<usize>().prop_map(|which| Op::Release { which }),
        2 => any::<usize>().prop_map(|which| Op::Acknowledge { which }),
        3 => span.prop_map(|by| Op::Pass { by }),
    ]
}

#[derive(Debug, Clone)]
struct Body {
    text: String,
    account: u8,
    visible_at: Timestamp,
    received_at: Timestamp,
    receives: u32,
    /// The receive that holds it, if any.
    held: Option<usize>,
    /// Whether the model has recorded that nobody holds it any more.
    woken: bool,
}

/// The expected queue: bodies in the order of their sends, and the texts of the dead letters.
#[derive(Default)]
struct Model {
    bodies: Vec<Body>,
    dead: Vec<String>,
    sent: usize,
    /// The text of each receipt so far.
    receipts: Vec<(Receipt, String)>,
}

impl Model {
    fn held(&mut self, which: usize) -> Option<&mut Body> {
        self.bodies.iter_mut().find(|body| body.held == Some(which))
    }

    fn gone(&self, which: usize) -> bool {
        let text = &self.receipts[which].1;
        !self.bodies.iter().any(|body| body.text == *text) && !self.dead.contains(text)
    }

    fn depth(&self, now: Timestamp) -> QueueDepth {
        let mut depth = QueueDepth::default();
        for body in &self.bodies {
            match (body.visible_at > now, body.held) {
                (false, _) => depth.visible += 1,
                (true, Some(_)) => depth.in_flight += 1,
                (true, None) => depth.delayed += 1,
            }
        }
        depth
    }
}

async fn step(room: &Room, queue: &SqliteQueue, model: &mut Model, op: Op) {
    let now = room.clock.now();
    let ms = Duration::from_millis;
    let one = |model: &Model, which: usize| {
        (!model.receipts.is_empty())
            .then(|| (which % model.receipts.len(), model.receipts[which % model.receipts.len()].0.clone()))
    };
    match op {
        Op::Send { account: of, bodies, delay } => {
            let texts: Vec<_> = (0..bodies).map(|more| format!("{}", model.sent + usize::from(more))).collect();
            let batch: Vec<_> = texts
                .iter()
                .map(|text| OutgoingMessage { group: account(of), delay: ms(delay), ..out(text) })
                .collect();
            queue.send(&batch).await.unwrap().into_result().unwrap();
            model.sent += texts.len();
            model.bodies.extend(texts.into_iter().map(|text| Body {
                text,
                account: of,
                visible_at: now.plus(ms(delay)),
                received_at: now,
                receives: 0,
                held: None,
                woken: false,
            }));
        }
        Op::Receive { excluded: 0, max, visibility } => receive(queue, model, now, (max, ms(visibility))).await,
        Op::Receive { excluded, max, visibility } => {
            let excluded = (0..ACCOUNTS).filter(|account| excluded & (1 << account) != 0).collect();
            receive_excluding(queue, model, now, excluded, (max, ms(visibility))).await;
        }
        Op::Extend { which, visibility } => {
            let Some((which, receipt)) = one(model, which) else { return };
            let answer = queue.extend(&[receipt], ms(visibility)).await.unwrap().remove(0);
            match model.held(which).filter(|body| body.visible_at > now) {
                Some(body) if now.plus(ms(visibility)) <= body.received_at.plus(HIDDEN_MAX) => {
                    body.visible_at = now.plus(ms(visibility));
                    let granted = ms(visibility).saturating_sub(ms(1));
                    assert_eq!(answer.unwrap().since(room.clock.monotonic()), granted);
                }
                Some(_) => assert_eq!(answer.unwrap_err().kind, QueueErrorKind::Unexpected),
                None => assert_eq!(answer.unwrap_err().kind, QueueErrorKind::ReceiptExpired),
            }
        }
        Op::Release { which } => {
            let Some((which, receipt)) = one(model, which) else { return };
            let report = queue.release(&[receipt]).await.unwrap();
            assert_eq!(report.failed.is_empty(), model.held(which).is_some());
            if let Some(body) = model.held(which) {
                (body.visible_at, body.held) = (body.visible_at.min(now), None);
            }
        }
        Op::Acknowledge { which } => {
            let Some((which, receipt)) = one(model, which) else { return };
            let report = queue.acknowledge(&[receipt]).await.unwrap();
            let held = model.held(which).is_some();
            assert_eq!(report.failed.is_empty(), held || model.gone(which));
            model.bodies.retain(|body| body.held != Some(which));
        }
        Op::Pass { by } => room.clock.pass(ms(by)),
    }
    let found = QueueDepth { oldest_age: None, ..queue.depth().await.unwrap() };
    assert_eq!(found, model.depth(room.clock.now()));
    for of in 0..ACCOUNTS {
        let bodies = model.bodies.iter().filter(|body| body.account == of).count() as u64;
        assert_eq!(queue.depth_of(&account(of)).await.unwrap(), Some(bodies));
    }
}

async fn receive(queue: &SqliteQueue, model: &mut Model, now: Timestamp, (max, visibility): (u8, Duration)) {
    let got = queue.receive(most(max.into()), visibility, Duration::ZERO).await.unwrap();
    let bodies = &model.bodies;
    let next = |mut visible: Vec<usize>| {
        // Of messages visible since the same ms, those not in flight come first, as in the index.
        visible.sort_by_key(|at| (bodies[*at].visible_at, bodies[*at].held.is_some() && !bodies[*at].woken));
        visible
    };
    let expected = expected(model, now, max, next);
    received(model, now, visibility, got, &expected);
}

async fn receive_excluding(
    queue: &SqliteQueue,
    model: &mut Model,
    now: Timestamp,
    over: BTreeSet<u8>,
    (max, visibility): (u8, Duration),
) {
    let excluded =
        ExcludedAccounts { accounts: over.iter().map(|one| account(*one)).collect(), ..ExcludedAccounts::default() };
    let got = queue.receive_excluding(&excluded, most(max.into()), visibility, Duration::ZERO).await.unwrap();
    for body in model.bodies.iter_mut().filter(|body| body.visible_at <= now) {
        body.woken = true;
    }
    let bodies = &model.bodies;
    let next = |mut visible: Vec<usize>| {
        visible.retain(|at| !over.contains(&bodies[*at].account));
        // The account that has waited longest comes first.
        let mut fronts = BTreeMap::new();
        for body in visible.iter().map(|at| &bodies[*at]) {
            let oldest_visible = fronts.entry(body.account).or_insert(now);
            *oldest_visible = body.visible_at.min(*oldest_visible);
        }
        visible.sort_by_key(|at| (fronts[&bodies[*at].account], bodies[*at].account, bodies[*at].visible_at));
        visible
    };
    let expected = expected(model, now, max, next);
    received(model, now, visibility, got, &expected);
}

/// Which bodies are received, and which are dead-lettered meanwhile, in this order.
fn expected(
    model: &Model,
    now: Timestamp,
    max: u8,
    in_order: impl Fn(Vec<usize>) -> Vec<usize>,
) -> (Vec<usize>, Vec<usize>) {
    let (mut come, mut dead) = (Vec::new(), Vec::new());
    loop {
        let is_left = |at: &usize| model.bodies[*at].visible_at <= now && !come.contains(at) && !dead.contains(at);
        let left = in_order((0..model.bodies.len()).filter(is_left).collect());
        let wanted = usize::from(max) - come.len();
        for at in left.iter().copied().take(wanted) {
            if model.bodies[at].receives < RECEIVES_MAX { come.push(at) } else { dead.push(at) }
        }
        if left.len() < wanted || come.len() == usize::from(max) {
            return (come, dead);
        }
    }
}

/// Compares the received bodies with the expected ones.
fn received(
    model: &mut Model,
    now: Timestamp,
    visibility: Duration,
    got: Vec<Delivery>,
    (expected, dead): &(Vec<usize>, Vec<usize>),
) {
    let mut texts: Vec<_> = expected.iter().map(|at| model.bodies[*at].text.clone()).collect();
    let mut found: Vec<_> = got.iter().map(|one| String::from_utf8(one.body.to_vec()).unwrap()).collect();
    texts.sort();
    found.sort();
    assert_eq!(found, texts, "those longest visible come first");
    for delivery in got {
        let text = String::from_utf8(delivery.body.to_vec()).unwrap();
        let held = Some(model.receipts.len());
        let body = model.bodies.iter_mut().find(|body| body.text == text).unwrap();
        body.receives += 1;
        assert_eq!(delivery.receive_count, body.receives);
        (body.visible_at, body.received_at, body.held) = (now.plus(visibility), now, held);
        body.woken = false;
        model.receipts.push((delivery.receipt, text));
    }
    let dead: Vec<String> = dead.iter().map(|at| model.bodies[*at].text.clone()).collect();
    model.bodies.retain(|body| !dead.contains(&body.text));
    model.dead.extend(dead);
}

/// Empties both queues, so that one file serves all cases.
async fn clear(room: &Room) {
    for name in [QueueName::DuplicationLow, QueueName::DeadLetter] {
        let queue = room.queue(name);
        while queue.depth().await.unwrap().total() > 0 {
            room.clock.pass(HIDDEN_MAX);
            let got = super::receive(&queue, 60).await;
            queue.acknowledge(&super::receipts(&got)).await.unwrap().into_result().unwrap();
        }
    }
}

#[test]
fn whatever_is_done_the_queue_holds_what_the_model_holds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let room = Arc::new(Room::new());
    let config = ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(ops in proptest::collection::vec(op(), 1..80))| {
        runtime.block_on(async {
            clear(&room).await;
            let (queue, mut model) = (room.low(), Model::default());
            for op in ops {
                step(&room, &queue, &mut model, op).await;
            }
            let dead = room.queue(QueueName::DeadLetter).depth().await.unwrap();
            assert_eq!(dead.total(), model.dead.len() as u64);
            assert_eq!(room.database.check().await.unwrap(), Vec::<String>::new());
        });
    });
}
