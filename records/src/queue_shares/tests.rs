use super::*;

fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_795_249_800_000).plus(Duration::from_secs(seconds))
}

/// Accounts with their received and ended tasks.
fn counts<const N: usize>(counted: [(&str, u64, u64); N]) -> CountsByAccount {
    let counted = counted.map(|(name, received, ended)| (account(name), AccountCount { received, ended }));
    counted.into_iter().collect()
}

/// 500 tasks of `slow` and 500 of `quick` were sent at second 0, and none was received.
fn both_have_their_share() -> QueueShares {
    let mut shares = QueueShares::default();
    shares.update(CountsByAccount::new(), 0, at(0));
    for name in ["slow", "quick"] {
        shares.note_sends(&account(name), 500, at(0));
    }
    shares
}

#[test]
fn what_was_sent_is_held_until_it_has_ended() {
    let mut shares = both_have_their_share();
    assert_eq!([shares.in_queue(&account("slow")), shares.in_queue(&account("quick"))], [500, 500]);
    shares.update(counts([("slow", 10, 0), ("quick", 400, 300)]), 700, at(30));
    assert_eq!([shares.in_queue(&account("slow")), shares.in_queue(&account("quick"))], [500, 200]);
    shares.note_sends(&account("quick"), 100, at(31));
    assert_eq!(shares.in_queue(&account("quick")), 300);
    assert_eq!(shares.in_queue(&account("another")), 0);
}

#[test]
fn what_had_ended_before_an_account_is_known_takes_nothing_off() {
    let mut shares = QueueShares::default();
    shares.update(counts([("a", 70, 60)]), 0, at(0));
    shares.note_sends(&account("a"), 5, at(1));
    assert_eq!(shares.in_queue(&account("a")), 5);
}

#[test]
fn tasks_that_ended_and_were_never_sent_make_no_debt() {
    let mut shares = both_have_their_share();
    // Retried dead letters, or tasks that were delivered twice.
    shares.update(counts([("quick", 900, 900)]), 500, at(30));
    assert_eq!(shares.in_queue(&account("quick")), 0);
    shares.note_sends(&account("quick"), 20, at(31));
    assert_eq!(shares.in_queue(&account("quick")), 20);
}

#[test]
fn where_ends_were_lost_an_empty_queue_holds_nothing_of_anyone() {
    let mut shares = both_have_their_share();
    let counted = counts([("slow", 500, 400), ("quick", 500, 450)]);
    shares.update(counted.clone(), 0, at(30));
    assert_eq!(shares.in_queue(&account("slow")), 100, "its depth may be late");
    shares.update(counted.clone(), 0, at(91));
    assert_eq!([shares.in_queue(&account("slow")), shares.in_queue(&account("quick"))], [0, 0]);
    // The account is forgotten, not only hidden.
    shares.note_sends(&account("slow"), 7, at(92));
    shares.update(counted, 7, at(93));
    assert_eq!(shares.in_queue(&account("slow")), 7);
}

#[test]
fn where_ends_were_lost_an_account_is_not_kept_out_by_a_slow_one_for_ever() {
    let mut shares = both_have_their_share();
    // Those of `quick` are done, and the workman died before it could write its counts. Those of `slow` are delivered
    // again and again.
    let mut minutes = 0;
    while shares.in_queue(&account("quick")) > 0 {
        minutes += 1;
        assert!(minutes <= 30, "{} are still taken to be there", shares.in_queue(&account("quick")));
        shares.update(counts([("slow", minutes * 100, minutes)]), 500 - minutes, at(minutes * 60));
    }
    assert_eq!(shares.in_queue(&account("slow")), 500 - minutes);
    assert!(minutes > 15, "a task that was put back is away for so long");
}

#[test]
fn an_account_is_not_forgotten_while_nobody_receives_anything() {
    let mut shares = both_have_their_share();
    shares.update(CountsByAccount::new(), 1_000, at(100_000));
    assert_eq!([shares.in_queue(&account("slow")), shares.in_queue(&account("quick"))], [500, 500]);
    // Nor while fewer tasks were received than the queue holds: its own may be among the rest.
    shares.update(counts([("slow", 900, 0)]), 1_000, at(200_000));
    assert_eq!(shares.in_queue(&account("quick")), 500);
}

#[test]
fn what_the_queue_holds_beyond_what_is_known_is_everybodys_in_proportion() {
    let mut shares = both_have_their_share();
    shares.update(counts([("quick", 400, 400)]), 1_200, at(10));
    assert_eq!([shares.in_queue(&account("slow")), shares.in_queue(&account("quick"))], [1_000, 200]);
}

#[test]
fn no_account_holds_more_than_the_queue() {
    let mut shares = both_have_their_share();
    shares.update(counts([("quick", 1, 1), ("slow", 1, 1)]), 990, at(10));
    shares.update(counts([("quick", 1, 1), ("slow", 1, 1)]), 30, at(80));
    assert_eq!([shares.in_queue(&account("slow")), shares.in_queue(&account("quick"))], [30, 30]);
    // A depth that is wrong for a moment does no harm.
    shares.update(counts([("quick", 1, 1), ("slow", 1, 1)]), 990, at(90));
    assert_eq!(shares.in_queue(&account("slow")), 499);
}

#[test]
fn accounts_without_tasks_are_forgotten_and_others_are_not() {
    let mut shares = both_have_their_share();
    shares.update(counts([("quick", 500, 500)]), 500, at(60));
    assert_eq!(shares.forget_idle(), [], "its tasks have only just ended");
    shares.update(counts([("quick", 500, 500)]), 500, at(4_000));
    assert_eq!(shares.forget_idle(), [account("quick")]);
    assert_eq!(shares.known().into_iter().collect::<Vec<_>>(), [account("slow")]);
}
