//! The state of a pair: places, and deletes that the rule granted, by two clocks.

use std::time::Duration;

use mill_model::Monotonic;
use mill_ports::{Clock, Place, SecondClockReading};
use parking_lot::Mutex;

use super::*;

fn place(path: &str, identity: &str) -> Place {
    Place { path: path.into(), identity: identity.into() }
}

/// A pair that knows two places.
fn knows() -> DeletePairState {
    let mut state = DeletePairState::default();
    state.accept_places([place("", "root"), place("disk/", "one")], &[]);
    state
}

#[test]
fn a_pair_never_seen_before_has_no_changed_places() {
    assert!(DeletePairState::default().changed_places(&[place("", "root"), place("disk/", "one")]).is_empty());
}

#[test]
fn a_place_that_is_gone_another_or_new_is_changed() {
    let (root, disk) = (place("", "root"), place("disk/", "one"));
    for (now, changed) in [
        (vec![root.clone(), disk.clone()], &[][..]),
        (vec![disk.clone(), root.clone()], &[]),
        (vec![root.clone()], &["disk/"]),
        (vec![disk.clone()], &[""]),
        (vec![], &["", "disk/"]),
        (vec![root.clone(), place("disk/", "two")], &["disk/"]),
        (vec![place("", "other"), disk.clone()], &[""]),
        (vec![root.clone(), disk.clone(), place("more/", "one")], &["more/"]),
        (vec![root, disk, place("disk/deep/", "x"), place("a/", "y")], &["a/", "disk/deep/"]),
    ] {
        assert_eq!(knows().changed_places(&now), changed, "{now:?}");
    }
}

#[test]
fn accepted_places_are_those_of_now_but_for_the_excepted() {
    let mut state = knows();
    let now = [place("", "root"), place("disk/", "two"), place("more/", "new")];
    state.accept_places(now.clone(), &["disk/".into()]);
    assert_eq!(state.changed_places(&now), ["disk/"], "of that one, what was known before stays known");
    state.accept_places([place("", "root")], &["disk/".into()]);
    assert_eq!(state.changed_places(&[place("", "root"), place("disk/", "one")]), [""; 0]);
    assert_eq!(state.changed_places(&now), ["disk/", "more/"], "a place that went is forgotten with what was in it");
    // A place that is new and excepted is new the next time too.
    let mut state = knows();
    let now = [place("", "root"), place("disk/", "one"), place("more/", "new")];
    state.accept_places(now.clone(), &["more/".into()]);
    assert_eq!(state.changed_places(&now), ["more/"]);
    state.accept_places(now.clone(), &[]);
    assert_eq!(state.changed_places(&now), [""; 0]);
}

#[test]
fn places_seen_for_the_first_time_are_added_and_those_known_stay() {
    let mut state = DeletePairState::default();
    assert!(!state.knows_places());
    assert!(state.add_places(&[place("", "root"), place("disk/", "one")]) && state.knows_places());
    assert!(!state.add_places(&[place("", "root"), place("disk/", "two")]), "nothing new, though one is another");
    assert_eq!(state.changed_places(&[place("", "root"), place("disk/", "two")]), ["disk/"]);
    assert!(!state.add_places(&[place("", "root")]), "nor when one is gone");
    assert_eq!(state.changed_places(&[place("", "root")]), ["disk/"]);
    assert!(state.add_places(&[place("more/", "new")]));
    assert_eq!(state.changed_places(&[place("", "root"), place("disk/", "one"), place("more/", "new")]), [""; 0]);
}

#[tokio::test]
async fn what_is_remembered_of_a_pair_comes_back_and_only_from_its_last_writer() {
    let (lists, table) = repository();
    let mut first = lists.pair(&pair()).await.unwrap();
    assert_eq!(first.record, DeletePairState::default());
    let mut second = first.clone();
    let clock = Clocks::new();
    first.record = knows();
    first.record.unasked_today(&clock);
    first.record.grant_unasked(20);
    first.record.set_list(Some(list(1)));
    lists.save_pair(&pair(), &mut first).await.unwrap();
    let found = lists.pair(&pair()).await.unwrap();
    assert_eq!((&found.record, found.record.list()), (&first.record, Some(list(1))));
    second.record.set_list(Some(list(2)));
    let lost = lists.save_pair(&pair(), &mut second).await.unwrap_err();
    assert!(matches!(lost, DeleteListError::Changed { .. }));
    first.record.set_list(None);
    lists.save_pair(&pair(), &mut first).await.unwrap();
    assert_eq!(lists.pair(&pair()).await.unwrap().record.list(), None);
    assert_eq!(lists.pair(&pair_of_space("q")).await.unwrap().record, DeletePairState::default());
    let key = RowKey::new(pair_key(&pair()), "pair");
    table.put(&key, "{".into(), RowPrecondition::Always).await.unwrap();
    // As a new pair it would accept every place, and count no deletes.
    assert!(matches!(lists.pair(&pair()).await, Err(DeleteListError::Unreadable { .. })));
}

/// A wall clock and a second clock, in hours, each set by the test; and the second clock's domain, if there is one.
#[derive(Debug)]
struct Clocks(Mutex<(u64, u64, Option<&'static str>)>);

impl Clocks {
    fn new() -> Self {
        Self(Mutex::new((1_000, 10, Some("boot:1"))))
    }

    fn pass(&self, wall: u64, second: u64) {
        let mut now = self.0.lock();
        now.0 += wall;
        now.1 += second;
    }

    fn become_domain(&self, domain: Option<&'static str>) {
        self.0.lock().2 = domain;
    }
}

#[async_trait::async_trait]
impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.lock().0 * 3_600_000)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::default()
    }

    async fn sleep(&self, _: Duration) {}

    fn second_clock(&self) -> Option<SecondClockReading> {
        let (_, hours, domain) = *self.0.lock();
        Some(SecondClockReading { domain: domain?.to_owned(), at: Duration::from_hours(hours) })
    }
}

/// A pair for which the rule has just granted 20 deletes.
fn let_go_twenty(clock: &Clocks) -> DeletePairState {
    let mut state = DeletePairState::default();
    assert_eq!(state.unasked_today(clock), 0);
    state.grant_unasked(20);
    assert_eq!(state.unasked_today(clock), 20);
    state
}

#[test]
fn deletes_made_unasked_count_until_both_clocks_say_that_a_day_passed() {
    for (wall, second, left) in
        [(0, 0, 20), (23, 23, 20), (25, 25, 0), (25, 0, 20), (0, 25, 20), (25, 3, 20), (2, 25, 20)]
    {
        let clock = Clocks::new();
        let mut state = let_go_twenty(&clock);
        clock.pass(wall, second);
        assert_eq!(state.unasked_today(&clock), left, "{wall} {second}");
    }
}

#[test]
fn a_jump_of_one_clock_is_not_made_good_by_later_time() {
    let clock = Clocks::new();
    let mut state = let_go_twenty(&clock);
    clock.pass(25, 0);
    state.unasked_today(&clock);
    clock.pass(0, 25);
    assert_eq!(state.unasked_today(&clock), 20, "never did both say that a day passed");
    clock.pass(25, 25);
    assert_eq!(state.unasked_today(&clock), 0);
}

#[test]
fn time_between_two_boots_or_without_a_second_clock_counts_for_nothing() {
    let clock = Clocks::new();
    let mut state = let_go_twenty(&clock);
    clock.become_domain(Some("boot:2"));
    clock.pass(100, 100);
    assert_eq!(state.unasked_today(&clock), 20);
    clock.become_domain(None);
    clock.pass(100, 100);
    assert_eq!(state.unasked_today(&clock), 20);
    clock.pass(100, 100);
    assert_eq!(state.unasked_today(&clock), 20);
    clock.become_domain(Some("boot:2"));
    assert_eq!(state.unasked_today(&clock), 20);
    clock.pass(25, 25);
    assert_eq!(state.unasked_today(&clock), 0);
}

#[test]
fn each_grant_counts_for_its_own_day() {
    let clock = Clocks::new();
    let mut state = DeletePairState::default();
    for _ in 0..3 {
        state.unasked_today(&clock);
        state.grant_unasked(2);
        state.grant_unasked(3);
        clock.pass(10, 10);
    }
    // At 0, 10 and 20 hours; now 30.
    assert_eq!(state.unasked_today(&clock), 10);
    clock.pass(10, 10);
    assert_eq!(state.unasked_today(&clock), 5);
    clock.pass(10, 10);
    assert_eq!(state.unasked_today(&clock), 0);
}
