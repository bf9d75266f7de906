//! A second plan, made up for these tests: it asks for a check of each item in each store, one store at a time. It knows no pairs,
//! no deletes and no missing spaces, and has its own rows and tasks. The looping keeps its promises to it all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, join, select};
use mill_model::{
    AccountId, ContentId, Properties, SpaceId, StoreAddress, StoreId, SurveySum, Task, TaskArgs, TaskKind,
};
use mill_policy::AccountPolicy;
use mill_ports::{DeletableStore, KeyRange, ListEntry, ListingError, StoreError};
use mill_records::Versioned;
use mill_records::producer_state::{
    MorselRow, MorselSubject, PlanRows, ProducerState, ProducerStateError, Record, SurveyRow, SurveySubject,
};
use mill_testkit::{FaultKind, FaultPlan, FaultyStore, SeededRng};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::world::{World, address, item, policy};
use crate::listing::OrderedListing;
use crate::looping::report::LoopingReport;
use crate::looping::{
    LoopingProducer, MorselCoverage, MorselError, OpenAs, Plan, ReadBasis, ReadKey, ReadOutcome, ReaderPanicked,
    Session, SpacesByStore, StepError, TurnOutcome,
};
use crate::{LoopingSettings, SessionEnd, SpaceFailureKind, WhenFull};

/// Check one item.
#[derive(Debug, Serialize, Deserialize)]
struct CheckTask {
    account: AccountId,
    store: StoreId,
    space: SpaceId,
    item: ContentId,
}

impl TaskArgs for CheckTask {
    const KIND: TaskKind = TaskKind::of("check");

    fn account(&self) -> &AccountId {
        &self.account
    }

    fn subject(&self) -> String {
        format!("{}/{}/{}", self.account, self.space, self.item)
    }

    fn stores(&self) -> Vec<StoreAddress> {
        vec![StoreAddress::of(&self.account, &self.store)]
    }

    fn space(&self) -> Option<&SpaceId> {
        Some(&self.space)
    }

    fn items(&self) -> &[ContentId] {
        std::slice::from_ref(&self.item)
    }
}

/// A space in one store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct StoreSpace {
    account: AccountId,
    store: StoreId,
    space: SpaceId,
}

impl MorselSubject for StoreSpace {
    fn key(&self) -> String {
        [self.account.as_str(), self.store.as_str(), self.space.as_str()].join("/")
    }

    fn parse(key: &str) -> Option<Self> {
        let mut ids = key.splitn(3, '/');
        Some(Self {
            account: AccountId::new(ids.next()?).ok()?,
            store: StoreId::new(ids.next()?).ok()?,
            space: SpaceId::new(ids.next()?).ok()?,
        })
    }

    fn account(&self) -> &AccountId {
        &self.account
    }

    fn space(&self) -> &SpaceId {
        &self.space
    }

    fn store(&self) -> &StoreId {
        &self.store
    }

    fn destination(&self) -> Option<&StoreId> {
        None
    }
}

/// The part of a row that stands in its value.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Progress {
    epoch: u64,
    run: u64,
    nibbles: u64,
    marker: Option<String>,
    queued: u64,
}

/// How far a run has come with a space; the row of a survey differs only in its key.
#[derive(Debug, Clone)]
struct CheckRow<const IS_SURVEY: bool> {
    subject: StoreSpace,
    progress: Progress,
}

type CheckMorsel = CheckRow<false>;
type CheckSurvey = CheckRow<true>;

impl<const IS_SURVEY: bool> Record for CheckRow<IS_SURVEY> {
    const PREFIX: &str = if IS_SURVEY { "survey/" } else { "morsel/" };

    fn sort(&self) -> String {
        format!("{}{}", Self::PREFIX, self.subject.key())
    }

    fn value(&self, epoch: u64) -> Bytes {
        serde_json::to_vec(&Progress { epoch, ..self.progress.clone() }).unwrap().into()
    }

    fn read(sort: &str, value: &[u8]) -> Option<Self> {
        let subject = StoreSpace::parse(sort.strip_prefix(Self::PREFIX)?)?;
        Some(Self { subject, progress: serde_json::from_slice(value).ok()? })
    }
}

impl MorselRow for CheckMorsel {
    type Subject = StoreSpace;

    fn fresh(subject: StoreSpace, run: u64) -> Self {
        Self { subject, progress: Progress { run, ..Progress::default() } }
    }

    fn subject(&self) -> &StoreSpace {
        &self.subject
    }

    fn run(&self) -> u64 {
        self.progress.run
    }

    fn nibbles(&self) -> u64 {
        self.progress.nibbles
    }
}

impl SurveyRow for CheckSurvey {
    type Subject = StoreSpace;

    fn subject(&self) -> &StoreSpace {
        &self.subject
    }

    fn run(&self) -> u64 {
        self.progress.run
    }

    fn sum(&self) -> SurveySum {
        sum_of(self.progress.queued)
    }
}

fn sum_of(queued: u64) -> SurveySum {
    SurveySum { listed: queued, queued, ..SurveySum::default() }
}

#[derive(Debug, Default)]
struct CheckRows;

impl PlanRows for CheckRows {
    type Morsel = CheckMorsel;
    type Survey = CheckSurvey;

    async fn read(_state: &ProducerState<Self>, _epoch_max: u64) -> Result<Self, ProducerStateError> {
        Ok(Self)
    }

    async fn claim(self, _state: &ProducerState<Self>) -> Result<(), ProducerStateError> {
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("it cannot be opened")]
    Store(#[from] StoreError),
    #[error("it cannot be listed")]
    Listing(#[from] ListingError),
    #[error("it cannot be looked at")]
    ReaderPanicked(#[from] ReaderPanicked),
}

impl MorselError for CheckError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) | Self::Listing(ListingError::Store(error)) => Some(error),
            Self::Listing(_) | Self::ReaderPanicked(_) => None,
        }
    }

    fn failure_kind(&self) -> SpaceFailureKind {
        if self.is_tried_again() { SpaceFailureKind::MayPass } else { SpaceFailureKind::Stays }
    }

    fn is_tried_again(&self) -> bool {
        self.of_store().is_some_and(|error| error.kind.may_pass())
    }
}

/// The plan.
struct Checks;

impl Plan for Checks {
    const NAME: &'static str = "check-producer";

    type Rows = CheckRows;
    type Findings = ();
    type Order = ();
    type Read = ();
    type Basis = Option<String>;
    type Error = CheckError;

    fn stores_to_list(policy: &AccountPolicy) -> Vec<(StoreId, OpenAs)> {
        policy.stores().iter().map(|store| (store.id.clone(), OpenAs::Source)).collect()
    }

    fn subjects(policy: &AccountPolicy, spaces: &SpacesByStore, unanswered: &[StoreId]) -> BTreeSet<StoreSpace> {
        let asked = spaces.iter().filter(|(store, _)| unanswered.is_empty() || unanswered.contains(store));
        let each = asked.flat_map(|(store, listed)| listed.spaces.iter().map(move |space| (store, space)));
        let of = |(store, space): (&StoreId, &SpaceId)| StoreSpace {
            account: policy.account().clone(),
            store: store.clone(),
            space: space.clone(),
        };
        each.map(of).collect()
    }

    fn idle_reason(_policy: &AccountPolicy) -> String {
        "no store of it has a space".into()
    }

    fn coverage(policy: &AccountPolicy, subject: &StoreSpace) -> MorselCoverage<Self> {
        match policy.store(&subject.store) {
            Some(_) => MorselCoverage::Covered(()),
            None => MorselCoverage::NotCovered,
        }
    }

    async fn take_turn(
        session: &mut Session<'_, Self>,
        morsel: &mut Versioned<CheckMorsel>,
        (): (),
    ) -> Result<TurnOutcome, StepError<CheckError>> {
        let StoreSpace { account, store, space } = morsel.record.subject.clone();
        let marker = morsel.record.progress.marker.clone();
        let (stores, most) = (session.stores.clone(), session.settings.nibble.get());
        let (of, after) =
            (morsel.record.subject.clone(), marker.as_ref().map(|id| ContentId::new(id.as_str()).unwrap()));
        let gather = async move {
            let opened = stores.source(&of.account, &of.store).await?;
            next_items(OrderedListing::open(&*opened, &of.space, after.as_ref()), most).await
        };
        let read = ReadKey::Morsel(morsel.record.subject.clone(), ());
        let (ids, is_end) = match session.read(read, ReadBasis::Morsel(marker), gather).await? {
            ReadOutcome::Done(items) => items.map_err(StepError::Space)?,
            ReadOutcome::GoesOn => return Ok(TurnOutcome::Reading),
            ReadOutcome::Stopped => return Ok(TurnOutcome::Stopped),
        };
        let task = |id: &ContentId| CheckTask {
            account: account.clone(),
            store: store.clone(),
            space: space.clone(),
            item: id.clone(),
        };
        let queued = session.queue_tasks(&account, ids.iter().map(task)).await?;
        session.add_to_survey(&account, sum_of(queued));
        let progress = &mut morsel.record.progress;
        progress.queued += queued;
        progress.nibbles += 1;
        progress.marker = ids.last().map(|id| id.as_str().to_owned()).or(progress.marker.take());
        if is_end {
            let CheckRow { subject, progress } = morsel.record.clone();
            session.state.note_surveys(&[CheckSurvey { subject: subject.clone(), progress }]).await?;
            session.forget_failure(&SurveySubject::Morsel(subject)).await?;
            return Ok(TurnOutcome::Done);
        }
        session.state.save(morsel).await?;
        Ok(TurnOutcome::Again)
    }
}

/// The next items of a listing, and whether it ends after them.
async fn next_items(mut listing: OrderedListing, most: usize) -> Result<(Vec<ContentId>, bool), CheckError> {
    let mut ids = Vec::new();
    while ids.len() < most {
        listing.fill().await?;
        match listing.take() {
            Some(ListEntry::Item(id, _)) => ids.push(id),
            Some(ListEntry::Refused { .. } | ListEntry::Hidden { .. }) => {}
            None => return Ok((ids, true)),
        }
    }
    Ok((ids, false))
}

const NIBBLE: usize = 4;

/// Accounts `a` and `b`, each with items in some of its three stores.
fn world() -> World {
    let mut world = World::of(vec![policy("a", "{}"), policy("b", "{}")]);
    for id in ["1", "2", "3"] {
        world.add_store("b", id);
    }
    insert(&world, ("b", "3", "u"), ITEMS_OF_B);
    with_account_a(world)
}

/// Account `a` alone.
fn world_of_one() -> World {
    with_account_a(World::of(vec![policy("a", "{}")]))
}

fn with_account_a(mut world: World) -> World {
    world.holders_dead = true;
    world.settings.looping.nibble = NonZeroUsize::new(NIBBLE).unwrap();
    world.settings.looping.sends_at_once = NonZeroUsize::MIN;
    for (id, place, count) in [("1", "s", 11), ("2", "s", 3), ("2", "t", 5)] {
        insert(&world, ("a", id, place), count);
    }
    world
}

fn insert(world: &World, (owner, id, place): (&str, &str, &str), count: usize) {
    for number in 0..count {
        let item = item(place, &format!("i{number:02}"));
        world.store_of(owner, id).insert(&item, "x", Properties::default());
    }
}

const ITEMS_OF_A: usize = 11 + 3 + 5;
const ITEMS_OF_B: usize = 9;
const ITEMS: usize = ITEMS_OF_A + ITEMS_OF_B;

fn producer(world: &World, change: impl FnOnce(&mut LoopingSettings)) -> LoopingProducer {
    let mut settings = world.settings.looping.clone();
    change(&mut settings);
    LoopingProducer::new::<Checks>(world.looping_deps(), settings)
}

async fn session(world: &World, change: impl FnOnce(&mut LoopingSettings)) -> LoopingReport<()> {
    producer(world, change).run_session(Checks, &CancellationToken::new()).await.unwrap()
}

fn is_finished(report: &LoopingReport<()>) -> bool {
    matches!(report.ended, SessionEnd::Finished { .. })
}

/// The queued items in order: account, store, space and id of each.
fn queued(world: &World) -> Vec<String> {
    let name = |task: &Task| {
        let CheckTask { account, store, space, item } = CheckTask::from_task(task).unwrap();
        [account.as_str(), store.as_str(), space.as_str(), item.as_str()].join("/")
    };
    world.queue.others().iter().map(name).collect()
}

fn counts(names: Vec<String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn each_item_of_each_store_is_queued_once_a_run() {
    let world = world();
    for loops in 1..=2 {
        let report = session(&world, |_| {}).await;
        assert!(is_finished(&report) && !report.failed(), "{report:?}");
        let counts = counts(queued(&world));
        assert_eq!((counts.len(), report.queued), (ITEMS, ITEMS as u64));
        assert!(counts.values().all(|count| *count == loops));
        assert_eq!((report.survey, report.pairs, report.accounts, report.runs), (sum_of(ITEMS as u64), 4, 2, 2));
        assert!(matches!(session(&world, |_| {}).await.ended, SessionEnd::NotDue { .. }));
        world.pass(world.settings.looping.frequency).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_instant_repeats_at_most_one_nibble_and_loses_nothing() {
    let mut instants = 0;
    for effects in 0.. {
        let world = world();
        world.fuse.set(effects);
        let (stop, dying) = (CancellationToken::new(), producer(&world, |_| {}));
        let finished = {
            let session = std::pin::pin!(dying.run_session(Checks, &stop));
            matches!(select(std::pin::pin!(world.fuse.blown.notified()), session).await, Either::Right(_))
        };
        world.fuse.set(i64::MAX);
        let report = session(&world, |_| {}).await;
        assert!(matches!(report.ended, SessionEnd::Finished { .. } | SessionEnd::NotDue { .. }), "{:?}", report.ended);
        let counts = counts(queued(&world));
        assert_eq!(counts.len(), ITEMS, "crash after {effects}");
        let repeated: usize = counts.values().map(|count| count - 1).sum();
        assert!(repeated <= NIBBLE, "crash after {effects} repeats {repeated}");
        if finished {
            break;
        }
        instants += 1;
    }
    assert!(instants > 40, "only {instants} instants");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_ends_the_session_and_the_next_goes_on_at_the_marker() {
    let world = world_of_one();
    let mut all = Vec::new();
    for sessions in 1.. {
        let report = session(&world, |settings| settings.queue_max = 6).await;
        all.extend(queued(&world));
        // A turn begins below the maximum, so it ends less than one nibble above.
        assert!(world.queue.drain().await < 6 + NIBBLE);
        if is_finished(&report) {
            assert!(sessions >= ITEMS_OF_A / (6 + NIBBLE), "{sessions}");
            break;
        }
        assert_eq!(report.ended, SessionEnd::QueueFull);
    }
    let counts = counts(all);
    assert!(counts.len() == ITEMS_OF_A && counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_goes_on_when_there_is_some() {
    let world = world_of_one();
    let pause = Duration::from_millis(50);
    let waiting = producer(&world, |settings| {
        settings.queue_max = 5;
        settings.when_full = WhenFull::Wait { poll: pause, poll_most: pause };
    });
    let (stop, mut drained) = (CancellationToken::new(), 0);
    let draining = async {
        while drained < ITEMS_OF_A {
            world.pass(Duration::from_millis(20)).await;
            assert!(world.depth().await < 5 + NIBBLE);
            drained += world.queue.drain().await;
        }
    };
    let (report, ()) = join(waiting.run_session(Checks, &stop), draining).await;
    assert!(is_finished(&report.unwrap()));
    assert_eq!(drained, ITEMS_OF_A);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_keeps_nothing_else_waiting_and_is_looked_at_later() {
    // It fails while its spaces are listed, or once the morsels are known.
    for is_known in [false, true] {
        let world = world();
        if is_known {
            assert_eq!(session(&world, |settings| settings.queue_max = 0).await.ended, SessionEnd::QueueFull);
        }
        let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
        plan.set_outage(Some(FaultKind::Unreachable));
        let inner: Arc<dyn DeletableStore> = Arc::new(world.store("2").clone());
        world.replace("2", Arc::new(FaultyStore::new(inner, address("a", "2"), plan.clone())));
        let report = session(&world, |_| {}).await;
        assert!(is_finished(&report) && report.failed(), "{report:?}");
        let of_morsels = report.spaces_failed.iter().filter(|failed| failed.space.is_some()).count();
        assert_eq!(of_morsels, if is_known { 2 } else { 0 });
        assert!(report.spaces_failed.iter().all(|failed| failed.source.as_str() == "2"));
        assert_eq!(counts(queued(&world)).len(), ITEMS - 3 - 5);
        plan.calm();
        let report = session(&world, |_| {}).await;
        assert!(!report.failed() && report.resumed, "{report:?}");
        let counts = counts(queued(&world));
        assert!(counts.len() == ITEMS && counts.values().all(|count| *count == 1), "{counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn accounts_and_spaces_take_turns() {
    let world = world();
    for number in 0..20 {
        for id in 0..5 {
            let item = item(&format!("many{number:02}"), &format!("i{id}"));
            world.store_of("a", "1").insert(&item, "x", Properties::default());
        }
    }
    session(&world, |settings| settings.nibble = NonZeroUsize::new(2).unwrap()).await;
    let names = queued(&world);
    let first_of_b = names.iter().position(|name| name.starts_with("b/")).unwrap();
    assert!(first_of_b <= 4, "b waits for {first_of_b} tasks of a");
    // No space has its second turn before each of its account had its first.
    let second = names.iter().position(|name| name == "a/1/s/i02").unwrap();
    let served: BTreeSet<&str> =
        names[..second].iter().filter_map(|name| name.rsplit_once('/')).map(|it| it.0).collect();
    assert_eq!(served.iter().filter(|place| place.starts_with("a/")).count(), 3 + 20, "{served:?}");
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_lease_ends_and_changes_nothing_more() {
    for effects in [20, 30, 40] {
        let world = world();
        // No heartbeat is due, so only a save can show that another has taken over.
        let sleeper = producer(&world, |settings| settings.lease_timeout *= 10_000);
        world.fuse.freeze(effects);
        let stop = CancellationToken::new();
        let asleep = Box::pin(sleeper.run_session(Checks, &stop));
        let Either::Left(((), asleep)) = select(Box::pin(world.fuse.frozen.notified()), asleep).await else { panic!() };
        assert!(is_finished(&session(&world, |settings| settings.holder = "holder-1".into()).await));
        let before = rows(&world).await;
        world.fuse.thawed.notify_one();
        let report = asleep.await.unwrap();
        assert!(matches!(report.ended, SessionEnd::HeldByAnother { .. }), "{effects}: {:?}", report.ended);
        assert_eq!(rows(&world).await, before, "{effects}");
        assert!(matches!(session(&world, |_| {}).await.ended, SessionEnd::NotDue { .. }));
    }
}

/// All rows of the plan.
async fn rows(world: &World) -> Vec<(String, Bytes)> {
    let (mut rows, mut range) = (Vec::new(), KeyRange { prefix: String::new(), after: None });
    loop {
        let page = world.state.query(Checks::NAME, &range, 100).await.unwrap();
        range.after = page.rows.last().map(|row| row.sort.clone()).or(range.after);
        rows.extend(page.rows.into_iter().map(|row| (row.sort, row.value)));
        if page.end {
            return rows;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_producers_share_a_table_and_each_keeps_its_own_rows() {
    let mut world = World::of(vec![policy("a", super::world::DEFAULT)]);
    world.insert("1", "item", 7);
    world.holders_dead = true;
    world.settings.looping.nibble = NonZeroUsize::new(3).unwrap();
    world.settings.looping.queue_max = 3;
    // Both leave a run in progress.
    assert_eq!(world.session().await.ended, SessionEnd::QueueFull);
    world.queue.drain().await;
    assert_eq!(session(&world, |_| {}).await.ended, SessionEnd::QueueFull);
    producer(&world, |_| {}).reset::<CheckRows>().await.unwrap();
    world.settings.looping.queue_max = 1_000;
    world.queue.drain().await;
    let report = world.session().await;
    assert!(report.resumed && super::world::is_finished(&report), "{report:?}");
    assert_eq!(world.ids_of("item"), 4);
    assert!(is_finished(&session(&world, |_| {}).await));
    assert_eq!(counts(queued(&world)).len(), 7, "from the beginning, in the one store that has a space");
}
