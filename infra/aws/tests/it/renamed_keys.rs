//! Servers that store an item under another key: the item is refused, and nothing else is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use hyper::Request;
use hyper::header::HeaderValue;
use mill_aws::{Connection, S3Store, SpaceLayout};
use mill_conformance::hostile::corpus;
use mill_model::Properties;
use mill_ports::{
    DeletableStore, DestinationStore, ListEntry, Precondition, Presence, PutRequest, RefusalReason, SourceStore,
    StoreError, StoreErrorKind,
};
use parking_lot::Mutex;

use crate::canned_server::{Answer, answer, listing, not_there, serve};
use crate::servers::connect;
use crate::stores::{MODIFIED, body, bucket, item, pattern, read, settings, space};

type Rename = fn(&str) -> String;

/// A server that renames keys, in requests of every kind.
struct Renaming {
    rename: Rename,
    /// Whether a listing shows the key of the first write.
    as_given: bool,
    /// Whether a listing shows objects with the requested prefix.
    echoes: bool,
    objects: Mutex<BTreeMap<String, Stored>>,
    puts: Mutex<u32>,
    /// Listings that still show the earlier state.
    late: Mutex<u32>,
}

#[derive(Clone)]
struct Stored {
    given: String,
    bytes: Bytes,
    tag: String,
    properties: Vec<(String, String)>,
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let digits = std::str::from_utf8(behind.get(..2).unwrap_or_default()).ok();
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *byte == b'%');
        out.push(value.unwrap_or(*byte));
        rest = if value.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(out).unwrap()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

impl Renaming {
    fn new(rename: Rename) -> Arc<Self> {
        Arc::new(Self {
            rename,
            as_given: false,
            echoes: false,
            objects: Mutex::default(),
            puts: Mutex::default(),
            late: Mutex::default(),
        })
    }

    fn listing_as_given(rename: Rename) -> Arc<Self> {
        Arc::new(Self { as_given: true, ..Arc::into_inner(Self::new(rename)).unwrap() })
    }

    fn echoing(rename: Rename) -> Arc<Self> {
        Arc::new(Self { echoes: true, ..Arc::into_inner(Self::new(rename)).unwrap() })
    }

    fn answer(&self, request: &Request<Bytes>) -> Answer {
        let mut objects = self.objects.lock();
        let query = request.uri().query().unwrap_or_default();
        let told =
            |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(decoded);
        let given = decoded(request.uri().path().trim_start_matches("/bucket").strip_prefix('/').unwrap_or(""));
        let key = (self.rename)(&given);
        let found = objects.get(&key).cloned();
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let holds = match (header("if-match"), header("if-none-match"), &found) {
            (Some(tag), _, found) => found.as_ref().is_some_and(|found| found.tag == tag),
            (None, Some(_), found) => found.is_none(),
            _ => true,
        };
        match (request.method().as_str(), found) {
            ("GET", _) if query.contains("list-type=2") => {
                let mut late = self.late.lock();
                if *late > 0 {
                    *late -= 1;
                    return answer(200, &[], &listing(&[], None));
                }
                let (asked, behind) = (told("prefix").unwrap_or_default(), told("start-after").unwrap_or_default());
                let prefix = if self.as_given { asked.clone() } else { (self.rename)(&asked) };
                let named =
                    objects.iter().map(|(key, stored)| (if self.as_given { &stored.given } else { key }, stored));
                let mut listed: Vec<_> = named.filter(|(key, _)| key.starts_with(&prefix) && **key > behind).collect();
                listed.sort_by_key(|(key, _)| *key);
                let shown = |key: &str| match key.strip_prefix(&*prefix) {
                    Some(rest) if self.echoes => format!("{asked}{rest}"),
                    _ => key.to_owned(),
                };
                let listed: Vec<_> = listed.into_iter().map(|(key, stored)| (encoded(&shown(key)), stored)).collect();
                let keys: Vec<&str> = listed.iter().map(|(key, _)| &**key).collect();
                let mut text = listing(&keys, None);
                for (_, stored) in listed {
                    text = text.replacen("&quot;e&quot;", &stored.tag, 1);
                    text = text.replacen("<Size>3<", &format!("<Size>{}<", stored.bytes.len()), 1);
                }
                answer(200, &[], &text)
            }
            (_, _) if !holds => answer(412, &[], "<Error><Code>PreconditionFailed</Code></Error>"),
            ("HEAD" | "GET", Some(stored)) => {
                let length = stored.bytes.len().to_string();
                let mut answer = answer(200, &[("etag", &stored.tag), ("last-modified", MODIFIED)], "");
                for (name, value) in &stored.properties {
                    answer.headers_mut().insert(
                        hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                        HeaderValue::from_str(value).unwrap(),
                    );
                }
                if request.method() == "GET" {
                    *answer.body_mut() = stored.bytes.into();
                } else {
                    answer.headers_mut().insert("content-length", HeaderValue::from_str(&length).unwrap());
                }
                answer
            }
            ("HEAD", None) => not_there(),
            ("GET", None) => answer(404, &[], "<Error><Code>NoSuchKey</Code></Error>"),
            ("PUT", _) => {
                *self.puts.lock() += 1;
                let of_item = |name: &str| name.starts_with("x-amz-meta-") || name == "content-type";
                let properties = request.headers().iter().filter(|(name, _)| of_item(name.as_str()));
                let properties = properties.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
                let tag = format!("\"{}-{}\"", request.body().len(), objects.len());
                let given = objects.get(&key).map_or(given, |stored| stored.given.clone());
                let (bytes, properties) = (request.body().clone(), properties.collect());
                let stored = Stored { given, bytes, tag: tag.clone(), properties };
                objects.insert(key, stored);
                answer(200, &[("etag", &tag)], "")
            }
            _ => {
                objects.remove(&key);
                answer(204, &[], "")
            }
        }
    }

    async fn store(self: &Arc<Self>) -> (Connection, S3Store) {
        let server = self.clone();
        let connection = connect(&serve(move |request| server.answer(request))).await.without_retries();
        let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
        let store = S3Store::new(&connection, settings(single));
        (connection, store)
    }

    fn keys(&self) -> Vec<String> {
        self.objects.lock().keys().cloned().collect()
    }
}

async fn put(store: &S3Store, id: &str, size: usize, when: &Precondition) -> Result<(), StoreError> {
    let properties = Properties([("note".to_owned(), id.escape_default().to_string())].into());
    let content = PutRequest::new(size as u64, properties);
    store.put(&item(id), &content, when, body(&pattern(size))).await.map(|_| ())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    match outcome {
        Err(StoreError { kind: StoreErrorKind::Refused(RefusalReason::UnrepresentableId(why)), .. }) => {
            assert!(why.contains("under another name"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

/// Ways in which servers rename keys, with an unusual key and the usual one that they turn it into.
const RENAMES: [(Rename, &str, &str); 9] = [
    (|key| collapsed(key), "dbl//slash", "dbl/slash"),
    (|key| key.trim_start_matches('/').to_owned(), "/first", "first"),
    (|key| key.replace("/./", "/"), "a/./b", "a/b"),
    (|key| key.replace('\\', "/"), "a\\b", "a/b"),
    (|key| key.trim_end_matches(['.', ' ']).to_owned(), "trailing. .", "trailing"),
    (|key| key.to_lowercase(), "README", "readme"),
    (|key| key.replace('+', " "), "a+b", "a b"),
    (|key| key.replace("e\u{301}", "\u{e9}"), "caf\u{65}\u{301}", "caf\u{e9}"),
    (|key| key.chars().filter(|c| !c.is_control()).collect(), "a\u{1}b", "ab"),
];

fn collapsed(key: &str) -> String {
    let mut out = key.to_owned();
    while out.contains("//") {
        out = out.replace("//", "/");
    }
    out
}

#[tokio::test]
async fn nothing_is_read_replaced_or_deleted_under_another_name_than_its_own() {
    for (rename, odd, usual) in RENAMES {
        let server = Renaming::new(rename);
        let (_, store) = server.store().await;
        put(&store, usual, 5, &Precondition::Absent).await.unwrap();
        refused(store.head(&item(odd)).await);
        refused(store.open(&item(odd), None, None).await);
        for when in [Precondition::Absent, Precondition::Always] {
            refused(put(&store, odd, 7, &when).await);
        }
        refused(store.put_properties(&item(odd), &Properties::default(), &Precondition::Always).await);
        refused(store.delete(&item(odd), &Precondition::Always).await);
        assert_eq!((server.keys(), *server.puts.lock()), (vec![usual.to_owned()], 1), "{odd:?}");
        assert_eq!(read(&store, usual).await, pattern(5), "{odd:?}");
    }
}

#[tokio::test]
async fn an_object_stored_under_another_key_is_removed_and_its_shape_refused() {
    for (rename, odd, usual) in RENAMES {
        let server = Renaming::new(rename);
        let (_, store) = server.store().await;
        put(&store, "beside", 4, &Precondition::Absent).await.unwrap();
        refused(put(&store, odd, 7, &Precondition::Absent).await);
        assert_eq!(server.keys(), ["beside"], "{odd:?}");
        let before = *server.puts.lock();
        refused(put(&store, &format!("{odd}{odd}"), 7, &Precondition::Always).await);
        assert_eq!(*server.puts.lock(), before, "{odd:?}");
        put(&store, usual, 5, &Precondition::Absent).await.unwrap_or_else(|error| panic!("{usual:?}: {error:?}"));
        assert_eq!(read(&store, usual).await, pattern(5));
    }
}

/// As SeaweedFS does: a listing normalises the prefix of the request too.
#[tokio::test]
async fn a_listing_that_echoes_the_requested_prefix_is_not_believed() {
    let of_paths = ["dbl//slash", "/first", "a/./b", "a\\b", "trailing. .", "a\u{1}b"];
    for (rename, odd, usual) in RENAMES.into_iter().filter(|(_, odd, _)| of_paths.contains(odd)) {
        let server = Renaming::echoing(rename);
        let (_, store) = server.store().await;
        refused(put(&store, odd, 7, &Precondition::Absent).await);
        assert_eq!(server.keys(), [""; 0], "{odd:?}");
        let (_, store) = server.store().await;
        put(&store, usual, 5, &Precondition::Absent).await.unwrap();
        refused(store.head(&item(odd)).await);
        refused(put(&store, odd, 7, &Precondition::Always).await);
        refused(store.delete(&item(odd), &Precondition::Always).await);
        assert_eq!((server.keys(), read(&store, usual).await), (vec![usual.to_owned()], pattern(5)), "{odd:?}");
    }
}

/// A listing shows the first key unchanged, so only the second is renamed.
#[tokio::test]
async fn of_two_folded_names_the_second_is_refused_and_replaces_nothing() {
    let lower: Rename = |key| key.to_lowercase();
    let composed: Rename = |key| key.replace("e\u{301}", "\u{e9}");
    for (rename, one, other) in [(lower, "README", "readme"), (composed, "caf\u{e9}", "cafe\u{301}")] {
        for (first, second) in [(one, other), (other, one)] {
            let server = Renaming::listing_as_given(rename);
            let (_, store) = server.store().await;
            put(&store, first, 5, &Precondition::Absent).await.unwrap();
            refused(put(&store, second, 7, &Precondition::Always).await);
            refused(store.head(&item(second)).await);
            refused(store.delete(&item(second), &Precondition::Always).await);
            assert_eq!(read(&store, first).await, pattern(5), "{first} {second}");
            put(&store, "another", 4, &Precondition::Absent).await.unwrap();
            put(&store, first, 6, &Precondition::Always).await.unwrap();
            assert_eq!((read(&store, first).await, server.keys().len()), (pattern(6), 2), "{first} {second}");
        }
    }
}

#[tokio::test]
async fn a_server_that_keeps_names_is_asked_once_for_each_shape() {
    let server = Renaming::new(str::to_owned);
    let (connection, store) = server.store().await;
    let mut ids: Vec<&str> = RENAMES.iter().map(|(_, odd, _)| *odd).collect();
    let asked = || connection.requests().by_operation().get("ListObjectsV2").copied().unwrap_or_default();
    for id in &ids {
        put(&store, id, 5, &Precondition::Absent).await.unwrap();
    }
    let (first, all) = (asked(), connection.requests().total());
    // And one request for the bucket.
    assert!(first <= ids.len() as u64 + 1, "{first}");
    for (number, id) in ids.iter().enumerate() {
        put(&store, &format!("{id}{number}{id}"), 6, &Precondition::Absent).await.unwrap();
        assert!(store.head(&item(id)).await.unwrap().present().is_some());
    }
    // A write, a HEAD of it, and a HEAD of the other key.
    assert_eq!((asked(), connection.requests().total() - all), (first, 3 * ids.len() as u64));
    let pages: Vec<_> = store.list(&space(), None).try_collect().await.unwrap();
    let listed = pages.iter().flat_map(|page| &page.entries).map(|entry| match entry {
        ListEntry::Item(id, _) => id.as_str(),
        other => panic!("{other:?}"),
    });
    let listed: Vec<&str> = listed.filter(|id| ids.contains(id)).collect();
    ids.sort_unstable();
    assert_eq!(listed, ids);
}

/// Not every service lists a new object at once.
#[tokio::test]
async fn a_server_that_lists_late_is_asked_again() {
    let server = Renaming::new(str::to_owned);
    let (_, store) = server.store().await;
    *server.late.lock() = 2;
    put(&store, "a//b", 5, &Precondition::Absent).await.unwrap();
    assert_eq!(server.keys(), ["a//b"]);
}

/// The object under the other name belongs to somebody else, unless it surely is the written one.
#[tokio::test]
async fn what_another_wrote_meanwhile_under_the_other_name_stays() {
    let server = Renaming::new(collapsed);
    let (_, store) = server.store().await;
    *server.late.lock() = 1;
    let writing = put(&store, "dbl//slash", 7, &Precondition::Absent);
    let other = async {
        while server.keys().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let given = "dbl/slash".to_owned();
        let theirs = Stored { given, bytes: pattern(9), tag: "\"theirs\"".into(), properties: Vec::new() };
        server.objects.lock().insert("dbl/slash".into(), theirs);
    };
    let (outcome, ()) = tokio::join!(writing, other);
    refused(outcome);
    assert_eq!(server.keys(), ["dbl/slash"]);
    assert_eq!(store.head(&item("dbl/slash")).await.unwrap().present().unwrap().size, 9);
    assert_eq!(store.delete(&item("dbl/slash"), &Precondition::Always).await.unwrap(), Presence::Present(()));
}

/// A server that turns keys into paths.
async fn on_seaweed() -> S3Store {
    let connection = crate::server_side_copy::connect().await;
    let single = SpaceLayout::Single { space: space(), bucket: bucket(&connection).await, prefix: String::new() };
    S3Store::new(&connection, settings(single))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_seaweed_keeps_otherwise_is_refused_and_nothing_is_replaced() {
    let store = on_seaweed().await;
    put(&store, "dbl/slash", 5, &Precondition::Absent).await.unwrap();
    refused(store.head(&item("dbl//slash")).await);
    refused(put(&store, "dbl//slash", 7, &Precondition::Always).await);
    refused(store.delete(&item("dbl//slash"), &Precondition::Always).await);
    assert_eq!(read(&store, "dbl/slash").await, pattern(5));
    let store = on_seaweed().await;
    refused(put(&store, "new//slash", 7, &Precondition::Absent).await);
    let pages: Vec<_> = store.list(&space(), None).try_collect().await.unwrap();
    assert!(pages.iter().all(|page| page.entries.is_empty()), "{pages:?}");
}

/// Five hundred names that are known to cause bugs, each under its own prefix: listing many of them out of order is an
/// error, and so is a refusal or failure.
#[tokio::test(flavor = "multi_thread")]
async fn what_seaweed_stores_is_listed_and_read_under_its_own_name() {
    let connection = crate::server_side_copy::connect().await;
    let bucket = bucket(&connection).await;
    let mut kept = 0;
    for (number, id) in corpus().iter().enumerate() {
        let single = SpaceLayout::Single { space: space(), bucket: bucket.clone(), prefix: format!("{number}/") };
        let store = S3Store::new(&connection, settings(single));
        let bytes = if id.is_directory() { Bytes::new() } else { pattern(number + 1) };
        let content = PutRequest::new(bytes.len() as u64, Properties::default());
        if store.put(&item(id.as_str()), &content, &Precondition::Absent, body(&bytes)).await.is_err() {
            continue;
        }
        let Ok(pages) = store.list(&space(), None).try_collect::<Vec<_>>().await else { continue };
        let listed: Vec<&str> = pages
            .iter()
            .flat_map(|page| &page.entries)
            .filter_map(|entry| match entry {
                ListEntry::Item(id, _) => Some(id.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(listed, [id.as_str()]);
        assert_eq!(read(&store, id.as_str()).await, bytes, "{id:?}");
        kept += 1;
    }
    assert!(kept > 200, "{kept}");
}
