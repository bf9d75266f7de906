//! A row that runs again, at once with itself, or without a lease.

use super::*;

const MANY: usize = 40;

fn many() -> Vec<String> {
    (0..MANY).map(|number| format!("{number:03}")).collect()
}

/// A granted row of many items.
async fn of_many() -> Fixture {
    let ids = many();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let site = vanished(&ids).await;
    site.granted(&ids).await;
    site
}

#[tokio::test(start_paused = true)]
async fn a_row_that_runs_twice_deletes_nothing_more() {
    let site = of_many().await;
    assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
    // Written again identically: no list names the new one.
    site.destination.insert(&at("000"), "000", noted("n"));
    assert!(is_discard(&site.remove().await.unwrap(), "has its result already"));
    assert_eq!((site.left().unwrap(), site.totals().deleted), (vec!["000".to_owned()], MANY as u64));
    assert_eq!(site.result(0).await, Some(deleted(MANY as u64)));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_many_workers_run_at_once_has_one_result_and_deletes_each_item_once() {
    for seed in 0..20 {
        let site = of_many().await;
        site.source_port.shuffle(seed);
        site.destination_port.shuffle(seed + 100);
        let attempt = site.attempt();
        let runs = (0..4).map(|_| site.remove_under(policy(true), row_task(0), &attempt));
        for run in futures::future::join_all(runs).await {
            let outcome = run.unwrap();
            assert!(outcome == TaskOutcome::done() || is_discard(&outcome, "has its result already"), "{outcome:?}");
        }
        assert_eq!((site.left().unwrap().len(), site.totals().deleted), (0, MANY as u64));
        let result = site.result(0).await.unwrap();
        assert_eq!((result.total(), result.deleted + result.gone), (MANY as u64, MANY as u64));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_cut_off_leaves_the_rest_to_the_next_and_the_sum_stays_that_of_the_row() {
    for seed in 0..20 {
        let site = of_many().await;
        site.source_port.shuffle(seed);
        {
            let attempt = site.attempt();
            let mut run = std::pin::pin!(site.remove_under(policy(true), row_task(0), &attempt));
            for _ in 0..10 * (seed + 1) {
                assert!(futures::poll!(run.as_mut()).is_pending());
            }
            // Dropped here, as when the process is killed.
        }
        let before = MANY - site.left().unwrap().len();
        assert_eq!(site.result(0).await, None);
        site.remove().await.unwrap();
        let result = RowResult { deleted: (MANY - before) as u64, gone: before as u64, ..RowResult::default() };
        assert_eq!(site.result(0).await, Some(result));
        assert_eq!((site.left().unwrap().len(), site.totals().deleted), (0, MANY as u64));
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_loses_against_a_writer_that_was_faster() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    let destination = site.destination.clone();
    let writes = move || destination.insert(&at("x"), "newer", noted("n"));
    site.destination_port.meet("delete", [ProbeFault::Before(Box::new(writes))]);
    assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
    assert_eq!(site.destination.content(&at("x")).unwrap().0, "newer");
    assert_eq!((site.result(0).await, site.totals().deleted), (Some(kept(1)), 0));
    assert_eq!(site.known().await, ["x"], "what is known of it is not forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_lease_ended_deletes_nothing_and_writes_no_result() {
    let site = of_many().await;
    let attempt = site.attempt();
    attempt.lease.extend(site.clock.monotonic());
    assert_eq!(class(site.remove_under(policy(true), row_task(0), &attempt).await), FailureClass::LeaseLost);
    assert_eq!((site.destination.writes(), site.result(0).await), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_between_two_items_ends_the_row_without_a_result() {
    let site = of_many().await;
    let attempt = site.attempt();
    let cancelled = attempt.cancelled.clone();
    site.destination_port.meet(
        "delete",
        [ProbeFault::Clear, ProbeFault::Clear, ProbeFault::Before(Box::new(move || cancelled.cancel()))],
    );
    assert_eq!(class(site.remove_under(policy(true), row_task(0), &attempt).await), FailureClass::LeaseLost);
    // The third had begun.
    assert_eq!((site.left().unwrap().len(), site.result(0).await), (MANY - 3, None));
    site.remove().await.unwrap();
    let result = RowResult { deleted: MANY as u64 - 3, gone: 3, ..RowResult::default() };
    assert_eq!((site.left().unwrap().len(), site.result(0).await), (0, Some(result)));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_after_the_last_item_leaves_the_result_to_another() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    let attempt = site.attempt();
    let cancelled = attempt.cancelled.clone();
    site.destination_port.meet("delete", [ProbeFault::Before(Box::new(move || cancelled.cancel()))]);
    assert_eq!(class(site.remove_under(policy(true), row_task(0), &attempt).await), FailureClass::LeaseLost);
    assert_eq!(site.result(0).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_lease_ended_gives_no_news_of_a_store() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.source_port.meet("head", fails(&mill_ports::StoreErrorKind::Unavailable, 1));
    let attempt = site.attempt();
    attempt.cancelled.cancel();
    assert_eq!(class(site.remove_under(policy(true), row_task(0), &attempt).await), FailureClass::LeaseLost);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_withdrawn_after_its_task_was_sent_deletes_nothing() {
    let site = of_many().await;
    site.set_state(DeleteListState::Withdrawn).await;
    assert!(is_discard(&site.remove().await.unwrap(), "not granted"));
    assert_eq!(site.left().unwrap().len(), MANY);
}
