use mill_testkit::{FaultInjector, FaultKind, FaultPlan, InjectedFault, ManualClock, MemoryTable, PortCall, SeededRng};

use super::*;

struct Desk {
    repository: AccountCounts,
    clock: Arc<ManualClock>,
}

fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

fn of(name: &str, received: u64, ended: u64) -> CountsByAccount {
    CountsByAccount::from([(account(name), AccountCount { received, ended })])
}

impl Desk {
    fn over(table: impl Table) -> Self {
        let clock = Arc::new(ManualClock::new());
        let repository =
            AccountCounts { table: Arc::new(table), clock: clock.clone(), queue: QueueName::DuplicationLow };
        Self { repository, clock }
    }

    fn faulty() -> (Self, Arc<FaultPlan>) {
        let plan = FaultPlan::new(Arc::new(ManualClock::new()), Arc::new(SeededRng::new(1)));
        let inner: Arc<dyn Table> = Arc::new(MemoryTable::new("counts"));
        (Self::over(FaultInjector::<dyn Table>::new(inner, plan.clone())), plan)
    }

    fn writer(&self, holder: &str) -> CountsWriter {
        CountsWriter::new(self.repository.clone(), holder.to_owned())
    }

    async fn read(&self) -> CountsByAccount {
        self.repository.read(&["a", "b"].map(account).into()).await.unwrap()
    }

    async fn rows(&self) -> usize {
        self.repository.rows().await.unwrap().len()
    }
}

#[tokio::test]
async fn workmen_write_beside_each_other_and_all_of_them_count() {
    let desk = Desk::over(MemoryTable::with_pages_of("counts", 2));
    for number in 0..5 {
        let mut writer = desk.writer(&format!("workman {number}"));
        writer.add(&of("a", 3, 1), false).await.unwrap();
        writer.add(&of("a", 1, 1), false).await.unwrap();
        writer.add(&of("b", 2, 2), false).await.unwrap();
    }
    assert_eq!(desk.read().await, of("a", 20, 10).into_iter().chain(of("b", 10, 10)).collect::<CountsByAccount>());
    assert_eq!(desk.rows().await, 5);
}

#[tokio::test]
async fn a_write_that_was_not_answered_counts_once() {
    let (desk, plan) = Desk::faulty();
    let mut writer = desk.writer("workman");
    writer.add(&of("a", 1, 1), false).await.unwrap();
    plan.fail(PortCall::PutRow, 1, InjectedFault::After(FaultKind::Unavailable));
    writer.add(&of("a", 2, 2), false).await.unwrap_err();
    // The same counts again, with those of the meantime.
    writer.add(&of("a", 5, 5), false).await.unwrap();
    assert_eq!(desk.read().await, of("a", 6, 6));
}

#[tokio::test]
async fn rows_of_workmen_that_are_gone_are_folded_into_one_and_still_count() {
    let desk = Desk::over(MemoryTable::new("counts"));
    let (mut stopped, mut died, mut lives) = (desk.writer("stopped"), desk.writer("died"), desk.writer("lives"));
    stopped.add(&of("a", 1, 1), true).await.unwrap();
    died.add(&of("a", 10, 10), false).await.unwrap();
    lives.add(&of("a", 100, 100), false).await.unwrap();
    assert_eq!(desk.read().await, of("a", 111, 111));
    assert_eq!(desk.rows().await, 3, "the row that stands for who stopped, and two");
    desk.clock.step(Duration::from_hours(23));
    lives.add(&of("a", 1, 1), false).await.unwrap();
    desk.clock.step(Duration::from_hours(2));
    assert_eq!(desk.read().await, of("a", 112, 112));
    assert_eq!(desk.rows().await, 2);
    assert_eq!(desk.read().await, of("a", 112, 112));
}

#[tokio::test]
async fn a_workman_that_was_taken_for_gone_goes_on_in_another_row() {
    let desk = Desk::over(MemoryTable::new("counts"));
    let mut writer = desk.writer("asleep");
    writer.add(&of("a", 10, 10), false).await.unwrap();
    desk.clock.step(Duration::from_hours(25));
    assert_eq!(desk.read().await, of("a", 10, 10));
    writer.add(&of("a", 1, 1), false).await.unwrap();
    writer.add(&of("a", 1, 1), false).await.unwrap();
    assert_eq!(desk.read().await, of("a", 12, 12));
}

#[tokio::test]
async fn a_row_that_was_folded_and_not_deleted_counts_once() {
    let (desk, plan) = Desk::faulty();
    desk.writer("stopped").add(&of("a", 4, 4), true).await.unwrap();
    plan.fail(PortCall::DeleteRow, 1, InjectedFault::Before(FaultKind::Unavailable));
    for left in [2, 1, 1] {
        assert_eq!(desk.read().await, of("a", 4, 4));
        assert_eq!(desk.rows().await, left);
    }
}

#[tokio::test]
async fn a_workman_that_meets_many_accounts_has_rows_of_bounded_size() {
    let desk = Desk::over(MemoryTable::new("counts"));
    let mut writer = desk.writer("workman");
    for round in 0..3 {
        for number in 0..1_200 {
            writer.add(&of(&format!("account-{number}"), 1, 1), round == 2 && number == 1_199).await.unwrap();
        }
    }
    let rows = desk.repository.rows().await.unwrap();
    assert!(rows.iter().all(|row| row.value.len() < 32 << 10), "no row is larger than DynamoDB writes cheaply");
    let known = (0..1_200).map(|number| account(&format!("account-{number}"))).collect();
    let counts = desk.repository.read(&known).await.unwrap();
    assert!(counts.len() == 1_200 && counts.values().all(|counted| *counted == AccountCount { received: 3, ended: 3 }));
}
