//! Random operations, against the models.

use mill_conformance::reference::{queue, store, table};

use crate::backends;

#[test]
fn a_memory_queue_does_as_its_model_does() {
    queue::check(backends::memory_queue, 256);
}

#[test]
fn a_fenced_queue_does_as_its_model_does() {
    queue::check(backends::fenced_queue, 128);
}

#[test]
fn a_queue_with_few_receives_loses_nothing_to_redrive() {
    queue::check(backends::short_lived_queue, 256);
}

#[test]
fn a_queue_that_doubles_loses_nothing_and_makes_nothing_up() {
    queue::check(backends::doubling_queue, 256);
}

#[test]
fn a_memory_table_does_as_its_model_does() {
    table::check(backends::memory_table, 256);
}

#[test]
fn a_table_in_short_pages_does_as_its_model_does() {
    table::check(backends::short_paged_table, 256);
}

#[test]
fn a_memory_store_does_as_its_model_does() {
    store::check(backends::memory_store, 64);
}

#[test]
fn a_choosy_store_does_as_its_model_does() {
    store::check(backends::choosy_store, 64);
}
