use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mill_model::{AccountId, ContentId, ItemAddress, Properties, QueueName, SpaceId, StoreId};
use mill_ports::{
    DestinationStore as _, ListPage, OutgoingMessage, Precondition, PutRequest, RowKey, RowPrecondition,
    SourceStore as _, StoreErrorKind, Table as _, TableErrorKind, TaskQueue as _,
};

use super::*;
use crate::{MemoryQueue, MemoryStore, MemoryTable, QueueBehavior, SeededRng, SimClock, StoreBehavior};

fn plan() -> (Arc<FaultPlan>, Arc<SimClock>) {
    let clock = Arc::new(SimClock::new());
    (FaultPlan::new(clock.clone(), Arc::new(SeededRng::new(1))), clock)
}

fn out(count: u8) -> Vec<OutgoingMessage> {
    let group = AccountId::new("a").unwrap();
    let one = |body| OutgoingMessage { group: group.clone(), body: Bytes::from(vec![body]), delay: Duration::ZERO };
    (0..count).map(one).collect()
}

fn queue() -> (FaultInjector<MemoryQueue>, Arc<MemoryQueue>, Arc<FaultPlan>, Arc<SimClock>) {
    let (plan, clock) = plan();
    let chance = Arc::new(SeededRng::new(2));
    let memory =
        Arc::new(MemoryQueue::new(QueueName::Audit, QueueBehavior::well_behaved(), clock.clone(), chance, None));
    (FaultInjector::new(memory.clone(), plan.clone()), memory, plan, clock)
}

fn store() -> (FaultyStore<MemoryStore>, MemoryStore, Arc<FaultPlan>, ItemAddress) {
    let (plan, clock) = plan();
    let address = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
    let memory = MemoryStore::new(address.clone(), StoreBehavior::default(), clock);
    let item = ItemAddress { space: SpaceId::new("s").unwrap(), id: ContentId::new("a").unwrap() };
    memory.insert(&item, "some bytes", Properties::default());
    (FaultyStore::new(Arc::new(memory.clone()), address, plan.clone()), memory, plan, item)
}

#[tokio::test(start_paused = true)]
async fn a_fault_before_does_nothing_and_one_after_does_it_all() {
    let (faulty, memory, plan, _) = queue();
    plan.fail(PortCall::Send, 1, InjectedFault::Before(FaultKind::Throttled));
    plan.fail(PortCall::Send, 2, InjectedFault::After(FaultKind::Unavailable));
    let error = faulty.send(&out(2)).await.unwrap_err();
    assert_eq!(error.kind, mill_ports::QueueErrorKind::Throttled { retry_after: None });
    assert!(memory.bodies().is_empty());
    let error = faulty.send(&out(2)).await.unwrap_err();
    assert_eq!(error.kind, mill_ports::QueueErrorKind::Unavailable);
    assert_eq!(memory.bodies().len(), 2);
    faulty.send(&out(2)).await.unwrap().into_result().unwrap();
    assert_eq!(plan.fired().values().sum::<u64>(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_partial_fault_names_exactly_what_was_not_done() {
    let (faulty, memory, plan, _) = queue();
    plan.fail(PortCall::Send, 1, InjectedFault::Partial(FaultKind::Unexpected));
    let report = faulty.send(&out(8)).await.unwrap();
    let failed: Vec<u8> = report.failed.iter().map(|(index, _)| u8::try_from(*index).unwrap()).collect();
    let sent: Vec<u8> = memory.bodies().iter().map(|body| body[0]).collect();
    assert!(!failed.is_empty() && failed.len() < 8);
    assert!((0..8).all(|body| failed.contains(&body) != sent.contains(&body)), "{failed:?} {sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_partial_fault_after_reports_what_was_done_all_the_same() {
    let (faulty, memory, plan, _) = queue();
    plan.fail(PortCall::Send, 1, InjectedFault::PartialAfter(FaultKind::Unexpected));
    assert!(!faulty.send(&out(8)).await.unwrap().failed.is_empty());
    assert_eq!(memory.bodies().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_on_the_clock_and_an_outage_lasts_until_it_is_lifted() {
    let (faulty, _, plan, clock) = queue();
    plan.fail(PortCall::Depth, 1, InjectedFault::Delay(Duration::from_mins(1)));
    faulty.depth().await.unwrap();
    assert_eq!(clock.monotonic().since_origin(), Duration::from_mins(1));
    plan.set_outage(Some(FaultKind::Unavailable));
    faulty.depth().await.unwrap_err();
    faulty.depth().await.unwrap_err();
    plan.set_outage(None);
    faulty.depth().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_row_written_before_the_error_is_there() {
    let (plan, _) = plan();
    let faulty = FaultInjector::new(Arc::new(MemoryTable::new("book")), plan.clone());
    plan.fail(PortCall::PutRow, 1, InjectedFault::After(FaultKind::Unexpected));
    let key = RowKey::new("p", "s");
    faulty.put(&key, Bytes::new(), RowPrecondition::Absent).await.unwrap_err();
    let error = faulty.put(&key, Bytes::new(), RowPrecondition::Absent).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_body_can_err_end_or_lie_midway() {
    let (faulty, _, plan, item) = store();
    let read = async || {
        let reading = faulty.open(&item, None, None).await.unwrap().present().unwrap();
        reading.body.map_ok(|piece| piece.to_vec()).try_concat().await
    };
    plan.fail(PortCall::Open, 1, InjectedFault::Mid(FaultKind::Unexpected));
    plan.fail(PortCall::Open, 2, InjectedFault::Truncate);
    plan.fail(PortCall::Open, 3, InjectedFault::Damage);
    assert_eq!(read().await.unwrap_err().kind, StoreErrorKind::Unexpected);
    assert!(read().await.unwrap().len() < 10);
    let damaged = read().await.unwrap();
    let wrong = damaged.iter().zip(b"some bytes").filter(|(a, b)| a != b).count();
    assert_eq!((damaged.len(), wrong), (10, 1));
    assert_eq!(read().await.unwrap(), b"some bytes");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_midway_leaves_what_was_there() {
    let (faulty, memory, plan, item) = store();
    for fault in [InjectedFault::Mid(FaultKind::Throttled), InjectedFault::Truncate] {
        plan.fail(PortCall::Put, 1, fault);
        let content = PutRequest::new(3, Properties::default());
        let body = stream::iter([Ok(Bytes::from("new"))]).boxed();
        faulty.put(&item, &content, &Precondition::Always, body).await.unwrap_err();
        assert_eq!(memory.content(&item).unwrap().0, "some bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_cut_short_has_no_end_and_one_that_errs_says_so() {
    let (faulty, memory, plan, item) = store();
    for index in 0..30 {
        let id = ContentId::new(format!("item-{index}")).unwrap();
        memory.insert(&ItemAddress { id, ..item.clone() }, "", Properties::default());
    }
    plan.fail(PortCall::List, 1, InjectedFault::Truncate);
    plan.fail(PortCall::List, 2, InjectedFault::Mid(FaultKind::Unavailable));
    let pages: Vec<ListPage> = faulty.list(&item.space, None).try_collect().await.unwrap();
    assert!(pages.iter().all(|page| !page.end));
    let error = faulty.list(&item.space, None).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    let pages: Vec<ListPage> = faulty.list(&item.space, None).try_collect().await.unwrap();
    assert!(pages.last().unwrap().end);
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_what_goes_wrong() {
    let run = async || {
        let (faulty, _, plan, _) = queue();
        plan.set_rates(FaultRates { before: 200, after: 200, partial: 200, throttled: 300, ..FaultRates::default() });
        let mut trace = Vec::new();
        for _ in 0..50 {
            trace.push(faulty.send(&out(3)).await.map(|report| report.failed.len()).map_err(|error| error.kind));
        }
        (trace, plan.fired())
    };
    let (trace, fired) = run().await;
    assert_eq!((trace, fired.clone()), run().await);
    assert!(
        ["before", "after", "partial"].iter().all(|label| fired.contains_key(&(PortCall::Send, *label))),
        "{fired:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_partial_extend_answers_each_receipt_in_its_own_place() {
    let (faulty, _, plan, _) = queue();
    faulty.send(&out(8)).await.unwrap().into_result().unwrap();
    let most = std::num::NonZeroU32::new(10).unwrap();
    let deliveries = faulty.receive(most, Duration::from_mins(1), Duration::ZERO).await.unwrap();
    let receipts: Vec<_> = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
    // The back end reports a missing message as expired, the plan its failures as throttled: they must not be mixed up.
    faulty.acknowledge(&receipts[..3]).await.unwrap().into_result().unwrap();
    for fault in [InjectedFault::Partial(FaultKind::Throttled), InjectedFault::PartialAfter(FaultKind::Throttled)] {
        plan.fail(PortCall::Extend, 1, fault);
        let extended = faulty.extend(&receipts, Duration::from_mins(2)).await.unwrap();
        let kinds: Vec<_> = extended.into_iter().map(|answer| answer.map_err(|error| error.kind)).collect();
        let throttled = Err(mill_ports::QueueErrorKind::Throttled { retry_after: None });
        assert!(kinds.len() == 8 && kinds.contains(&throttled), "{kinds:?}");
        let expired = Err(mill_ports::QueueErrorKind::ReceiptExpired);
        assert!(kinds[..3].iter().all(|answer| *answer == expired || *answer == throttled), "{kinds:?}");
        assert!(kinds[3..].iter().all(|answer| answer.is_ok() || *answer == throttled), "{kinds:?}");
    }
}
