//! No error of either side, or of a repository, deletes anything.

use super::*;
use crate::refusals::RefusedDeed;
use async_trait::async_trait;
use mill_model::{EntryFate, ItemEvent};
use mill_ports::{ItemEvents, RefusalReason, RowKey, RowPrecondition, StoreErrorKind, Table};
use mill_testkit::PortCall;
use mill_testkit::{FaultInjector, FaultKind, FaultPlan, InjectedFault};
use parking_lot::Mutex;

/// The expected outcome of a task, and the result of its row.
fn expected(port: &str, op: &str, kind: &StoreErrorKind, last: bool) -> (Option<FailureClass>, Option<RowResult>) {
    let store = store_address(port);
    let class = match kind {
        StoreErrorKind::Throttled { retry_after } => {
            return (Some(FailureClass::Throttled { store, retry_after: *retry_after }), None);
        }
        StoreErrorKind::Unavailable | StoreErrorKind::NotConfigured => {
            return (Some(FailureClass::Unavailable { store }), None);
        }
        StoreErrorKind::Unreachable => return (Some(FailureClass::Unreachable { store }), None),
        StoreErrorKind::Refused(_) | StoreErrorKind::Precondition => return (None, Some(kept(1))),
        StoreErrorKind::SpaceAbsent if (port, op) == ("s", "head") => return (None, Some(kept(1))),
        StoreErrorKind::SpaceAbsent if (port, op) == ("d", "head") => return (None, Some(gone(1))),
        _ => FailureClass::Retryable,
    };
    (Some(class), last.then(|| failed(1)))
}

async fn meets(of: DeletionScope, port: &str, op: &'static str, before: usize) {
    for kind in every_error() {
        for failures in [0, 2] {
            let site = if of == DeletionScope::Space { orphaned(&["x"]).await } else { vanished(&["x"]).await };
            site.list(of, GRANTED, &[&["x"]]).await;
            let probe = if port == "s" { &site.source_port } else { &site.destination_port };
            probe.meet(op, std::iter::repeat_with(|| ProbeFault::Clear).take(before));
            probe.meet(op, fails(&kind, 3));
            let answer = site.remove_under(policy(true), row_task(0), &site.attempt_after(failures)).await;
            let case = format!("{port} {op} {before} {kind:?} {failures}");
            assert_eq!(site.left().unwrap(), ["x"], "{case}");
            assert_eq!(site.totals().deleted, 0, "{case}");
            let answer = answer.map_or_else(
                |error| Some(error.class),
                |outcome| {
                    assert_eq!(outcome, TaskOutcome::done(), "{case}");
                    None
                },
            );
            assert_eq!((answer, site.result(0).await), expected(port, op, &kind, failures == 2), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_error_of_a_source_reads_as_gone() {
    meets(DeletionScope::Items, "s", "head", 0).await;
    meets(DeletionScope::Items, "s", "places", 0).await;
    meets(DeletionScope::Items, "s", "places", 1).await;
    meets(DeletionScope::Space, "s", "space", 0).await;
    meets(DeletionScope::Space, "s", "places", 0).await;
    meets(DeletionScope::Space, "s", "places", 1).await;
}

#[tokio::test(start_paused = true)]
async fn no_error_of_a_destination_deletes_anything() {
    meets(DeletionScope::Items, "d", "head", 0).await;
    meets(DeletionScope::Items, "d", "delete", 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_the_destination_refuses_is_named() {
    let site = vanished(&["a", "b"]).await;
    site.granted(&["a", "b"]).await;
    site.destination_port.meet("delete", fails(&StoreErrorKind::Refused(RefusalReason::Unreadable), 1));
    assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
    assert_eq!(site.totals().deleted, 1);
    let named = site.refusals.named();
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!((named[0].deed, named[0].item()), (RefusedDeed::Delete, site.left().unwrap()[0].as_str()));
}

#[tokio::test(start_paused = true)]
async fn the_copy_of_a_damaged_source_is_kept_and_named() {
    let site = vanished(&["a", "b"]).await;
    let sum = |byte: u8| Checksum { algorithm: Algorithm::Sha256, value: [byte; 32].into() };
    let proof = SyncProof::of(&Version::settled_at("gone"), &site.version("a").await, &sum(1)).unwrap();
    let damaged = proof.with_damaged_source(&sum(2)).unwrap();
    site.sync_proofs.put(&Fixture::pair(), &at("a").id, &damaged).await.unwrap();
    site.granted(&["a", "b"]).await;
    assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
    assert_eq!((site.left().unwrap(), site.totals().deleted), (vec!["a".to_owned()], 1));
    let named = site.refusals.named();
    assert_eq!((named.len(), named[0].deed, named[0].item()), (1, RefusedDeed::Delete, "a"));
}

#[tokio::test(start_paused = true)]
async fn a_row_in_which_one_item_fails_does_the_others_and_comes_again_for_that_one() {
    let site = vanished(&["a", "b", "c"]).await;
    site.granted(&["a", "b", "c"]).await;
    site.source_port.meet("head", fails(&StoreErrorKind::Damaged, 1));
    assert_eq!(class(site.remove().await), FailureClass::Retryable);
    assert_eq!((site.left().unwrap(), site.result(0).await), (vec!["a".to_owned()], None));
    assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
    let result = RowResult { deleted: 1, gone: 2, ..RowResult::default() };
    assert_eq!((site.left().unwrap().len(), site.result(0).await), (0, Some(result)));
    assert_eq!(site.totals().deleted, 3);
}

#[tokio::test(start_paused = true)]
async fn a_last_attempt_writes_what_it_could_not_do_and_is_then_dead_lettered() {
    let site = vanished(&["a", "b", "c"]).await;
    site.granted(&["a", "b", "c"]).await;
    site.source_port.meet("head", fails(&StoreErrorKind::Damaged, 2));
    let run = site.remove_under(policy(true), row_task(0), &site.attempt_after(2)).await;
    assert_eq!(class(run), FailureClass::Retryable, "which is the last of its failures");
    let result = RowResult { deleted: 1, failed: 2, ..RowResult::default() };
    assert_eq!((site.left().unwrap(), site.result(0).await), (vec!["a".to_owned(), "b".to_owned()], Some(result)));
    // If a person retries it, it deletes nothing: the next survey finds what is left.
    assert!(is_discard(&site.remove().await.unwrap(), "has its result already"));
    assert_eq!(site.left().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_that_may_pass_are_made_again_within_the_attempt() {
    for (port, op) in [("s", "places"), ("s", "head"), ("d", "head"), ("d", "delete")] {
        let site = vanished(&["x"]).await;
        site.granted(&["x"]).await;
        let probe = if port == "s" { &site.source_port } else { &site.destination_port };
        probe.meet(op, fails(&StoreErrorKind::Unexpected, 2));
        assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
        assert_eq!(site.result(0).await, Some(deleted(1)), "{port} {op}");
    }
}

/// Keeps what became of each entry.
#[derive(Debug, Default)]
struct KeptEvents(Mutex<Vec<ItemEvent>>);

#[async_trait]
impl ItemEvents for KeptEvents {
    fn wants_all(&self) -> bool {
        true
    }

    fn begin_survey(&self) {}

    async fn keep(&self, events: &[ItemEvent]) {
        self.0.lock().extend_from_slice(events);
    }

    fn tell(&self, _: &[ItemEvent]) {}
}

#[tokio::test(start_paused = true)]
async fn a_delete_whose_answer_is_lost_counts_as_gone() {
    for (kind, tries) in [(StoreErrorKind::Unexpected, 1), (StoreErrorKind::Changed, 2)] {
        let site = vanished(&["x"]).await;
        let events = Arc::<KeptEvents>::default();
        site.statistics.listen(events.clone());
        site.granted(&["x"]).await;
        site.destination_port.meet("delete", [ProbeFault::DoneAndFails(kind)]);
        for attempt in 1..=tries {
            let run = site.remove().await;
            assert_eq!(run.is_ok(), attempt == tries);
        }
        assert_eq!((site.left().unwrap().len(), site.result(0).await), (0, Some(gone(1))));
        assert_eq!(site.known().await, [""; 0]);
        let kept: Vec<_> = events.0.lock().iter().map(|event| (event.subject.name.clone(), event.fate)).collect();
        assert_eq!(kept, [(b"x".to_vec(), EntryFate::Gone)], "it has a line in the run's report");
    }
}

#[tokio::test(start_paused = true)]
async fn stores_that_are_not_configured_pause_the_task() {
    let mut site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.stores = Arc::new(mill_testkit::MemoryStores::default());
    assert_eq!(class(site.remove().await), FailureClass::Unavailable { store: store_address("s") });
    site.assert_untouched(&["x"]).await;
}

/// A fixture whose repository of delete lists fails as planned.
async fn with_faulty_table() -> (Fixture, Arc<FaultPlan>) {
    let mut site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    let plan = FaultPlan::new(site.clock.clone(), Arc::new(mill_testkit::SeededRng::new(1)));
    let table: Arc<dyn Table> = site.lists_table.clone();
    site.delete_lists = DeleteLists::new(Arc::new(FaultInjector::<dyn Table>::new(table, plan.clone())));
    (site, plan)
}

#[tokio::test(start_paused = true)]
async fn a_table_that_does_not_answer_deletes_nothing() {
    // The head, the result, the row.
    for nth in 1..=3 {
        for kind in [FaultKind::Throttled, FaultKind::Unavailable, FaultKind::Unexpected] {
            let (site, plan) = with_faulty_table().await;
            plan.fail(PortCall::GetRow, nth, InjectedFault::Before(kind));
            assert_eq!(class(site.remove().await), FailureClass::Retryable);
            site.assert_untouched(&["x"]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_written_is_written_by_the_next_attempt() {
    for (fault, result) in [
        (InjectedFault::Before(FaultKind::Unavailable), gone(1)),
        // It was written, and only the response was lost.
        (InjectedFault::After(FaultKind::Unavailable), deleted(1)),
    ] {
        let (site, plan) = with_faulty_table().await;
        plan.fail(PortCall::PutRow, 1, fault);
        assert_eq!(class(site.remove().await), FailureClass::Retryable);
        let again = site.remove().await.unwrap();
        assert!(again == TaskOutcome::done() || is_discard(&again, "has its result already"));
        assert_eq!((site.result(0).await, site.totals().deleted), (Some(result), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_row_or_result_that_cannot_be_read_deletes_nothing() {
    for sort in ["head", "row/00000000", "result/00000000"] {
        for failures in [0, 2] {
            let site = vanished(&["x"]).await;
            site.granted(&["x"]).await;
            let key = RowKey::new("a/s/d/p", format!("list/{}/{sort}", list_id()));
            site.lists_table.put(&key, "{".into(), RowPrecondition::Always).await.unwrap();
            let run = site.remove_under(policy(true), row_task(0), &site.attempt_after(failures)).await;
            assert_eq!(class(run), FailureClass::Retryable, "{sort}");
            assert_eq!((site.left().unwrap().len(), site.totals().deleted), (1, 0), "{sort}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_not_there_deletes_nothing_and_gets_no_result() {
    for failures in [0, 2] {
        let site = vanished(&["x"]).await;
        site.granted(&["x"]).await;
        let error = site.remove_under(policy(true), row_task(1), &site.attempt_after(failures)).await.unwrap_err();
        assert_eq!(error.class, FailureClass::Retryable);
        assert!(
            mill_ports::error_chain(&error).contains("row 1 of the delete list"),
            "{}",
            mill_ports::error_chain(&error)
        );
        assert_eq!(site.result(1).await, None);
        site.assert_untouched(&["x"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_of_owners_that_does_not_answer_deletes_nothing() {
    let mut site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    let plan = FaultPlan::new(site.clock.clone(), Arc::new(mill_testkit::SeededRng::new(1)));
    plan.set_outage(Some(FaultKind::Unavailable));
    let table: Arc<dyn Table> = Arc::new(mill_testkit::MemoryTable::new("owners"));
    site.owners = Owners::new(Arc::new(FaultInjector::<dyn Table>::new(table, plan)));
    assert_eq!(class(site.remove().await), FailureClass::Retryable);
    site.assert_untouched(&["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_table_of_proofs_that_does_not_answer_deletes_nothing() {
    let mut site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    let plan = FaultPlan::new(site.clock.clone(), Arc::new(mill_testkit::SeededRng::new(1)));
    plan.set_outage(Some(FaultKind::Unavailable));
    let table: Arc<dyn Table> = Arc::new(mill_testkit::MemoryTable::new("seals"));
    site.sync_proofs = SyncProofs::new(Arc::new(FaultInjector::<dyn Table>::new(table, plan)));
    // It may know that the source was damaged, and this copy is the last.
    assert_eq!(class(site.remove().await), FailureClass::Retryable);
    site.assert_untouched(&["x"]).await;
}
