use mill_model::{AccountId, StoreId};

use super::*;
use crate::test_table::TestTable;

#[derive(Debug, Default)]
struct ManualClock(parking_lot::Mutex<Duration>);

#[async_trait::async_trait]
impl Clock for ManualClock {
    fn now(&self) -> mill_model::Timestamp {
        mill_model::Timestamp::default()
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_origin(*self.0.lock())
    }

    fn second_clock(&self) -> Option<mill_ports::SecondClockReading> {
        None
    }

    async fn sleep(&self, duration: Duration) {
        *self.0.lock() += duration;
    }
}

struct Fleet {
    repository: PermitRepository,
    clock: Arc<ManualClock>,
    watched: BTreeMap<&'static str, WatchedHolders>,
}

impl Fleet {
    fn of(table: TestTable) -> Self {
        let clock = Arc::<ManualClock>::default();
        let repository = PermitRepository {
            table: Arc::new(table),
            clock: clock.clone(),
            timeout: Duration::from_mins(1),
            holder_is_dead: Arc::new(|holder| holder == "killed"),
        };
        Self { repository, clock, watched: BTreeMap::new() }
    }

    async fn ask(&mut self, holder: &'static str, held: u32, wanted: u32, cap: u32) -> GrantedPermits {
        let store = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
        let request = PermitRequest { store, holder: holder.into(), held, wanted, cap };
        self.repository.hold(&request, self.watched.entry(holder).or_default()).await.unwrap()
    }

    async fn permits(&mut self, holder: &'static str, held: u32, wanted: u32, cap: u32) -> u32 {
        self.ask(holder, held, wanted, cap).await.permits
    }

    async fn pass(&self, seconds: u64) {
        self.clock.sleep(Duration::from_secs(seconds)).await;
    }
}

#[tokio::test]
async fn all_workmen_together_have_no_more_than_the_cap() {
    let mut fleet = Fleet::of(TestTable::default());
    assert_eq!(fleet.permits("one", 0, 3, 4).await, 3);
    assert_eq!(fleet.permits("two", 0, 3, 4).await, 1);
    assert_eq!(fleet.permits("three", 0, 1, 4).await, 0);
    assert_eq!(fleet.permits("one", 1, 1, 4).await, 1, "two are given back");
    assert_eq!(fleet.permits("two", 1, 3, 4).await, 3);
    assert_eq!(fleet.permits("one", 0, 0, 4).await, 0);
    assert_eq!(fleet.permits("three", 0, 1, 4).await, 1);
}

#[tokio::test]
async fn permits_of_a_workman_that_is_gone_are_free_after_the_timeout_and_not_before() {
    let mut fleet = Fleet::of(TestTable::default());
    assert_eq!(fleet.permits("gone", 0, 2, 2).await, 2);
    assert_eq!(fleet.permits("lives", 0, 1, 2).await, 0);
    fleet.pass(59).await;
    assert_eq!(fleet.permits("lives", 0, 1, 2).await, 0);
    fleet.pass(1).await;
    assert_eq!(fleet.permits("lives", 0, 1, 2).await, 1);
    assert_eq!(fleet.permits("gone", 2, 2, 2).await, 1, "and it has lost its own when it comes back");
}

#[tokio::test]
async fn permits_of_a_workman_that_was_killed_on_this_host_are_free_at_once() {
    let mut fleet = Fleet::of(TestTable::default());
    assert_eq!(fleet.permits("killed", 0, 2, 2).await, 2);
    assert_eq!(fleet.permits("lives", 0, 2, 2).await, 2);
}

#[tokio::test]
async fn who_beats_keeps_its_permits_for_as_long_as_it_does() {
    let mut fleet = Fleet::of(TestTable::default());
    for _ in 0..20 {
        let granted = fleet.ask("one", 2, 2, 2).await;
        assert_eq!((granted.permits, granted.until), (2, fleet.clock.monotonic().plus(Duration::from_mins(1))));
        assert_eq!(fleet.permits("two", 0, 1, 2).await, 0);
        fleet.pass(20).await;
    }
}

#[tokio::test]
async fn a_cap_that_is_lowered_is_reached_as_each_gives_back_what_it_does_not_use() {
    let mut fleet = Fleet::of(TestTable::default());
    assert_eq!(fleet.permits("one", 0, 4, 8).await, 4);
    assert_eq!(fleet.permits("two", 0, 4, 8).await, 4);
    assert!(fleet.ask("one", 4, 4, 2).await.over, "what is in use stays in use");
    assert_eq!(fleet.permits("one", 1, 4, 2).await, 1, "and what is given back is not taken again");
    assert_eq!(fleet.permits("two", 0, 4, 2).await, 1);
    assert!(!fleet.ask("one", 1, 4, 2).await.over);
}

#[tokio::test]
async fn many_that_ask_at_once_never_get_more_than_there_is() {
    let fleet = Fleet::of(TestTable::yielding());
    let ask = |holder: u32| {
        let store = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
        let request = PermitRequest { store, holder: holder.to_string(), held: 0, wanted: 2, cap: 5 };
        let repository = fleet.repository.clone();
        async move { repository.hold(&request, &mut WatchedHolders::default()).await }
    };
    let granted = futures::future::join_all((0..20).map(ask)).await;
    let sum: u32 = granted.iter().flatten().map(|granted| granted.permits).sum();
    assert!((1..=5).contains(&sum), "{granted:?}");
}
