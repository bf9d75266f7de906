//! Any task of both kinds, any number of times, in any order, at once, while both sides change and fail.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use mill_model::ContentId;
use mill_ports::StoreErrorKind;
use proptest::collection::vec;
use proptest::prelude::*;

/// The first four are listed, in two rows; of them the first two lie on a mount.
const IDS: [&str; 6] = ["disk/a", "disk/b", "m", "z", "n", "disk/c"];
const ROWS: [&[&str]; 2] = [&["disk/a", "disk/b", "m"], &["z"]];

#[derive(Debug, Clone)]
enum Step {
    Remove(u32),
    RemoveSpace,
    Duplicate(usize),
    /// All at once, some twice.
    All(u64),
    /// Another store call fails, with or without its effect.
    Fault(&'static str, bool, StoreErrorKind),
    Source(usize, bool),
    Destination(usize, bool),
    Mounted(bool),
    OtherDisk,
    SpaceGone,
    Granted(bool),
    LastAttempt,
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop::sample::select(vec!["head", "places", "delete", "space", "remove_empty_space", "put"]);
    let kind = prop::sample::select(every_error());
    prop_oneof![
        6 => (0..2_u32).prop_map(Step::Remove),
        1 => Just(Step::RemoveSpace),
        2 => (0..IDS.len()).prop_map(Step::Duplicate),
        3 => any::<u64>().prop_map(Step::All),
        3 => (op, any::<bool>(), kind).prop_map(|(op, done, kind)| Step::Fault(op, done, kind)),
        2 => (0..IDS.len(), any::<bool>()).prop_map(|(id, here)| Step::Source(id, here)),
        1 => (0..IDS.len(), any::<bool>()).prop_map(|(id, here)| Step::Destination(id, here)),
        2 => any::<bool>().prop_map(Step::Mounted),
        1 => Just(Step::OtherDisk),
        1 => Just(Step::SpaceGone),
        1 => any::<bool>().prop_map(Step::Granted),
        1 => Just(Step::LastAttempt),
    ]
}

/// The state of both sides before a step.
struct Before {
    destination: BTreeMap<ContentId, Version>,
    source: BTreeSet<ContentId>,
    granted: bool,
    results: Vec<Option<RowResult>>,
}

struct Trial {
    site: Fixture,
    failures: u32,
    /// The states in which the list saw its items.
    seen: BTreeMap<ContentId, VersionDigest>,
}

impl Trial {
    async fn before(&self) -> Before {
        let mut destination = BTreeMap::new();
        for id in self.site.left().unwrap_or_default() {
            destination.insert(at(&id).id, self.site.version(&id).await);
        }
        let source = self.site.source.contents(&space()).unwrap_or_default().into_keys().collect();
        let granted = matches!(self.site.state().await, DeleteListState::Granted { .. });
        Before { destination, source, granted, results: vec![self.site.result(0).await, self.site.result(1).await] }
    }

    async fn take(&mut self, step: Step) {
        let Self { site, failures, .. } = self;
        match step {
            Step::Remove(row) => run(site, task(Some(row)), *failures).await,
            Step::RemoveSpace => run(site, task(None), *failures).await,
            Step::Duplicate(id) => run(site, Fixture::task(Some(&at(IDS[id]))), *failures).await,
            Step::All(seed) => {
                site.source_port.shuffle(seed);
                site.destination_port.shuffle(seed / 2);
                let duplicates = IDS.iter().map(|id| Fixture::task(Some(&at(id))));
                let removes = [0, 1, 0, 1].map(|row| task(Some(row)));
                let all = removes.into_iter().chain(duplicates).chain([task(None)]);
                let runs: Vec<_> = all.map(|task| run(site, task, *failures)).collect();
                futures::future::join_all(runs).await;
            }
            Step::Fault(op, done, kind) => {
                for port in [&site.source_port, &site.destination_port] {
                    port.meet(
                        op,
                        [if done { ProbeFault::DoneAndFails(kind.clone()) } else { ProbeFault::Fails(kind.clone()) }],
                    );
                }
            }
            Step::Source(id, true) => site.source.insert(&at(IDS[id]), "source", noted("n")),
            Step::Source(id, false) => site.source.remove(&at(IDS[id])),
            Step::Destination(id, true) => site.destination.insert(&at(IDS[id]), "else", noted("n")),
            Step::Destination(id, false) => site.destination.remove(&at(IDS[id])),
            Step::Mounted(mounted) => site.source.set_mounted(&space(), "disk/", mounted),
            Step::OtherDisk => site.source.mount(&space(), "disk/", "disk two"),
            Step::SpaceGone => site.source.remove_space(&space()),
            Step::Granted(granted) => {
                site.set_state(if granted { GRANTED } else { DeleteListState::Withdrawn }).await;
            }
            Step::LastAttempt => *failures = 2,
        }
    }

    /// Checks that only listed items are deleted, in the listed state, while the list is granted and the source
    /// certainly lacks them.
    async fn check(&self, before: &Before) {
        let after = self.before().await;
        let has_space = self.site.source.contents(&space()).is_some();
        let same_places = has_space && self.site.places(DeletionScope::Items).await == first_places();
        for (id, version) in &before.destination {
            if after.destination.contains_key(id) {
                continue;
            }
            assert!(before.granted, "{id} went without a grant");
            assert_eq!(self.seen.get(id), Some(&VersionDigest::of(version)), "{id} was not listed like this");
            assert!(!before.source.contains(id), "{id} is at the source");
            assert!(same_places || !id.as_str().starts_with("disk/"), "{id} may be out of sight");
            assert!(has_space, "{id} went with its source space");
        }
        for (row, (was, is)) in before.results.iter().zip(&after.results).enumerate() {
            assert!(was.is_none() || was == is, "the result of row {row} changed");
            assert!(is.is_none_or(|is| is.total() == ROWS[row].len() as u64), "row {row} {is:?}");
        }
        let sum: u64 = after.results.iter().flatten().map(|result| result.deleted).sum();
        assert!(sum <= self.site.totals().deleted && self.site.totals().deleted <= 4, "{sum}");
        assert_eq!(self.site.source.writes(), 0);
    }
}

async fn run(site: &Fixture, task: Task, failures: u32) {
    let attempt = site.attempt_after(failures);
    // It may fail: then it counts as not run.
    if task.kind == RemoveTask::KIND {
        let _ = site.remove_under(policy(true), task, &attempt).await;
    } else {
        let _ = site.registry(policy(true)).processor(task).unwrap().run(&attempt).await;
    }
}

fn first_places() -> Vec<(String, String)> {
    vec![(String::new(), "memory:a:s".into()), ("disk/".into(), "disk one".into())]
}

async fn trial() -> Trial {
    let site = vanished(&IDS).await;
    site.source.mount(&space(), "disk/", "disk one");
    assert_eq!(site.places(DeletionScope::Items).await, first_places());
    site.list(DeletionScope::Items, GRANTED, &ROWS).await;
    let mut seen = BTreeMap::new();
    for id in &IDS[..4] {
        seen.insert(at(id).id, VersionDigest::of(&site.version(id).await));
    }
    Trial { site, failures: 0, seen }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_only_what_is_granted_and_surely_gone_is_deleted(steps in vec(step(), 0..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut trial = trial().await;
            for step in steps {
                let people = matches!(step, Step::Destination(_, false));
                let before = trial.before().await;
                trial.take(step).await;
                if !people {
                    trial.check(&before).await;
                }
            }
            // Once nothing fails any more, each row comes to its end.
            for port in [&trial.site.source_port, &trial.site.destination_port] {
                port.clear();
            }
            trial.site.clock.sleep(Duration::from_secs(1)).await;
            let before = trial.before().await;
            for row in 0..2 {
                trial.take(Step::Remove(row)).await;
            }
            trial.check(&before).await;
            if before.granted {
                assert!(trial.site.result(0).await.is_some() && trial.site.result(1).await.is_some());
            }
        });
    }
}
