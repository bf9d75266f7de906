use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use mill_model::{AuditEvent, ContentId, ItemAddress, Properties, SpaceId};
use mill_ports::{Clock as _, KeyRange, SourceStore as _, Table as _};
use mill_testkit::{
    FaultInjector, FaultKind, FaultPlan, FaultRates, FaultyStore, InjectedFault, MemoryStore, MemoryTable, PortCall,
    SeededRng, SimClock, StoreBehavior,
};
use mill_transparency::{LogPath, verify_log};

use super::*;
use crate::audit_log::entry::{ReadEntry, read_entry};

struct Fixture {
    clock: Arc<SimClock>,
    plan: Arc<FaultPlan>,
    table: Arc<MemoryTable>,
    stores: Vec<MemoryStore>,
    log: AuditLog,
    sent: u64,
}

impl Fixture {
    fn new(stores: usize) -> Self {
        let clock = Arc::new(SimClock::new());
        let plan = FaultPlan::new(clock.clone(), Arc::new(SeededRng::new(3)));
        let table = Arc::new(MemoryTable::new("audit"));
        let log = AuditLog::new(Arc::new(FaultInjector::new(table.clone(), plan.clone())));
        let store = |number: usize| MemoryStore::new(address(number), StoreBehavior::default(), clock.clone());
        let stores = (0..stores).map(store).collect();
        Self { clock, plan, table, stores, log, sent: 0 }
    }

    /// Makes more events ready.
    async fn add(&mut self, count: u64) {
        let chance = SeededRng::new(5);
        for number in self.sent..self.sent + count {
            self.log.add_ready(&account(), &event(number), &chance).await.unwrap();
        }
        self.sent += count;
    }

    fn opened(&self) -> OpenedLog {
        let signer = LogSigner::generate("example.org/log", [7; 32]).unwrap();
        let verifier = LogVerifier::new(vec![signer.public().clone()]).unwrap();
        let files = |(number, store): (usize, &MemoryStore)| LogFiles {
            store: Arc::new(FaultyStore::new(Arc::new(store.clone()), address(number), self.plan.clone()))
                as Arc<dyn DestinationStore>,
            address: address(number),
            space: space(),
        };
        let stores = self.stores.iter().enumerate().map(files).collect();
        OpenedLog { origin: "example.org/log".into(), signers: vec![signer], verifier, stores }
    }

    /// A publisher of another process.
    fn publisher(&self) -> LogPublisher {
        LogPublisher::new(self.log.clone())
    }

    /// Publishes until it works.
    async fn publish(&self) -> Result<Published, PublishError> {
        self.publisher().publish(&account(), &self.opened()).await
    }

    /// Verifies the log in each store, and returns the numbers of its events in their order.
    async fn verified(&self) -> Vec<u64> {
        let logs = self.opened();
        let mut all: Vec<Vec<u64>> = Vec::new();
        let known: BTreeMap<EventId, u64> =
            (0..self.sent).map(|number| (super::super::tests::event(number).id, number)).collect();
        for (store, files) in self.stores.iter().zip(&logs.stores) {
            let checkpoint = files.checkpoint(&logs.verifier).await.unwrap().expect("a checkpoint").checkpoint;
            let contents = store.contents(&space()).unwrap();
            let reader = |path: LogPath| {
                let id = ContentId::new(path.to_string()).unwrap();
                Ok::<_, ()>(contents.get(&id).map(|(bytes, _)| bytes.to_vec()))
            };
            let mut numbers = Vec::new();
            verify_log(&checkpoint, None, reader, |_, entry| {
                let id = read_entry(entry).unwrap().event_id();
                numbers.push(*known.get(&id).expect("an event that was sent"));
            })
            .unwrap();
            assert_eq!(numbers.len() as u64, checkpoint.size);
            assert!(contents.contains_key(&ContentId::new(format!("checkpoints/{}", checkpoint.size)).unwrap()));
            all.push(numbers);
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "all stores have the same log");
        all.swap_remove(0)
    }

    /// Each event once, those of each item in their order, and its place is known.
    async fn assert_whole(&self) {
        let numbers = self.verified().await;
        assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), (0..self.sent).collect::<BTreeSet<_>>());
        assert_eq!(numbers.len() as u64, self.sent, "no event twice");
        for item in 0..7 {
            assert!(numbers.iter().filter(|number| **number % 7 == item).is_sorted(), "{numbers:?}");
        }
        for (index, number) in numbers.iter().enumerate() {
            let place = self.log.place(&account(), &event(*number)).await.unwrap().expect("a place");
            assert_eq!(place.index, index as u64);
        }
        assert_eq!(self.log.ready(&account(), 100).await.unwrap(), []);
    }

    fn file(&self, store: usize, path: &str) -> Option<Bytes> {
        self.stores[store].content(&item(path)).map(|(bytes, _)| bytes)
    }
}

fn event(number: u64) -> AuditEvent {
    let mut event = super::super::tests::event(number);
    if number % 50 == 49 {
        event.properties = Some([("p".to_owned(), "x".repeat(70_000))].into());
    }
    event
}

fn account() -> AccountId {
    "a".parse().unwrap()
}

fn address(number: usize) -> StoreAddress {
    StoreAddress { account: account(), store: number.to_string().parse().unwrap() }
}

fn space() -> SpaceId {
    "x-audit-log".parse().unwrap()
}

fn item(path: &str) -> ItemAddress {
    ItemAddress { space: space(), id: ContentId::new(path).unwrap() }
}

#[tokio::test(start_paused = true)]
async fn events_are_published_once_in_order_into_every_store() {
    let mut fixture = Fixture::new(2);
    assert_eq!(fixture.publish().await.unwrap(), Published::default());
    for count in [1, 2, 255, 300, 1500] {
        fixture.add(count).await;
        assert_eq!(fixture.publish().await.unwrap(), Published { entries: count, size: fixture.sent });
        fixture.assert_whole().await;
    }
    // A repeat of an event that has its place makes no entry.
    fixture.sent = 0;
    fixture.add(3).await;
    fixture.sent = 2058;
    assert_eq!(fixture.publish().await.unwrap(), Published { entries: 0, size: 2058 });
    fixture.assert_whole().await;
    let place = fixture.log.place(&account(), &event(2)).await.unwrap().unwrap();
    assert_eq!(place.user.as_deref(), Some("Zoë"));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_killed_at_any_call_is_finished_by_the_next_one() {
    let calls =
        [PortCall::GetRow, PortCall::PutRow, PortCall::PutRows, PortCall::DeleteRow, PortCall::Put, PortCall::Open];
    let mut killed = 0;
    for call in calls {
        for nth in (1..9).chain([20, 40]) {
            let mut fixture = Fixture::new(2);
            fixture.add(30).await;
            fixture.publish().await.unwrap();
            fixture.add(20).await;
            fixture.plan.fail(call, nth, InjectedFault::Delay(Duration::from_hours(1000)));
            let ended = tokio::time::timeout(Duration::from_secs(100), fixture.publish()).await;
            killed += u32::from(ended.is_err());
            fixture.plan.calm();
            fixture.add(10).await;
            fixture.publish().await.unwrap();
            fixture.assert_whole().await;
        }
    }
    assert!(killed > 30, "{killed}");
}

#[tokio::test(start_paused = true)]
async fn publishers_at_once_and_a_slow_one_never_fork_the_log() {
    for seed in 0..40 {
        let mut fixture = Fixture::new(2);
        let rates = FaultRates { delay: 300, delay_max: Duration::from_secs(5), ..FaultRates::default() };
        fixture.plan.set_rates(FaultRates { before: seed % 4 * 10, after: seed % 3 * 10, ..rates });
        for _ in 0..3 {
            fixture.plan.calm();
            fixture.add(40).await;
            fixture.plan.set_rates(FaultRates { before: seed % 4 * 10, after: seed % 3 * 10, ..rates });
            let (one, other, late) = (fixture.publisher(), fixture.publisher(), fixture.publisher());
            let log = fixture.opened();
            let account = account();
            let later = async {
                fixture.clock.sleep(Duration::from_secs(7)).await;
                late.publish(&account, &log).await
            };
            let ended = futures::join!(one.publish(&account, &log), other.publish(&account, &log), later);
            for ended in [ended.0, ended.1, ended.2] {
                assert!(ended.as_ref().err().is_none_or(PublishError::may_pass), "{ended:?}");
            }
        }
        fixture.plan.calm();
        fixture.publish().await.unwrap();
        fixture.assert_whole().await;
    }
}

/// The rows of a table, as a backup has them.
async fn restore(table: &MemoryTable, backup: &[(RowKey, Bytes)]) {
    for (key, _) in table.rows() {
        table.delete(&key, RowPrecondition::Always).await.unwrap();
    }
    table.put_many(backup).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn state_from_an_old_backup_or_lost_goes_on_from_the_checkpoint_and_forks_nothing() {
    for lost in [false, true] {
        let mut fixture = Fixture::new(2);
        fixture.add(300).await;
        fixture.publish().await.unwrap();
        fixture.add(20).await;
        // These wait in the backup, and have their places in the log.
        let backup = if lost { Vec::new() } else { fixture.table.rows() };
        fixture.publish().await.unwrap();
        fixture.add(600).await;
        fixture.publish().await.unwrap();
        restore(&fixture.table, &backup).await;
        fixture.add(30).await;
        assert_eq!(fixture.publish().await.unwrap().size, 950);
        fixture.assert_whole().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_in_the_middle_of_a_commit_goes_on_too() {
    for nth in 1..30 {
        let mut fixture = Fixture::new(1);
        fixture.add(20).await;
        fixture.publish().await.unwrap();
        fixture.add(30).await;
        for call in [PortCall::Put, PortCall::DeleteRow] {
            fixture.plan.fail(call, nth, InjectedFault::Delay(Duration::from_hours(1000)));
        }
        let _ = tokio::time::timeout(Duration::from_secs(100), fixture.publish()).await;
        fixture.plan.calm();
        let backup = fixture.table.rows();
        fixture.publish().await.unwrap();
        fixture.add(30).await;
        fixture.publish().await.unwrap();
        restore(&fixture.table, &backup).await;
        fixture.publish().await.unwrap();
        fixture.assert_whole().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_behind_or_new_gets_the_rest() {
    for (first, second) in [(1, 700), (300, 20), (256, 256), (600, 1)] {
        let mut fixture = Fixture::new(2);
        fixture.add(first).await;
        fixture.publish().await.unwrap();
        let old = fixture.stores[1].contents(&space()).unwrap();
        fixture.add(second).await;
        fixture.publish().await.unwrap();
        // One store comes back from an old backup; another is new.
        for backup in [old, BTreeMap::new()] {
            fixture.stores[1].remove_space(&space());
            fixture.stores[1].insert_space(&space());
            for (id, (bytes, _)) in backup {
                fixture.stores[1].insert(&item(id.as_str()), bytes, Properties::default());
            }
            fixture.publish().await.unwrap();
            fixture.assert_whole().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_with_another_log_stops_everything_and_says_so() {
    let mut fixture = Fixture::new(2);
    fixture.add(300).await;
    fixture.publish().await.unwrap();
    let mut other = Fixture::new(1);
    other.sent = 1000;
    for (count, size) in [(300, 300), (50, 350)] {
        other.add(count).await;
        other.publish().await.unwrap();
        let before = fixture.file(0, "checkpoint");
        for (id, (bytes, _)) in other.stores[0].contents(&space()).unwrap() {
            fixture.stores[1].insert(&item(id.as_str()), bytes, Properties::default());
        }
        fixture.add(5).await;
        let error = fixture.publish().await.unwrap_err();
        assert!(matches!(error, PublishError::Forked { size: found, ours: 300, .. } if found == size), "{error}");
        assert!(!error.may_pass());
        assert_eq!(fixture.file(0, "checkpoint"), before, "nothing is signed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_another_key_signed_stops_everything() {
    let mut fixture = Fixture::new(1);
    fixture.add(3).await;
    fixture.publish().await.unwrap();
    let signer = LogSigner::generate("example.org/log", [8; 32]).unwrap();
    let forged = Checkpoint { origin: "example.org/log".into(), size: 9, root: TreeHash::of_entry(b"x") };
    let note = forged.sign(&[&signer]).unwrap().to_string();
    fixture.stores[0].insert(&item("checkpoint"), note, Properties::default());
    fixture.add(3).await;
    let error = fixture.publish().await.unwrap_err();
    assert!(matches!(error, PublishError::Files(LogFileError::Checkpoint { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_end_of_the_log_stops_everything() {
    let mut fixture = Fixture::new(1);
    fixture.add(3).await;
    fixture.publish().await.unwrap();
    let mut bytes = fixture.file(0, "tile/entries/000.p/3").unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    fixture.stores[0].insert(&item("tile/entries/000.p/3"), bytes, Properties::default());
    fixture.add(3).await;
    let error = fixture.publish().await.unwrap_err();
    assert!(matches!(error, PublishError::Edge { .. }), "{error}");
    assert!(mill_ports::error_chain(&error).contains("entry 2"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn large_entries_are_beside_the_log_before_it_names_them() {
    let mut fixture = Fixture::new(1);
    fixture.add(50).await;
    fixture.plan.fail(PortCall::Put, 3, InjectedFault::Before(FaultKind::Unexpected));
    let _ = fixture.publish().await;
    fixture.publish().await.unwrap();
    fixture.assert_whole().await;
    let contents = fixture.stores[0].contents(&space()).unwrap();
    let entries = bundle_of(&contents[&ContentId::new("tile/entries/000.p/50").unwrap()].0);
    let ReadEntry::Beside(large) = read_entry(entries.last().unwrap()).unwrap() else { panic!("it is large") };
    let whole = &contents[&ContentId::new(large.item_name()).unwrap()].0;
    assert_eq!(large.read_whole(whole).unwrap().event.properties, event(49).properties);
    let page = fixture.table.query("log/a", &KeyRange::default(), 10).await.unwrap();
    assert_eq!(page.rows.len(), 1, "the state alone");
    let _ = fixture.stores[0].capabilities();
}

fn bundle_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    mill_transparency::bundle::decode(bytes, 50).unwrap().into_iter().map(<[u8]>::to_vec).collect()
}

#[tokio::test]
async fn a_state_row_whose_root_is_no_hash_is_refused_and_nothing_is_written() {
    let mut fixture = Fixture::new(1);
    fixture.add(3).await;
    fixture.publish().await.unwrap();
    let key = rows::state_key(&account());
    let row = fixture.table.get(&key).await.unwrap().unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&row.value).unwrap();
    value["root"] = "no hash".into();
    fixture.table.put(&key, value.to_string().into(), RowPrecondition::Always).await.unwrap();
    fixture.add(1).await;
    let refused = fixture.publish().await.unwrap_err();
    assert!(matches!(refused, PublishError::Rows(AuditLogError::Unreadable { .. })), "{refused}");
    let refused = fixture.log.published(&account()).await.unwrap_err();
    assert!(matches!(refused, AuditLogError::Unreadable { .. }), "{refused}");
    assert_eq!(fixture.file(0, "checkpoints/4"), None);
}
