//! Each account has runs of its own, which begin, end and come due independently of the others.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{Properties, SpacePair};
use mill_ports::{Clock as _, RowKey, RowPrecondition};
use mill_records::account_counts::CountsWriter;
use mill_records::policies::PolicyRepository;
use mill_records::producer_state::{
    AccountRun, DeleteProgress, DuplicationRows, MorselRow as _, PairMorsel, ProducerRows, ProducerState,
};
use mill_testkit::{FaultPlan, FaultRates, FaultyStore, SeededRng};
use tokio_util::sync::CancellationToken;

use super::runs::{files, put};
use super::world::{DEFAULT, DIFFERENCES, ONE, World, account, content, is_finished, item, policy, space, store};
use crate::{DuplicationProducer, ProducerSettings, RunStart, SessionEnd, SessionPauses, SessionReport, WhenFull};

const MAX: u64 = 40;
const HOUR: Duration = Duration::from_hours(1);

/// Items of account `a`, which is slow, and of `b`. Both have space `s` at their destinations.
fn two(of_a: usize, of_b: usize) -> World {
    let mut world = World::of(vec![policy("a", ONE), policy("b", ONE)]);
    for id in ["1", "2"] {
        world.add_store("b", id);
    }
    for owner in ["a", "b"] {
        world.store_of(owner, "1").insert_space(&space("s"));
        world.store_of(owner, "2").insert_space(&space("s"));
    }
    world.insert("1", "of a", of_a);
    plant_of_b(&world, of_b);
    world
}

fn plant_of_b(world: &World, count: usize) {
    for number in 0..count {
        world.store_of("b", "1").insert(&item("s", &format!("of b {number:04}")), "x", Properties::default());
    }
}

/// Waits for an answer all the while that a test lasts.
fn patient(settings: &mut ProducerSettings) {
    waiting(settings);
    settings.looping.silence_max = HOUR * 1_000_000;
}

fn small(settings: &mut ProducerSettings) {
    settings.looping.queue_max = MAX;
    settings.looping.nibble = NonZeroUsize::new(5).unwrap();
}

fn waiting(settings: &mut ProducerSettings) {
    small(settings);
    settings.looping.when_full = WhenFull::Wait { poll: Duration::from_secs(1), poll_most: Duration::from_secs(30) };
}

async fn stored_rows(world: &World) -> ProducerRows<DuplicationRows> {
    let state =
        ProducerState::<DuplicationRows>::to_read(world.state.clone(), world.clock.clone(), DuplicationProducer::NAME);
    state.load(false).await.unwrap()
}

async fn runs(world: &World) -> Vec<AccountRun> {
    stored_rows(world).await.runs.into_iter().map(|kept| kept.record).collect()
}

async fn run_of(world: &World, name: &str) -> Option<AccountRun> {
    runs(world).await.into_iter().find(|run| run.account == account(name))
}

/// Takes `b`'s tasks out of the queue and counts them, as workmen do. The tasks of `a` hang.
async fn work_for_b(world: &World, writer: &mut Option<CountsWriter>) -> usize {
    let done = world.queue.drain_of(&account("b")).await;
    if let Some(writer) = writer {
        world.write_counts(writer).await;
    }
    done
}

fn writer(world: &World) -> Option<CountsWriter> {
    world.counts().map(|counts| CountsWriter::new(counts, "workman".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn an_account_whose_tasks_hang_delays_no_other_accounts_next_loop() {
    for (tells, of_a) in [(true, 500), (false, 500), (true, 36), (false, 36)] {
        let world = two(of_a, 30);
        if !tells {
            world.queue_tells_no_accounts();
        }
        let mut writer = writer(&world);
        let mut done = Vec::new();
        for session in 0..6 * 5 {
            // As cron has it, each ten minutes.
            world.session_with(small).await;
            let hour = session / 6;
            done.resize(hour + 1, 0);
            done[hour] += work_for_b(&world, &mut writer).await;
            world.pass(Duration::from_mins(10)).await;
        }
        assert_eq!(done, [30; 5], "{tells} {of_a}: all of b, each hour");
        assert!(
            of_a == 36 || run_of(&world, "a").await.unwrap().finished.is_none(),
            "the loop of a lasts all the while"
        );
        assert!((MAX / 2..MAX + 5).contains(&world.depth_of(&account("a"))));
    }
}

#[tokio::test(start_paused = true)]
async fn in_one_session_too_each_account_begins_its_loops_when_they_are_due() {
    for tells in [true, false] {
        let world = two(500, 30);
        if !tells {
            world.queue_tells_no_accounts();
        }
        let mut writer = writer(&world);
        let producer = world.producer_with(waiting);
        let stop = CancellationToken::new();
        let mut told: Vec<SessionReport> = Vec::new();
        let mut tell = |report: &SessionReport| told.push(report.clone());
        let pauses = SessionPauses { least: Duration::from_secs(10), most: Duration::from_mins(5) };
        let working = async {
            let mut done = Vec::new();
            for minute in 0..5 * 60 - 1 {
                world.pass(Duration::from_mins(1)).await;
                done.resize(minute / 60 + 1, 0);
                done[minute / 60] += work_for_b(&world, &mut writer).await;
            }
            stop.cancel();
            done
        };
        let (ended, done) = futures::join!(producer.run_until_stopped(pauses, &stop, &mut tell), working);
        ended.unwrap();
        assert_eq!(done, [30; 5], "{tells}");
        let [report] = &told[..] else { panic!("one session all the while: {told:?}") };
        assert_eq!(report.ended, SessionEnd::Stopped);
        // The report about b is that of its last run.
        assert_eq!(report.survey.listed, run_surveyed(&world, "a").await + 30);
        assert_eq!((report.pairs, report.runs), (2, 2));
    }
}

/// How many entries of an account's current run were surveyed.
async fn run_surveyed(world: &World, name: &str) -> u64 {
    let of_account = |morsel: &PairMorsel| morsel.pair.account == account(name);
    stored_rows(world)
        .await
        .morsels
        .into_iter()
        .filter(|kept| of_account(&kept.record))
        .map(|kept| kept.record.sum.listed)
        .sum()
}

#[tokio::test(start_paused = true)]
async fn loops_that_are_short_and_many_do_not_keep_a_long_one_waiting() {
    let world = two(2_000, 12);
    let often = |settings: &mut ProducerSettings| {
        small(settings);
        settings.looping.queue_max = 20;
        settings.looping.frequency = Duration::from_mins(1);
    };
    for _ in 0..100 {
        world.session_with(often).await;
        world.queue.drain().await;
        world.pass(Duration::from_mins(1)).await;
    }
    let AccountRun { finished, .. } = run_of(&world, "a").await.unwrap();
    let left = stored_rows(&world).await.morsels.iter().map(|kept| kept.record.nibbles).max();
    assert!(finished.is_none() && left > Some(100), "{left:?} nibbles of a after a hundred loops of b");
}

#[tokio::test(start_paused = true)]
async fn the_next_run_is_the_first_that_is_due_of_any_account() {
    let world = two(500, 3);
    let began = world.clock.now();
    assert_eq!(world.session_with(small).await.ended, SessionEnd::QueueFull);
    world.pass(HOUR / 2).await;
    while !is_finished(&world.session_with(small).await) {
        world.queue.drain().await;
    }
    let report = world.session_with(small).await;
    assert_eq!(report.ended, SessionEnd::NotDue { next_run: began.plus(HOUR) });
    // Only b begins a run before that of a is over, and so b's run is the later one.
    world.pass(HOUR / 2).await;
    world.queue.drain().await;
    let report = world.session_with(small).await;
    assert!(matches!(report.ended, SessionEnd::QueueFull) && !report.resumed, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn now_begins_the_runs_of_all_accounts_but_those_going_on() {
    let world = two(500, 3);
    assert_eq!(world.session_with(small).await.ended, SessionEnd::QueueFull);
    world.queue.drain().await;
    let [a, b] = [run_of(&world, "a").await.unwrap(), run_of(&world, "b").await.unwrap()];
    assert!(a.finished.is_none() && b.finished.is_some(), "{a:?} {b:?}");
    world.pass(Duration::from_mins(1)).await;
    let now = |settings: &mut ProducerSettings| {
        small(settings);
        settings.looping.run_start = RunStart::Now;
    };
    world.session_with(now).await;
    assert_eq!(run_of(&world, "a").await.unwrap().number, a.number, "it is gone on with");
    let again = run_of(&world, "b").await.unwrap();
    assert!(again.number > b.number && again.started > b.started, "{again:?} after {b:?}");
    assert_eq!(world.ids_of("of b"), 3);
}

#[tokio::test(start_paused = true)]
async fn one_loop_over_all_ends_what_is_going_on_before_it_begins() {
    let world = two(100, 3);
    assert_eq!(world.session_with(small).await.ended, SessionEnd::QueueFull);
    world.queue.drain().await;
    let [a, b] = [run_of(&world, "a").await.unwrap(), run_of(&world, "b").await.unwrap()];
    let together = |settings: &mut ProducerSettings| {
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.run_start = RunStart::Together;
        settings.looping.frequency = Duration::from_millis(1);
    };
    let report = world.session_with(together).await;
    assert!(is_finished(&report) && report.resumed, "{report:?}");
    let numbers = [run_of(&world, "a").await.unwrap().number, run_of(&world, "b").await.unwrap().number];
    assert_eq!(numbers, [a.number, b.number]);
    world.queue.drain().await;
    let report = world.session_with(together).await;
    assert!(is_finished(&report) && !report.resumed, "{report:?}");
    assert_eq!((world.ids_of("of a"), world.ids_of("of b"), report.survey.listed, report.runs), (100, 3, 103, 2));
}

/// The row of a run over all accounts, as an earlier version wrote it.
async fn write_run_of_all(world: &World, started: mill_model::Timestamp, finished: Option<u64>) {
    let finished = finished.map_or("null".to_owned(), |at| at.to_string());
    let row =
        format!(r#"{{"epoch":0,"number":1,"started":{},"listed":true,"finished":{finished}}}"#, started.as_millis());
    let key = RowKey::new(DuplicationProducer::NAME, "run");
    world.state.put(&key, row.into(), RowPrecondition::Always).await.unwrap();
}

/// The table of an earlier version: its run is in progress, 20 items of account `a` are queued, and `b` is done.
async fn of_the_version_before() -> World {
    let world = two(60, 3);
    write_run_of_all(&world, world.clock.now(), None).await;
    let morsel = PairMorsel {
        nibbles: 4,
        deletes: DeleteProgress::Done,
        marker: Some(content("of a00019")),
        ..PairMorsel::fresh(World::pair(), 1)
    };
    let state =
        ProducerState::<DuplicationRows>::new(world.state.clone(), world.clock.clone(), DuplicationProducer::NAME, 0);
    state.add_morsels(&account("a"), &[morsel]).await.unwrap();
    world.pass(HOUR / 2).await;
    world
}

#[tokio::test(start_paused = true)]
async fn the_run_of_an_earlier_version_is_gone_on_with_as_each_accounts_own() {
    let world = of_the_version_before().await;
    let report = world.session().await;
    assert!(is_finished(&report) && report.resumed, "{report:?}");
    let ids = world.ids();
    assert_eq!((ids.len(), &*ids[0]), (40, "of a00020"), "nothing is queued again, and nothing lost");
    let ProducerRows { run_of_all, runs, .. } = stored_rows(&world).await;
    assert!(run_of_all.is_none());
    assert!(runs.len() == 2 && runs.iter().all(|kept| kept.record.finished.is_some()), "{runs:?}");
    assert!(matches!(world.session_with(small).await.ended, SessionEnd::NotDue { .. }));
    world.pass(HOUR / 2).await;
    world.queue.drain().await;
    assert!(!world.session().await.resumed);
    assert_eq!((world.ids_of("of a"), world.ids_of("of b")), (60, 3));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_is_killed_at_any_instant_loses_nothing() {
    for effects in 0.. {
        let mut world = of_the_version_before().await;
        world.holders_dead = true;
        world.fuse.set(effects);
        let whole = {
            let (producer, stop) = (world.producer(), CancellationToken::new());
            let session = std::pin::pin!(producer.run_session(&stop));
            let blown = std::pin::pin!(world.fuse.blown.notified());
            matches!(futures::future::select(blown, session).await, futures::future::Either::Right(_))
        };
        world.fuse.set(i64::MAX);
        world.session().await;
        let ids = world.ids();
        let first: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(first.len(), 40, "killed after {effects}: {ids:?}");
        if whole {
            assert!(effects > 15, "{effects}");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_version_ran_since_counts_as_each_accounts_last_run() {
    let world = two(3, 3);
    world.session().await;
    world.queue.drain().await;
    // Somebody went back to the earlier version and has run it.
    world.pass(HOUR / 2).await;
    let started = world.clock.now();
    write_run_of_all(&world, started, Some(started.as_millis())).await;
    world.pass(HOUR / 2).await;
    assert_eq!(world.session().await.ended, SessionEnd::NotDue { next_run: started.plus(HOUR) });
    assert!(stored_rows(&world).await.run_of_all.is_none());
}

#[tokio::test(start_paused = true)]
async fn rows_of_the_run_before_count_for_nothing_in_a_second_run_under_one_lease() {
    let world = two(500, 30);
    let producer = world.producer_with(waiting);
    let stop = CancellationToken::new();
    let working = async {
        let mut numbers = Vec::new();
        for _ in 0..70 {
            world.queue.drain_of(&account("b")).await;
            world.pass(Duration::from_mins(1)).await;
            let Some(run) = run_of(&world, "b").await else { continue };
            if !numbers.contains(&run.number) {
                numbers.push(run.number);
                // The tasks of the second run stay in the queue, so that the run does not finish.
                plant_of_b(&world, 200);
            }
            if numbers.len() == 2 {
                break;
            }
        }
        stop.cancel();
        numbers
    };
    let (report, numbers) = futures::join!(producer.run_session(&stop), working);
    assert_eq!(report.unwrap().ended, SessionEnd::Stopped);
    let &[first, second] = &numbers[..] else { panic!("two runs: {numbers:?}") };
    assert!(second > first);
    // That producer wrote the row before it released the lease; the table applied it much later.
    let pair = SpacePair { account: account("b"), space: space("s"), source: store("1"), destination: store("2") };
    let marker = Some(content("of b 0199"));
    let late = PairMorsel { nibbles: 40, deletes: DeleteProgress::Done, marker, ..PairMorsel::fresh(pair, first) };
    let state =
        ProducerState::<DuplicationRows>::new(world.state.clone(), world.clock.clone(), DuplicationProducer::NAME, 1);
    state.add_morsels(&account("b"), &[late]).await.unwrap();
    world.queue.drain().await;
    let report = world.session().await;
    assert!(is_finished(&report) && report.resumed);
    assert_eq!((world.ids_of("of b"), report.survey.listed), (200, 700));
}

/// Policies that can be edited, under which account `a` is listed.
fn edited(of_a: usize, of_b: usize) -> World {
    let mut world = two(of_a, of_b);
    let files = files(&mut world);
    put(&files, "duplication-accounts.json", r#"["a"]"#);
    for name in ["a-duplication-policy.json", "b-duplication-policy.json"] {
        put(&files, name, ONE);
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_new_account_has_its_first_run_while_the_loop_of_another_lasts() {
    let world = edited(500, 12);
    let producer = world.producer_with(waiting);
    let stop = CancellationToken::new();
    let listing = async {
        world.pass(Duration::from_mins(2)).await;
        put(world.store("3"), "duplication-accounts.json", r#"["a", "b"]"#);
        // Policies are read again every five minutes, and the list is checked every minute.
        world.pass(Duration::from_mins(6)).await;
        assert_eq!(world.ids_of("of b"), 12);
        stop.cancel();
    };
    let (report, ()) = futures::join!(producer.run_session(&stop), listing);
    assert_eq!(report.unwrap().ended, SessionEnd::Stopped);
    assert!(run_of(&world, "a").await.unwrap().finished.is_none());
    assert!(run_of(&world, "b").await.unwrap().finished.is_some());
}

#[tokio::test(start_paused = true)]
async fn of_an_account_that_is_taken_out_of_the_list_nothing_is_left_and_another_goes_on() {
    for in_session in [false, true] {
        let mut world = two(500, 500);
        let files = files(&mut world);
        put(&files, "duplication-accounts.json", r#"["a", "b"]"#);
        for name in ["a-duplication-policy.json", "b-duplication-policy.json"] {
            put(&files, name, ONE);
        }
        let unlisting = async {
            world.pass(Duration::from_mins(2)).await;
            put(&files, "duplication-accounts.json", r#"["b"]"#);
            for _ in 0..100 {
                world.pass(Duration::from_mins(1)).await;
                world.queue.drain_of(&account("b")).await;
            }
        };
        if in_session {
            let (producer, stop) = (world.producer_with(waiting), CancellationToken::new());
            let unlisting = async {
                unlisting.await;
                stop.cancel();
            };
            futures::join!(producer.run_session(&stop), unlisting).0.unwrap();
        } else {
            world.session_with(small).await;
            unlisting.await;
            world.session_with(small).await;
        }
        let ProducerRows { runs, accounts, morsels, .. } = stored_rows(&world).await;
        let owners =
            runs.iter().map(|kept| &kept.record.account).chain(accounts.iter().map(|kept| &kept.record.account));
        let owners = owners.chain(morsels.iter().map(|kept| &kept.record.pair.account));
        assert!(owners.clone().count() > 0 && owners.clone().all(|owner| *owner == account("b")), "{in_session}");
        // Once listed again, the account begins at the beginning, not at the marker of the forgotten run.
        put(&files, "duplication-accounts.json", r#"["a", "b"]"#);
        world.queue.drain().await;
        world.pass(Duration::from_mins(6)).await;
        world.session().await;
        assert_eq!(world.ids_of("of a"), 500, "{in_session}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_list_of_accounts_cannot_be_read_runs_going_on_are_gone_on_with() {
    let world = edited(60, 0);
    assert_eq!(world.session_with(small).await.ended, SessionEnd::QueueFull);
    let queued = world.queue.drain().await;
    let mut world = world;
    // A process that has never read the list.
    let nothing = Arc::new(world.store("2").clone());
    let repository = PolicyRepository::of_store(nothing, space("none"), world.clock.clone(), Duration::from_mins(5));
    world.policies = Arc::new(repository);
    let report = world.session_with(small).await;
    assert!(report.resumed && report.accounts_failed.len() == 1, "{report:?}");
    assert!(run_of(&world, "a").await.is_some(), "it is not taken for one that is no longer listed");
    world.policies = Arc::new(PolicyRepository::fixed(vec![policy("a", ONE)]));
    let report = world.session().await;
    assert!(is_finished(&report) && !report.failed(), "{report:?}");
    assert_eq!(queued + world.ids_of("of a"), 60);
}

#[tokio::test(start_paused = true)]
async fn what_failed_of_one_account_is_tried_again_while_the_other_waits_for_its_next_loop() {
    let mut world = two(3, 3);
    let whole = world.policies.clone();
    world.session().await;
    world.queue.drain().await;
    world.pass(HOUR).await;
    let files = files(&mut world);
    put(&files, "a-duplication-policy.json", ONE);
    put(&files, "b-duplication-policy.json", "{");
    let report = world.session().await;
    assert!(is_finished(&report) && report.accounts_failed.len() == 1, "{report:?}");
    assert_eq!((world.ids_of("of a"), world.ids_of("of b")), (3, 0));
    world.queue.drain().await;
    world.policies = whole;
    let report = world.session().await;
    assert!(is_finished(&report) && !report.failed() && report.resumed, "{report:?}");
    assert_eq!((world.ids_of("of a"), world.ids_of("of b")), (0, 3));
}

/// From now on each call of account `a`'s store takes up to `most`.
fn slow_down(world: &World, id: &str, most: Duration) {
    let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
    plan.set_rates(FaultRates { delay: u32::MAX, delay_max: most, ..FaultRates::default() });
    let inner: Arc<dyn mill_ports::DeletableStore> = Arc::new(world.store(id).clone());
    world.replace(id, Arc::new(FaultyStore::new(inner, super::world::address("a", id), plan)));
}

#[tokio::test(start_paused = true)]
async fn an_account_whose_store_answers_no_listing_delays_no_other_accounts_loop() {
    for (file, id) in [(ONE, "1"), (ONE, "2"), (DEFAULT, "1"), (DEFAULT, "2")] {
        let mut world = two(500, 30);
        world.policies = Arc::new(PolicyRepository::fixed(vec![policy("a", file), policy("b", file)]));
        slow_down(&world, id, HOUR * 1_000_000);
        let producer = world.producer_with(patient);
        let stop = CancellationToken::new();
        let working = async {
            let mut done = Vec::new();
            for minute in 0..3 * 60 - 1 {
                world.pass(Duration::from_mins(1)).await;
                done.resize(minute / 60 + 1, 0);
                done[minute / 60] += world.queue.drain_of(&account("b")).await;
            }
            stop.cancel();
            done
        };
        let (report, done) = futures::join!(producer.run_session(&stop), working);
        assert_eq!((report.unwrap().ended, done), (SessionEnd::Stopped, vec![30; 3]), "{id} {file}");
        assert_eq!(world.ids_of("of a"), 0);
        assert!(run_of(&world, "a").await.unwrap().finished.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_to_list_comes_to_its_end_in_one_session_and_in_many() {
    for (wait, file) in [(true, ONE), (false, ONE), (true, DEFAULT), (false, DEFAULT)] {
        let mut world = two(120, 30);
        world.policies = Arc::new(PolicyRepository::fixed(vec![policy("a", file), policy("b", file)]));
        world.insert("2", "gone", 3);
        world.wrote_all().await;
        slow_down(&world, "1", Duration::from_mins(4));
        slow_down(&world, "2", Duration::from_mins(4));
        let (mut listed, mut minutes) = (0, 0);
        while run_of(&world, "a").await.is_none_or(|run| run.finished.is_none()) {
            let change = |settings: &mut ProducerSettings| if wait { waiting(settings) } else { small(settings) };
            let producer = world.producer_with(change);
            let draining = async {
                loop {
                    listed += world.ids_of("of a");
                    world.queue.drain().await;
                    minutes += 1;
                    assert!(minutes < 7 * 24 * 60, "{wait} {file}: it comes to no end; {listed} were queued");
                    world.pass(Duration::from_mins(1)).await;
                }
            };
            let stop = CancellationToken::new();
            let session = producer.run_session(&stop);
            // The queue is drained first: a session that finds it full ends before anything else is done.
            futures::future::select(std::pin::pin!(draining), std::pin::pin!(session)).await;
        }
        listed += world.ids_of("of a");
        assert_eq!(listed, 120, "{wait} {file}: each once");
    }
}

#[tokio::test(start_paused = true)]
async fn many_spaces_of_an_account_whose_store_hangs_cost_another_one_wait_in_all() {
    let mut world = two(1, 30);
    let spaces: Vec<String> = (0..300).map(|number| format!(r#""s{number}": ["1 to 2"]"#)).collect();
    let spaces = spaces.join(", ").replace(r#""1 to 2""#, r#"{ "srcStoreId": "1", "destStoreId": "2" }"#);
    let file = format!(r#"{{ "spaceDuplicationStorePolicies": {{ {spaces} }} }}"#);
    world.policies = Arc::new(PolicyRepository::fixed(vec![policy("a", &file), policy("b", ONE)]));
    slow_down(&world, "1", HOUR * 1_000_000);
    let producer = world.producer_with(waiting);
    let stop = CancellationToken::new();
    let working = async {
        let mut done = 0;
        for _ in 0..60 {
            world.pass(Duration::from_secs(1)).await;
            done += world.queue.drain_of(&account("b")).await;
        }
        stop.cancel();
        done
    };
    let (report, done) = futures::join!(producer.run_session(&stop), working);
    assert_eq!((report.unwrap().ended, done), (SessionEnd::Stopped, 30));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_hangs_keeps_no_other_destination_of_its_account_waiting() {
    let both = r#"[{ "srcStoreId": "1", "destStoreId": "2" }, { "srcStoreId": "1", "destStoreId": "3" }]"#;
    let of_all = format!(r#"{{ "defaultPolicies": {both} }}"#);
    let of_one = format!(r#"{{ "spaceDuplicationStorePolicies": {{ "s": {both} }} }}"#);
    for (hangs, file) in [("2", &of_all), ("3", &of_all), ("2", &of_one), ("3", &of_one)] {
        let world = World::new(file);
        world.insert("1", "item", 30);
        slow_down(&world, hangs, HOUR * 1_000_000);
        let producer = world.producer_with(waiting);
        let stop = CancellationToken::new();
        let working = async {
            let mut done = 0;
            for _ in 0..60 {
                world.pass(Duration::from_secs(1)).await;
                done += world.queue.drain_of(&account("a")).await;
            }
            stop.cancel();
            done
        };
        let (report, done) = futures::join!(producer.run_session(&stop), working);
        // The space's own task too.
        assert_eq!((report.unwrap().ended, done), (SessionEnd::Stopped, 31), "{hangs} hangs: {file}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_by_a_policy_that_is_edited_meanwhile_is_not_used() {
    let mut world = two(30, 0);
    let files = files(&mut world);
    put(&files, "a-duplication-policy.json", DIFFERENCES);
    world.insert("2", "of a", 30);
    for number in 0..30 {
        world.add_sync_proof(&format!("of a{number:05}")).await;
    }
    slow_down(&world, "2", HOUR);
    let producer = world.producer_with(patient);
    let stop = CancellationToken::new();
    let editing = async {
        world.pass(Duration::from_mins(1)).await;
        put(&files, "a-duplication-policy.json", ONE);
        let (mut queued, mut minutes) = (0, 0);
        while run_of(&world, "a").await.is_none_or(|run| run.finished.is_none()) {
            world.pass(Duration::from_mins(1)).await;
            queued += world.queue.drain_of(&account("a")).await;
            minutes += 1;
            assert!(minutes < 7 * 24 * 60, "it comes to no end");
        }
        stop.cancel();
        queued
    };
    let (report, queued) = futures::join!(producer.run_session(&stop), editing);
    report.unwrap();
    assert_eq!(queued, 30, "all, since what is there is not compared any more");
}
