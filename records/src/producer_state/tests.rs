use mill_model::{ContentId, DeleteListId, SpaceId, SpacePair, StoreAddress, StoreId, SurveySum, Timestamp};
use mill_testkit::{
    FaultInjector, FaultKind, FaultPlan, InjectedFault, ManualClock, MemoryTable, PortCall, SeededRng, SimClock,
};

use super::*;
use crate::elapsed::ElapsedTime;

fn pair(space: &str) -> SpacePair {
    SpacePair {
        account: AccountId::new("a").unwrap(),
        source: StoreId::new("1").unwrap(),
        destination: StoreId::new("2").unwrap(),
        space: SpaceId::new(space).unwrap(),
    }
}

fn some(id: &str) -> Option<ContentId> {
    ContentId::new(id).ok()
}

fn round_trip<R: Record + PartialEq + std::fmt::Debug>(row: &R) {
    assert_eq!(R::read(&row.sort(), &row.value(7)).as_ref(), Some(row));
    assert_eq!(R::read(&row.sort(), b"{"), None);
}

#[test]
fn rows_are_read_as_they_were_written() {
    let started = Timestamp::from_millis(1_795_249_800_000);
    let account = AccountId::new("a").unwrap();
    for finished in [None, Some(started)] {
        round_trip(&AccountRun { account: account.clone(), number: 3, started, listed: true, finished });
    }
    round_trip(&UnansweredStores { account: account.clone(), run: 3, unanswered: vec![StoreId::new("2").unwrap()] });
    let (store, space) = (StoreId::new("1").unwrap(), SpaceId::new("Fotos & Briefe").unwrap());
    let clock = ManualClock::new();
    let mut elapsed = ElapsedTime::default();
    elapsed.read(&clock);
    clock.step(Duration::from_hours(5));
    elapsed.read(&clock);
    round_trip(&MissingSpace { account, store, space, first: started, run: 4, elapsed });
    let list = DeleteListId::new(started, [7; 10]);
    for deletes in [
        DeleteProgress::Pending,
        DeleteProgress::Done,
        DeleteProgress::Held { count: 21, items_total: 30 },
        DeleteProgress::Sending { list, next: 0 },
        DeleteProgress::Sending { list, next: u32::MAX },
    ] {
        for marker in [None, some("/\n"), some("a/\u{0}\"\u{1F600}")] {
            for (began, sum) in [(None, SurveySum::default()), (Some(started), sum_of_each())] {
                let (run, nibbles, unproven, deletes, marker) = (3, 2, 1, deletes.clone(), marker.clone());
                round_trip(&PairMorsel { pair: pair("s p"), run, nibbles, deletes, marker, began, sum, unproven });
            }
        }
    }
    for in_sync in [None, Some(started)] {
        let (pair, sum) = (pair("s p"), sum_of_each());
        round_trip(&PairSurvey { pair, run: 3, began: started, sum, unproven: 1, held: 2, in_sync });
    }
    round_trip(&share(7));
    let of_store = StoreAddress { account: pair("s").account, store: pair("s").source };
    for subject in [SurveySubject::Store(of_store), SurveySubject::Morsel(pair("s p"))] {
        let (at, reason) = (Timestamp::from_millis(1_795_249_800_001), "\"it\" does not answer".to_owned());
        round_trip(&SurveyFailure { subject, first: started, last: at, reason });
    }
}

fn share(sent: u64) -> AccountShare {
    let since = Timestamp::from_millis(1_795_249_800_000);
    AccountShare { account: pair("s").account, sent, since, received: 5, received_of_all: 9 }
}

/// A sum in which all counters differ.
fn sum_of_each() -> SurveySum {
    let mut next = 0;
    SurveySum::read(|_| {
        next += 1;
        next
    })
}

/// Every later version reads the rows of an older one.
#[test]
fn the_first_written_form_is_read_for_ever() {
    for (written, deletes) in [
        // Deletes that a person confirmed only by their number are unknown: they are determined again.
        (r#"{"confirmed":{"left":4,"marker":"m"}}"#, DeleteProgress::Pending),
        (r#"{"confirmed":{"left":4}}"#, DeleteProgress::Pending),
        (r#"{"held":{"count":21,"items_total":30}}"#, DeleteProgress::Held { count: 21, items_total: 30 }),
        (r#""pending""#, DeleteProgress::Pending),
        (r#""done""#, DeleteProgress::Done),
    ] {
        let value = format!(r#"{{"epoch":1,"run":2,"nibbles":3,"deletes":{written},"marker":"n"}}"#);
        let morsel = PairMorsel::read("morsel/a/1/2/s", value.as_bytes()).unwrap();
        let (marker, sum) = (some("n"), SurveySum::default());
        assert_eq!(
            morsel,
            PairMorsel { pair: pair("s"), run: 2, nibbles: 3, deletes, marker, began: None, sum, unproven: 0 }
        );
    }
    let missing = MissingSpace::read("missing/a/1/s", br#"{"epoch":1,"first":5,"run":6}"#).unwrap();
    assert_eq!((missing.first, missing.run), (Timestamp::from_millis(5), 6));
    assert_eq!(missing.elapsed, ElapsedTime::default(), "the wall clock of an earlier version proves no day");
    let written = br#"{"epoch":1,"number":2,"started":3,"listed":true,"finished":null}"#;
    let run = RunOfAllAccounts::read("run", written).unwrap();
    assert_eq!((run.number, run.listed, run.finished), (2, true, None));
    let of_account = AccountRun::read("account-run/a", written).unwrap();
    assert_eq!(of_account, run.of(of_account.account.clone()));
    let written = br#"{"epoch":1,"first":3,"last":4,"reason":"no answer"}"#;
    let failure = SurveyFailure::read("failure/a/1/2/s", written).unwrap();
    assert_eq!((failure.subject, failure.last), (SurveySubject::Morsel(pair("s")), Timestamp::from_millis(4)));
    let written = br#"{"epoch":1,"sent":7,"since":1795249800000,"received":5,"received_of_all":9}"#;
    assert_eq!(AccountShare::read("share/a", written), Some(share(7)));
}

#[test]
fn of_a_row_that_does_not_tell_it_none_of_the_queued_is_proven() {
    let written = br#"{"epoch":1,"run":2,"nibbles":3,"deletes":"done","sum":{"listed":9,"queued":7,"unchanged":2}}"#;
    assert_eq!(PairMorsel::read("morsel/a/1/2/s", written).unwrap().unproven, 7);
    let written = br#"{"epoch":1,"run":2,"began":3,"sum":{"listed":9,"queued":7,"unchanged":2},"held":0}"#;
    assert_eq!(PairSurvey::read("survey/a/1/2/s", written).unwrap().unproven, 7);
}

#[test]
fn a_morsel_that_sends_a_list_without_a_name_counts_as_lost() {
    let value = br#"{"epoch":1,"run":2,"nibbles":0,"deletes":{"sending":{"list":"the last one","next":0}}}"#;
    assert_eq!(PairMorsel::read("morsel/a/1/2/s", value), None);
}

struct World {
    clock: Arc<SimClock>,
    table: Arc<dyn Table>,
}

impl World {
    fn new() -> Self {
        Self { clock: Arc::new(SimClock::new()), table: Arc::new(MemoryTable::with_pages_of("t", 2)) }
    }

    fn state(&self, epoch: u64) -> ProducerState<DuplicationRows> {
        ProducerState::new(self.table.clone(), self.clock.clone(), "p", epoch)
    }
}

async fn with_morsels(state: &ProducerState<DuplicationRows>, count: usize) -> Vec<Versioned<PairMorsel>> {
    let rows: Vec<PairMorsel> = (0..count).map(|number| PairMorsel::fresh(pair(&format!("s{number}")), 1)).collect();
    state.add_morsels(&pair("s").account, &rows).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn rows_added_saved_and_removed_are_loaded_so() {
    let world = World::new();
    let state = world.state(1);
    let mut morsels = with_morsels(&state, 5).await;
    morsels[1].record.marker = some("m");
    state.save(&mut morsels[1]).await.unwrap();
    state.save(&mut morsels[1]).await.unwrap();
    state.remove(&morsels[2]).await.unwrap();
    let loaded = world.state(2).load(false).await.unwrap();
    let found: Vec<_> =
        loaded.morsels.iter().map(|kept| (kept.record.pair.space.as_str(), kept.record.marker.is_some())).collect();
    assert_eq!(found, [("s0", false), ("s1", true), ("s3", false), ("s4", false)]);
    state.remove_all(&loaded.morsels).await.unwrap();
    assert!(world.state(2).load(false).await.unwrap().morsels.is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_a_claim_the_earlier_holder_can_save_and_remove_nothing() {
    let world = World::new();
    let old = world.state(1);
    let mut morsels = with_morsels(&old, 3).await;
    let new = world.state(2);
    let mut claimed = new.load(true).await.unwrap().morsels;
    assert_eq!(claimed.len(), 3);
    morsels[0].record.marker = some("m");
    assert!(matches!(old.save(&mut morsels[0]).await, Err(ProducerStateError::TakenOver { .. })));
    assert!(matches!(old.remove(&morsels[1]).await, Err(ProducerStateError::TakenOver { .. })));
    for kept in &mut claimed {
        new.save(kept).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_producers_only_the_later_one_says_what_was_sent_of_an_account() {
    let world = World::new();
    let (earlier, later) = (world.state(1), world.state(2));
    let mut of_earlier = Versioned::unsaved(share(10));
    earlier.save_over_earlier(&mut of_earlier).await.unwrap();
    let mut of_later = later.load(true).await.unwrap().shares.remove(0);
    assert_eq!(of_later.record, share(10));
    of_earlier.record.sent = 1_000;
    let late = earlier.save_over_earlier(&mut of_earlier).await;
    assert!(matches!(late, Err(ProducerStateError::TakenOver { .. })), "{late:?}");
    of_later.record.sent = 20;
    later.save_over_earlier(&mut of_later).await.unwrap();
    // Late new rows of the earlier holder are overwritten, and neither holder fails too early because of them.
    later.remove(&of_later).await.unwrap();
    earlier.save_over_earlier(&mut Versioned::unsaved(share(30))).await.unwrap();
    later.save_over_earlier(&mut Versioned::unsaved(share(40))).await.unwrap();
    let late = earlier.save_over_earlier(&mut Versioned::unsaved(share(50))).await;
    assert!(matches!(late, Err(ProducerStateError::TakenOver { .. })), "{late:?}");
    assert_eq!(later.load(false).await.unwrap().shares[0].record, share(40));
}

#[tokio::test(start_paused = true)]
async fn an_earlier_holder_that_reads_what_a_later_one_wrote_is_over() {
    let world = World::new();
    let old = world.state(1);
    let row = UnansweredStores { account: pair("s").account, run: 2, unanswered: Vec::new() };
    world.state(2).save_over_earlier(&mut Versioned::unsaved(row)).await.unwrap();
    assert!(matches!(old.load(false).await, Err(ProducerStateError::TakenOver { .. })));
    assert!(matches!(old.parts_of(&pair("s").account).await, Err(ProducerStateError::TakenOver { .. })));
    let reader = ProducerState::<DuplicationRows>::to_read(world.table.clone(), world.clock.clone(), "p");
    assert_eq!(reader.load(false).await.unwrap().accounts.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_later_holder_surveyed_stays_whatever_an_earlier_one_writes_late() {
    let world = World::new();
    let survey = |run, listed| PairSurvey {
        pair: pair("s"),
        run,
        began: Timestamp::from_millis(5),
        sum: SurveySum { listed, queued: listed, ..SurveySum::default() },
        unproven: listed,
        held: 0,
        in_sync: None,
    };
    let (earlier, later) = (world.state(1), world.state(2));
    earlier.note_surveys(&[survey(1, 7)]).await.unwrap();
    later.note_surveys(&[survey(2, 9)]).await.unwrap();
    let late = earlier.note_surveys(&[survey(1, 8)]).await;
    assert!(matches!(late, Err(ProducerStateError::TakenOver { .. })), "{late:?}");
    later.note_surveys(&[survey(2, 9)]).await.unwrap();
    assert_eq!(later.surveys().await.unwrap()[0].record, survey(2, 9));
    // If the lease's row was lost, a lower epoch claims them.
    let anew = world.state(1);
    anew.load(true).await.unwrap();
    anew.note_surveys(&[survey(3, 1)]).await.unwrap();
    assert_eq!(anew.surveys().await.unwrap()[0].record, survey(3, 1));
}

#[test]
fn no_two_runs_of_an_account_have_one_number_whatever_lease_or_row_is_lost() {
    let run = |number| {
        let (account, started) = (pair("s").account, Timestamp::default());
        AccountRun { account, number, started, listed: false, finished: None }
    };
    let mut numbers = std::collections::BTreeSet::new();
    // Three leases with four runs each. The row of every other run is lost, as for an account that is removed from the
    // list and added again.
    for epoch in 1..4 {
        let mut last: Option<AccountRun> = None;
        for nth in 0..4 {
            let number = AccountRun::number(epoch, nth, last.as_ref().filter(|_| nth % 2 == 1));
            assert!(numbers.insert(number), "{number}");
            last = Some(run(number));
        }
    }
    // If the lease's row is lost, epochs start again, and runs continue.
    let last = run(*numbers.last().unwrap());
    assert!(AccountRun::number(1, 0, Some(&last)) > last.number);
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_an_account_are_none_of_one_whose_name_begins_so() {
    let world = World::new();
    let state = world.state(1);
    let other = AccountId::new("ab").unwrap();
    for account in [&pair("s").account, &other] {
        let row = UnansweredStores { account: account.clone(), run: 1, unanswered: vec![StoreId::new("1").unwrap()] };
        state.save_over_earlier(&mut Versioned::unsaved(row)).await.unwrap();
        let morsel = PairMorsel::fresh(SpacePair { account: account.clone(), ..pair("s") }, 1);
        state.add_morsels(account, &[morsel]).await.unwrap();
    }
    for account in [&pair("s").account, &other] {
        let AccountRunRows { unanswered, morsels } = state.parts_of(account).await.unwrap();
        assert_eq!(unanswered.unwrap().record.account, *account);
        assert_eq!(morsels.len(), 1);
        assert_eq!(morsels[0].record.pair.account, *account);
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_row_of_the_lease_was_lost_the_table_goes_on_under_a_lower_epoch() {
    let world = World::new();
    with_morsels(&world.state(7), 3).await;
    assert_eq!(world.state(1).load(true).await.unwrap().morsels.len(), 3);
    assert_eq!(world.state(1).load(false).await.unwrap().morsels.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_is_passed_over() {
    let world = World::new();
    let state = world.state(1);
    with_morsels(&state, 2).await;
    world.table.put(&RowKey::new("p", "morsel/a/1/2/s0"), "{".into(), RowPrecondition::Always).await.unwrap();
    assert_eq!(state.load(true).await.unwrap().morsels.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_done_but_not_answered_is_no_takeover() {
    let world = World::new();
    let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
    let table: Arc<dyn Table> = Arc::new(FaultInjector::<dyn Table>::new(world.table.clone(), plan.clone()));
    let state = ProducerState::<DuplicationRows>::new(table, world.clock.clone(), "p", 1);
    let mut morsels = with_morsels(&state, 1).await;
    for nth in 1..4 {
        plan.fail(PortCall::PutRow, 1, InjectedFault::After(FaultKind::Unavailable));
        morsels[0].record.nibbles = nth;
        state.save(&mut morsels[0]).await.unwrap();
    }
    plan.fail(PortCall::DeleteRow, 1, InjectedFault::After(FaultKind::Unexpected));
    state.remove(&morsels[0]).await.unwrap();
    assert!(state.load(false).await.unwrap().morsels.is_empty());
    plan.set_outage(Some(FaultKind::Unavailable));
    assert!(matches!(state.load(false).await, Err(ProducerStateError::Table(_))));
}
