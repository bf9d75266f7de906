//! A producer that freezes between a read and a save, for any time, while another works: it changes no row that the other has
//! written since.

use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::future::{Either, select};
use mill_ports::{KeyRange, Table};
use mill_testkit::{FaultInjector, FaultKind, FaultPlan, InjectedFault, PortCall, SeededRng};
use tokio_util::sync::CancellationToken;

use super::world::World;
use crate::{DuplicationProducer, ProducerSettings};

const ONE: &str = r#"{"spaceDuplicationStorePolicies": {"s": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#;

/// All rows of the table except for the lease.
async fn stored_rows(world: &World) -> Vec<(String, Vec<u8>)> {
    let (mut rows, mut range) = (Vec::new(), KeyRange { prefix: String::new(), after: None });
    loop {
        let page = world.state.query(DuplicationProducer::NAME, &range, 100).await.unwrap();
        range.after = page.rows.last().map(|row| row.sort.clone()).or(range.after);
        rows.extend(page.rows.into_iter().map(|row| (row.sort, row.value.to_vec())));
        if page.end {
            rows.retain(|(sort, _)| sort != "lease");
            return rows;
        }
    }
}

/// What the other producer does meanwhile, by session: the maximum of the queue, and whether a new run begins.
const OTHERS: [&[(u64, bool)]; 4] = [
    // It takes the table over and does nothing more.
    &[(0, false)],
    // It resumes the run but does not finish it.
    &[(16, false)],
    // It finishes the run.
    &[(1_000, false)],
    // It begins another run.
    &[(1_000, false), (36, true)],
];

/// Freezes a producer at an effect while the other works. Returns `false` if the producer ends before.
async fn one_stands_still(effects: i64, others: &[(u64, bool)]) -> bool {
    let mut world = World::new(ONE);
    world.insert("1", "item", 24);
    world.insert("2", "gone", 2);
    world.holders_dead = true;
    let sleeper = world.producer_with(|settings| {
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        // No heartbeat is due, so only a save can show it that it was taken over.
        settings.looping.lease_timeout *= 10_000;
    });
    world.fuse.freeze(effects);
    let stop = CancellationToken::new();
    let frozen = Box::pin(world.fuse.frozen.notified());
    let Either::Left(((), session)) = select(frozen, Box::pin(sleeper.run_session(&stop))).await else { return false };
    for (queue_max, force) in others {
        let other = |settings: &mut ProducerSettings| {
            settings.looping.holder = "holder-1".into();
            settings.looping.nibble = NonZeroUsize::new(5).unwrap();
            settings.looping.queue_max = *queue_max;
            settings.looping.run_start = if *force { crate::RunStart::Now } else { crate::RunStart::WhenDue };
        };
        world.session_with(other).await;
    }
    let before = stored_rows(&world).await;
    world.fuse.thawed.notify_one();
    // What it sends twice does no harm.
    let _ = session.await;
    let after = stored_rows(&world).await;
    let text = |rows: Vec<(String, Vec<u8>)>| -> Vec<String> {
        rows.into_iter().map(|(sort, value)| format!("{sort} {}", String::from_utf8_lossy(&value))).collect()
    };
    // A row may come late where there is none: at worst its subject is examined once more.
    let known: Vec<String> = before.iter().map(|(sort, _)| sort.clone()).collect();
    let late = |sort: &String| !sort.starts_with("account-run/") && !known.contains(sort);
    let after = after.into_iter().filter(|(sort, _)| !late(sort)).collect();
    assert_eq!(text(after), text(before), "frozen at {effects}, while {others:?}");
    true
}

#[tokio::test(start_paused = true)]
async fn whoever_stood_still_changes_nothing_of_what_another_has_written_since() {
    for others in OTHERS {
        let mut effects = 0;
        while one_stands_still(effects, others).await {
            effects += 1;
        }
        assert!(effects > 30, "{effects}");
    }
}

/// What takes a lease.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Session,
    ClosingSurvey,
    NoteInSync,
    Reset,
}

async fn fails(producer: &DuplicationProducer, deed: Deed) -> bool {
    let stop = CancellationToken::new();
    match deed {
        Deed::Session => producer.run_session(&stop).await.is_err(),
        Deed::ClosingSurvey => producer.closing_survey(&|_, _| false, &stop).await.is_err(),
        Deed::NoteInSync => producer.note_in_sync(&|_| 0).await.is_err(),
        Deed::Reset => producer.reset().await.is_err(),
    }
}

#[tokio::test(start_paused = true)]
async fn who_fails_while_it_takes_a_table_over_leaves_that_to_the_next() {
    for deed in [Deed::Session, Deed::ClosingSurvey, Deed::NoteInSync, Deed::Reset] {
        taking_over_is_left_to_the_next(deed).await;
    }
}

async fn taking_over_is_left_to_the_next(deed: Deed) {
    let mut world = World::new(ONE);
    world.insert("1", "item", 24);
    world.holders_dead = true;
    let sleeper = world.producer_with(|settings| {
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.lease_timeout *= 10_000;
    });
    // It freezes right before it saves its marker.
    world.fuse.freeze(26);
    let stop = CancellationToken::new();
    let frozen = Box::pin(world.fuse.frozen.notified());
    let Either::Left(((), session)) = select(frozen, Box::pin(sleeper.run_session(&stop))).await else { panic!() };
    let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
    let whole = world.state.clone();
    world.state = Arc::new(FaultInjector::<dyn Table>::new(whole.clone(), plan.clone()));
    // The lease is taken, and no row.
    for nth in 2..7 {
        plan.fail(PortCall::PutRow, nth, InjectedFault::Before(FaultKind::Unavailable));
    }
    let failing = world.producer_with(|settings| settings.looping.holder = "holder-1".into());
    assert!(fails(&failing, deed).await, "{deed:?}");
    world.state = whole;
    let next = world.session_with(|settings| {
        settings.looping.holder = "holder-2".into();
        settings.looping.queue_max = 0;
    });
    assert_eq!(next.await.ended, crate::SessionEnd::QueueFull);
    let before = stored_rows(&world).await;
    world.fuse.thawed.notify_one();
    let _ = session.await;
    // A row may come late where there is none.
    let mut after = stored_rows(&world).await;
    after.retain(|(sort, _)| before.iter().any(|(known, _)| known == sort));
    assert_eq!(after, before, "{deed:?}");
}
