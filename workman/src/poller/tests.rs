use super::*;

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_origin(Duration::from_secs(seconds))
}

fn poller(workers: u32, reserved: u32, queues: usize) -> Poller {
    let minutes = |n: u64| Duration::from_mins(n);
    let settings = PollSettings {
        workers,
        reserved,
        reserved_high: 0,
        idle_backoff: vec![minutes(1), minutes(2), minutes(4), minutes(8), minutes(8)],
        poll_wait: Duration::from_secs(20),
        batch_linger: Duration::from_millis(2),
        recheck: Duration::ZERO,
    };
    Poller::new(settings, vec![10; queues])
}

const ANSWER: ReceiveSummary = ReceiveSummary { received: 0, failed: false, excluded_any: false, woken: false };

/// Answers a request that must be to `queue_index`. Returns how many tasks it requests.
fn ask(poller: &mut Poller, now: Monotonic, queue_index: usize, received: u32) -> u32 {
    match poller.next(now, false) {
        PollStep::Receive(ask) if ask.queue_index == queue_index => {
            poller.note_received(&ask, ReceiveSummary { received, ..ANSWER }, now);
            ask.max
        }
        other => panic!("expected an ask of queue {queue_index}, got {other:?}"),
    }
}

#[test]
fn each_free_slot_is_offered_to_the_highest_queue_first() {
    let mut poller = poller(12, 0, 2);
    assert_eq!(ask(&mut poller, at(0), 0, 10), 10);
    assert_eq!(ask(&mut poller, at(0), 0, 1), 2, "only free slots");
    assert_eq!(ask(&mut poller, at(0), 1, 1), 1, "the lower gets what the higher left");
    assert_eq!(poller.next(at(0), false), PollStep::Full);
    for _ in 0..6 {
        poller.note_freed(0);
    }
    assert_eq!(ask(&mut poller, at(0), 0, 6), 6, "slots that became free go to the highest again");
    assert_eq!(poller.next(at(0), false), PollStep::Full);
}

#[test]
fn a_higher_queue_found_empty_is_passed_over_for_a_moment_where_requests_cost() {
    let mut poller = poller(20, 0, 2);
    poller.settings.recheck = Duration::from_secs(1);
    assert_eq!(ask(&mut poller, at(0), 0, 0), 10);
    assert_eq!(ask(&mut poller, at(0), 1, 10), 10);
    assert_eq!(ask(&mut poller, at(0), 1, 10), 10);
    let all_freed = |poller: &mut Poller| (0..20).for_each(|_| poller.note_freed(1));
    all_freed(&mut poller);
    assert_eq!(ask(&mut poller, at(0), 1, 10), 10, "the higher was empty just now");
    assert_eq!(ask(&mut poller, at(0), 1, 10), 10);
    all_freed(&mut poller);
    assert_eq!(ask(&mut poller, at(1), 0, 0), 10, "a second later it is asked first again");
    assert_eq!(ask(&mut poller, at(1), 1, 10), 10);
    assert_eq!(ask(&mut poller, at(1), 1, 10), 10);
    all_freed(&mut poller);
    poller.expect_task(at(1));
    assert_eq!(ask(&mut poller, at(1), 0, 0), 10, "at once where this workman has sent something");
    assert_eq!(ask(&mut poller, at(1), 1, 0), 10);
    assert_eq!(ask(&mut poller, at(1), 0, 1), 10, "and it is listened to where the lower is empty too");
    assert_eq!(ask(&mut poller, at(1), 0, 0), 10, "after which it is no longer taken for empty");
}

#[test]
fn slots_that_make_no_full_batch_wait_for_company() {
    let mut poller = poller(20, 0, 1);
    assert_eq!(ask(&mut poller, at(0), 0, 10), 10);
    assert_eq!(ask(&mut poller, at(0), 0, 10), 10);
    poller.note_freed(0);
    let until = at(0).plus(Duration::from_millis(2));
    assert_eq!(poller.next(at(0), true), PollStep::Wait { until });
    (0..9).for_each(|_| poller.note_freed(0));
    assert_eq!(ask(&mut poller, at(0), 0, 10), 10, "a full batch does not wait");
    poller.note_freed(0);
    assert_eq!(poller.next(at(1), true), PollStep::Wait { until: at(1).plus(Duration::from_millis(2)) });
    assert_eq!(ask(&mut poller, at(2), 0, 0), 1, "and no slot waits for longer");
}

#[test]
fn a_lower_queue_is_not_asked_while_the_higher_is_full() {
    let mut poller = poller(20, 0, 3);
    assert_eq!(ask(&mut poller, at(0), 0, 10), 10);
    assert_eq!(ask(&mut poller, at(0), 0, 10), 10);
    assert_eq!(poller.next(at(0), false), PollStep::Full);
}

#[test]
fn the_reserved_share_is_left_to_the_lowest_queue_alone() {
    let mut poller = poller(10, 2, 3);
    assert_eq!(ask(&mut poller, at(0), 0, 8), 8);
    assert_eq!(ask(&mut poller, at(0), 2, 2), 2, "the middle queue gets none of it");
    for _ in 0..8 {
        poller.note_freed(0);
    }
    assert_eq!(ask(&mut poller, at(0), 0, 0), 8, "what the lowest holds counts as its share");
}

#[test]
fn the_lowest_queue_may_use_every_slot_that_nobody_else_wants() {
    let mut poller = poller(10, 2, 2);
    assert_eq!(ask(&mut poller, at(0), 0, 0), 8);
    assert_eq!(ask(&mut poller, at(0), 1, 10), 10);
}

#[test]
fn idle_rounds_leave_the_lower_queues_alone_for_1_2_4_8_8_minutes_while_the_highest_is_listened_to() {
    let (mut fresh, mut worked) = (poller(10, 0, 2), poller(10, 0, 2));
    worked.has_worked = true;
    assert_eq!(low_pauses(&mut worked, 7), [1, 2, 4, 8, 8, 8]);
    assert_eq!(low_pauses(&mut fresh, 4), [1, 1, 1], "before there was a task at all it looks each minute");
}

/// The minutes between so many requests to the lower queue, of which none finds anything.
fn low_pauses(poller: &mut Poller, requests: usize) -> Vec<u64> {
    let mut now = Monotonic::default();
    let mut asked_low = Vec::new();
    while asked_low.len() < requests {
        let PollStep::Receive(ask) = poller.next(now, false) else {
            panic!("the highest queue must never be slept on")
        };
        if ask.queue_index == 1 {
            asked_low.push(now);
        }
        now = now.plus(ask.wait);
        poller.note_received(&ask, ANSWER, now);
    }
    asked_low.windows(2).map(|pair| pair[1].since(pair[0]).as_secs() / 60).collect()
}

#[test]
fn work_resets_the_back_off() {
    let mut poller = poller(10, 0, 2);
    ask(&mut poller, at(0), 0, 0);
    ask(&mut poller, at(0), 1, 0);
    assert_eq!(ask(&mut poller, at(0), 0, 1), 10, "listening to the highest");
    ask(&mut poller, at(1), 0, 0);
    ask(&mut poller, at(1), 1, 0);
    assert_eq!(poller.low_until, Some(at(61)), "the first step again");
}

#[test]
fn a_task_sent_by_the_workman_itself_is_not_slept_through() {
    let mut poller = poller(10, 0, 2);
    ask(&mut poller, at(0), 0, 0);
    ask(&mut poller, at(0), 1, 0);
    poller.expect_task(at(5));
    let PollStep::Receive(listening) = poller.next(at(0), false) else { panic!() };
    assert_eq!(listening.wait, Duration::from_secs(5));
    poller.note_received(&listening, ANSWER, at(5));
    ask(&mut poller, at(5), 0, 0);
    ask(&mut poller, at(5), 1, 1);
}

#[test]
fn a_queue_that_fails_is_not_taken_for_empty_and_does_not_stop_the_others() {
    let mut poller = poller(10, 0, 2);
    let PollStep::Receive(highest) = poller.next(at(0), false) else { panic!() };
    poller.note_received(&highest, ReceiveSummary { failed: true, ..ANSWER }, at(0));
    assert_eq!(ask(&mut poller, at(0), 1, 3), 10);
    assert_eq!(ask(&mut poller, at(0), 1, 0), 7, "the failing queue is left out for now");
    assert_eq!(poller.low_until, None, "nothing is known to be idle");
    assert_eq!(poller.next(at(0), false), PollStep::Wait { until: at(1) });
    assert_eq!(ask(&mut poller, at(1), 0, 0), 7);
}

#[test]
fn a_long_receive_that_does_not_wait_makes_no_busy_loop() {
    let mut poller = poller(10, 0, 1);
    ask(&mut poller, at(0), 0, 0);
    ask(&mut poller, at(0), 0, 0);
    assert_eq!(poller.next(at(0), false), PollStep::Wait { until: at(0).plus(PAUSE) });
}

/// Three of eight slots are left to the higher queues, and the lowest has all others.
fn flooded(queues: usize) -> (Poller, PollRequest) {
    let mut poller = poller(8, 0, queues);
    poller.settings.reserved_high = 3;
    for queue_index in 0..queues - 1 {
        assert_eq!(ask(&mut poller, at(0), queue_index, 0), 8);
    }
    assert_eq!(ask(&mut poller, at(0), queues - 1, 5), 5, "no more than the higher leave");
    let PollStep::Listen(ask) = poller.next(at(0), true) else { panic!("the reserved slots must be listened for") };
    (poller, ask)
}

#[test]
fn reserved_slots_cost_one_long_receive_of_the_highest_queue_and_no_other() {
    let (mut poller, listening) = flooded(2);
    assert_eq!((listening.queue_index, listening.max, listening.wait), (0, 3, Duration::from_secs(20)));
    assert_eq!([at(0), at(19)].map(|now| poller.next(now, true)), [PollStep::Full; 2], "nothing is asked meanwhile");
    poller.settings.recheck = Duration::from_secs(1);
    poller.note_received(&listening, ANSWER, at(20));
    let PollStep::Wait { until } = poller.next(at(20), true) else { panic!() };
    let PollStep::Listen(again) = poller.next(until, true) else { panic!("nothing but the next long one") };
    assert_eq!((again.queue_index, again.max), (0, 3));
    assert_eq!(poller.next(until, true), PollStep::Full);
}

#[test]
fn an_ended_low_task_is_followed_by_the_next_while_reserved_slots_are_listened_for() {
    let (mut poller, listening) = flooded(2);
    (0..5).for_each(|_| poller.note_freed(1));
    assert_eq!(ask(&mut poller, at(1), 1, 5), 5, "the highest is not asked twice, and keeps its slots");
    assert_eq!(poller.next(at(1), true), PollStep::Full);
    poller.note_received(&listening, ReceiveSummary { received: 3, ..ANSWER }, at(2));
    assert_eq!(poller.next(at(2), true), PollStep::Full);
    (0..3).for_each(|_| poller.note_freed(0));
    (0..2).for_each(|_| poller.note_freed(1));
    assert_eq!(ask(&mut poller, at(3), 0, 0), 5, "where it had more, it is asked first");
    assert_eq!(ask(&mut poller, at(3), 1, 2), 2);
}

#[test]
fn an_emptied_low_queue_is_left_alone_also_while_reserved_slots_are_listened_for() {
    let (mut poller, listening) = flooded(2);
    (0..5).for_each(|_| poller.note_freed(1));
    assert_eq!(ask(&mut poller, at(1), 1, 0), 5);
    assert_eq!(poller.next(at(1), false), PollStep::Wait { until: at(61) });
    poller.note_received(&listening, ReceiveSummary { received: 1, ..ANSWER }, at(2));
    assert_eq!(ask(&mut poller, at(2), 0, 0), 7, "work was found, so all are asked again");
    assert_eq!(ask(&mut poller, at(2), 1, 0), 5);
}

#[test]
fn a_middle_queue_may_use_reserved_slots_when_the_highest_was_listened_to_in_vain() {
    let (mut poller, listening) = flooded(3);
    poller.settings.batch_linger = Duration::ZERO;
    poller.note_received(&listening, ANSWER, at(20));
    assert_eq!(ask(&mut poller, at(20), 0, 0), 3);
    assert_eq!(ask(&mut poller, at(20), 1, 3), 3);
    assert_eq!(poller.free(), 0);
}

#[test]
fn a_highest_queue_that_fails_holds_up_no_low_task() {
    let (mut poller, listening) = flooded(2);
    poller.settings.batch_linger = Duration::ZERO;
    poller.note_received(&listening, ReceiveSummary { failed: true, ..ANSWER }, at(2));
    assert_eq!(poller.next(at(2), true), PollStep::Wait { until: at(3) }, "and is asked again after a pause");
    poller.note_freed(1);
    assert_eq!(ask(&mut poller, at(2), 1, 1), 1);
}

#[test]
fn a_long_receive_beside_that_does_not_wait_makes_no_busy_loop() {
    let (mut poller, listening) = flooded(2);
    poller.settings.batch_linger = Duration::ZERO;
    poller.note_received(&listening, ANSWER, at(0));
    assert_eq!(poller.next(at(0), true), PollStep::Wait { until: at(0).plus(PAUSE) });
}

#[test]
fn a_short_receive_beside_holds_up_no_low_task() {
    let (mut poller, listening) = flooded(2);
    poller.settings.batch_linger = Duration::ZERO;
    let soon = at(0).plus(PAUSE / 2);
    poller.note_received(&listening, ANSWER, soon);
    poller.note_freed(1);
    assert_eq!(ask(&mut poller, soon, 1, 1), 1);
    assert_eq!(poller.next(soon, true), PollStep::Wait { until: at(0).plus(PAUSE) });
    let later = at(0).plus(PAUSE);
    assert_eq!(ask(&mut poller, later, 0, 0), 3);
    assert!(matches!(poller.next(later, true), PollStep::Listen(_)), "then it is listened to again");
}

#[test]
fn a_benched_high_task_may_begin_in_a_reserved_slot_and_a_low_one_may_not() {
    let (poller, _) = flooded(2);
    assert_eq!([0, 1].map(|queue_index| poller.may_begin(queue_index)), [true, false]);
}

#[test]
fn at_least_one_of_four_slots_is_reserved_and_one_is_left_to_any() {
    let reserved = Poller::reserved_high;
    assert_eq!([64, 20, 4, 3, 1].map(|workers| reserved(workers, 2, 0.05, 0)), [3, 1, 1, 0, 0]);
    assert_eq!([reserved(64, 1, 0.05, 0), reserved(64, 2, 0.0, 0)], [0, 0], "one queue, or not wanted");
    assert_eq!([reserved(8, 2, 1.0, 0), reserved(8, 2, 0.5, 6), reserved(8, 2, 0.5, 8)], [7, 1, 0]);
}

#[test]
fn a_highest_queue_that_failed_for_a_moment_keeps_nobody_from_the_lower() {
    let mut poller = poller(10, 0, 2);
    let PollStep::Receive(first) = poller.next(at(0), false) else { panic!("the highest is asked first") };
    poller.note_received(&first, ReceiveSummary { failed: true, ..ANSWER }, at(0));
    // By the time the lower has answered, the highest may be asked again.
    let PollStep::Receive(lower) = poller.next(at(0), false) else { panic!("the lower is asked all the same") };
    assert_eq!(lower.queue_index, 1);
    poller.note_received(&lower, ANSWER, at(2));
    let PollStep::Receive(listening) = poller.next(at(2), false) else { panic!("the highest is listened to") };
    assert!(listening.wait <= BUSY_WAIT_MAX, "and not for {:?} while nobody looks at the lower", listening.wait);
    poller.note_received(&listening, ANSWER, at(3));
    assert_eq!(ask(&mut poller, at(3), 0, 0), 10);
    assert_eq!(ask(&mut poller, at(3), 1, 1), 10);
}

#[test]
fn a_queue_whose_accounts_were_passed_over_is_not_taken_for_empty() {
    let mut poller = poller(20, 0, 2);
    poller.settings.recheck = Duration::from_secs(1);
    for queue_index in 0..2 {
        let PollStep::Receive(ask) = poller.next(at(0), true) else { panic!() };
        assert_eq!(ask.queue_index, queue_index);
        poller.note_received(&ask, ReceiveSummary { excluded_any: true, ..ANSWER }, at(0));
    }
    let PollStep::Receive(listening) = poller.next(at(0), true) else { panic!() };
    assert!(listening.wait <= BUSY_WAIT_MAX, "{listening:?}");
    poller.note_received(&listening, ReceiveSummary { excluded_any: true, woken: true, ..ANSWER }, at(0));
    let PollStep::Receive(again) = poller.next(at(0), true) else { panic!("there may be room: no pause") };
    assert_eq!((again.queue_index, again.wait), (0, Duration::ZERO), "nor is it left alone");
}
