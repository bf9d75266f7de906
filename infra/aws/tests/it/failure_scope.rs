//! The scope of a failure: one item or the whole store, found out by a probe.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use hyper::Request;
use mill_aws::{S3Settings, S3Store, SpaceLayout};
use mill_model::{ContentId, ItemAddress, ItemState, Properties, SpaceId};
use mill_ports::{
    DeletableStore, DestinationStore, Precondition, PutRequest, RefusalReason, SourceStore, StoreError, StoreErrorKind,
    error_chain,
};
use parking_lot::Mutex;

use crate::canned_server::{Answer, answer, listing, serve};
use crate::servers::{connect, ministack};
use crate::stores::{MODIFIED, body, bucket, item, pattern, settings, space};

pub(crate) const BEGUN: &str = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";

/// The subject of a request.
pub(crate) fn key_of(request: &Request<Bytes>) -> String {
    request.uri().path().trim_start_matches("/bucket").trim_start_matches('/').to_owned()
}

/// The responses of a healthy server, with items of ten bytes.
pub(crate) fn well(request: &Request<Bytes>) -> Answer {
    let query = request.uri().query().unwrap_or_default();
    let tagged = [("etag", "\"e\"")];
    let object = [tagged[0], ("last-modified", MODIFIED), ("content-length", "10")];
    match request.method().as_str() {
        "GET" if query.contains("list-type=2") && query.contains("start-after=") => {
            answer(200, &[], &listing(&[], None))
        }
        "GET" if query.contains("list-type=2") => answer(200, &[], &listing(&["other", "others"], None)),
        "GET" if request.headers().contains_key("range") => {
            let part = [tagged[0], ("last-modified", MODIFIED), ("content-range", "bytes 0-0/10")];
            answer(206, &part, "0")
        }
        "GET" => answer(200, &object, "0123456789"),
        "HEAD" => answer(200, &object, ""),
        "POST" if query.starts_with("uploads") => answer(200, &[], BEGUN),
        "PUT" => answer(200, &tagged, ""),
        _ => answer(204, &[], ""),
    }
}

fn denied() -> Answer {
    let words = "<Error><Code>AccessDenied</Code><Message>No policy allows it.</Message></Error>";
    answer(403, &[("x-amz-request-id", "77")], words)
}

fn failing() -> Answer {
    answer(500, &[], "<Error><Code>InternalError</Code><Message>Please try again.</Message></Error>")
}

/// A store on a server that fails where `trouble` says, and is healthy otherwise; and its requests.
async fn store(
    trouble: impl Fn(&Request<Bytes>) -> Option<Answer> + Send + Sync + 'static,
) -> (S3Store, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let endpoint = serve(move |request| {
        noted.lock().push(format!("{} {}", request.method(), request.uri()));
        trouble(request).unwrap_or_else(|| well(request))
    });
    let connection = connect(&endpoint).await.without_retries();
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    (S3Store::new(&connection, S3Settings { part_bytes: 64 << 10, ..settings(single) }), asked)
}

async fn put(store: &S3Store, id: &str) -> Result<(), StoreError> {
    let content = PutRequest::new(10, Properties::default());
    store.put(&item(id), &content, &Precondition::Always, body(&pattern(10))).await.map(drop)
}

async fn read(store: &S3Store, id: &str) -> Result<Vec<Bytes>, StoreError> {
    store.open(&item(id), None, None).await?.present().unwrap().body.try_collect().await
}

fn kind<T>(outcome: Result<T, StoreError>) -> Option<StoreErrorKind> {
    outcome.err().map(|error| error.kind)
}

fn writes(request: &Request<Bytes>) -> bool {
    matches!(request.method().as_str(), "PUT" | "POST" | "DELETE")
}

#[tokio::test]
async fn a_prefix_that_may_not_be_written_stops_no_other() {
    let (store, asked) =
        store(|request| (writes(request) && key_of(request).starts_with("closed/")).then(denied)).await;
    for id in ["closed/a", "closed/b"] {
        let error = put(&store, id).await.unwrap_err();
        let StoreErrorKind::Refused(RefusalReason::Unwritable(words)) = error.kind else { panic!("{error:?}") };
        assert_eq!(words, "AccessDenied: No policy allows it. (HTTP 403, request 77)");
        put(&store, "open/a").await.unwrap();
    }
    assert!(matches!(
        kind(store.put_properties(&item("closed/a"), &Properties::default(), &Precondition::Always).await),
        Some(StoreErrorKind::Refused(RefusalReason::Unwritable(_)))
    ));
    assert!(matches!(
        kind(store.delete(&item("closed/a"), &Precondition::Always).await),
        Some(StoreErrorKind::Refused(RefusalReason::Unwritable(_)))
    ));
    let asked = asked.lock();
    let of_mills_own: Vec<_> = asked.iter().filter(|one| one.contains(".mill-witness-")).collect();
    // One probe for all of them: an upload that began, got a byte, and was aborted.
    assert_eq!(of_mills_own.len(), 3, "{of_mills_own:?}");
    assert!(of_mills_own.iter().all(|one| one.contains("upload")), "{of_mills_own:?}");
    assert!(of_mills_own[2].starts_with("DELETE"), "{of_mills_own:?}");
}

#[tokio::test]
async fn a_store_that_may_not_be_written_at_all_needs_a_person() {
    let (store, _) = store(|request| writes(request).then(denied)).await;
    let error = put(&store, "a").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(error_chain(&error).contains("AccessDenied: No policy allows it."), "{}", error_chain(&error));
}

/// The space's own marker is denied like an item.
#[tokio::test]
async fn a_space_that_may_not_be_written_stops_no_other_space() {
    let endpoint = serve(|request| {
        let closed = writes(request) && key_of(request).starts_with("closed/");
        let query = request.uri().query().unwrap_or_default();
        match query.split('&').find_map(|part| part.strip_prefix("prefix=")) {
            _ if closed => denied(),
            Some(prefix) => answer(200, &[], &listing(&[prefix], None)),
            None => well(request),
        }
    });
    let connection = connect(&endpoint).await.without_retries();
    let store = S3Store::new(&connection, settings(SpaceLayout::InBucket("bucket".into())));
    let of = |space: &str| ItemAddress { space: SpaceId::new(space).unwrap(), id: ContentId::new("a").unwrap() };
    let content = PutRequest::new(10, Properties::default());
    store.put(&of("open"), &content, &Precondition::Always, body(&pattern(10))).await.unwrap();
    let refused = |kind| matches!(kind, Some(StoreErrorKind::Refused(RefusalReason::Unwritable(_))));
    let outcome = store.put(&of("closed"), &content, &Precondition::Always, body(&pattern(10))).await;
    assert!(refused(kind(outcome)));
    assert!(refused(kind(store.create_space(&SpaceId::new("closed").unwrap()).await)));
}

/// The listing of the bucket that a path names.
fn empty_bucket(path: &str) -> String {
    let name = format!("<Name>{}</Name>", path.trim_matches('/'));
    listing(&[], None).replace("<Name>bucket</Name>", &name)
}

/// A store of three buckets, or of three prefixes in one bucket. Listings of `bad`, or with `all` of each, get this
/// response.
async fn three_spaces(in_one_bucket: bool, trouble: fn() -> Answer, all: bool) -> S3Store {
    let buckets = "<ListAllMyBucketsResult><Buckets><Bucket><Name>lib-a</Name></Bucket><Bucket><Name>lib-bad</Name></Bucket>\
                   <Bucket><Name>lib-z</Name></Bucket></Buckets></ListAllMyBucketsResult>";
    let endpoint = serve(move |request| {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        if path == "/" {
            return answer(200, &[], buckets);
        }
        match query.split('&').find_map(|part| part.strip_prefix("prefix=")) {
            _ if !query.contains("list-type=2") => trouble(),
            prefix if all || path.contains("bad") || prefix.is_some_and(|prefix| prefix.contains("bad")) => trouble(),
            Some(prefix) => answer(200, &[], &listing(&[&prefix.replace("%2F", "/")], None)),
            None => answer(200, &[], &empty_bucket(path)),
        }
    });
    let connection = connect(&endpoint).await.without_retries();
    let spaces = if in_one_bucket {
        SpaceLayout::InBucket("bucket".into())
    } else {
        SpaceLayout::Buckets { prefix: "lib-".into() }
    };
    S3Store::new(&connection, settings(spaces))
}

#[tokio::test]
async fn an_unlistable_space_is_meant_alone_while_others_are_listed() {
    let bad = SpaceId::new("bad").unwrap();
    let refused = || StoreErrorKind::Refused(RefusalReason::Unreadable);
    for in_one_bucket in [false, true] {
        for (trouble, alone, of_all) in [
            (denied as fn() -> Answer, refused(), StoreErrorKind::Unavailable),
            (failing, StoreErrorKind::Unexpected, StoreErrorKind::Unreachable),
        ] {
            for (all, expected) in [(false, &alone), (true, &of_all)] {
                let store = three_spaces(in_one_bucket, trouble, all).await;
                let listed = store.list(&bad, None).try_next().await.map(drop);
                assert_eq!(kind(listed).as_ref(), Some(expected), "{in_one_bucket} {all}");
                assert_eq!(kind(store.space(&bad).await).as_ref(), Some(expected), "{in_one_bucket} {all}");
            }
        }
    }
    let store = three_spaces(false, denied, false).await;
    let error = store.space(&bad).await.unwrap_err();
    for words in ["AccessDenied: No policy allows it.", "check what the key may do"] {
        assert!(error_chain(&error).contains(words), "{}", error_chain(&error));
    }
}

/// A HEAD that finds no item is followed by a request for its space.
#[tokio::test]
async fn an_item_of_an_unlistable_space_is_not_absent_and_stops_none() {
    let (bad, gone) = (SpaceId::new("bad").unwrap(), || answer(404, &[("x-amz-request-id", "1")], ""));
    let endpoint = serve(move |request| match request.method().as_str() {
        "HEAD" => gone(),
        _ if request.uri().path().contains("bad") => denied(),
        _ if request.uri().path() == "/" => denied(),
        _ => answer(200, &[], &empty_bucket(request.uri().path())),
    });
    let connection = connect(&endpoint).await.without_retries();
    let store = S3Store::new(&connection, settings(SpaceLayout::Buckets { prefix: "lib-".into() }));
    let item = |space: &SpaceId| ItemAddress { space: space.clone(), id: ContentId::new("x").unwrap() };
    // As long as no other space was seen, there is nothing to compare with.
    assert_eq!(kind(store.head(&item(&bad)).await), Some(StoreErrorKind::Unavailable));
    let good = SpaceId::new("good").unwrap();
    let store = S3Store::new(&connection, settings(SpaceLayout::Buckets { prefix: "lib-".into() }));
    assert!(store.head(&item(&good)).await.unwrap().present().is_none());
    assert_eq!(kind(store.head(&item(&bad)).await), Some(StoreErrorKind::Refused(RefusalReason::Unreadable)));
}

fn full(status: u16, code: &str) -> Answer {
    answer(status, &[], &format!("<Error><Code>{code}</Code><Message>Delete a few.</Message></Error>"))
}

/// The codes of MinIO, Ceph, SeaweedFS and others.
const FULL: [(u16, &str); 6] = [
    (507, "XMinioStorageFull"),
    (400, "XMinioAdminBucketQuotaExceeded"),
    (403, "QuotaExceeded"),
    (507, "InsufficientStorage"),
    (500, "InsufficientStorage"),
    (507, "SomethingNew"),
];

#[tokio::test]
async fn a_full_store_needs_a_person_and_stays_readable() {
    for (status, code) in FULL {
        let (store, _) = store(move |request| writes(request).then(|| full(status, code))).await;
        let error = put(&store, "a").await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{code}");
        for words in [code, "Delete a few.", "make room there, or raise its quota"] {
            assert!(error_chain(&error).contains(words), "{words}: {}", error_chain(&error));
        }
        assert_eq!(read(&store, "a").await.unwrap().concat(), b"0123456789");
    }
}

#[tokio::test]
async fn an_item_for_which_there_is_no_room_stops_no_other() {
    for (status, code) in FULL {
        let large = move |request: &Request<Bytes>| writes(request) && key_of(request) == "large";
        let (store, _) = store(move |request| large(request).then(|| full(status, code))).await;
        let error = put(&store, "large").await.unwrap_err();
        let StoreErrorKind::Refused(RefusalReason::Unwritable(words)) = error.kind else { panic!("{error:?}") };
        assert!(words.starts_with("there is no room for it") && words.contains(code), "{words}");
        put(&store, "small").await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_a_service_does_not_know_is_not_waited_for() {
    let unknown = || full(501, "NotImplemented");
    let (none, _) = store(move |request| writes(request).then(unknown)).await;
    let error = put(&none, "a").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(error_chain(&error).contains("does not know this call"), "{}", error_chain(&error));
    let (one, _) = store(move |request| (key_of(request) == "odd").then(unknown)).await;
    assert!(matches!(kind(put(&one, "odd").await), Some(StoreErrorKind::Refused(RefusalReason::Unwritable(_)))));
    assert_eq!(kind(read(&one, "odd").await), Some(StoreErrorKind::Refused(RefusalReason::Unreadable)));
    put(&one, "a").await.unwrap();
}

/// A filter before the service blocks a name with a page of its own.
#[tokio::test]
async fn a_name_that_a_filter_before_the_service_forbids_stops_no_other() {
    let page = || answer(403, &[("content-type", "text/html")], "<html><body>Blocked by policy.</body></html>");
    let (store, _) = store(move |request| (key_of(request) == "select.php").then(page)).await;
    let refused = put(&store, "select.php").await.unwrap_err();
    assert!(matches!(refused.kind, StoreErrorKind::Refused(RefusalReason::Unwritable(_))), "{refused:?}");
    assert!(error_chain(&refused).contains("an HTML page"), "{}", error_chain(&refused));
    assert_eq!(kind(read(&store, "select.php").await), Some(StoreErrorKind::Refused(RefusalReason::Unreadable)));
    put(&store, "a").await.unwrap();
}

#[tokio::test]
async fn a_page_in_place_of_a_service_that_worked_may_pass() {
    let down = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_down = down.clone();
    let page = || answer(404, &[("content-type", "text/html")], "<html>No such backend.</html>");
    let (store, _) = store(move |_| is_down.load(std::sync::atomic::Ordering::SeqCst).then(page)).await;
    put(&store, "a").await.unwrap();
    down.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(kind(put(&store, "a").await), Some(StoreErrorKind::Unreachable));
    assert_eq!(kind(store.list(&space(), None).try_next().await.map(drop)), Some(StoreErrorKind::Unreachable));
}

#[tokio::test]
async fn a_failure_at_one_key_is_no_failure_of_the_store() {
    let (store, _) = store(|request| (key_of(request) == "sick").then(failing)).await;
    assert_eq!(kind(store.head(&item("sick")).await), Some(StoreErrorKind::Unexpected));
    assert_eq!(kind(read(&store, "sick").await), Some(StoreErrorKind::Unexpected));
    assert_eq!(kind(put(&store, "sick").await), Some(StoreErrorKind::Unexpected));
    assert!(
        error_chain(&put(&store, "sick").await.unwrap_err()).contains("InternalError: Please try again. (HTTP 500)")
    );
    assert_eq!(read(&store, "well").await.unwrap().concat(), b"0123456789");
    put(&store, "well").await.unwrap();
}

/// More failures than a shared retry budget allows.
#[tokio::test(flavor = "multi_thread")]
async fn two_failures_at_each_of_many_keys_cost_no_item() {
    let failed: Mutex<BTreeMap<String, u32>> = Mutex::default();
    let endpoint = serve(move |request| {
        let mut failed = failed.lock();
        let times = failed.entry(format!("{} {}", request.method(), request.uri())).or_default();
        *times += 1;
        if *times <= 2 { failing() } else { well(request) }
    });
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    let store = S3Store::new(&connect(&endpoint).await, settings(single));
    let both = async |id: String| {
        put(&store, &id).await?;
        read(&store, &id).await
    };
    let done: Vec<_> = futures::future::join_all((0..40).map(|n| both(format!("key{n}")))).await;
    let lost: Vec<_> = done.into_iter().filter_map(Result::err).collect();
    assert!(lost.is_empty(), "{} of 40: {}", lost.len(), error_chain(&lost[0]));
}

#[tokio::test]
async fn a_service_that_fails_at_all_of_one_sort_does_not_answer() {
    // The service lists, but serves no bytes, or accepts none.
    let listed = |request: &Request<Bytes>| request.uri().query().unwrap_or_default().contains("list-type=2");
    let (unread, _) = store(move |request| (request.method() == "GET" && !listed(request)).then(failing)).await;
    assert_eq!(kind(read(&unread, "a").await), Some(StoreErrorKind::Unreachable));
    put(&unread, "a").await.unwrap();
    let (full, _) = store(|request| (request.method() == "PUT").then(failing)).await;
    assert_eq!(kind(put(&full, "a").await), Some(StoreErrorKind::Unreachable));
    assert_eq!(read(&full, "a").await.unwrap().concat(), b"0123456789");
    let (down, _) = store(|_| Some(failing())).await;
    assert_eq!(kind(store_head(&down).await), Some(StoreErrorKind::Unreachable));
}

async fn store_head(store: &S3Store) -> Result<(), StoreError> {
    store.head(&item("a")).await.map(drop)
}

#[tokio::test]
async fn an_item_that_may_not_be_read_stops_no_other() {
    let (store, _) = store(|request| {
        let closed = key_of(request) == "closed";
        closed.then(|| if request.method() == "HEAD" { answer(403, &[], "") } else { denied() })
    })
    .await;
    for outcome in [store.head(&item("closed")).await.map(drop), read(&store, "closed").await.map(drop)] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Refused(RefusalReason::Unreadable));
        assert!(error_chain(&error).contains("AccessDenied: No policy allows it. (HTTP 403, request 77)"), "{error:?}");
    }
    read(&store, "open").await.unwrap();
}

#[tokio::test]
async fn an_archived_item_is_refused_with_the_name_of_its_tier() {
    for (told, tier) in [
        ("<StorageClass>DEEP_ARCHIVE</StorageClass>", "DEEP_ARCHIVE"),
        ("<StorageClass>INTELLIGENT_TIERING</StorageClass><AccessTier>ARCHIVE_ACCESS</AccessTier>", "ARCHIVE_ACCESS"),
        ("", "of its store"),
    ] {
        let words = format!("<Error><Code>InvalidObjectState</Code><Message>Restore it.</Message>{told}</Error>");
        let (store, _) = store(move |request| (request.method() == "GET").then(|| answer(403, &[], &words))).await;
        let expected = StoreErrorKind::Refused(RefusalReason::Archived(tier.to_owned()));
        assert_eq!(kind(read(&store, "cold").await), Some(expected), "{told}");
    }
    let object = |more: Vec<(&'static str, &'static str)>| {
        let usual = [("etag", "\"e\""), ("last-modified", MODIFIED), ("content-length", "10")];
        [&usual[..], &more].concat()
    };
    let done = ("x-amz-restore", "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2029 00:00:00 GMT\"");
    let under_way = ("x-amz-restore", "ongoing-request=\"true\"");
    let (deep, archive) = (("x-amz-storage-class", "DEEP_ARCHIVE"), ("x-amz-archive-status", "ARCHIVE_ACCESS"));
    let archived = |tier: &str| ItemState::Archived(tier.to_owned());
    for (headers, state) in [
        (object(vec![deep]), archived("DEEP_ARCHIVE")),
        (object(vec![deep, under_way]), archived("DEEP_ARCHIVE")),
        (object(vec![deep, done]), ItemState::Online),
        (object(vec![("x-amz-storage-class", "INTELLIGENT_TIERING"), archive]), archived("ARCHIVE_ACCESS")),
        (object(vec![("x-amz-storage-class", "GLACIER_IR")]), ItemState::Online),
    ] {
        let shown = format!("{headers:?}");
        let (store, _) = store(move |request| (request.method() == "HEAD").then(|| answer(200, &headers, ""))).await;
        assert_eq!(store.head(&item("cold")).await.unwrap().present().unwrap().state, state, "{shown}");
    }
}

#[tokio::test]
async fn an_item_under_a_customers_key_is_refused_in_the_services_words() {
    let words =
        "The object was stored using a form of Server Side Encryption. The correct parameters must be provided.";
    let error = format!("<Error><Code>InvalidRequest</Code><Message>{words}</Message></Error>");
    let (store, asked) = store(move |request| {
        (key_of(request) == "locked").then(|| answer(400, &[], if request.method() == "HEAD" { "" } else { &error }))
    })
    .await;
    for outcome in [read(&store, "locked").await.map(drop), store.head(&item("locked")).await.map(drop)] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Refused(RefusalReason::Unreadable));
        assert!(error_chain(&error).contains(words), "{}", error_chain(&error));
    }
    assert_eq!(asked.lock().len(), 3);
}

fn many_headers(request: &Request<Bytes>, count: usize) -> Answer {
    let mut answer = well(request);
    for n in 0..count {
        let name = hyper::header::HeaderName::try_from(format!("x-amz-meta-{n}")).unwrap();
        answer.headers_mut().insert(name, "v".parse().unwrap());
    }
    answer
}

/// S3 allows 2 KB of names and values, each pair in a header of its own.
#[tokio::test]
async fn an_item_of_hundreds_of_properties_is_read_with_all_of_them() {
    let (store, _) = store(|request| (key_of(request) == "rich").then(|| many_headers(request, 600))).await;
    let facts = store.head(&item("rich")).await.unwrap().present().unwrap();
    assert_eq!(facts.properties.as_ref().unwrap().0.len(), 600);
    let reading = store.open(&item("rich"), None, Some(&facts.version)).await.unwrap().present().unwrap();
    assert_eq!(reading.facts.properties, facts.properties);
    assert_eq!(reading.body.try_collect::<Vec<Bytes>>().await.unwrap().concat(), b"0123456789");
}

#[tokio::test]
async fn an_unreadable_response_concerns_one_item_and_not_the_store() {
    let (store, _) = store(|request| (key_of(request) == "mad").then(|| many_headers(request, 5000))).await;
    assert_eq!(kind(store.head(&item("mad")).await), Some(StoreErrorKind::Unexpected));
    assert_eq!(kind(read(&store, "mad").await), Some(StoreErrorKind::Unexpected));
    read(&store, "well").await.unwrap();
}

/// The library itself ends in a panic at such an `Expires`.
#[tokio::test]
async fn a_header_that_is_no_text_refuses_its_item_by_name() {
    for name in ["expires", "content-disposition", "x-amz-meta-note"] {
        let (store, _) = store(move |request| {
            let mut answer = well(request);
            if key_of(request) == "latin" {
                answer.headers_mut().insert(name, hyper::header::HeaderValue::from_bytes(b"caf\xe9").unwrap());
            }
            Some(answer)
        })
        .await;
        for failed in [store.head(&item("latin")).await.map(drop), read(&store, "latin").await.map(drop)] {
            let error = failed.unwrap_err();
            assert!(matches!(error.kind, StoreErrorKind::Refused(RefusalReason::UnreadableProperties(_))), "{error}");
            assert!(error.to_string().contains(&format!("the header `{name}` is not text")), "{error}");
        }
        read(&store, "well").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ninety_properties_go_through_a_real_server_and_come_back() {
    let connection = connect(ministack()).await;
    let single = SpaceLayout::Single { space: space(), bucket: bucket(&connection).await, prefix: String::new() };
    let store = S3Store::new(&connection, settings(single));
    let properties = Properties((0..90).map(|n| (format!("key-{n:02}"), format!("value {n}"))).collect());
    let content = PutRequest::new(10, properties.clone());
    let written = store.put(&item("rich"), &content, &Precondition::Absent, body(&pattern(10))).await.unwrap();
    let facts = store.head(&item("rich")).await.unwrap().present().unwrap();
    assert_eq!(facts.properties, Some(properties));
    assert_eq!(facts.version, written.version);
    assert_eq!(read(&store, "rich").await.unwrap().concat(), pattern(10));
}
