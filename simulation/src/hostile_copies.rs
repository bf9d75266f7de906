//! Five hundred hostile names, copied by Mill to a back end and from it: each is a faithful copy or a typed refusal, never
//! another item, and nothing around the store's root is touched.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mill_conformance::hostile::{assert_holds, corpus, write_each};
use mill_conformance::store::space;
use mill_conformance::{HostileSubject, Keep, StoreLimits, StoreSubject};
use mill_model::{
    AccountId, ContentId, DuplicateTask, Envelope, ItemAddress, Monotonic, QueueName, SpacePair, StoreAddress, StoreId,
    TaskArgs as _, TaskId, Timestamp,
};
use mill_policy::AccountPolicy;
use mill_ports::{Attempt, DeletableStore, DeliveryLease, ItemOutcomeNote, Registry, TaskOutcome};
use mill_processors::{ProcessorDeps, Refusals};
use mill_records::delete_lists::DeleteLists;
use mill_records::owners::Owners;
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;
use mill_testkit::{ManualClock, MemoryStore, MemoryStores, MemoryTable, SeededRng, StoreBehavior};
use tokio_util::sync::CancellationToken;

/// Makes the tests of a back end in a module of its own.
///
/// ```ignore
/// hostile_copy_suite!(name, path::to::open);
/// ```
///
/// `open` gives a fresh [`HostileSubject`].
#[macro_export]
macro_rules! hostile_copy_suite {
    ($name:ident, $open:path) => {
        mod $name {
            $crate::hostile_copy_cases! { $open;
                the_processor_copies_each_name_to_it_or_refuses_it
                the_processor_copies_each_name_from_it_or_refuses_it
            }
        }
    };
}

/// Makes a test of each case.
#[doc(hidden)]
#[macro_export]
macro_rules! hostile_copy_cases {
    ($open:path; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::hostile_copies::run(async { $crate::hostile_copies::$case($open().await).await });
            }
        )*
    };
}

#[doc(hidden)]
pub use mill_conformance::subject::run;

/// From a store that holds every name.
pub async fn the_processor_copies_each_name_to_it_or_refuses_it(subject: HostileSubject) {
    let HostileSubject { store, around } = subject;
    let (before, store) = (around(), store.with_space().await);
    let source = memory_with_all_names().await;
    let pair = PairUnderTest::of(source.store.clone(), store.store.clone());
    let mut copied = BTreeSet::new();
    for pass in 0..2 {
        for id in corpus() {
            if pair.duplicate(&id).await {
                copied.insert(id.as_str().to_owned());
            }
            if pass == 0 {
                assert_eq!(around(), before, "after {id:?}");
            }
        }
    }
    assert_holds(&store, &copied).await;
    assert!(copied.len() > 200, "a back end that refuses nearly all names proves nothing: {}", copied.len());
    let all: BTreeSet<String> = corpus().iter().map(|id| id.as_str().to_owned()).collect();
    assert_holds(&source, &all).await;
}

/// To a store that holds every name.
pub async fn the_processor_copies_each_name_from_it_or_refuses_it(subject: HostileSubject) {
    let HostileSubject { store, around } = subject;
    let (before, store) = (around(), store.with_space().await);
    write_each(&store, &corpus()).await;
    let held: BTreeSet<String> = store.ids().await.into_iter().collect();
    let destination = memory().with_space().await;
    let pair = PairUnderTest::of(store.store.clone(), destination.store.clone());
    for id in corpus() {
        let done = pair.duplicate(&id).await;
        assert!(done || !held.contains(id.as_str()), "{id:?} is there and was refused");
    }
    assert_holds(&destination, &held).await;
    assert_holds(&store, &held).await;
    assert_eq!(around(), before);
}

fn memory() -> StoreSubject {
    let store = MemoryStore::new(address("memory"), StoreBehavior::default(), Arc::new(ManualClock::new()));
    StoreSubject { store: Arc::new(store), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

async fn memory_with_all_names() -> StoreSubject {
    let subject = memory().with_space().await;
    assert_eq!(write_each(&subject, &corpus()).await.len(), corpus().len(), "it holds every name");
    subject
}

fn address(store: &str) -> StoreAddress {
    StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(store).unwrap() }
}

/// Two stores between which the processor copies.
struct PairUnderTest {
    registry: Registry,
    refusals: Arc<Refusals>,
    clock: Arc<ManualClock>,
}

impl PairUnderTest {
    fn of(source: Arc<dyn DeletableStore>, destination: Arc<dyn DeletableStore>) -> Self {
        let policy = br#"{ "defaultPolicies": [ { "srcStoreId": "1", "destStoreId": "2" } ] }"#;
        let stores = br#"{ "stores": [ { "id": "1", "type": "folder", "root": "one", "primary": true },
            { "id": "2", "type": "folder", "root": "two" } ] }"#;
        let policy = AccountPolicy::parse(AccountId::new("a").unwrap(), policy, stores).unwrap();
        let both = MemoryStores::default();
        both.add(address("1"), source);
        both.add(address("2"), destination);
        let (clock, refusals) = (Arc::new(ManualClock::new()), Arc::new(Refusals::default()));
        let registry = mill_processors::registry(&ProcessorDeps {
            policies: Arc::new(PolicyRepository::fixed(vec![policy])),
            stores: Arc::new(both),
            sync_proofs: SyncProofs::new(Arc::new(MemoryTable::new("seals"))),
            owners: Owners::new(Arc::new(MemoryTable::new("owners"))),
            clock: clock.clone(),
            chance: Arc::new(SeededRng::new(1)),
            statistics: Arc::default(),
            refusals: refusals.clone(),
            delete_lists: DeleteLists::new(Arc::new(MemoryTable::new(DeleteLists::TABLE))),
            dry_run: false,
            another_source: false,
            give_up_after: Duration::MAX,
            audit: None,
        });
        Self { registry, refusals, clock }
    }

    /// Runs an item's task. Returns whether it is done; otherwise it was refused, and its name was noted with the reason.
    async fn duplicate(&self, id: &ContentId) -> bool {
        let pair = SpacePair {
            account: address("1").account,
            source: address("1").store,
            destination: address("2").store,
            space: space(),
        };
        let task = DuplicateTask::of(pair, Some(id.clone())).to_task().unwrap();
        let now = Timestamp::from_millis(0);
        let envelope = Envelope::new(TaskId::new(now, [0; 10]), QueueName::DuplicationLow, now, task);
        let attempt = Attempt {
            envelope: envelope.clone(),
            failures_max: 3,
            receive_count: 1,
            cancelled: CancellationToken::new(),
            lease: DeliveryLease::until(self.clock.clone(), Monotonic::from_origin(Duration::from_hours(1_000))),
            outcome: ItemOutcomeNote::default(),
        };
        let refused_before = self.refusals.count();
        match self.registry.processor(envelope.task).unwrap().run(&attempt).await {
            Ok(TaskOutcome::Done { follow_ups }) => {
                assert_eq!(follow_ups, []);
                true
            }
            Ok(TaskOutcome::Discard { reason }) => {
                assert_eq!(self.refusals.count(), refused_before + 1, "{id:?} was let go unnamed: {reason}");
                let address = ItemAddress { space: space(), id: id.clone() };
                let noted = self.refusals.named().pop().unwrap();
                assert_eq!(noted.subject, format!("a/{address}"), "another name was noted");
                false
            }
            other => panic!("{id:?}: {other:?}"),
        }
    }
}
