//! Any task, any number of times, in any order.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use mill_model::{ContentId, Properties};
use mill_ports::StoreErrorKind;
use proptest::collection::vec;
use proptest::prelude::*;

const IDS: [&str; 4] = ["a", "a/b", "ü", "z/"];

/// Bytes and a note, each out of few, so that the sides are often equal.
fn stands() -> impl Strategy<Value = Option<(u8, u8, u8)>> {
    prop::option::weighted(0.8, (0..3_u8, 0..3_u8, 0..3_u8))
}

#[derive(Debug, Clone)]
enum Step {
    Run(usize),
    RunSpace,
    /// Another store call fails, with or without its effect.
    Fault(&'static str, bool, StoreErrorKind),
    /// Time passes: versions settle.
    Pass,
    /// All tasks at once, as many workers would run them.
    RunAll,
    /// The source changes.
    Source(usize, Option<(u8, u8, u8)>),
    /// Somebody tampers with the destination.
    Destination(usize, Option<(u8, u8, u8)>),
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop::sample::select(vec![
        "head",
        "open",
        "open_uncached",
        "put",
        "take",
        "put_properties",
        "space",
        "create_space",
    ]);
    let kind = prop::sample::select(vec![
        StoreErrorKind::Throttled { retry_after: None },
        StoreErrorKind::Unavailable,
        StoreErrorKind::Unexpected,
        StoreErrorKind::Changed,
        StoreErrorKind::Precondition,
    ]);
    prop_oneof![
        6 => (0..IDS.len()).prop_map(Step::Run),
        1 => Just(Step::RunSpace),
        1 => Just(Step::RunAll),
        1 => Just(Step::Pass),
        2 => (op, any::<bool>(), kind).prop_map(|(op, done, kind)| Step::Fault(op, done, kind)),
        1 => (0..IDS.len(), stands()).prop_map(|(id, stands)| Step::Source(id, stands)),
        1 => (0..IDS.len(), stands()).prop_map(|(id, stands)| Step::Destination(id, stands)),
    ]
}

fn behavior() -> impl Strategy<Value = StoreBehavior> {
    let algorithms = prop::sample::select(vec![vec![], vec![Algorithm::Md5], vec![Algorithm::Sha256]]);
    let service = prop::sample::select(vec![None, Some(1), Some(1)]);
    (algorithms, any::<bool>(), 1..5_usize, service).prop_map(|(checksums, slow, piece_bytes_max, service)| {
        StoreBehavior {
            checksums,
            settles_after: Duration::from_secs(if slow { 2 } else { 0 }),
            piece_bytes_max,
            service,
            ..StoreBehavior::default()
        }
    })
}

fn set(store: &MemoryStore, id: usize, stands: Option<(u8, u8, u8)>) {
    match stands {
        Some((byte, size, note)) => {
            let note = ["", "n", "m"][note as usize];
            store.insert(&at(IDS[id]), vec![byte; size as usize * 3], noted(note));
        }
        None => store.remove(&at(IDS[id])),
    }
}

async fn take(site: &Fixture, registry: &Registry, step: Step) {
    let run = async |item: Option<&str>| {
        let processor = registry.processor(Fixture::task(item.map(at).as_ref())).unwrap();
        let _ = processor.run(&site.attempt()).await; // It may fail: then it counts as not run.
    };
    match step {
        Step::Run(id) => run(Some(IDS[id])).await,
        Step::RunSpace => run(None).await,
        Step::RunAll => {
            let all = IDS.iter().chain(&IDS).map(|id| run(Some(id)));
            futures::future::join_all(all).await;
        }
        Step::Fault(op, done, kind) => {
            for port in [&site.source_port, &site.destination_port] {
                port.meet(
                    op,
                    [if done { ProbeFault::DoneAndFails(kind.clone()) } else { ProbeFault::Fails(kind.clone()) }],
                );
            }
        }
        Step::Pass => site.clock.sleep(Duration::from_secs(3)).await,
        Step::Source(id, stands) => set(&site.source, id, stands),
        Step::Destination(id, stands) => set(&site.destination, id, stands),
    }
}

fn names_at_destination(site: &Fixture) -> BTreeSet<ContentId> {
    site.destination.contents(&space()).unwrap().into_keys().collect()
}

fn only_at_destination(site: &Fixture) -> BTreeMap<ContentId, (bytes::Bytes, Properties)> {
    let source = site.source.contents(&space()).unwrap();
    let mut left = site.destination.contents(&space()).unwrap();
    left.retain(|id, _| !source.contains_key(id));
    left
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_before_running_each_task_once_more_brings_all_in_sync_and_deletes_nothing(
        behavior in (behavior(), behavior()),
        before in vec((stands(), stands()), IDS.len()),
        steps in vec(step(), 0..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let site = Fixture::of(behavior.0, behavior.1);
            let registry = site.registry(policy(true));
            for (id, (source, destination)) in before.into_iter().enumerate() {
                set(&site.source, id, source);
                set(&site.destination, id, destination);
            }
            for step in steps {
                let before = names_at_destination(&site);
                let uproots = matches!(step, Step::Destination(_, None));
                take(&site, &registry, step).await;
                assert!(uproots || names_at_destination(&site).is_superset(&before), "a task deleted something");
            }
            for port in [&site.source_port, &site.destination_port] {
                port.clear();
            }
            let left = only_at_destination(&site);
            for id in IDS {
                registry.processor(Fixture::task(Some(&at(id)))).unwrap().run(&site.attempt()).await.unwrap();
            }
            assert_eq!(only_at_destination(&site), left, "what vanished is as it was");
            for id in left.keys() {
                site.destination.remove(&ItemAddress { space: space(), id: id.clone() });
            }
            assert!(site.in_sync(), "{:?} {:?}", site.source.contents(&space()), site.destination.contents(&space()));
            assert_eq!(site.source.writes(), 0);
            let writes = site.destination.writes();
            take(&site, &registry, Step::RunAll).await;
            assert_eq!(site.destination.writes(), writes, "what is in sync is not written");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn workers_that_run_one_task_at_once_copy_it_once() {
    let site = Fixture::new();
    site.source.insert(&at("x"), vec![1; 100_000], noted("n"));
    let registry = site.registry(policy(true));
    let task = Fixture::task(Some(&at("x")));
    let attempts: Vec<_> = (0..8).map(|_| site.attempt()).collect();
    let runs = attempts.iter().map(|attempt| site.attempted(&registry, &task, attempt));
    for run in futures::future::join_all(runs).await {
        assert_eq!(run.unwrap(), TaskOutcome::done());
    }
    assert!(site.in_sync());
    assert_eq!((site.totals().copied, site.totals().unchanged), (1, 7));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_not_configured_pauses_its_tasks() {
    let mut site = Fixture::new();
    site.stores = Arc::new(MemoryStores::default());
    assert!(site.stores.source(&account(), &store_address("s").store).await.is_err());
    assert_eq!(class(site.run("x").await), FailureClass::Unavailable { store: store_address("s") });
}
