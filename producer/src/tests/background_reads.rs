//! Reads of stores in the background of a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use mill_ports::Clock as _;
use mill_records::Versioned;
use mill_records::producer_state::AccountRun;
use mill_testkit::{FaultKind, FaultPlan, FaultRates, FaultyStore, SeededRng};
use tokio_util::sync::CancellationToken;

use super::world::{ONE, World, account, policy};
use crate::duplication::plan::{DuplicationSession, PairBasis, PairRead};
use crate::looping::{ActiveRun, ReadBasis, ReadKey, ReadOutcome};

fn basis(file: &str, marker: Option<&str>) -> ReadBasis<PairBasis> {
    let rule = policy("a", file).covering(&World::pair()).unwrap();
    let marker = marker.map(|marker| marker.parse().unwrap());
    ReadBasis::Morsel(PairBasis { policy: rule, found: None, marker })
}

async fn read(
    session: &mut DuplicationSession<'_>,
    basis: ReadBasis<PairBasis>,
    answer: u32,
    takes: Duration,
) -> Option<u32> {
    let clock = session.deps.clock.clone();
    let reading = async move {
        clock.sleep(takes).await;
        answer
    };
    match session.read(ReadKey::Morsel(World::pair(), PairRead::Nibble), basis, reading).await.unwrap() {
        ReadOutcome::Done(answer) => Some(answer),
        ReadOutcome::GoesOn | ReadOutcome::Stopped => None,
    }
}

const SOON: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(100);

#[tokio::test(start_paused = true)]
async fn what_is_read_is_used_only_while_its_policy_its_marker_and_its_run_are_the_same() {
    let world = World::new(ONE);
    let (producer, stop) = (world.producer_with(|_| {}), CancellationToken::new());
    let mut session = DuplicationSession::new(&producer.looping, producer.plan(), producer.looping.state(1), &stop);
    let now = world.clock.now();
    let run = |number| AccountRun { account: account("a"), number, started: now, listed: true, finished: None };
    session.runs.insert(account("a"), ActiveRun::of(Versioned::unsaved(run(1))));
    let other_policy = ONE.replace("true", "false");
    for (then, number, is_used) in [
        (basis(ONE, None), 1, true),
        (basis(ONE, None), 2, false),
        (basis(ONE, Some("m")), 1, false),
        (basis(&other_policy, None), 1, false),
    ] {
        session.runs.get_mut(&account("a")).unwrap().row.record.number = 1;
        assert_eq!(read(&mut session, basis(ONE, None), 1, LONG).await, None);
        world.pass(LONG).await;
        session.runs.get_mut(&account("a")).unwrap().row.record.number = number;
        let expected = if is_used { 1 } else { 2 };
        assert_eq!(read(&mut session, then, 2, SOON).await, Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_found_bears_the_time_at_which_its_reading_began() {
    let world = World::new(ONE);
    let (producer, stop) = (world.producer_with(|_| {}), CancellationToken::new());
    let mut session = DuplicationSession::new(&producer.looping, producer.plan(), producer.looping.state(1), &stop);
    world.pass(SOON).await;
    let began = world.clock.now();
    assert_eq!(read(&mut session, basis(ONE, None), 1, LONG).await, None);
    world.pass(LONG * 10).await;
    session.step_began = world.clock.now();
    assert_eq!(read(&mut session, basis(ONE, None), 2, SOON).await, Some(1));
    assert_eq!(session.step_began, began);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_reading_is_an_error_of_what_was_read_alone() {
    let world = World::new(ONE);
    let (producer, stop) = (world.producer_with(|_| {}), CancellationToken::new());
    let mut session = DuplicationSession::new(&producer.looping, producer.plan(), producer.looping.state(1), &stop);
    let panics = async { std::iter::empty::<u32>().next().expect("a bug of a driver") };
    assert!(session.read(ReadKey::Morsel(World::pair(), PairRead::Endpoints), basis(ONE, None), panics).await.is_err());
    assert_eq!(read(&mut session, basis(ONE, None), 1, SOON).await, Some(1));
}

/// Notes that the future was dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_any_more_once_it_is_forgotten_or_the_session_is_over() {
    for begins_anew in [true, false] {
        let world = World::new(ONE);
        let (producer, stop) = (world.producer_with(|_| {}), CancellationToken::new());
        let mut session = DuplicationSession::new(&producer.looping, producer.plan(), producer.looping.state(1), &stop);
        let ended = Arc::new(AtomicBool::new(false));
        let guard = Guard(ended.clone());
        let hangs = async move {
            std::future::pending::<()>().await;
            drop(guard);
        };
        let asked = session.read(ReadKey::Morsel(World::pair(), PairRead::Nibble), basis(ONE, None), hangs).await;
        assert!(matches!(asked, Ok(ReadOutcome::GoesOn)) && !ended.load(SeqCst));
        if begins_anew {
            assert_eq!(read(&mut session, basis(ONE, Some("m")), 1, SOON).await, Some(1));
        } else {
            drop(session);
        }
        world.pass(SOON).await;
        assert!(ended.load(SeqCst), "{begins_anew}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_long_to_fail_is_given_up_in_time() {
    for id in ["1", "2"] {
        let world = World::new(ONE);
        world.insert("1", "item", 5);
        let faulty = |inner: Arc<dyn mill_ports::DeletableStore>,
                      change: &dyn Fn(&FaultPlan)|
         -> Arc<dyn mill_ports::DeletableStore> {
            let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
            change(&plan);
            Arc::new(FaultyStore::new(inner, super::world::address("a", id), plan))
        };
        let fails = faulty(Arc::new(world.store(id).clone()), &|plan| plan.set_outage(Some(FaultKind::Unreachable)));
        let slow = FaultRates { delay: u32::MAX, delay_max: LONG, ..FaultRates::default() };
        world.replace(id, faulty(fails, &|plan| plan.set_rates(slow)));
        let session = world.session_with(|settings| settings.looping.give_up_after = LONG);
        let ended = tokio::time::timeout(LONG * 100, session).await;
        let report = ended.expect("it is tried without end");
        assert_eq!(report.spaces_failed.len(), 1, "{report:?}");
    }
}
