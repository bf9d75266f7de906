use super::*;
use crate::ids::{ContentId, SpaceId, StoreId};
use crate::space_pair::SpacePair;
use crate::task::{DuplicateScope, DuplicateTask, RemoveTask};

fn arrival() -> ReceiveContext {
    ReceiveContext {
        id: TaskId::new(Timestamp::from_millis(5), [1; 10]),
        queue: QueueName::DuplicationHigh,
        sent_at: Timestamp::from_millis(7),
    }
}

fn pair() -> SpacePair {
    SpacePair {
        account: AccountId::new("acct").unwrap(),
        source: StoreId::new("1").unwrap(),
        destination: StoreId::new("2").unwrap(),
        space: SpaceId::new("space").unwrap(),
    }
}

fn duplicate(item: &str) -> DuplicateTask {
    DuplicateTask::of(pair(), Some(ContentId::new(item).unwrap()))
}

#[test]
fn version_1_is_opened_for_ever() {
    let golden = include_bytes!("../../testdata/wire/v1-duplicate.json");
    let envelope = decode(golden, arrival()).unwrap();
    assert_eq!((envelope.failures, envelope.snoozes, envelope.history.len()), (2, 1, 2));
    assert_golden(golden, &duplicate("a dir/x:1.txt"));
}

#[test]
fn a_task_of_many_items_is_opened_for_ever() {
    let golden = include_bytes!("../../testdata/wire/v1-duplicate-items.json");
    let ids = ["a", "b/c"].map(|id| ContentId::new(id).unwrap()).to_vec();
    assert_golden(golden, &DuplicateTask { pair: pair(), scope: DuplicateScope::Items(ids) });
}

#[test]
fn a_remove_task_of_version_1_is_opened_for_ever() {
    let golden = include_bytes!("../../testdata/wire/v1-remove.json");
    let list = crate::ids::DeleteListId::parse("019a0f00-0000-7000-8000-000000000002").unwrap();
    assert_golden(golden, &RemoveTask { pair: pair(), list, row: Some(7) });
}

#[test]
fn a_retirement_of_an_earlier_version_is_read_as_a_look_at_both_sides() {
    let mut task = duplicate("x").to_task().unwrap();
    task.detail.insert("retire".into(), true.into());
    assert_eq!(DuplicateTask::from_task(&task).unwrap(), duplicate("x"));
}

#[test]
fn a_duracloud_message_is_opened() {
    let envelope = decode(include_bytes!("../../testdata/wire/duracloud-dup.properties"), arrival()).unwrap();
    assert_eq!(DuplicateTask::from_task(&envelope.task).unwrap(), duplicate("a dir/x:1 é\n=#.txt"));
    assert_eq!((envelope.failures, envelope.origin), (1, QueueName::DuplicationHigh));
}

#[test]
fn a_duracloud_message_without_content_means_the_space() {
    let body = b"type=DUP\naccount=a\nstoreId=1\ndestStoreId=2\nspaceId=s\ncontentId=\n";
    assert_eq!(DuplicateTask::from_task(&decode(body, arrival()).unwrap().task).unwrap().items(), []);
}

#[test]
fn a_duracloud_message_is_read_as_java_reads_properties() {
    let lines = [
        "# a note",
        "! another",
        "",
        "  type = DUP",
        "account:a",
        "storeId 1",
        "destStoreId\t2",
        "spaceId=s",
        "contentId=one\\",
        "   two\\t\\u00e9\\q\\r\\n\\f\\\\",
        "attempts=x",
    ];
    for end in ["\n", "\r\n", "\r"] {
        let envelope = decode(lines.join(end).as_bytes(), arrival()).unwrap();
        let task = DuplicateTask::from_task(&envelope.task).unwrap();
        assert_eq!(task.items()[0].as_str(), "onetwo\téq\r\n\u{c}\\");
        assert_eq!(envelope.failures, 0, "a count that is none");
    }
    let cut_short = b"type=DUP\naccount=a\nstoreId=1\ndestStoreId=2\nspaceId=s\ncontentId=a\\";
    let task = DuplicateTask::from_task(&decode(cut_short, arrival()).unwrap().task).unwrap();
    assert_eq!(task.items()[0].as_str(), "a");
}

#[test]
fn every_id_survives_the_wire() {
    for id in ["a\0b", " ", "\u{1F600}", "\"\\", "../..", "\u{feff}", "a\u{301}"] {
        let envelope =
            Envelope::new(arrival().id, QueueName::Audit, arrival().sent_at, duplicate(id).to_task().unwrap());
        assert_eq!(decode(&encode(&envelope).unwrap(), arrival()).unwrap(), envelope, "{id:?}");
    }
}

#[test]
fn what_is_no_envelope_says_why() {
    let why = |body: &[u8]| decode(body, arrival()).unwrap_err().to_string();
    assert!(why(b"{\"v\":2,\"shape\":\"new\"}").contains("version 2"));
    assert!(why(b"{\"v\":1}").contains("missing field"));
    assert!(why(b"").contains("no `type`"));
    assert!(why(b"type=BIT").contains("BIT"));
    assert!(why(&[0xff, 0xfe]).contains("neither"));
    assert!(why(&vec![b'{'; 300_000]).contains("300000 bytes"));
    assert!(why("[".repeat(10_000).as_bytes()).contains("neither"));
    assert!(why(format!("{{\"v\":1,\"task\":{}", "[".repeat(9_000)).as_bytes()).contains("neither"));
}

#[test]
fn a_long_history_is_cut_from_its_oldest_end_and_its_count_kept() {
    let mut envelope =
        Envelope::new(arrival().id, QueueName::Audit, arrival().sent_at, duplicate("x").to_task().unwrap());
    for n in 0..40_u64 {
        let reason = format!("{n} {}", "é".repeat(2_000));
        envelope = envelope.failed(Failure::new(Timestamp::from_millis(n), "w", &reason));
    }
    let body = encode(&envelope).unwrap();
    assert!(body.len() <= Envelope::BYTES_MAX);
    let opened = decode(&body, arrival()).unwrap();
    assert_eq!(opened.failures, 40);
    assert!(opened.history.len() > 10);
    assert!(opened.history.last().unwrap().reason.starts_with("39 "));
}

#[test]
fn a_task_too_large_for_an_envelope_is_refused() {
    let mut task = duplicate("x").to_task().unwrap();
    task.detail.insert("blob".into(), "x".repeat(20_000).into());
    let envelope = Envelope::new(arrival().id, QueueName::Audit, arrival().sent_at, task);
    assert!(matches!(encode(&envelope), Err(WireError::TooLarge(_))));
}

#[test]
fn a_letter_of_version_1_is_opened_for_ever() {
    let golden = include_bytes!("../../testdata/wire/v1-letter.json");
    let letter = decode_dead_letter(golden).unwrap();
    assert_eq!(
        (letter.origin, letter.receive_count, &letter.body[..]),
        (QueueName::DuplicationLow, 2, &[255, 254, 0][..])
    );
    assert_eq!(letter.given_up.reason, "neither this nor that");
    assert_eq!(encode_dead_letter(&letter).unwrap(), golden.trim_ascii_end());
}

#[test]
fn a_letter_keeps_every_body_and_an_envelope_is_no_letter() {
    let given_up = Failure::new(Timestamp::from_millis(9), "w", "why");
    for body in [&b""[..], b"{\"v\":1}", b"\xff", "é\0\n".as_bytes(), &[0x80; 4_000]] {
        let letter = crate::DeadLetterMessage {
            body: Bytes::copy_from_slice(body),
            origin: QueueName::Audit,
            given_up: given_up.clone(),
            receive_count: 1,
        };
        assert_eq!(decode_dead_letter(&encode_dead_letter(&letter).unwrap()).unwrap(), letter);
    }
    assert!(decode_dead_letter(include_bytes!("../../testdata/wire/v1-duplicate.json")).is_err());
}
