//! Tasks and policies that nobody meant: malformed, oversize, nested without end. Each is answered with a clear error,
//! none with a panic, and a task that cannot be opened goes among the dead letters as it is, and holds up no other.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mill_model::wire::{self, ReceiveContext, WireError};
use mill_model::{
    AccountId, ContentId, DuplicateTask, Envelope, QueueName, SpaceId, SpacePair, StoreId, Task, TaskArgs as _, TaskId,
    TaskKind, Timestamp,
};
use mill_policy::{AccountPolicy, accounts_list};
use mill_ports::{Clock, OutgoingMessage, Rng, TaskQueue as _};
use mill_processors::ProcessorDeps;
use mill_records::delete_lists::DeleteLists;
use mill_records::owners::Owners;
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;
use mill_testkit::{MemoryQueues, MemoryStores, MemoryTable, QueueBehavior, SeededRng, SimClock};
use mill_workman::{OnFinalFailure, OnUnavailable, StopSignal, Workman, WorkmanDeps, WorkmanSettings};
use proptest::prelude::*;

const QUEUE: QueueName = QueueName::DuplicationLow;

fn arrival() -> ReceiveContext {
    let sent_at = Timestamp::from_millis(1);
    ReceiveContext { id: TaskId::new(sent_at, [0; 10]), queue: QUEUE, sent_at }
}

fn good(item: &str) -> Bytes {
    let pair = SpacePair {
        account: AccountId::new("nobody").unwrap(),
        source: StoreId::new("1").unwrap(),
        destination: StoreId::new("2").unwrap(),
        space: SpaceId::new("space").unwrap(),
    };
    let task = DuplicateTask::of(pair, Some(ContentId::new(item).unwrap())).to_task().unwrap();
    let envelope = Envelope::new(arrival().id, QUEUE, arrival().sent_at, task);
    wire::encode(&envelope).unwrap()
}

fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("{}{}", open.repeat(depth), close.repeat(depth))
}

/// A good envelope with one member set otherwise.
fn with(name: &str, value: &str) -> String {
    let text = String::from_utf8(good("x").to_vec()).unwrap();
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    object.insert(name.to_owned(), serde_json::Value::Null);
    serde_json::to_string(&object).unwrap().replacen(&format!("\"{name}\":null"), &format!("\"{name}\":{value}"), 1)
}

/// Bodies that were thought out; the chance ones come from the properties below.
fn bodies() -> Vec<Bytes> {
    let good = String::from_utf8(good("x").to_vec()).unwrap();
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "\0",
        "\u{feff}",
        "null",
        "true",
        "0",
        "\"x\"",
        "[]",
        "{}",
        "{",
        "}",
        "{\"v\":1}",
        "{\"v\":2}",
        "{\"v\":\"1\"}",
        "{\"v\":1e400}",
        "{\"v\":-1}",
        "{\"v\":18446744073709551616}",
        "type=",
        "type=DUP",
        "=",
        "\\u",
        "type\\u003d",
        "type=DUP\naccount=a\nspaceId=s",
        "<task/>",
        "%PDF-1.4",
        "key: value",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    for (name, values) in [
        ("id", &["null", "\"\"", "\"x\"", "7", "[]"][..]),
        ("kind", &["null", "\"\"", "\"a b\"", "\"unknown\"", "{}"]),
        ("account", &["null", "\"\"", "\"a/b\"", "\"..\"", "\"\\u0000\""]),
        ("queue", &["null", "\"\"", "\"nowhere\"", "\"dead-letter\""]),
        ("first_sent", &["null", "-1", "1e30", "\"now\""]),
        ("failures", &["null", "-1", "4294967296", "0.5"]),
        ("history", &["null", "{}", "[null]", "[{}]"]),
        ("task", &["null", "[]", "\"x\"", "{}", "{\"item\":null}", "{\"item\":\"\"}", "{\"space\":7}"]),
        ("v", &["null", "0", "2", "\"1\"", "1.5"]),
    ] {
        bodies.extend(values.iter().map(|value| with(name, value).into_bytes()));
    }
    for depth in [64, 127, 128, 129, 10_000, 100_000] {
        bodies.push(nested("[", "]", depth).into_bytes());
        bodies.push(nested("{\"a\":", "}", depth).into_bytes());
        bodies.push(with("task", &nested("[", "]", depth)).into_bytes());
        bodies.push("[".repeat(depth).into_bytes());
    }
    bodies.push(format!("{}{good}", " ".repeat(1 << 20)).into_bytes());
    bodies.push(with("trace", &format!("\"{}\"", "x".repeat(1 << 20))).into_bytes());
    bodies.push(format!("{good}{good}").into_bytes());
    bodies.push(good.replacen("{\"v\":1", "{\"v\":1,\"v\":1", 1).into_bytes());
    bodies.push([good.as_bytes(), b"\xff"].concat());
    bodies.push(good.replacen("\"x\"", "\"\\ud800\"", 1).into_bytes());
    bodies.push(vec![0xff; 20_000]);
    bodies.extend((1..good.len()).step_by(7).map(|end| good.as_bytes()[..end].to_vec()));
    bodies.into_iter().map(Bytes::from).collect()
}

#[test]
fn what_cannot_be_opened_says_why_in_words_that_fit_a_line() {
    let mut refused = 0;
    for body in bodies() {
        if let Err(error) = wire::decode(&body, arrival()) {
            assert_clear(&error);
            refused += 1;
        }
    }
    assert!(refused > 80, "{refused}");
}

fn assert_clear(error: &WireError) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 1_000 && !text.contains('\n'), "{text:?}");
}

/// Cuts, flips, doubles and inserts.
fn damaged(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let places = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..5_u8), 1..6);
    places.prop_map(move |damages| {
        let mut text = good.to_vec();
        for (place, byte, how) in damages {
            let at = place.index(text.len().max(1));
            match how {
                _ if text.is_empty() => text.push(byte),
                0 => text.truncate(at),
                1 => text[at] = byte,
                2 => text.insert(at, byte),
                3 => drop(text.remove(at)),
                _ => text.extend_from_within(at..),
            }
        }
        text
    })
}

fn kept(bytes: &Bytes) -> &'static [u8] {
    Box::leak(bytes.to_vec().into_boxed_slice())
}

const POLICY: &[u8] = br#"{
  "removeVanished": true,
  "compare": "differences", "workers": 16,
  "defaultPolicies": [ { "srcStoreId": "1", "destStoreId": "2" } ]
}"#;
const STORES: &[u8] = br#"{ "stores": [ { "id": "1", "type": "folder", "root": "one", "primary": true },
  { "id": "2", "type": "folder", "root": "two", "transfersMax": 4 } ] }"#;

fn account() -> AccountId {
    AccountId::new("a").unwrap()
}

/// A policy is one that can be obeyed, or names its faults, each in a line.
fn assert_judged(policy: &[u8], stores: &[u8]) {
    if let Err(faults) = AccountPolicy::parse(account(), policy, stores) {
        assert!(!faults.is_empty());
        for fault in faults {
            let text = fault.to_string();
            assert!(!text.is_empty() && text.len() < 2_000 && !text.contains('\n'), "{text:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_task_is_opened_or_refused_and_what_is_opened_can_be_written_again(body in damaged(kept(&good("a/b")))) {
        match wire::decode(&body, arrival()) {
            Ok(envelope) => {
                let encoded = wire::encode(&envelope).unwrap();
                prop_assert_eq!(wire::decode(&encoded, arrival()).unwrap(), envelope);
            }
            Err(error) => assert_clear(&error),
        }
        if let Err(error) = wire::decode_dead_letter(&body) {
            assert_clear(&error);
        }
    }

    #[test]
    fn bytes_by_chance_are_opened_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = wire::decode(&body, arrival()) {
            assert_clear(&error);
        }
        if let Err(error) = wire::decode_dead_letter(&body) {
            assert_clear(&error);
        }
    }

    #[test]
    fn a_damaged_policy_is_judged(policy in damaged(POLICY), stores in damaged(STORES)) {
        assert_judged(&policy, STORES);
        assert_judged(POLICY, &stores);
        let _ = accounts_list(&policy);
    }
}

#[test]
fn policies_without_end_and_policies_of_another_kind_are_judged() {
    assert!(AccountPolicy::parse(account(), POLICY, STORES).is_ok(), "the good one is good");
    for body in bodies() {
        assert_judged(&body, STORES);
        assert_judged(POLICY, &body);
        assert!(AccountPolicy::parse(account(), POLICY, &body).is_err(), "{body:?} gives no stores");
        let _ = accounts_list(&body);
    }
    let many = |one: &str| format!("{{ \"defaultPolicies\": [ {} ] }}", vec![one; 20_000].join(","));
    assert_judged(many(r#"{ "srcStoreId": "1", "destStoreId": "2" }"#).as_bytes(), STORES);
    assert_judged(many("{").as_bytes(), STORES);
}

struct Shop {
    queues: MemoryQueues,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Rng>,
}

impl Shop {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
        let chance: Arc<dyn Rng> = Arc::new(SeededRng::new(1));
        Self { queues: MemoryQueues::new(&QueueBehavior::well_behaved(), &clock, &chance), clock, chance }
    }

    async fn send(&self, body: Bytes) -> bool {
        let out = OutgoingMessage { group: account(), body, delay: Duration::ZERO };
        self.queues.get(QUEUE).send(&[out]).await.unwrap().failed.is_empty()
    }

    /// Works until the queue is empty.
    async fn work(&self) {
        let registry = mill_processors::registry(&ProcessorDeps {
            policies: Arc::new(PolicyRepository::fixed(Vec::new())),
            stores: Arc::new(MemoryStores::default()),
            sync_proofs: SyncProofs::new(Arc::new(MemoryTable::new("seals"))),
            owners: Owners::new(Arc::new(MemoryTable::new("owners"))),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            statistics: Arc::default(),
            refusals: Arc::default(),
            delete_lists: DeleteLists::new(Arc::new(MemoryTable::new(DeleteLists::TABLE))),
            dry_run: false,
            another_source: false,
            give_up_after: Duration::MAX,
            audit: None,
        });
        let deps = WorkmanDeps {
            queues: vec![self.queues.get(QUEUE)],
            all_queues: self.queues.ports(),
            dead_letter: self.queues.get(QueueName::DeadLetter),
            registry,
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            statistics: Arc::default(),
            caps: Arc::new(mill_ports::NoCaps),
            permits: None,
            counts: None,
        };
        let settings = WorkmanSettings {
            name: "w".into(),
            workers: 8,
            visibility: Duration::from_mins(1),
            failures_max: 3,
            retry_delays: vec![Duration::from_secs(1)],
            idle_backoff: vec![Duration::from_secs(1)],
            poll_wait: Duration::from_secs(1),
            batch_linger: Duration::from_millis(2),
            recheck: Duration::ZERO,
            reserved_low: 0.0,
            reserved_high: 0.05,
            on_final_failure: OnFinalFailure::Drain,
            on_unavailable: OnUnavailable::Wait,
            grace: Duration::from_secs(1),
        };
        let (workman, heartbeat) = Workman::new(deps, settings);
        let stop = StopSignal::default();
        let until_empty = async {
            while self.queues.get(QUEUE).depth().await.unwrap().total() > 0 {
                self.clock.sleep(Duration::from_millis(100)).await;
            }
            stop.gentle.cancel();
        };
        futures::join!(async { workman.run(stop.clone()).await.unwrap() }, heartbeat.run(), until_empty);
    }

    async fn dead_letters(&self) -> Vec<Bytes> {
        let queue = self.queues.get(QueueName::DeadLetter);
        let mut bodies = Vec::new();
        loop {
            let some = queue.receive(NonZeroU32::MAX, Duration::from_hours(1), Duration::ZERO).await.unwrap();
            if some.is_empty() {
                return bodies;
            }
            bodies.extend(some.into_iter().map(|delivery| delivery.body));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_is_dead_lettered_as_it_is_and_holds_up_no_other() {
    let shop = Shop::new();
    let mut unopenable = Vec::new();
    for (number, body) in bodies().into_iter().enumerate() {
        shop.send(good(&format!("between/{number}"))).await;
        // What a queue does not take never comes out of it.
        if shop.send(body.clone()).await && wire::decode(&body, arrival()).is_err() {
            unopenable.push(body);
        }
    }
    assert!(unopenable.len() > 70, "{}", unopenable.len());
    shop.work().await;
    let mut given_up: Vec<Bytes> = Vec::new();
    for letter in shop.dead_letters().await {
        match wire::decode_dead_letter(&letter) {
            Ok(letter) => {
                assert!(!letter.given_up.reason.is_empty());
                given_up.push(letter.body);
            }
            // Too large for its reason beside it.
            Err(_) => given_up.push(letter),
        }
    }
    // Others were opened, and asked for what there is no processor for.
    given_up.retain(|body| wire::decode(body, arrival()).is_err());
    given_up.sort();
    unopenable.sort();
    assert_eq!(given_up.len(), unopenable.len());
    assert!(given_up == unopenable, "some came out otherwise than they went in");
}

#[tokio::test(start_paused = true)]
async fn a_task_of_an_unknown_kind_is_dead_lettered_with_all_that_it_holds() {
    let shop = Shop::new();
    let mut task = serde_json::Map::new();
    task.insert("deep".into(), serde_json::from_str(&nested("[", "]", 100)).unwrap());
    let task = Task { kind: TaskKind::new("tomorrows"), account: account(), detail: task };
    let envelope = Envelope::new(arrival().id, QUEUE, arrival().sent_at, task.clone());
    shop.send(wire::encode(&envelope).unwrap()).await;
    shop.work().await;
    let letters = shop.dead_letters().await;
    let letter = wire::decode_dead_letter(&letters[0]).unwrap();
    assert_eq!(wire::decode(&letter.body, arrival()).unwrap().task, task);
}
