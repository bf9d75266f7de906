//! Wrong responses to calls on one item: none counts as presence, absence or success.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::TryStreamExt as _;
use hyper::Request;
use hyper::header::HeaderValue;
use mill_aws::{S3Settings, S3Store, SpaceLayout};
use mill_model::{Properties, Version};
use mill_ports::{
    ByteRange, DeletableStore, DestinationStore, Precondition, Presence, PutRequest, PutResult, RefusalReason,
    SourceStore, StoreError, StoreErrorKind,
};

use crate::canned_server::{Answer, answer, listing, not_there, serve};
use crate::servers::connect;
use crate::stores::{MODIFIED, body, item, pattern, settings, space};

/// A store of small parts on a server with these responses. Requests about the bucket itself get correct ones.
async fn store(answers: impl Fn(&Request<Bytes>) -> Answer + Send + Sync + 'static) -> S3Store {
    let endpoint = serve(move |request| {
        let of_bucket = request.method() == "GET" && request.uri().query().unwrap_or_default().contains("list-type=2");
        if of_bucket { answer(200, &[], &listing(&[], None)) } else { answers(request) }
    });
    let connection = connect(&endpoint).await.without_retries();
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    let settings = S3Settings { part_bytes: 64 << 10, copied_part_bytes: 64 << 10, ..settings(single) };
    S3Store::new(&connection, settings)
}

fn object<'a>(length: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("etag", "\"e\""), ("content-length", length), ("last-modified", MODIFIED)][..], more].concat()
}

fn kind<T>(outcome: Result<T, StoreError>) -> Option<StoreErrorKind> {
    outcome.err().map(|error| error.kind)
}

#[tokio::test]
async fn absence_is_said_in_the_services_own_words_or_not_at_all() {
    let whole = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>It is not there.</Message></Error>";
    let asked = Arc::new(AtomicUsize::new(0));
    for cut in 0..=whole.len() {
        let noted = asked.clone();
        let store = store(move |request| {
            noted.fetch_add(1, Ordering::Relaxed);
            answer(404, &[], if request.method() == "HEAD" { "" } else { &whole[..cut] })
        })
        .await;
        let is_absent =
            |presence: Result<Presence<()>, StoreError>| presence.is_ok_and(|found| found.present().is_none());
        let said = cut == whole.len();
        assert_eq!(is_absent(store.head(&item("a")).await.map(drop_facts)), said, "looked at, cut at {cut}");
        assert_eq!(is_absent(store.open(&item("a"), None, None).await.map(drop_facts)), said, "read, cut at {cut}");
    }
    assert!(asked.load(Ordering::Relaxed) >= whole.len() * 3);
    // A response to HEAD has no body: its request id is enough, and no second request follows.
    let asked = Arc::new(AtomicUsize::new(0));
    let noted = asked.clone();
    let store = store(move |_| {
        noted.fetch_add(1, Ordering::Relaxed);
        not_there()
    })
    .await;
    assert!(store.head(&item("a")).await.unwrap().present().is_none());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

fn drop_facts<T>(presence: Presence<T>) -> Presence<()> {
    presence.present().map_or(Presence::Absent, |_| Presence::Present(()))
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_never_an_item_that_is_missing() {
    for (code, expected) in
        [("NoSuchBucket", StoreErrorKind::SpaceAbsent), ("NoSuchUpload", StoreErrorKind::Unexpected)]
    {
        let text = format!("<Error><Code>{code}</Code></Error>");
        let store = store(
            move |request| {
                if request.method() == "HEAD" { answer(404, &[], "") } else { answer(404, &[], &text) }
            },
        )
        .await;
        assert_eq!(kind(store.head(&item("a")).await), Some(expected.clone()), "{code}");
        assert_eq!(kind(store.open(&item("a"), None, None).await), Some(expected), "{code}");
    }
}

#[tokio::test]
async fn a_look_that_does_not_tell_what_each_tells_is_no_look() {
    let length = ("content-length", "3");
    let (tag, time) = (("etag", "\"e\""), ("last-modified", MODIFIED));
    for (headers, good) in [
        (vec![tag, length, time], true),
        (vec![length, time], false),
        (vec![("etag", "\"\""), length, time], false),
        (vec![tag, length], false),
        (vec![tag, time, ("transfer-encoding", "chunked")], false),
        (vec![tag, length, ("last-modified", "yesterday")], false),
        (vec![tag, length, time, ("x-amz-delete-marker", "true")], false),
    ] {
        let shown = format!("{headers:?}");
        let store = store(move |_| answer(200, &headers, "")).await;
        assert_eq!(store.head(&item("a")).await.is_ok(), good, "{shown}");
    }
}

#[tokio::test]
async fn a_header_beyond_ascii_is_read_as_its_text_or_concerns_its_item_alone() {
    for (bytes, text) in [("a \u{e9}".as_bytes(), Some("a \u{e9}")), (b"a \xe9", None)] {
        let value = HeaderValue::from_bytes(bytes).unwrap();
        let store = store(move |_| {
            let mut found = answer(200, &object("3", &[]), "");
            found.headers_mut().insert("content-disposition", value.clone());
            found
        })
        .await;
        match (store.head(&item("a")).await, text) {
            (Ok(found), Some(text)) => {
                let properties = found.present().unwrap().properties.unwrap();
                assert_eq!(properties.get("content-disposition"), Some(text));
            }
            (Err(error), None) => {
                let named = RefusalReason::UnreadableProperties(
                    "the header `content-disposition` is not text in UTF-8".to_owned(),
                );
                assert_eq!(error.kind, StoreErrorKind::Refused(named));
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn read(store: &S3Store, range: Option<ByteRange>, version: Option<&Version>) -> Result<Bytes, StoreError> {
    let reading = store.open(&item("a"), range, version).await?.present().unwrap();
    Ok(reading.body.try_collect::<Vec<Bytes>>().await?.concat().into())
}

#[tokio::test]
async fn a_part_is_the_one_that_was_asked_for() {
    let part = Some(ByteRange { offset: 2, length: 3 });
    for (status, length, range, text, good) in [
        (206, "3", Some("bytes 2-4/9"), "cde", true),
        // The whole object: some servers and caches do not support ranges.
        (200, "9", None, "abcdefghi", false),
        (200, "3", None, "cde", false),
        (206, "3", None, "cde", false),
        (206, "3", Some("bytes 0-2/9"), "abc", false),
        (206, "4", Some("bytes 2-5/9"), "cdef", false),
        (206, "2", Some("bytes 2-3/9"), "cd", false),
        (206, "3", Some("bytes 2-4/*"), "cde", false),
        (206, "3", Some("bytes */9"), "cde", false),
        (206, "3", Some("2-4/9"), "cde", false),
        (206, "2", Some("bytes 2-4/9"), "cd", false),
    ] {
        let store = store(move |_| {
            let range = range.map(|range| ("content-range", range));
            answer(status, &object(length, &range.into_iter().collect::<Vec<_>>()), text)
        })
        .await;
        let outcome = read(&store, part, None).await;
        assert_eq!(
            outcome.as_ref().ok().map(|bytes| &bytes[..]),
            good.then_some(&b"cde"[..]),
            "{range:?}: {outcome:?}"
        );
    }
    let store = store(|_| answer(206, &object("3", &[("content-range", "bytes 0-2/9")]), "abc")).await;
    assert!(read(&store, None, None).await.is_err(), "all of it was asked for");
}

/// Sends what `answers` returns for each request's head, unchanged, and closes the connection. Returns the address.
fn raw(answers: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut line in listener.incoming().flatten() {
            let (mut head, mut piece) = (Vec::new(), [0; 4096]);
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match line.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => head.extend_from_slice(&piece[..read]),
                }
            }
            let _ = line.write_all(answers(&String::from_utf8_lossy(&head)).as_bytes());
        }
    });
    format!("http://{address}")
}

/// A body breaks off. The response to the resuming request must continue at the break, in the same state.
#[tokio::test]
async fn a_broken_body_resumes_at_its_break_in_the_same_state() {
    for (range, tag, expected) in [
        (Some("bytes 4-8/9"), "\"e\"", Ok("abcdefghi")),
        (None, "\"e\"", Err(StoreErrorKind::Unexpected)),
        (Some("bytes 0-4/9"), "\"e\"", Err(StoreErrorKind::Unexpected)),
        // The server ignored the condition.
        (Some("bytes 4-8/9"), "\"newer\"", Err(StoreErrorKind::Changed)),
    ] {
        let address = raw(move |asked| {
            let begin = format!("HTTP/1.1 {{}}\r\nlast-modified: {MODIFIED}\r\netag: ");
            if asked.contains("range: bytes=4-8") || asked.contains("Range: bytes=4-8") {
                let range = range.map_or_else(String::new, |range| format!("content-range: {range}\r\n"));
                let begin = begin.replace("{}", if range.is_empty() { "200 OK" } else { "206 Partial Content" });
                format!("{begin}{tag}\r\n{range}content-length: 5\r\n\r\nefghi")
            } else {
                format!("{}\"e\"\r\ncontent-length: 9\r\n\r\nabcd", begin.replace("{}", "200 OK"))
            }
        });
        let connection = connect(&address).await.without_retries();
        let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
        let store = S3Store::new(&connection, settings(single));
        let outcome = read(&store, None, None).await.map_err(|error| error.kind);
        assert_eq!(outcome, expected.map(Bytes::from), "{range:?} {tag}");
    }
}

#[tokio::test]
async fn a_condition_that_is_not_minded_is_seen() {
    let seen =
        store(|_| answer(200, &object("3", &[]), "")).await.head(&item("a")).await.unwrap().present().unwrap().version;
    for (status, tag, expected) in [
        (200, "\"newer\"", StoreErrorKind::Changed),
        (412, "\"newer\"", StoreErrorKind::Changed),
        // The request had no such condition.
        (304, "\"e\"", StoreErrorKind::Unexpected),
    ] {
        let store = store(move |_| {
            let body = if status == 200 { "abc" } else { "" };
            answer(status, &[("etag", tag), ("last-modified", MODIFIED)], body)
        })
        .await;
        assert_eq!(kind(read(&store, None, Some(&seen)).await), Some(expected), "{status} {tag}");
    }
    // A 304 to a HEAD says nothing about the item.
    let store = store(|_| answer(304, &object("3", &[]), "")).await;
    assert_eq!(kind(store.head(&item("a")).await), Some(StoreErrorKind::Unexpected));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Put,
    PutInParts,
    Properties,
    Delete,
}

impl Call {
    async fn make(self, store: &S3Store) -> Result<Option<PutResult>, StoreError> {
        let put = async |size: usize| {
            let content = PutRequest::new(size as u64, Properties::default());
            store.put(&item("a"), &content, &Precondition::Always, body(&pattern(size))).await.map(Some)
        };
        match self {
            Self::Put => put(10).await,
            Self::PutInParts => put(100_000).await,
            Self::Properties => {
                store.put_properties(&item("a"), &Properties::default(), &Precondition::Always).await.map(Some)
            }
            Self::Delete => store.delete(&item("a"), &Precondition::Always).await.map(|_| None),
        }
    }
}

const BEGUN: &str = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
const COMPLETE: &str = "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
const COPIED: &str =
    "<CopyObjectResult><ETag>\"e\"</ETag><LastModified>2026-11-21T07:28:00.000Z</LastModified></CopyObjectResult>";

/// Serves each request of a write; the one that `wrong` names gets another response.
fn written(request: &Request<Bytes>, size: &str, wrong: &str, otherwise: &Answer2) -> Answer {
    let query = request.uri().query().unwrap_or_default();
    let copy = request.headers().contains_key("x-amz-copy-source");
    let (name, good) = match request.method().as_str() {
        "HEAD" => ("look", answer(200, &object(size, &[]), "")),
        "POST" if query.starts_with("uploads") => ("begin", answer(200, &[], BEGUN)),
        "POST" => ("complete", answer(200, &[], COMPLETE)),
        "PUT" if copy => ("copy", answer(200, &[], COPIED)),
        "PUT" if query.contains("partNumber") => ("part", answer(200, &[("etag", "\"p\"")], "")),
        "PUT" => ("put", answer(200, &[("etag", "\"e\"")], "")),
        "DELETE" if query.contains("uploadId") => ("abort", answer(204, &[], "")),
        _ => ("delete", answer(204, &[], "")),
    };
    if name == wrong { answer(otherwise.0, &otherwise.1, &otherwise.2) } else { good }
}

type Answer2 = (u16, Vec<(&'static str, &'static str)>, String);

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_done_only_if_each_answer_says_so() {
    let error = "<Error><Code>InternalError</Code><Message>Try again.</Message></Error>";
    let tagged = vec![("etag", "\"e\"")];
    let mut cases: Vec<(Call, &str, Answer2)> = vec![
        (Call::Put, "put", (200, vec![], String::new())),
        (Call::Put, "put", (200, vec![("etag", "\"\"")], String::new())),
        (Call::Put, "put", (200, tagged.clone(), error.to_owned())),
        (Call::Put, "put", (200, tagged.clone(), "<html><p>Log in".to_owned())),
        (Call::Put, "put", (204, vec![], String::new())),
        (Call::Put, "put", (304, tagged.clone(), String::new())),
        // The write succeeded, but the object is missing or shorter.
        (Call::Put, "look", (404, vec![("x-amz-request-id", "1")], String::new())),
        (Call::Put, "look", (500, vec![], String::new())),
        (Call::Put, "look", (200, object("9", &[]), String::new())),
        (Call::PutInParts, "part", (200, vec![], String::new())),
        (Call::PutInParts, "part", (200, tagged.clone(), error.to_owned())),
        (Call::PutInParts, "begin", (200, vec![], BEGUN.replace('1', ""))),
        (Call::PutInParts, "complete", (200, vec![], COMPLETE.replace("<ETag>\"e\"</ETag>", ""))),
        (Call::PutInParts, "complete", (200, vec![], COMPLETE.replace("\"e\"", ""))),
        (Call::Properties, "copy", (200, vec![], COPIED.replace("<ETag>\"e\"</ETag>", ""))),
        (Call::Delete, "delete", (200, vec![], error.to_owned())),
        (Call::Delete, "delete", (200, vec![], "<html><p>Log in".to_owned())),
        (Call::Delete, "delete", (304, vec![], String::new())),
    ];
    for (call, name, whole) in [
        (Call::PutInParts, "begin", BEGUN),
        (Call::PutInParts, "complete", COMPLETE),
        (Call::Properties, "copy", COPIED),
    ] {
        cases.push((call, name, (200, vec![], error.to_owned())));
        cases.extend((0..whole.len()).map(|cut| (call, name, (200, vec![], whole[..cut].to_owned()))));
    }
    for call in [Call::Put, Call::PutInParts, Call::Properties, Call::Delete] {
        let size = if call == Call::PutInParts { "100000" } else { "10" };
        let store = store(move |request| written(request, size, "none", &(200, vec![], String::new()))).await;
        call.make(&store).await.unwrap_or_else(|error| panic!("{call:?}: {error:?}"));
    }
    for (call, name, otherwise) in cases {
        let shown = format!("{call:?}, {name}: {otherwise:?}");
        let size = if call == Call::PutInParts { "100000" } else { "10" };
        let store = store(move |request| written(request, size, name, &otherwise)).await;
        let outcome = call.make(&store).await;
        assert!(outcome.is_err(), "{shown}");
        let kind = kind(outcome);
        assert!(matches!(kind, Some(StoreErrorKind::Unexpected | StoreErrorKind::Unavailable)), "{shown}: {kind:?}");
    }
}

/// In a versioned bucket, the latest version of a deleted item is a delete marker.
#[tokio::test]
async fn an_item_whose_latest_version_is_a_deletion_is_absent() {
    let marker = [("x-amz-delete-marker", "true"), ("x-amz-version-id", "2"), ("x-amz-request-id", "1")];
    let absent = store(move |request| match request.method().as_str() {
        "HEAD" => answer(404, &marker, ""),
        _ => answer(404, &marker, "<Error><Code>NoSuchKey</Code></Error>"),
    })
    .await;
    assert!(absent.head(&item("a")).await.unwrap().present().is_none());
    assert!(absent.open(&item("a"), None, None).await.unwrap().present().is_none());
    assert_eq!(absent.delete(&item("a"), &Precondition::Always).await.unwrap(), Presence::Absent);
    let there = store(move |request| match request.method().as_str() {
        "HEAD" => answer(200, &object("3", &[]), ""),
        _ => answer(204, &marker, ""),
    })
    .await;
    assert_eq!(there.delete(&item("a"), &Precondition::Always).await.unwrap(), Presence::Present(()));
}
