use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use futures::TryStreamExt as _;
use mill_model::wire::{self, ReceiveContext};
use mill_model::{Envelope, Properties, QueueName, StoreAddress, Timestamp};
use mill_policy::AccountPolicy;
use mill_ports::{
    DeliveryLease, ItemOutcomeNote, OutgoingMessage, Registry, RngExt as _, TaskOutcome as Outcome, TaskQueue as _,
};
use mill_processors::{AuditDeps, ProcessorDeps};
use mill_records::audit_log::AuditLog;
use mill_records::audit_log::publisher::LogPublisher;
use mill_records::content_index::{ContentIndex, IndexedSpace};
use mill_records::delete_lists::{DeleteLists, DeleteThresholds};
use mill_records::owners::Owners;
use mill_records::sync_proofs::SyncProofs;
use mill_testkit::{
    MemoryQueue, MemoryStore, MemoryStores, MemoryTable, QueueBehavior, SeededRng, SimClock, StoreBehavior,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::secrets::KeyReader;

#[test]
fn a_key_is_the_item_of_the_store_whose_bucket_it_is_in() {
    let one = Buckets::One("archive".into());
    let prefix = Buckets::Prefix("archive-".into());
    let ids = |found: Option<(SpaceId, ContentId)>| {
        found.map(|(space, id)| (space.as_str().to_owned(), id.as_str().to_owned()))
    };
    let found = |space: &str, id: &str| Some((space.to_owned(), id.to_owned()));
    assert_eq!(ids(split_key(&one, "archive", "photos/a/b")), found("photos", "a/b"));
    assert_eq!(ids(split_key(&one, "archive", "photos//b ")), found("photos", "/b "));
    assert_eq!(ids(split_key(&prefix, "archive-photos", "a/b")), found("photos", "a/b"));
    for (buckets, bucket, key) in [
        (&one, "archive", "no-space"),
        (&one, "archive", "photos/"),
        (&one, "archive-photos", "photos/a"),
        (&prefix, "archive-", "a"),
        (&prefix, "other", "a"),
    ] {
        assert_eq!(split_key(buckets, bucket, key), None, "{bucket} {key}");
    }
}

#[test]
fn only_a_tag_that_can_be_an_md5_is_taken_for_one() {
    assert!(md5_of_tag("25F9E794323B453885F5181F1B624D0B").is_some());
    for tag in ["25f9e794323b453885f5181f1b624d0b-2", "", "xyz"] {
        assert_eq!(md5_of_tag(tag), None, "{tag}");
    }
}

/// The audit queue with the processors of what comes in.
struct Fixture {
    clock: Arc<SimClock>,
    chance: Arc<SeededRng>,
    queue: Arc<MemoryQueue>,
    registry: Registry,
    index: ContentIndex,
    source: MemoryStore,
    /// The tasks of other queues that followed.
    sent_on: BTreeMap<QueueName, usize>,
    /// Why messages were refused for good.
    refused: Vec<String>,
}

fn archive() -> AccountId {
    AccountId::new("archive").unwrap()
}

impl Fixture {
    fn new() -> Self {
        let policy = r#"{ "defaultPolicies": [{ "srcStoreId": "1", "destStoreId": "2" }], "removeVanished": false }"#;
        let stores = r#"{ "stores": [{ "id": "1", "type": "s3", "bucket": "archive", "primary": true },
            { "id": "2", "type": "folder", "root": "/copy" }] }"#;
        let policy = AccountPolicy::parse(archive(), policy.as_bytes(), stores.as_bytes()).unwrap();
        let policies = Arc::new(PolicyRepository::fixed(vec![policy]));
        let (clock, chance) = (Arc::new(SimClock::new()), Arc::new(SeededRng::new(4)));
        let address = |id: &str| StoreAddress { account: archive(), store: id.parse().unwrap() };
        let source = MemoryStore::new(address("1"), StoreBehavior::default(), clock.clone());
        let all = MemoryStores::default();
        all.add(address("1"), Arc::new(source.clone()));
        all.add(address("2"), Arc::new(MemoryStore::new(address("2"), StoreBehavior::default(), clock.clone())));
        let stores: Arc<dyn Stores> = Arc::new(all);
        let queue = Arc::new(MemoryQueue::new(
            QueueName::Audit,
            QueueBehavior::well_behaved(),
            clock.clone(),
            chance.clone(),
            None,
        ));
        let log = AuditLog::new(Arc::new(MemoryTable::new(AuditLog::TABLE)));
        let index = ContentIndex::new(Arc::new(MemoryTable::new(ContentIndex::TABLE)));
        let table = |name: &str| Arc::new(MemoryTable::new(name));
        let deps = ProcessorDeps {
            policies: policies.clone(),
            stores: stores.clone(),
            delete_lists: DeleteLists::new(table(DeleteLists::TABLE)),
            sync_proofs: SyncProofs::new(table("seals")),
            owners: Owners::new(table("owners")),
            clock: clock.clone(),
            chance: chance.clone(),
            statistics: Arc::default(),
            refusals: Arc::default(),
            dry_run: false,
            another_source: false,
            give_up_after: Duration::MAX,
            audit: Some(AuditDeps {
                publisher: LogPublisher::new(log.clone()),
                log: log.clone(),
                index: index.clone(),
                keys: Arc::new(KeyReader { base: "/".into() }),
                thresholds: DeleteThresholds::default(),
                publish_after: Duration::from_secs(1),
                new_spaces: None,
            }),
        };
        let sender = AuditSender { queue: queue.clone(), log, clock: clock.clone(), chance: chance.clone() };
        let registry = mill_processors::registry(&deps).register(NotificationHandler { policies, stores, sender });
        let (sent_on, refused) = Default::default();
        Self { clock, chance, queue, registry, index, source, sent_on, refused }
    }

    async fn send(&self, bodies: &[String]) {
        let message = |body: &String| OutgoingMessage {
            group: AccountId::new("unknown").unwrap(),
            body: body.clone().into(),
            delay: Duration::ZERO,
        };
        for batch in bodies.chunks(10) {
            let batch: Vec<OutgoingMessage> = batch.iter().map(message).collect();
            self.queue.send(&batch).await.unwrap().into_result().unwrap();
        }
    }

    /// Works until the queue is empty, as a workman does.
    async fn work(&mut self) {
        loop {
            let at_once = NonZeroU32::new(10).unwrap();
            let deliveries = self.queue.receive(at_once, Duration::from_mins(1), Duration::ZERO).await.unwrap();
            if deliveries.is_empty() {
                return;
            }
            for delivery in deliveries {
                let context = ReceiveContext {
                    id: self.chance.task_id(Timestamp::default()),
                    queue: QueueName::Audit,
                    sent_at: delivery.sent_at,
                };
                match wire::decode(&delivery.body, context) {
                    Ok(envelope) => self.run(envelope).await,
                    Err(error) => self.refused.push(error.to_string()),
                }
                self.queue.acknowledge(&[delivery.receipt]).await.unwrap().into_result().unwrap();
            }
        }
    }

    async fn run(&mut self, envelope: Envelope) {
        let processor = self.registry.processor(envelope.task.clone()).unwrap();
        let deadline = mill_model::Monotonic::from_origin(Duration::from_hours(1_000_000));
        let attempt = Attempt {
            envelope,
            failures_max: 3,
            receive_count: 1,
            cancelled: CancellationToken::new(),
            lease: DeliveryLease::until(self.clock.clone(), deadline),
            outcome: ItemOutcomeNote::default(),
        };
        match processor.run(&attempt).await {
            Ok(Outcome::Done { follow_ups }) => {
                for follow_up in follow_ups {
                    *self.sent_on.entry(follow_up.queue).or_default() += 1;
                }
            }
            Ok(_) => {}
            Err(error) if error.class == FailureClass::Permanent => self.refused.push(mill_ports::error_chain(&error)),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A notification as S3 sends it; the key is encoded as its forms do.
fn notification(name: &str, key: &str, sequencer: u64, size: u64, at: u64) -> String {
    let mut encoded = String::new();
    for byte in key.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            b'/' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            byte => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    let time = Timestamp::from_millis(at);
    format!(
        r#"{{"Records":[{{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-central-1","eventTime":"{time}",
            "eventName":"{name}","userIdentity":{{"principalId":"AWS:ARCHIVE"}},"s3":{{"s3SchemaVersion":"1.0",
            "bucket":{{"name":"archive","arn":"arn:aws:s3:::archive"}},
            "object":{{"key":"{encoded}","size":{size},"eTag":"25f9e794323b453885f5181f1b624d0b","sequencer":"{sequencer:018X}"}}}}}}]}}"#
    )
}

/// Ids that are hard to carry.
fn id(number: u64) -> String {
    match number % 5 {
        0 => format!("plain/{number}.tif"),
        1 => format!("tab\tand\nline {number}"),
        2 => format!("\u{1F600} + % & {number}"),
        3 => format!("{number}/{}", "l".repeat(1024 - 1 - number.to_string().len() - "photos/".len())),
        _ => format!(" blanks {number} "),
    }
}

/// `MILL_NOTIFICATIONS=100000` sends so many; the short form sends 3,000.
#[tokio::test(start_paused = true)]
async fn notifications_shuffled_repeated_and_malformed_end_in_the_right_index() {
    let total: u64 = std::env::var("MILL_NOTIFICATIONS").map_or(3_000, |count| count.parse().unwrap());
    let mut fixture = Fixture::new();
    let chance = SeededRng::new(9);
    let draw = |below: u64| mill_ports::Rng::next_u64(&chance) % below;
    let noon = 1_795_249_800_000;
    let mut truth: BTreeMap<String, Option<u64>> = BTreeMap::new();
    let mut bodies = Vec::new();
    // S3 never sends an order of zeros alone.
    for sequence in 1..=total {
        let key = id(draw(total / 4));
        let removed = draw(4) == 0;
        let (name, size) = if removed { ("ObjectRemoved:Delete", 0) } else { ("ObjectCreated:Put", 1 + draw(1_000)) };
        // The clocks of the service's hosts are up to an hour apart.
        let at = noon + sequence + draw(3_600_000);
        bodies.push(notification(name, &format!("photos/{key}"), sequence, size, at));
        truth.insert(key, (!removed).then_some(size));
        if draw(10) == 0 {
            bodies.push(bodies[draw(bodies.len() as u64) as usize].clone());
        }
    }
    let malformed = total / 100;
    for number in 0..malformed {
        let whole = bodies[draw(bodies.len() as u64) as usize].clone();
        bodies.push(match number % 3 {
            0 => whole.replace("\"key\"", "\"kee\""),
            1 => whole.replace("\"archive\"", "\"of somebody else\""),
            _ => whole[..whole.len() / 2].to_owned(),
        });
    }
    for at in (1..bodies.len()).rev() {
        bodies.swap(at, draw(at as u64 + 1) as usize);
    }
    fixture.send(&bodies).await;
    fixture.work().await;

    assert_eq!(fixture.refused.len() as u64, malformed, "{:?}", fixture.refused.first());
    assert!(fixture.refused.iter().all(|why| why.len() > 20), "each has a reason: {:?}", fixture.refused);
    let space = IndexedSpace { account: archive(), store: "1".parse().unwrap(), space: "photos".parse().unwrap() };
    let rows: Vec<_> = fixture.index.items(&space).try_collect().await.unwrap();
    let found: BTreeMap<String, Option<u64>> =
        rows.into_iter().map(|(id, row)| (id.as_str().to_owned(), if row.deleted { None } else { row.size })).collect();
    assert_eq!(found.len(), truth.len());
    for (key, size) in truth {
        assert_eq!(found.get(&key), Some(&size), "{key:?}");
    }
    assert!(fixture.sent_on[&QueueName::DuplicationHigh] > total as usize / 2);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_deleted_is_a_delete_only_if_the_item_is_gone() {
    let space: SpaceId = "photos".parse().unwrap();
    for there in [true, false] {
        let mut fixture = Fixture::new();
        let item = ItemAddress { space: space.clone(), id: "a".parse().unwrap() };
        fixture.source.insert_space(&space);
        if there {
            fixture.source.insert(&item, "1234", Properties::default());
        }
        let deleted = notification("ObjectRemoved:Delete", "photos/a", 7, 0, 1_795_249_800_000);
        fixture.send(&[deleted.replace("\"sequencer\"", "\"versionId\":\"v1\",\"sequencer\"")]).await;
        fixture.work().await;
        assert_eq!(fixture.refused, Vec::<String>::new());
        let of = IndexedSpace { account: archive(), store: "1".parse().unwrap(), space: space.clone() };
        let row = fixture.index.get(&of, &item.id).await.unwrap().unwrap();
        assert_eq!((row.deleted, row.size), (!there, there.then_some(4)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_only_a_test_makes_nothing_and_one_of_no_store_is_refused_by_name() {
    let mut fixture = Fixture::new();
    let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-30T00:00:00.000Z","Bucket":"archive"}"#;
    let other =
        notification("ObjectCreated:Put", "photos/a", 7, 1, 7).replace("\"name\":\"archive\"", "\"name\":\"other\"");
    fixture.send(&[test.to_owned(), other]).await;
    fixture.work().await;
    assert_eq!(fixture.refused.len(), 1);
    assert!(fixture.refused[0].contains("`other`"), "{:?}", fixture.refused);
    assert!(fixture.sent_on.is_empty());
}
