//! Errors, changes under way, and damage.

use super::*;
use mill_ports::StoreErrorKind;

/// Each kind of failure after which a processor does not retry the call.
fn errors() -> impl Iterator<Item = StoreErrorKind> {
    every_error().into_iter().filter(|kind| !matches!(kind, StoreErrorKind::Precondition | StoreErrorKind::Changed))
}

#[tokio::test(start_paused = true)]
async fn no_error_of_a_source_is_ever_read_as_absence() {
    for kind in errors() {
        for op in ["head", "open"] {
            let site = Fixture::new();
            site.source.insert(&at("x"), "same", noted("n"));
            if op == "head" {
                site.destination.insert(&at("x"), "else", noted("n"));
            }
            site.source_port.meet(op, fails(&kind, 3));
            let _ = site.run("x").await;
            assert_eq!(site.totals().vanished, 0, "{op} {kind:?}");
            assert_eq!(site.destination.writes(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_vanished_is_counted_and_left_in_place() {
    for remove_vanished in [true, false] {
        let site = Fixture::new();
        site.own().await;
        site.source.insert(&at("x"), "same", noted("n"));
        site.settle("x").await;
        site.source.remove(&at("x"));
        site.run_under(policy(remove_vanished), &Fixture::task(Some(&at("x")))).await.unwrap();
        assert!(site.destination.content(&at("x")).is_some() && site.has_sync_proof("x").await);
        assert_eq!((site.totals().vanished, site.totals().deleted), (1, 0));
        assert_eq!(site.destination_port.calls(), ["head"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_vanishes_before_or_while_it_is_copied_is_counted() {
    let site = Fixture::new();
    site.run("x").await.unwrap();
    assert_eq!(site.totals().vanished, 1, "it went before");
    site.source.insert(&at("x"), "same", noted("n"));
    let source = site.source.clone();
    site.source_port.meet("open", [ProbeFault::Before(Box::new(move || source.remove(&at("x"))))]);
    site.run("x").await.unwrap();
    assert_eq!(site.totals().vanished, 2, "it went before it was opened");
    site.source.insert(&at("x"), vec![1; 100_000], noted("n"));
    let source = site.source.clone();
    site.destination_port.meet("put", [ProbeFault::Before(Box::new(move || source.remove(&at("x"))))]);
    site.run("x").await.unwrap();
    assert_eq!(site.totals().vanished, 3, "it went while it was read");
    let refused = StoreErrorKind::Refused(mill_ports::RefusalReason::Unreadable);
    site.source_port.meet("open", fails(&refused, 1));
    site.run("x").await.unwrap();
    assert_eq!(site.totals().vanished, 4, "it could not be opened, and is not there");
    assert_eq!(site.totals().examined, 4);
    assert!(site.destination.content(&at("x")).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_source_space_that_is_gone_deletes_no_item() {
    let site = Fixture::new();
    site.destination.insert(&at("x"), "same", noted("n"));
    site.source.remove_space(&space());
    assert!(is_discard(&site.run("x").await.unwrap(), "its source space is not there"));
    assert!(site.destination.content(&at("x")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_stale_look_never_overwrites_what_is_newer() {
    let long = Some(("much older", "n"));
    for (before, op) in [
        (None, "put"),
        (long, "put"),
        (Some(("older", "n")), "put"),
        (Some(("stale", "m")), "put_properties"),
        (None, "take"),
        (long, "take"),
    ] {
        for reads_are_snapshots in [false, true] {
            let service = (op == "take").then_some(1);
            let behavior = StoreBehavior { reads_are_snapshots, service, ..StoreBehavior::default() };
            let site = Fixture::of(behavior, StoreBehavior { service, ..StoreBehavior::default() });
            site.source.insert(&at("x"), "stale", noted("n"));
            if let Some((bytes, note)) = before {
                site.destination.insert(&at("x"), bytes, noted(note));
            }
            let (source, destination) = (site.source.clone(), site.destination.clone());
            site.destination_port.meet(
                op,
                [ProbeFault::Before(Box::new(move || {
                    source.insert(&at("x"), "newer", noted("newer"));
                    destination.insert(&at("x"), "newer", noted("newer"));
                }))],
            );
            site.run("x").await.unwrap();
            assert_eq!(site.destination.content(&at("x")).unwrap(), ("newer".into(), noted("newer")), "{before:?}");
            assert_eq!(site.totals().unchanged, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_error_of_a_destination_is_ever_read_as_absence() {
    for kind in errors().filter(|kind| *kind != StoreErrorKind::SpaceAbsent) {
        let site = Fixture::new();
        site.source.insert(&at("x"), "same", noted("n"));
        site.destination_port.meet("head", fails(&kind, 3));
        let run = site.run("x").await;
        assert!(run.as_ref().map_or(true, |outcome| is_discard(outcome, "may not be read")), "{run:?}");
        assert_eq!(site.destination.writes(), 0, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_wrote_other_bytes_is_found_out_and_written_again() {
    let site = Fixture::new();
    site.source.insert(&at("x"), "same", noted("n"));
    site.destination_port.meet("put", [ProbeFault::Lies]);
    assert_eq!(class(site.run("x").await), FailureClass::Retryable);
    assert!(!site.has_sync_proof("x").await);
    assert_eq!(site.totals().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_always_changes_under_the_write_is_tried_again_later() {
    let site = Fixture::new();
    site.source.insert(&at("x"), "same", noted("n"));
    site.destination_port.meet("put", fails(&StoreErrorKind::Precondition, 2));
    assert_eq!(class(site.run("x").await), FailureClass::Retryable);
    site.run("x").await.unwrap();
    assert!(site.in_sync());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_changes_while_it_is_copied_is_never_a_copy_of_two_moments() {
    let site = Fixture::new();
    site.source.insert(&at("x"), vec![1; 100_000], noted("1"));
    let source = site.source.clone();
    // Between its opening and the end of its read.
    site.destination_port
        .meet("put", [ProbeFault::Before(Box::new(move || source.insert(&at("x"), vec![2; 100_000], noted("2"))))]);
    site.run("x").await.unwrap();
    assert!(site.in_sync());
    assert_eq!(site.source_port.calls().iter().filter(|op| **op == "open").count(), 2);

    let changes = || {
        let source = site.source.clone();
        ProbeFault::Before(Box::new(move || source.insert(&at("x"), vec![3; 100_001], noted("3"))))
    };
    site.source.insert(&at("x"), vec![2; 99_999], noted("2"));
    site.source_port.meet("open", [changes(), changes()]);
    assert_eq!(class(site.run("x").await), FailureClass::Retryable);
    assert_eq!(site.destination.content(&at("x")).unwrap().0, vec![2; 100_000]);
}

#[tokio::test(start_paused = true)]
async fn bytes_flipped_or_cut_under_way_never_become_visible() {
    for (way, behavior, class_of) in [
        (|| ProbeFault::Flipped, StoreBehavior::default(), "damaged"),
        (|| ProbeFault::Flipped, telling(Algorithm::Sha256), "damaged"),
        (|| ProbeFault::Cut, plain(), "unexpected"),
        (|| ProbeFault::Cut, StoreBehavior::default(), "unexpected"),
    ] as [(fn() -> ProbeFault, _, _); 4]
    {
        let site = Fixture::of(behavior, plain());
        site.source.insert(&at("x"), vec![1; 100_000], noted("n"));
        site.source_port.meet("open", std::iter::repeat_with(way).take(3));
        let error = site.run("x").await.unwrap_err();
        assert_eq!(error.class, FailureClass::Retryable);
        assert!(error_chain(&error).contains(class_of), "{}", error_chain(&error));
        assert!(site.destination.content(&at("x")).is_none());
        assert_eq!((site.totals().copied, site.totals().bytes), (0, 0));
        assert!(!site.has_sync_proof("x").await);
    }
}

/// Found by simulation: between the reads of the source and the destination, another worker wrote newer properties to
/// the destination.
#[tokio::test(start_paused = true)]
async fn a_stale_look_never_sets_older_properties() {
    let site = Fixture::new();
    site.source.insert(&at("x"), "same", noted("older"));
    let (source, destination) = (site.source.clone(), site.destination.clone());
    site.destination_port.meet(
        "head",
        [ProbeFault::Before(Box::new(move || {
            source.insert(&at("x"), "same", noted("newer"));
            destination.insert(&at("x"), "same", noted("newer"));
        }))],
    );
    site.run("x").await.unwrap();
    assert_eq!(site.destination.content(&at("x")).unwrap().1, noted("newer"));
    assert_eq!(site.totals().updated, 0);
}

/// Found by simulation: the source reported SHA-256, the destination MD5, and so nothing was compared.
#[tokio::test(start_paused = true)]
async fn what_a_store_wrote_is_judged_by_whatever_checksum_it_tells() {
    let behavior = || [plain(), telling(Algorithm::Md5), telling(Algorithm::Sha256)];
    for (source, destination) in
        behavior().into_iter().flat_map(|source| behavior().map(|other| (source.clone(), other)))
    {
        if destination.checksums.is_empty() {
            continue;
        }
        let site = Fixture::of(source, destination);
        for name in ["first", "second"] {
            site.source.insert(&at(name), vec![1; 1_000], noted("n"));
            site.destination_port.meet("put", [ProbeFault::Damaged]);
            let error = site.run(name).await.unwrap_err();
            assert_eq!(error.class, FailureClass::Retryable);
            assert!(error_chain(&error).contains("damaged"), "{}", error_chain(&error));
            assert!(!site.has_sync_proof(name).await);
            site.run(name).await.unwrap();
            assert_eq!(site.destination.content(&at(name)), site.source.content(&at(name)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_rotted_is_not_copied() {
    let site = Fixture::new();
    site.source.insert(&at("x"), vec![1; 1_000], noted("n"));
    site.source.rot(&at("x"), |bytes| bytes[500] ^= 1);
    assert_eq!(class(site.run("x").await), FailureClass::Retryable);
    assert!(site.destination.content(&at("x")).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_found_out_by_looking() {
    for op in ["put", "put_properties", "create_space"] {
        for kind in [StoreErrorKind::Unexpected, StoreErrorKind::Throttled { retry_after: None }] {
            let site = Fixture::new();
            match op {
                "put" => site.source.insert(&at("x"), "same", noted("n")),
                "put_properties" => {
                    site.source.insert(&at("x"), "same", noted("n"));
                    site.destination.insert(&at("x"), "same", noted("m"));
                }
                _ => {
                    site.source.insert(&at("x"), "same", noted("n"));
                    site.destination.remove_space(&space());
                }
            }
            site.destination_port.meet(op, [ProbeFault::DoneAndFails(kind.clone())]);
            assert_eq!(site.run("x").await.unwrap(), TaskOutcome::done(), "{op} {kind:?}");
            assert!(site.in_sync());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_may_pass_are_made_three_times_and_no_others_are() {
    for (kind, calls) in [
        (StoreErrorKind::Unexpected, 3),
        (StoreErrorKind::Throttled { retry_after: None }, 3),
        (StoreErrorKind::Throttled { retry_after: Some(Duration::from_mins(1)) }, 1),
        (StoreErrorKind::Unavailable, 1),
        (StoreErrorKind::Unreachable, 1),
    ] {
        // A new item is opened; for one with a copy, `head` is called.
        for op in ["open", "head"] {
            let site = Fixture::new();
            if op == "head" {
                site.destination.insert(&at("x"), "same", noted("n"));
            }
            site.source_port.meet(op, fails(&kind, 4));
            let failed = class(site.run("x").await);
            assert_eq!(site.source_port.calls(), vec![op; calls], "{kind:?}");
            let store = store_address("s");
            let expected = match kind {
                StoreErrorKind::Throttled { retry_after } => FailureClass::Throttled { store, retry_after },
                StoreErrorKind::Unavailable => FailureClass::Unavailable { store },
                StoreErrorKind::Unreachable => FailureClass::Unreachable { store },
                _ => FailureClass::Retryable,
            };
            assert_eq!(failed, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_asks_for_a_short_while_gets_it() {
    let site = Fixture::new();
    let asked = Duration::from_secs(4);
    site.source_port.meet("open", fails(&StoreErrorKind::Throttled { retry_after: Some(asked) }, 1));
    let begun = site.clock.monotonic();
    site.run("x").await.unwrap();
    assert!(site.clock.monotonic().since(begun) >= asked);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_lease_ended_changes_nothing() {
    for before in ["nothing", "other properties", "space"] {
        let site = Fixture::new();
        let item = at("x");
        match before {
            "other properties" => {
                site.destination.insert(&item, "same", noted("m"));
                site.source.insert(&item, "same", noted("n"));
            }
            _ => site.source.insert(&item, "same", noted("n")),
        }
        let task = Fixture::task((before != "space").then_some(&item));
        let attempt = site.attempt();
        attempt.lease.extend(site.clock.monotonic());
        let run = site.registry(policy(true)).processor(task).unwrap().run(&attempt).await;
        assert_eq!(class(run), FailureClass::LeaseLost, "{before}");
        assert_eq!(site.destination.writes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_while_bytes_move_leaves_nothing() {
    let site = Fixture::new();
    site.source.insert(&at("x"), vec![1; 100_000], noted("n"));
    let attempt = site.attempt();
    let cancelled = attempt.cancelled.clone();
    site.destination_port.meet("put", [ProbeFault::Before(Box::new(move || cancelled.cancel()))]);
    let run = site.registry(policy(true)).processor(Fixture::task(Some(&at("x")))).unwrap().run(&attempt).await;
    assert_eq!(class(run), FailureClass::LeaseLost);
    assert!(site.destination.content(&at("x")).is_none());
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_as_durable_once_and_none_stay_in_motion() {
    let site = Fixture::new();
    site.source.insert(&at("x"), vec![1; 100_000], noted("n"));
    site.source_port.meet("open", [ProbeFault::Cut]);
    site.run("x").await.unwrap();
    assert_eq!(site.totals().bytes, 100_000);
    assert_eq!(site.statistics.bytes_moving.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert!(site.statistics.active_transfers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_before_the_write_begins_begins_none() {
    let site = Fixture::new();
    site.source.insert(&at("x"), "same", noted("n"));
    let attempt = site.attempt();
    let cancelled = attempt.cancelled.clone();
    site.source_port.meet("open", [ProbeFault::Before(Box::new(move || cancelled.cancel()))]);
    let run = site.registry(policy(true)).processor(Fixture::task(Some(&at("x")))).unwrap().run(&attempt).await;
    assert_eq!(class(run), FailureClass::LeaseLost);
    assert_eq!(site.destination.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_lease_ended_gives_no_news_of_a_store() {
    let site = Fixture::new();
    site.source_port.meet("open", fails(&StoreErrorKind::Unavailable, 1));
    let attempt = site.attempt();
    attempt.cancelled.cancel();
    let run = site.registry(policy(true)).processor(Fixture::task(Some(&at("x")))).unwrap().run(&attempt).await;
    assert_eq!(class(run), FailureClass::LeaseLost);
}
