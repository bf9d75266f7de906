//! Stores in S3.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mill_aws::{Connection, S3Settings, S3Store, SpaceLayout};
use mill_conformance::{Keep, StoreLimits, StoreSubject};
use mill_model::{AccountId, Algorithm, ContentId, ItemAddress, ItemState, Properties, SpaceId, StoreAddress, StoreId};
use mill_ports::{Body, DestinationStore, Precondition, PutRequest, SourceStore, StoreErrorKind};
use parking_lot::Mutex;

use crate::canned_server::{answer, listing, not_there, serve};
use crate::servers::{clock, connect, fresh, ministack};

pub(crate) fn settings(spaces: SpaceLayout) -> S3Settings {
    let address = StoreAddress { account: AccountId::new("account").unwrap(), store: StoreId::new("1").unwrap() };
    S3Settings { path_style: true, ..S3Settings::new(address, spaces, clock()) }
}

pub(crate) async fn bucket(connection: &Connection) -> String {
    let bucket = fresh("bucket");
    client(connection).create_bucket().bucket(&bucket).send().await.unwrap();
    bucket
}

pub(crate) fn client(connection: &Connection) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::config::Builder::from(connection.config()).force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

/// Properties become headers, which S3 limits.
const IN_BUCKET: StoreLimits = StoreLimits { properties_bytes_max: 2048, ..StoreLimits::NONE };

fn subject(connection: &Connection, settings: S3Settings, limits: StoreLimits) -> StoreSubject {
    StoreSubject { store: Arc::new(S3Store::new(connection, settings)), limits, keep: Keep::nothing() }
}

async fn in_bucket() -> StoreSubject {
    let connection = connect(ministack()).await;
    let spaces = SpaceLayout::InBucket(bucket(&connection).await);
    subject(&connection, settings(spaces), IN_BUCKET)
}

async fn buckets() -> StoreSubject {
    let connection = connect(ministack()).await;
    let settings = settings(SpaceLayout::Buckets { prefix: format!("{}-", fresh("spaces")) });
    // A bucket name has no blanks.
    subject(&connection, settings, StoreLimits { blanks_in_spaces: false, ..IN_BUCKET })
}

/// With SHA-256 kept by the store.
async fn with_sha256() -> StoreSubject {
    let connection = connect(ministack()).await;
    let spaces = SpaceLayout::InBucket(bucket(&connection).await);
    let settings = S3Settings { sha256: true, ..settings(spaces) };
    subject(&connection, settings, IN_BUCKET)
}

mill_conformance::store_suite!(in_bucket, crate::stores::in_bucket, versions_in_listings: yes);
mill_conformance::store_suite!(buckets, crate::stores::buckets, versions_in_listings: yes);
mill_conformance::store_suite!(with_sha256, crate::stores::with_sha256, versions_in_listings: yes);
mill_simulation::audited_change_suite!(audited, crate::stores::buckets, copies_by_itself: no);

pub(crate) fn space() -> SpaceId {
    SpaceId::new("space").unwrap()
}

pub(crate) fn item(id: &str) -> ItemAddress {
    ItemAddress { space: space(), id: ContentId::new(id).unwrap() }
}

pub(crate) fn body(bytes: &Bytes) -> Body {
    stream::iter([Ok(bytes.clone())]).boxed()
}

fn content(bytes: &Bytes) -> PutRequest {
    PutRequest::new(bytes.len() as u64, Properties::default())
}

pub(crate) async fn read(store: &S3Store, id: &str) -> Bytes {
    let reading = store.open(&item(id), None, None).await.unwrap().present().unwrap();
    reading.body.try_collect::<Vec<Bytes>>().await.unwrap().concat().into()
}

/// A store with a space, its bucket, and parts of the smallest size.
async fn small_parts() -> (Connection, String, S3Store) {
    let connection = connect(ministack()).await;
    let bucket = bucket(&connection).await;
    // ministack returns the checksum of the parts' checksums in place of that of the whole; `server_side_copy` has a server
    // that verifies the latter.
    let spaces = SpaceLayout::InBucket(bucket.clone());
    let settings = S3Settings { part_bytes: 64 << 10, whole_checksum: false, ..settings(spaces) };
    let store = S3Store::new(&connection, settings);
    store.create_space(&space()).await.unwrap();
    (connection, bucket, store)
}

pub(crate) fn pattern(size: usize) -> Bytes {
    (0..size).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_item_is_written_in_parts_and_reads_whole() {
    let (connection, _, store) = small_parts().await;
    for size in [(64 << 10) + 1, 640 << 10, 1_000_003] {
        let bytes = pattern(size);
        let pieces: Vec<_> = bytes.chunks(10_007).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let written =
            store.put(&item("large"), &content(&bytes), &Precondition::Always, stream::iter(pieces).boxed()).await;
        let written = written.unwrap();
        let facts = store.head(&item("large")).await.unwrap().present().unwrap();
        assert_eq!(facts.version, written.version);
        assert!(facts.checksums.iter().all(|sum| sum.algorithm != Algorithm::Md5), "its entity tag is no MD5");
        assert_eq!(read(&store, "large").await, bytes);
    }
    assert_eq!(connection.requests().by_operation()["UploadPart"], 2 + 10 + 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_hold_for_what_is_written_in_parts() {
    let (_, _, store) = small_parts().await;
    let bytes = pattern(200_000);
    store.put(&item("a"), &content(&bytes), &Precondition::Absent, body(&bytes)).await.unwrap();
    let other = pattern(200_001);
    let refused = store.put(&item("a"), &content(&other), &Precondition::Absent, body(&other)).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Precondition);
    let seen = store.head(&item("a")).await.unwrap().present().unwrap().version;
    store.put(&item("a"), &content(&other), &Precondition::VersionIs(seen.clone()), body(&other)).await.unwrap();
    let refused =
        store.put(&item("a"), &content(&bytes), &Precondition::VersionIs(seen), body(&bytes)).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Precondition);
    assert_eq!(read(&store, "a").await, other);
}

/// The store itself would not notice: its condition covers the bytes alone, and they are the same.
#[tokio::test(flavor = "multi_thread")]
async fn properties_that_came_while_parts_were_sent_are_not_written_over() {
    let (_, _, store) = small_parts().await;
    let small = pattern(100);
    let seen = store.put(&item("a"), &content(&small), &Precondition::Absent, body(&small)).await.unwrap().version;
    // A version has whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let newer = Properties([("note".to_owned(), "newer".to_owned())].into());
    let bytes = pattern(200_000);
    let (writer, address, after) = (store.clone(), item("a"), newer.clone());
    let pieces = stream::iter([bytes.slice(..100_000), bytes.slice(100_000..)]).enumerate().then(move |(at, piece)| {
        let (writer, address, after) = (writer.clone(), address.clone(), after.clone());
        async move {
            if at == 1 {
                writer.put_properties(&address, &after, &Precondition::Always).await.unwrap();
            }
            Ok(piece)
        }
    });
    let refused =
        store.put(&item("a"), &content(&bytes), &Precondition::VersionIs(seen), pieces.boxed()).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Precondition);
    assert_eq!(read(&store, "a").await, small);
    assert_eq!(store.head(&item("a")).await.unwrap().present().unwrap().properties, Some(newer));
}

/// On a store that does not enforce conditions.
#[tokio::test]
async fn an_item_that_came_while_parts_were_sent_is_not_written_over() {
    let came = AtomicBool::new(false);
    let endpoint = serve(move |request| {
        let query = request.uri().query().unwrap_or_default();
        match request.method().as_str() {
            "HEAD" if came.load(Ordering::Relaxed) => {
                answer(200, &[("etag", "\"theirs\""), ("content-length", "3"), ("last-modified", MODIFIED)], "")
            }
            "HEAD" => not_there(),
            "GET" => answer(200, &[], &listing(&["x"], None)),
            "POST" if query.contains("uploads") => answer(
                200,
                &[],
                "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>",
            ),
            "PUT" => {
                came.store(true, Ordering::Relaxed);
                answer(200, &[("etag", "\"part\"")], "")
            }
            "POST" => answer(
                200,
                &[],
                "<CompleteMultipartUploadResult><ETag>&quot;ours-4&quot;</ETag></CompleteMultipartUploadResult>",
            ),
            _ => answer(204, &[], ""),
        }
    });
    let (connection, store) = canned(false, &endpoint).await;
    let bytes = pattern(200_000);
    let refused = store.put(&item("a"), &content(&bytes), &Precondition::Absent, body(&bytes)).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Precondition);
    assert!(!connection.requests().by_operation().contains_key("CompleteMultipartUpload"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_write_in_parts_that_fails_or_is_left_nothing_stays() {
    let (connection, bucket, store) = small_parts().await;
    let bytes = pattern(300_000);
    let short = PutRequest::new(400_000, Properties::default());
    store.put(&item("a"), &short, &Precondition::Always, body(&bytes)).await.unwrap_err();
    let stalling = stream::iter([Ok(bytes.clone())]).chain(stream::pending()).boxed();
    let address = item("b");
    let left = store.put(&address, &short, &Precondition::Always, stalling);
    tokio::time::timeout(Duration::from_secs(1), left).await.unwrap_err();
    let uploads = async || {
        let listed = client(&connection).list_multipart_uploads().bucket(&bucket).send().await.unwrap();
        listed.uploads().len()
    };
    let began = std::time::Instant::now();
    while uploads().await > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "uploads are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(store.head(&item("a")).await.unwrap().present().is_none());
}

/// No store reports their owner.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_another_program_began_are_not_touched() {
    let theirs = "<Upload><Key>a</Key><UploadId>theirs</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload>";
    let given_up = Arc::new(Mutex::new(Vec::new()));
    let noted = given_up.clone();
    let endpoint = serve(move |request| match (request.method().as_str(), request.uri().query().unwrap_or_default()) {
        ("GET", _) => answer(200, &[], &format!("<ListMultipartUploadsResult>{theirs}</ListMultipartUploadsResult>")),
        ("POST", _) => {
            answer(200, &[], "<InitiateMultipartUploadResult><UploadId>ours</UploadId></InitiateMultipartUploadResult>")
        }
        ("DELETE", query) => {
            noted.lock().push(query.to_owned());
            answer(204, &[], "")
        }
        _ => answer(403, &[], "<Error><Code>AccessDenied</Code></Error>"),
    });
    let (_, store) = canned(true, &endpoint).await;
    store.remove_stale_uploads().await;
    let bytes = pattern(200_000);
    store.put(&item("a"), &content(&bytes), &Precondition::Absent, body(&bytes)).await.unwrap_err();
    let began = std::time::Instant::now();
    while given_up.lock().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "its own upload is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(given_up.lock().iter().all(|query| query.contains("uploadId=ours")), "{given_up:?}");
}

/// Some servers reject each conditional request.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_knows_no_conditions_is_told_of_none() {
    let written = Mutex::new(None);
    let endpoint = serve(move |request| {
        let mut written = written.lock();
        let told = request.headers();
        assert!(!told.contains_key("if-match") && !told.contains_key("if-none-match"), "{request:?}");
        match request.method().as_str() {
            // Each write is verified by one HEAD.
            "HEAD" => match written.take() {
                Some((tag, bytes)) => {
                    answer(200, &[("etag", tag), ("content-length", bytes), ("last-modified", MODIFIED)], "")
                }
                None => not_there(),
            },
            "GET" => answer(200, &[], &listing(&[], None)),
            "PUT" => {
                let part = request.uri().query().unwrap_or_default().contains("partNumber");
                *written = (!part).then_some(("\"a\"", "3"));
                answer(200, &[("etag", "\"a\"")], "")
            }
            "POST" if request.uri().query().unwrap_or_default().starts_with("uploads") => answer(
                200,
                &[],
                "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>",
            ),
            "POST" => {
                *written = Some(("\"a-4\"", "200000"));
                answer(
                    200,
                    &[],
                    "<CompleteMultipartUploadResult><ETag>&quot;a-4&quot;</ETag></CompleteMultipartUploadResult>",
                )
            }
            other => panic!("{other}"),
        }
    });
    let (connection, store) = canned(false, &endpoint).await;
    for size in [3, 200_000] {
        let bytes = pattern(size);
        store.put(&item("a"), &content(&bytes), &Precondition::Absent, body(&bytes)).await.unwrap();
    }
    let asked = connection.requests().by_operation();
    assert!(asked.contains_key("PutObject") && asked.contains_key("CompleteMultipartUpload"), "{asked:?}");
}

#[tokio::test]
async fn an_archived_item_is_told_as_one() {
    let (connection, bucket, store) = small_parts().await;
    for (id, class) in [("cold", "GLACIER"), ("colder", "DEEP_ARCHIVE"), ("cool", "STANDARD_IA")] {
        let put = client(&connection).put_object().bucket(&bucket).key(format!("space/{id}"));
        put.storage_class(class.into()).send().await.unwrap();
    }
    let archived = |tier: &str| ItemState::Archived(tier.to_owned());
    for (id, state) in
        [("cold", archived("GLACIER")), ("colder", archived("DEEP_ARCHIVE")), ("cool", ItemState::Online)]
    {
        assert_eq!(store.head(&item(id)).await.unwrap().present().unwrap().state, state, "{id}");
    }
}

#[tokio::test]
async fn a_store_without_a_response_is_unreachable_and_proves_no_absence() {
    let connection = connect("http://127.0.0.1:9").await;
    let store = S3Store::new(&connection, settings(SpaceLayout::InBucket("bucket".into())));
    assert_eq!(store.head(&item("a")).await.unwrap_err().kind, StoreErrorKind::Unreachable);
    assert_eq!(store.space(&space()).await.unwrap_err().kind, StoreErrorKind::Unreachable);
    assert_eq!(store.spaces().await.unwrap_err().kind, StoreErrorKind::Unreachable);
}

#[tokio::test]
async fn a_missing_bucket_is_a_missing_store() {
    let connection = connect(ministack()).await;
    let store = S3Store::new(&connection, settings(SpaceLayout::InBucket(fresh("nothing"))));
    assert_eq!(store.spaces().await.unwrap_err().kind, StoreErrorKind::Unavailable);
    assert_eq!(store.space(&space()).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    assert_eq!(store.head(&item("a")).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    let listed = store.list(&space(), None).try_collect::<Vec<_>>().await;
    assert_eq!(listed.unwrap_err().kind, StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn headers_that_others_set_are_properties_and_the_other_way_round() {
    let (connection, bucket, store) = small_parts().await;
    let client = client(&connection);
    let put = client.put_object().bucket(&bucket).key("space/theirs").content_type("text/plain");
    let put = put.content_language("de").cache_control("no-cache").content_disposition("inline").metadata("note", "x");
    put.send().await.unwrap();
    let facts = store.head(&item("theirs")).await.unwrap().present().unwrap();
    let told = facts.properties.unwrap();
    let expected = [
        ("cache-control", "no-cache"),
        ("content-disposition", "inline"),
        ("content-language", "de"),
        ("content-type", "text/plain"),
        ("note", "x"),
    ];
    assert_eq!(told.0, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let bytes = pattern(10);
    let ours = PutRequest::new(10, told);
    store.put(&item("ours"), &ours, &Precondition::Absent, body(&bytes)).await.unwrap();
    let seen = client.head_object().bucket(&bucket).key("space/ours").send().await.unwrap();
    assert_eq!((seen.content_type(), seen.content_language()), (Some("text/plain"), Some("de")));
    assert_eq!((seen.cache_control(), seen.content_disposition()), (Some("no-cache"), Some("inline")));
    assert_eq!(seen.metadata().unwrap()["note"], "x");
}

#[tokio::test]
async fn a_prefix_of_a_bucket_can_be_the_only_space() {
    let connection = connect(ministack()).await;
    let bucket = bucket(&connection).await;
    let single = SpaceLayout::Single { space: space(), bucket: bucket.clone(), prefix: "deep/er/".into() };
    let store = S3Store::new(&connection, settings(single));
    let bytes = pattern(10);
    store.put(&item("/a//b "), &content(&bytes), &Precondition::Absent, body(&bytes)).await.unwrap();
    let beside = client(&connection).put_object().bucket(&bucket).key("deep/erx");
    beside.send().await.unwrap();
    assert_eq!(store.spaces().await.unwrap(), [space()]);
    let pages: Vec<_> = store.list(&space(), None).try_collect().await.unwrap();
    let shown: Vec<String> = pages.iter().flat_map(|page| &page.entries).map(|entry| format!("{entry:?}")).collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(client(&connection).head_object().bucket(&bucket).key("deep/er//a//b ").send().await.is_ok());
    let other = SpaceId::new("other").unwrap();
    assert!(store.space(&other).await.unwrap().present().is_none());
}

#[tokio::test]
async fn an_item_costs_what_it_should() {
    let (connection, _, store) = small_parts().await;
    let bytes = pattern(100);
    store.put(&item("warm"), &content(&bytes), &Precondition::Absent, body(&bytes)).await.unwrap();
    let before = connection.requests().total();
    assert!(store.head(&item("a")).await.unwrap().present().is_none());
    store.put(&item("a"), &content(&bytes), &Precondition::Absent, body(&bytes)).await.unwrap();
    // One to see that it is absent, one to write it, one to get its modification time.
    assert_eq!(connection.requests().total() - before, 3);
    let before = connection.requests().total();
    let pages: Vec<_> = store.list(&space(), None).try_collect().await.unwrap();
    // A store other than Amazon's gets one more request, which verifies the end.
    assert_eq!((pages.len(), connection.requests().total() - before), (2, 2));
}

pub(crate) const MODIFIED: &str = "Sat, 21 Nov 2026 07:28:00 GMT";

/// A store on a server with these responses, in which the space exists.
async fn canned(native_conditions: bool, endpoint: &str) -> (Connection, S3Store) {
    let connection = connect(endpoint).await;
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    let settings = S3Settings { part_bytes: 64 << 10, native_conditions, ..settings(single) };
    let store = S3Store::new(&connection, settings);
    (connection, store)
}

const COPIED: &str = "<CopyObjectResult><ETag>&quot;old&quot;</ETag>\
    <LastModified>2026-11-21T07:28:01.000Z</LastModified></CopyObjectResult>";

/// A server that has newer content when the copy is written. It enforces conditions as S3 does.
#[tokio::test]
async fn content_that_came_while_properties_were_copied_is_not_written_over() {
    let endpoint = serve(|request| match request.method().as_str() {
        "HEAD" => answer(200, &[("etag", "\"old\""), ("content-length", "3"), ("last-modified", MODIFIED)], ""),
        _ => match request.headers().get("if-match").map(hyper::header::HeaderValue::as_bytes) {
            Some(b"\"new\"") | None => answer(200, &[], COPIED),
            Some(_) => answer(412, &[], "<Error><Code>PreconditionFailed</Code></Error>"),
        },
    });
    let (_, store) = canned(true, &endpoint).await;
    let refused = store.put_properties(&item("a"), &Properties::default(), &Precondition::Always).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Precondition);
}

/// Two multipart objects of the same bytes have the same tag; their modification times differ.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_onto_itself_does_not_overwrite_properties_that_came_meanwhile() {
    for (native_conditions, newer) in [(true, true), (false, true), (true, false)] {
        let came = AtomicBool::new(false);
        let endpoint = serve(move |request| match (request.method().as_str(), request.uri().query()) {
            ("HEAD", _) => {
                let late = newer && came.load(Ordering::Relaxed);
                let modified = if late { "Sat, 21 Nov 2026 07:29:00 GMT" } else { MODIFIED };
                answer(200, &[("etag", "\"a-6\""), ("content-length", "6442450944"), ("last-modified", modified)], "")
            }
            ("PUT", _) => {
                came.store(true, Ordering::Relaxed);
                answer(200, &[], "<CopyPartResult><ETag>&quot;part&quot;</ETag></CopyPartResult>")
            }
            ("POST", Some(query)) if query.starts_with("uploads") => answer(
                200,
                &[],
                "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>",
            ),
            ("POST", _) => answer(
                200,
                &[],
                "<CompleteMultipartUploadResult><ETag>&quot;a-6&quot;</ETag></CompleteMultipartUploadResult>",
            ),
            ("GET", Some("tagging")) => answer(200, &[], "<Tagging><TagSet/></Tagging>"),
            _ => answer(204, &[], ""),
        });
        let (connection, store) = canned(native_conditions, &endpoint).await;
        let written = store.put_properties(&item("a"), &Properties::default(), &Precondition::Always).await;
        let kind = written.map(|_| ()).map_err(|error| error.kind);
        assert_eq!(kind, if newer { Err(StoreErrorKind::Precondition) } else { Ok(()) });
        let completed = connection.requests().by_operation().contains_key("CompleteMultipartUpload");
        assert_eq!(completed, !newer);
    }
}

/// A copy in parts names what it keeps, as it has no object to keep it from.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_properties_keeps_class_key_and_tags() {
    let key = "arn:aws:kms:us-east-1:000000000000:key/1";
    for (size, length) in [("small", "10"), ("large", "6442450944")] {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let noted = begun.clone();
        let endpoint = serve(move |request: &hyper::Request<Bytes>| {
            let query = request.uri().query().unwrap_or_default();
            match request.method().as_str() {
                "HEAD" => {
                    let object = [("etag", "\"a\""), ("content-length", length), ("last-modified", MODIFIED)];
                    let stored = [
                        ("x-amz-storage-class", "STANDARD_IA"),
                        ("x-amz-server-side-encryption", "aws:kms"),
                        ("x-amz-server-side-encryption-aws-kms-key-id", key),
                        ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
                        ("x-amz-website-redirect-location", "/other"),
                    ];
                    answer(200, &[&object[..], &stored].concat(), "")
                }
                "GET" if query.contains("tagging") => {
                    answer(200, &[], "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>")
                }
                "PUT" if query.contains("partNumber") => {
                    answer(200, &[], "<CopyPartResult><ETag>&quot;part&quot;</ETag></CopyPartResult>")
                }
                "PUT" => {
                    noted.lock().push(request.headers().clone());
                    answer(200, &[], "<CopyObjectResult><ETag>&quot;a&quot;</ETag></CopyObjectResult>")
                }
                "POST" if query.starts_with("uploads") => {
                    noted.lock().push(request.headers().clone());
                    answer(200, &[], crate::failure_scope::BEGUN)
                }
                _ => answer(
                    200,
                    &[],
                    "<CompleteMultipartUploadResult><ETag>&quot;a&quot;</ETag></CompleteMultipartUploadResult>",
                ),
            }
        });
        let (_, store) = canned(true, &endpoint).await;
        let redirect = ("x-amz-website-redirect-location".to_owned(), "/other".to_owned());
        let properties = Properties([redirect].into());
        store.put_properties(&item("a"), &properties, &Precondition::Always).await.unwrap();
        let begun = begun.lock();
        let header = |name: &str| begun[0].get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("x-amz-storage-class"), Some("STANDARD_IA"), "{size}");
        assert_eq!(header("x-amz-server-side-encryption"), Some("aws:kms"), "{size}");
        assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id"), Some(key), "{size}");
        assert_eq!(header("x-amz-server-side-encryption-bucket-key-enabled"), Some("true"), "{size}");
        assert_eq!(header("x-amz-website-redirect-location"), Some("/other"), "{size}");
        // One copy request keeps the tags by itself.
        let copied = size == "small";
        assert_eq!(header("x-amz-tagging"), (!copied).then_some("a=b"), "{size}");
        assert_eq!(header("x-amz-tagging-directive"), None, "{size}");
    }
}

#[tokio::test]
async fn without_native_conditions_properties_are_read_after_their_write() {
    let endpoint = serve(|request| {
        // Another writer came right after the copy.
        let copied = request.headers().contains_key("x-amz-copy-source");
        if copied {
            assert!(!request.headers().contains_key("if-match"));
            return answer(200, &[], COPIED);
        }
        let headers = [("etag", "\"old\""), ("content-length", "3"), ("last-modified", MODIFIED)];
        answer(200, &[&headers[..], &[("x-amz-meta-note", "another's")]].concat(), "")
    });
    let (connection, store) = canned(false, &endpoint).await;
    let written = store.put_properties(&item("a"), &Properties::default(), &Precondition::Always).await.unwrap();
    assert!(!written.version.settled(), "another's properties prove nothing");
    assert_eq!(connection.requests().by_operation()["HeadObject"], 2);
}

/// Metadata that does not fit in headers is omitted from responses, and only counted.
#[tokio::test]
async fn properties_of_which_some_are_left_out_are_not_known() {
    let endpoint = serve(|request| {
        let left_out = if request.uri().path().ends_with("some") { "1" } else { "0" };
        let headers = [
            ("etag", "\"a\""),
            ("content-length", "3"),
            ("last-modified", MODIFIED),
            ("x-amz-meta-note", "x"),
            ("x-amz-missing-meta", left_out),
        ];
        answer(200, &headers, if request.method() == "GET" { "abc" } else { "" })
    });
    let (_, store) = canned(true, &endpoint).await;
    for (id, known) in [("some", false), ("none", true)] {
        let facts = store.head(&item(id)).await.unwrap().present().unwrap();
        assert_eq!(facts.properties.is_some(), known, "{id}");
        let reading = store.open(&item(id), None, None).await.unwrap().present().unwrap();
        assert_eq!(reading.facts.properties.is_some(), known, "{id}");
    }
}
