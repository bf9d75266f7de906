use mill_model::Algorithm;
use proptest::prelude::*;

use super::*;

fn sum(algorithm: Algorithm, value: u8) -> Checksum {
    Checksum { algorithm, value: vec![value; algorithm.value_bytes()].into() }
}

fn md5(value: u8) -> Vec<Checksum> {
    vec![sum(Algorithm::Md5, value)]
}

/// An item that is there. 0 stands for a witness that says nothing.
fn present(content: u8, storage: u8, index: u8, audit: u8) -> Testimony {
    let recorded = |value| if value == 0 { Recorded::Nothing } else { Recorded::Item(md5(value)) };
    let at_store = AtStore::Present {
        content: (content != 0).then(|| md5(content)),
        storage: if storage == 0 { Vec::new() } else { md5(storage) },
    };
    Testimony { at_store, index: recorded(index), audit: recorded(audit) }
}

fn absent(index: Recorded, audit: Recorded) -> Verdict {
    verdict(&Testimony { at_store: AtStore::Absent, index, audit })
}

#[track_caller]
fn judged(content: u8, storage: u8, index: u8, audit: u8, expected: Verdict) {
    assert_eq!(verdict(&present(content, storage, index, audit)), expected);
}

#[test]
fn row_1_what_all_witnesses_state_alike_is_intact() {
    judged(1, 1, 1, 1, Verdict::Intact);
}

#[test]
fn row_2_bytes_that_differ_from_all_others_are_damaged() {
    judged(9, 1, 1, 1, Verdict::ContentDamaged);
}

#[test]
fn row_3_a_storage_that_differs_from_all_others_states_a_wrong_checksum() {
    judged(1, 9, 1, 1, Verdict::StorageChecksumWrong);
}

#[test]
fn row_4_a_storage_that_differs_while_nobody_read_the_bytes() {
    judged(0, 9, 1, 1, Verdict::StorageDiffers);
}

#[test]
fn row_5_an_index_that_differs_or_has_nothing_is_wrong() {
    judged(1, 1, 9, 1, Verdict::IndexWrong);
    judged(1, 1, 0, 1, Verdict::IndexWrong);
}

#[test]
fn row_6_an_audit_log_that_differs() {
    judged(1, 1, 1, 9, Verdict::AuditDiffers);
}

#[test]
fn row_7_an_audit_log_that_has_nothing() {
    judged(1, 1, 1, 0, Verdict::AuditMissing);
}

#[test]
fn row_8_a_recorded_item_that_is_not_there_is_missing() {
    assert_eq!(absent(Recorded::Item(md5(1)), Recorded::Item(md5(1))), Verdict::ItemMissing);
    assert_eq!(absent(Recorded::Nothing, Recorded::Item(md5(1))), Verdict::ItemMissing);
    assert_eq!(absent(Recorded::Item(md5(1)), Recorded::Nothing), Verdict::ItemMissing);
    assert_eq!(absent(Recorded::Item(md5(1)), Recorded::Deleted), Verdict::IndexWrong, "the log knows why it is gone");
}

#[test]
fn row_9_an_item_that_nothing_recorded() {
    judged(1, 1, 0, 0, Verdict::NotRecorded);
}

#[test]
fn row_10_a_change_that_nothing_recorded() {
    judged(2, 2, 1, 1, Verdict::ChangeNotRecorded);
    judged(2, 2, 1, 0, Verdict::ChangeNotRecorded);
    judged(2, 2, 0, 1, Verdict::ChangeNotRecorded);
}

#[test]
fn row_11_what_is_gone_and_not_recorded_is_gone() {
    assert_eq!(absent(Recorded::Nothing, Recorded::Nothing), Verdict::Gone);
    assert_eq!(absent(Recorded::Deleted, Recorded::Deleted), Verdict::Gone);
}

#[test]
fn content_that_was_not_read_leaves_the_storage_to_speak() {
    judged(0, 1, 1, 1, Verdict::Intact);
    judged(0, 1, 9, 1, Verdict::IndexWrong);
    judged(0, 1, 1, 9, Verdict::AuditDiffers);
    judged(0, 1, 0, 0, Verdict::NotRecorded);
}

#[test]
fn a_storage_without_checksums_leaves_the_content_to_speak() {
    judged(1, 0, 1, 1, Verdict::Intact);
    judged(9, 0, 1, 1, Verdict::ContentDamaged);
    judged(1, 0, 9, 1, Verdict::IndexWrong);
    judged(1, 0, 1, 0, Verdict::AuditMissing);
}

#[test]
fn an_item_of_which_no_witness_saw_the_bytes_is_undecided() {
    judged(0, 0, 1, 1, Verdict::Undecided);
}

#[test]
fn witnesses_of_whom_none_has_a_second_are_never_guessed_about() {
    judged(1, 2, 3, 4, Verdict::Undecided);
    judged(1, 2, 1, 2, Verdict::Undecided);
    judged(1, 2, 0, 0, Verdict::Undecided);
    judged(9, 0, 1, 0, Verdict::Undecided);
    judged(9, 0, 1, 2, Verdict::Undecided);
    judged(0, 9, 1, 2, Verdict::Undecided);
}

#[test]
fn checksums_of_different_algorithms_say_nothing_about_each_other() {
    let sha256 = vec![sum(Algorithm::Sha256, 1)];
    let of = |index: Vec<Checksum>| {
        let testimony = present(1, 1, 1, 1);
        verdict(&Testimony { index: Recorded::Item(index), ..testimony })
    };
    assert_eq!(of(sha256.clone()), Verdict::IndexWrong, "it has nothing to compare");
    assert_eq!(of([md5(1), sha256.clone()].concat()), Verdict::Intact);
    assert_eq!(of([md5(9), sha256].concat()), Verdict::IndexWrong);
}

proptest! {
    #[test]
    fn nothing_is_intact_in_which_any_two_witnesses_differ(content in 0_u8..4, storage in 0_u8..4, index in 0_u8..4, audit in 0_u8..4) {
        let judged = verdict(&present(content, storage, index, audit));
        let mut stated: Vec<u8> = [content, storage, index, audit].into_iter().filter(|value| *value != 0).collect();
        stated.sort_unstable();
        stated.dedup();
        let complete = (content != 0 || storage != 0) && index != 0 && audit != 0;
        prop_assert_eq!(judged == Verdict::Intact, complete && stated.len() == 1);
    }

    #[test]
    fn damage_is_said_only_where_two_others_agree_against_the_bytes(content in 0_u8..4, storage in 0_u8..4, index in 0_u8..4, audit in 0_u8..4) {
        if verdict(&present(content, storage, index, audit)) == Verdict::ContentDamaged {
            prop_assert!(index == audit && index != 0 && index != content && [0, index].contains(&storage));
        }
    }
}
