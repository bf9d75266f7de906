use proptest::prelude::*;

use super::*;

/// What a survey made of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Unchanged,
    Queued(Option<ItemOutcome>),
    Refused,
    Hidden,
    Ignored,
}

fn any_fate() -> impl Strategy<Value = ItemOutcome> {
    use ItemOutcome::{Copied, DeadLettered, Dropped, Refused, Unchanged, Updated, Vanished};
    proptest::sample::select(vec![Copied, Updated, Unchanged, Vanished, Refused, Dropped, DeadLettered])
}

fn any_class() -> impl Strategy<Value = Class> {
    prop_oneof![
        Just(Class::Unchanged),
        proptest::option::weighted(0.95, any_fate()).prop_map(Class::Queued),
        Just(Class::Refused),
        Just(Class::Hidden),
        Just(Class::Ignored),
    ]
}

fn sum(entries: &[Class]) -> RunSum {
    let mut sum = RunSum::default();
    for entry in entries {
        let mut one = SurveySum { listed: 1, ..SurveySum::default() };
        match entry {
            Class::Unchanged => one.unchanged = 1,
            Class::Queued(outcome) => {
                one.queued = 1;
                if let Some(outcome) = outcome {
                    sum.outcomes.add(*outcome);
                }
            }
            Class::Refused => one.refused = 1,
            Class::Hidden => one.hidden = 1,
            Class::Ignored => one.ignored = 1,
        }
        sum.survey += one;
    }
    sum
}

/// The same judgement, entry by entry.
fn judged_naively(entries: &[Class]) -> Evidence {
    let open = entries.iter().filter(|entry| **entry == Class::Queued(None)).count() as u64;
    let lost = |entry: &Class| matches!(entry, Class::Queued(Some(outcome)) if ![ItemOutcome::Copied, ItemOutcome::Updated, ItemOutcome::Unchanged, ItemOutcome::Refused].contains(outcome));
    match open {
        0 if entries.iter().any(lost) => Evidence::NotAll,
        0 => Evidence::Complete,
        items => Evidence::Open { items },
    }
}

proptest! {
    #[test]
    fn the_sum_proves_what_looking_at_each_entry_proves(entries in proptest::collection::vec(any_class(), 0..200)) {
        let sum = sum(&entries);
        prop_assert_eq!(sum.survey.check(), Ok(()));
        prop_assert_eq!(sum.survey.listed, entries.len() as u64);
        prop_assert_eq!(sum.evidence(), judged_naively(&entries));
        let open = entries.iter().filter(|entry| **entry == Class::Queued(None)).count();
        prop_assert_eq!(sum.done(), (entries.len() - open) as u64);
    }

    #[test]
    fn an_entry_in_no_class_or_in_two_is_an_error(
        entries in proptest::collection::vec(any_class(), 1..100), which in 0_usize..5, more in any::<bool>()
    ) {
        let right = sum(&entries).survey;
        let mut sum = sum(&entries);
        let SurveySum { unchanged, queued, refused, hidden, ignored, .. } = &mut sum.survey;
        let class = [unchanged, queued, refused, hidden, ignored].into_iter().nth(which).unwrap();
        *class = if more { *class + 1 } else { class.saturating_sub(1) };
        let wrong = sum.survey.check().is_err();
        prop_assert_eq!(wrong, sum.survey != right);
        prop_assert_eq!(wrong, matches!(sum.evidence(), Evidence::SumMismatch(_)));
    }
}

#[test]
fn a_fate_counted_twice_is_an_error_and_never_shown_as_more_than_all() {
    let mut sum = sum(&[Class::Queued(Some(ItemOutcome::Copied)), Class::Queued(Some(ItemOutcome::Copied))]);
    sum.outcomes.add(ItemOutcome::Copied);
    assert_eq!(sum.evidence(), Evidence::SumMismatch(SumMismatch { listed: 2, explained: 3 }));
    assert_eq!(sum.done(), 2);
}

#[test]
fn counters_of_one_name_add_up_in_what_is_shown() {
    let mut totals = RunTotals { sum: sum(&[Class::Unchanged, Class::Refused]), ..RunTotals::default() };
    totals.sum.outcomes = ItemOutcomes { unchanged: 2, refused: 3, dead_lettered: 4, ..ItemOutcomes::default() };
    totals.work.dead_lettered = 5;
    let shown = |name: &str| totals.each().into_iter().find(|(counter, _)| counter.name == name).unwrap().1;
    assert_eq!((shown("unchanged"), shown("refused"), shown("dead_lettered")), (3, 4, 9));
    assert_eq!((totals.unchanged(), totals.refused(), totals.dead_lettered()), (3, 4, 9));
    let mut names: Vec<&str> = totals.each().iter().map(|(counter, _)| counter.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "each name once");
    assert_eq!(WorkCounts::read(|name| shown(name)), WorkCounts { dead_lettered: 9, ..WorkCounts::default() });
}
