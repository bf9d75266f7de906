//! The promises of every engine, besides those of its queues and tables.

pub mod parts;

/// Makes the tests of an engine in a module of its own.
///
/// ```ignore
/// engine_suite!(name, path::to::open);
/// ```
#[macro_export]
macro_rules! engine_suite {
    ($name:ident, $open:path) => {
        mod $name {
            $crate::cases! { $open, engine::parts;
                each_name_is_one_queue_and_no_other
                each_name_is_one_table_and_no_other
                depths_by_account_are_reported_just_where_that_is_said
                purging_empties_all_queues_or_none
                delayed_bodies_become_due_at_once_or_stay
                nothing_waits_longer_than_the_longest_pause
            }
        }
    };
}
