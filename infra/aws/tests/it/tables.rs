//! Tables in DynamoDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use mill_aws::{DynamoTable, ServiceClock};
use mill_conformance::{Keep, TableSubject};
use mill_local::OsRng;
use mill_ports::{
    Clock as _, KeyRange, RowKey, RowPrecondition, RowVersion, SecondClockReading, Table, TableErrorKind,
};

use crate::canned_server::{Answer, answer, serve};
use crate::servers::{clock, connect, fresh, installation, ministack};

async fn table() -> TableSubject {
    let (connection, names) = installation(ministack()).await;
    let table = DynamoTable::new(&connection, "seals", &names.table("seals"), clock(), Arc::new(OsRng));
    TableSubject { table: Arc::new(table), keep: Keep::nothing() }
}

mill_conformance::table_suite!(ministack, crate::tables::table);

#[tokio::test]
async fn a_row_over_the_services_limit_is_refused_by_name() {
    let subject = table().await;
    let key = RowKey::new("p", "s");
    for (key, bytes) in [(&key, 400 * 1024), (&RowKey::new("p", "s".repeat(1025)), 1)] {
        let value = Bytes::from(vec![7; bytes]);
        let refusal = subject.table.put(key, value.clone(), RowPrecondition::Always).await.unwrap_err();
        assert_eq!(refusal.kind, TableErrorKind::TooLarge);
        let many = [(RowKey::new("p", "a"), Bytes::new()), (key.clone(), value)];
        assert_eq!(subject.table.put_many(&many).await.unwrap_err().kind, TableErrorKind::TooLarge);
    }
    let nearly = Bytes::from(vec![7; 400 * 1024 - 256]);
    subject.table.put(&key, nearly, RowPrecondition::Always).await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_not_there_is_unavailable_and_named() {
    let connection = connect(ministack()).await;
    let name = fresh("nothing");
    let table = DynamoTable::new(&connection, "seals", &name, clock(), Arc::new(OsRng));
    let error = table.get(&RowKey::new("p", "s")).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Unavailable);
    assert!(mill_ports::error_chain(&error).contains(&name), "{}", mill_ports::error_chain(&error));
}

#[tokio::test]
async fn a_thousand_rows_cost_forty_requests() {
    let (connection, names) = installation(ministack()).await;
    let table = DynamoTable::new(&connection, "seals", &names.table("seals"), clock(), Arc::new(OsRng));
    let rows: Vec<(RowKey, Bytes)> =
        (0..1000).map(|number| (RowKey::new("p", format!("{number:04}")), Bytes::from_static(b"x"))).collect();
    let before = connection.requests().total();
    table.put_many(&rows).await.unwrap();
    assert_eq!(connection.requests().total() - before, 40);
    assert_eq!(connection.requests().by_operation()["BatchWriteItem"], 40);
}

fn told(status: u16, body: &str) -> Answer {
    answer(status, &[("content-type", "application/x-amz-json-1.0")], body)
}

async fn on(endpoint: &str) -> DynamoTable {
    DynamoTable::new(&connect(endpoint).await, "seals", "mill-seals", clock(), Arc::new(OsRng))
}

/// The first attempt takes effect and its response is lost. `found` is the row that the second one meets, `there` the row
/// that a read finds.
async fn delete_again(failures: u32, found: &'static str, there: &'static str) -> Result<(), TableErrorKind> {
    let asked = AtomicU32::new(0);
    let endpoint = serve(move |request| {
        if request.headers()["x-amz-target"].to_str().unwrap().ends_with(".GetItem") {
            return told(200, there);
        }
        if asked.fetch_add(1, Ordering::Relaxed) < failures {
            return told(500, r#"{"__type":"InternalServerError"}"#);
        }
        told(400, &format!(r#"{{"__type":"ConditionalCheckFailedException"{found}}}"#))
    });
    let when = RowPrecondition::VersionIs(RowVersion("mark".into()));
    on(&endpoint).await.delete(&RowKey::new("p", "s"), when).await.map_err(|error| error.kind)
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_is_done() {
    const ANOTHERS: &str = r#"{"Item":{"p":{"S":"p"},"s":{"S":"s"},"m":{"S":"another"},"v":{"B":""}}}"#;
    const TOLD: &str = r#","Item":{"p":{"S":"p"},"s":{"S":"s"},"m":{"S":"another"},"v":{"B":""}}"#;
    let conflict = Err(TableErrorKind::Conflict);
    assert_eq!(delete_again(1, "", "{}").await, Ok(()));
    assert_eq!(delete_again(0, "", "{}").await, conflict, "of an only try, no answer was lost");
    assert_eq!(delete_again(1, TOLD, ANOTHERS).await, conflict);
    assert_eq!(delete_again(1, "", ANOTHERS).await, conflict, "not every server tells what is there");
}

#[tokio::test]
async fn rows_left_undone_under_another_name_are_not_taken_for_written() {
    let endpoint = serve(|_| {
        let row = r#"{"PutRequest":{"Item":{"p":{"S":"p"},"s":{"S":"s"}}}}"#;
        told(200, &format!(r#"{{"UnprocessedItems":{{"arn:aws:dynamodb:table/mill-seals":[{row}]}}}}"#))
    });
    let rows = [(RowKey::new("p", "s"), Bytes::new())];
    let error = on(&endpoint).await.put_many(&rows).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Unexpected);
    assert!(mill_ports::error_chain(&error).contains("arn:aws:dynamodb:table/mill-seals"));
}

const ROWS: &str = r#"{"Count":2,"Items":[{"p":{"S":"p"},"s":{"S":"a"},"m":{"S":"1"},"v":{"B":"eA=="}},{"p":{"S":"p"},"s":{"S":"b"},"m":{"S":"2"},"v":{"B":"eQ=="}}],"ScannedCount":2}"#;
const ROW: &str = r#"{"Item":{"p":{"S":"p"},"s":{"S":"s"},"m":{"S":"1"},"v":{"B":"eA=="}}}"#;

/// A table on a server with this response to each request, without retries.
async fn once(body: String) -> DynamoTable {
    let endpoint = serve(move |_| told(200, &body));
    let connection = connect(&endpoint).await.without_retries();
    DynamoTable::new(&connection, "seals", "mill-seals", clock(), Arc::new(OsRng))
}

#[tokio::test]
async fn an_answer_cut_at_any_byte_is_no_answer() {
    let all = KeyRange { prefix: String::new(), after: None };
    for cut in 0..ROWS.len() {
        once(ROWS[..cut].to_owned()).await.query("p", &all, 9).await.unwrap_err();
    }
    for cut in 0..ROW.len() {
        once(ROW[..cut].to_owned()).await.get(&RowKey::new("p", "s")).await.unwrap_err();
    }
    let (row, undone) = ([(RowKey::new("p", "s"), Bytes::new())], r#"{"UnprocessedItems":{}}"#);
    for cut in 0..undone.len() {
        once(undone[..cut].to_owned()).await.put_many(&row).await.unwrap_err();
    }
    for nothing in ["", " "] {
        let table = once(nothing.to_owned()).await;
        table.put(&row[0].0, Bytes::new(), RowPrecondition::Always).await.unwrap_err();
        table.delete(&row[0].0, RowPrecondition::Always).await.unwrap_err();
    }
}

#[tokio::test]
async fn an_answer_that_contradicts_itself_or_the_question_is_no_answer() {
    let range = |prefix: &str, after: Option<&str>| KeyRange { prefix: prefix.into(), after: after.map(str::to_owned) };
    let all = range("", None);
    assert_eq!(once(ROWS.to_owned()).await.query("p", &all, 9).await.unwrap().rows.len(), 2);
    let wrong = [
        "{}".to_owned(),
        r#"{"Count":0}"#.to_owned(),
        ROWS.replace(r#""Count":2,"I"#, r#""Count":3,"I"#),
        ROWS.replace(r#""Count":2,"I"#, r#""I"#),
        ROWS.replace(r#","ScannedCount":2"#, r#","Items":[]"#),
        ROWS.replace(r#"{"S":"b"}"#, r#"{"S":"a"}"#),
        ROWS.replace(r#"{"S":"b"}"#, r#"{"S":"A"}"#),
        ROWS.replacen(r#""p":{"S":"p"}"#, r#""p":{"S":"q"}"#, 1),
        ROWS.replacen(r#""m":{"S":"1"},"#, "", 1),
    ];
    for answer in wrong {
        let outcome = once(answer.clone()).await.query("p", &all, 9).await;
        assert!(outcome.is_err(), "{answer}");
    }
    for other in [range("b", None), range("", Some("a"))] {
        assert!(once(ROWS.to_owned()).await.query("p", &other, 9).await.is_err(), "{other:?}");
    }
    assert!(once(ROW.to_owned()).await.get(&RowKey::new("p", "s")).await.unwrap().is_some());
    for key in [RowKey::new("p", "t"), RowKey::new("q", "s")] {
        assert!(once(ROW.to_owned()).await.get(&key).await.is_err(), "{key:?}");
    }
    let row = [(RowKey::new("p", "s"), Bytes::new())];
    assert!(once("{}".to_owned()).await.put_many(&row).await.is_err());
}

/// The time since 1970 in the service's responses.
async fn told_time(headers: Vec<(&'static str, &'static str)>) -> Option<SecondClockReading> {
    let endpoint = serve(move |_| {
        let all = [&[("content-type", "application/x-amz-json-1.0")][..], &headers].concat();
        answer(200, &all, "{}")
    });
    let connection = connect(&endpoint).await.without_retries();
    let clock = ServiceClock::new(clock(), &connection);
    assert_eq!(clock.second_clock(), None, "nothing was told yet");
    let table = DynamoTable::new(&connection, "seals", "mill-seals", self::clock(), Arc::new(OsRng));
    table.get(&RowKey::new("p", "s")).await.unwrap();
    let told = clock.second_clock()?;
    assert!(told.domain.starts_with("service:localhost:"), "{told:?}");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(clock.second_clock().unwrap().at >= told.at + std::time::Duration::from_millis(20), "it goes on");
    Some(told)
}

#[tokio::test]
async fn a_services_own_responses_are_a_second_clock() {
    const DATE: (&str, &str) = ("date", "Mon, 30 Nov 2099 00:00:00 GMT");
    const OWN: (&str, &str) = ("x-amzn-requestid", "1");
    let told = told_time(vec![DATE, OWN]).await.unwrap();
    assert_eq!(told.at.as_secs(), 4_099_680_000);
    assert_eq!(told_time(vec![DATE]).await, None, "whose answer it is, is not told");
    assert_eq!(told_time(vec![DATE, OWN, ("age", "90000")]).await, None, "it is of yesterday");
    assert_eq!(told_time(vec![("date", "soon"), OWN]).await, None);
}
