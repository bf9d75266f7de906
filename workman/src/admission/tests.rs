use std::collections::BTreeSet;

use mill_model::StoreId;

use super::*;

fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

fn store(name: &str) -> StoreAddress {
    StoreAddress { account: account("a"), store: StoreId::new(name).unwrap() }
}

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_origin(Duration::from_secs(seconds))
}

fn task(number: u32, of: &str, stores: &[&str]) -> WaitingTask<u32> {
    WaitingTask::new(number, account(of), stores.iter().map(|name| store(name)).collect())
}

fn admission(caps: &[(&str, u32)]) -> Admission<u32> {
    let mut admission = Admission::new(AdmissionSettings { queues: 2, workers: 1_000_000, alone: true });
    for (name, cap) in caps {
        admission.note_cap(&store(name), NonZeroU32::new(*cap), at(0));
    }
    admission
}

const SLOT: (bool, u32) = (true, 10);

#[test]
fn a_task_begins_only_with_room_at_all_its_stores_and_takes_nothing_before() {
    let mut admission = admission(&[("1", 2), ("2", 1)]);
    assert!(matches!(admission.place(0, task(1, "a", &["1", "2"]), SLOT, at(0)), Placement::Start(_)));
    assert!(matches!(admission.place(0, task(2, "a", &["1", "2"]), SLOT, at(0)), Placement::Benched));
    let other = admission.place(0, task(3, "a", &["1"]), SLOT, at(0));
    assert!(matches!(other, Placement::Start(_)), "what waits for one store holds nothing of the other");
    assert!(admission.next_ready(0).is_none());
    admission.note_ended(&account("a"), &[store("1")], Duration::from_secs(1), at(1));
    assert!(admission.next_ready(0).is_none(), "the second store is still full");
    admission.note_ended(&account("a"), &[store("1"), store("2")], Duration::from_secs(1), at(1));
    assert_eq!(admission.next_ready(0).map(|waiting| waiting.task), Some(2));
}

#[test]
fn a_store_without_a_cap_is_never_waited_for() {
    let mut admission = admission(&[("1", 0)]);
    for number in 0..1_000 {
        assert!(matches!(admission.place(0, task(number, "a", &["1"]), SLOT, at(0)), Placement::Start(_)));
    }
}

#[test]
fn twice_the_cap_and_a_batch_wait_and_the_rest_goes_back_for_longer_the_more_there_are() {
    let mut admission = admission(&[("1", 2)]);
    let mut delays = Vec::new();
    for number in 0..3_000 {
        if let Placement::Requeue(_, delay) = admission.place(0, task(number, "a", &["1"]), SLOT, at(0)) {
            delays.push(delay.after);
        }
    }
    assert_eq!((admission.benched(), delays.len()), (14, 3_000 - 2 - 14));
    assert!(delays.is_sorted() && delays[0] >= TURN_MIN, "{delays:?}");
    assert_eq!(delays.last(), Some(&TURN_MAX), "but for no longer than that");
    // A quarter of the estimate: tasks that are delivered again wait for a shorter time.
    for second in 1..=20 {
        admission.note_ended(&account("a"), &[store("1")], Duration::from_millis(250), at(second));
        assert!(admission.next_ready(0).is_some());
        assert!(matches!(admission.place(0, task(1, "a", &["1"]), SLOT, at(second)), Placement::Benched));
    }
    let Placement::Requeue(_, later) = admission.place(0, task(1, "a", &["1"]), SLOT, at(20)) else { panic!() };
    assert!(later.after < TURN_MAX, "{later:?}");
}

#[test]
fn tasks_that_last_longer_than_any_before_are_waited_for_longer() {
    let mut admission = admission(&[("1", 1)]);
    let mut delay_at = |now| {
        let mut delay = None;
        for number in 0..20 {
            if let Placement::Requeue(_, later) = admission.place(0, task(number, "a", &["1"]), SLOT, at(now)) {
                delay = Some(later.after);
            }
        }
        delay.unwrap()
    };
    assert!(delay_at(0) < delay_at(60));
}

#[test]
fn each_account_has_its_turn_and_within_it_who_came_first() {
    let mut admission = admission(&[("1", 1)]);
    assert!(matches!(admission.place(0, task(0, "a", &["1"]), SLOT, at(0)), Placement::Start(_)));
    for (number, of) in [(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "c"), (6, "b")] {
        assert!(matches!(admission.place(0, task(number, of, &["1"]), SLOT, at(0)), Placement::Benched));
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        admission.note_ended(&account("a"), &[store("1")], Duration::from_secs(1), at(1));
        order.push(admission.next_ready(0).unwrap().task);
    }
    assert_eq!(order, [1, 3, 5, 2, 6, 4]);
}

#[test]
fn an_account_is_passed_over_only_while_nothing_of_it_that_came_of_late_could_begin() {
    let mut admission = admission(&[("1", 2), ("2", 2)]);
    let give = |admission: &mut Admission<u32>, stores: &[&str], now| {
        (0..8).for_each(|number| drop(admission.place(1, task(number, "a", stores), SLOT, at(now))));
    };
    give(&mut admission, &["1"], 0);
    assert_eq!(admission.excluded_accounts(1, at(0)), BTreeSet::from([account("a")]));
    assert!(admission.excluded_accounts(0, at(0)).is_empty(), "of another queue nothing is known");
    give(&mut admission, &["2", "3"], 0);
    assert_eq!(admission.excluded_accounts(1, at(0)), BTreeSet::from([account("a")]), "both are full");
    give(&mut admission, &["3"], 0);
    assert!(admission.excluded_accounts(1, at(0)).is_empty(), "a task for the third could begin");
    give(&mut admission, &["1"], 5);
    assert_eq!(admission.excluded_accounts(1, at(5)), BTreeSet::from([account("a")]), "the third was long ago");
    assert!(admission.excluded_accounts(1, at(6)).is_empty(), "and now and then it is looked behind the first");
}

#[test]
fn an_account_is_received_again_once_a_whole_receive_has_room_on_its_bench() {
    let mut admission = admission(&[("1", 2)]);
    (0..20).for_each(|number| drop(admission.place(0, task(number, "a", &["1"]), SLOT, at(0))));
    let benched = admission.benched();
    assert_eq!(benched, 14, "two have begun");
    for more in (4..benched).rev() {
        assert!(!admission.excluded_accounts(0, at(0)).is_empty(), "{more}");
        admission.note_ended(&account("a"), &[store("1")], Duration::ZERO, at(0));
        assert!(admission.next_ready(0).is_some());
    }
    admission.note_ended(&account("a"), &[store("1")], Duration::ZERO, at(0));
    assert!(admission.next_ready(0).is_some());
    assert!(admission.excluded_accounts(0, at(0)).is_empty());
    let placed = (0..10).map(|number| admission.place(0, task(number, "a", &["1"]), SLOT, at(0)));
    assert!(placed.collect::<Vec<_>>().iter().all(|placed| !matches!(placed, Placement::Requeue(..))));
}

/// No task of the store begins here; a snoozed task is delivered as often as possible.
fn delays_while_shut(admission: &mut Admission<u32>, seconds: u64) -> Vec<Duration> {
    (0..14).for_each(|number| drop(admission.place(0, task(number, "a", &["1"]), SLOT, at(0))));
    let (mut delays, mut now) = (Vec::new(), 0);
    while now < seconds {
        let Placement::Requeue(_, turn) = admission.place(0, task(1, "a", &["1"]), SLOT, at(now)) else { panic!() };
        delays.push(turn.after);
        now += (turn.after / 2).as_secs().max(1);
    }
    delays
}

#[test]
fn what_is_put_back_while_others_have_all_permits_stays_away_for_longer_each_time() {
    let mut admission: Admission<u32> = Admission::new(AdmissionSettings { queues: 1, workers: 1_000, alone: false });
    admission.note_cap(&store("1"), NonZeroU32::new(2), at(0));
    let delays = delays_while_shut(&mut admission, 600);
    assert!(delays.is_sorted() && delays[0] == TURN_MIN, "{delays:?}");
    assert_eq!(delays.last(), Some(&Duration::from_secs(70)), "{delays:?}");
    assert!(delays.len() < 25, "{delays:?}");
    admission.note_permits(&store("1"), 1);
    assert!(admission.next_ready(0).is_some());
    admission.note_ended(&account("a"), &[store("1")], Duration::from_secs(1), at(600));
    admission.note_permits(&store("1"), 0);
    // Two have room on the bench again.
    let turns = (0..3).map(|number| admission.place(0, task(number, "a", &["1"]), SLOT, at(700)));
    let turn =
        turns.filter_map(|placed| if let Placement::Requeue(_, turn) = placed { Some(turn.after) } else { None }).max();
    assert!(turn.is_some_and(|turn| turn <= 2 * TURN_MIN), "one has begun, so it is reckoned anew: {turn:?}");
}

#[test]
fn what_is_put_back_while_a_cap_is_not_known_stays_away_for_longer_each_time() {
    let mut admission = admission(&[]);
    admission.note_unknown_cap(&store("1"), at(0));
    for second in 0..=600 {
        admission.note_unknown_cap(&store("1"), at(second));
    }
    let turn = |admission: &mut Admission<u32>, now| {
        let mut placed = (0..20).map(|number| admission.place(0, task(number, "a", &["1"]), SLOT, at(now)));
        placed.find_map(|placed| if let Placement::Requeue(_, turn) = placed { Some(turn.after) } else { None })
    };
    assert_eq!(turn(&mut admission, 600), Some(Duration::from_secs(70)), "also while one runs");
    admission.note_cap(&store("1"), NonZeroU32::new(1), at(601));
    admission.note_ended(&account("a"), &[store("1")], Duration::from_secs(1), at(601));
    assert!(admission.next_ready(0).is_some());
    assert_eq!(turn(&mut admission, 601), Some(TURN_MIN), "now there is something to reckon by");
}
