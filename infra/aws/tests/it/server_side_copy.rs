//! Large items that a service copies from one bucket to another, and the checksums by which it verifies them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mill_aws::{AccessKeys, Connection, ConnectionSettings, KeySource, S3Settings, S3Store, SpaceLayout};
use mill_conformance::{Keep, StoreLimits, StoreSubject};
use mill_model::digest::Digester;
use mill_model::{Algorithm, ItemFacts, Properties};
use mill_ports::{CopySource, DestinationStore, Precondition, PutRequest, SourceStore, StoreErrorKind};

use crate::canned_server::{answer, serve};
use crate::seaweed;
use crate::servers::fresh;
use crate::stores::{body, bucket, client, item, pattern, read, settings, space};

const PART: u64 = 5 << 20;
const SIZE: usize = 11_000_003;

/// A connection to the one server of this process, which ends with it.
pub(crate) async fn connect() -> Connection {
    static STARTED: OnceLock<String> = OnceLock::new();
    let endpoint = STARTED.get_or_init(seaweed::start).clone();
    let keys = KeySource::fixed(AccessKeys { id: seaweed::KEY.into(), secret: seaweed::SECRET.into(), token: None });
    let region = Some("us-east-1".into());
    let connection = Connection::open(ConnectionSettings {
        endpoint: Some(endpoint),
        region,
        keys: Some(keys),
        ..ConnectionSettings::default()
    })
    .await
    .unwrap();
    until_ready(&connection).await;
    connection
}

/// The server responds before it can store anything.
async fn until_ready(connection: &Connection) {
    let client = client(connection);
    let began = Instant::now();
    while let Err(error) = client.list_buckets().send().await {
        assert!(began.elapsed() < Duration::from_mins(1), "SeaweedFS is not ready: {error:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Two buckets of one service, each reached by a connection of its own.
struct Pair {
    source: S3Store,
    destination: S3Store,
    to: Connection,
    bucket: String,
}

impl Pair {
    async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    async fn with(change: impl Fn(S3Settings) -> S3Settings) -> Self {
        let (from, to) = (connect().await, connect().await);
        let open = async |connection: &Connection, change: &dyn Fn(S3Settings) -> S3Settings| {
            let bucket = bucket(connection).await;
            let spaces = SpaceLayout::Single { space: space(), bucket: bucket.clone(), prefix: String::new() };
            let small = S3Settings { part_bytes: PART, copied_part_bytes: PART, ..settings(spaces) };
            (S3Store::new(connection, change(small)), bucket)
        };
        let (source, _) = open(&from, &|settings| settings).await;
        let (destination, bucket) = open(&to, &change).await;
        Self { source, destination, to, bucket }
    }

    /// Writes an item at the source, and returns its facts.
    async fn put(&self, id: &str, size: usize) -> (PutRequest, ItemFacts) {
        let bytes = pattern(size);
        let properties = [("content-type", "image/tiff"), ("note", "kept")];
        let properties = Properties(properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let content = PutRequest::new(size as u64, properties);
        self.source.put(&item(id), &content, &Precondition::Always, body(&bytes)).await.unwrap();
        (content, self.source.head(&item(id)).await.unwrap().present().unwrap())
    }

    fn origin(&self, id: &str, facts: &ItemFacts) -> CopySource {
        self.source.copy_source(&item(id), facts).expect("its checksum is kept")
    }

    async fn is_absent(&self, id: &str) -> bool {
        self.destination.head(&item(id)).await.unwrap().present().is_none()
    }

    fn asked(&self, operation: &str) -> u64 {
        self.to.requests().by_operation().get(operation).copied().unwrap_or_default()
    }
}

async fn one_service() -> StoreSubject {
    let pair = Pair::new().await;
    StoreSubject { store: Arc::new(pair.source), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

/// With a bucket for each space.
async fn buckets() -> StoreSubject {
    let spaces = SpaceLayout::Buckets { prefix: format!("{}-", fresh("spaces")) };
    let small = S3Settings { part_bytes: PART, copied_part_bytes: PART, ..settings(spaces) };
    let store = Arc::new(S3Store::new(&connect().await, small));
    StoreSubject { store, limits: StoreLimits::NONE, keep: Keep::nothing() }
}

mill_conformance::server_side_copy_suite!(a_service, crate::server_side_copy::one_service);
mill_simulation::audited_change_suite!(audited, crate::server_side_copy::buckets, copies_by_itself: yes);

#[tokio::test(flavor = "multi_thread")]
async fn a_multipart_item_has_the_checksum_of_the_whole() {
    let pair = Pair::new().await;
    for size in [100, SIZE] {
        let (_, facts) = pair.put("a", size).await;
        let mut digester = Digester::new(&[Algorithm::Crc64Nvme]);
        digester.update(&pattern(size));
        assert!(facts.checksums.contains(&digester.finish()[0]), "{size}: {:?}", facts.checksums);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_side_copy_keeps_properties_and_no_bytes_pass_through_mill() {
    let pair = Pair::new().await;
    let (content, facts) = pair.put("a b+c/ü", SIZE).await;
    let address = item("a b+c/ü");
    let origin = pair.origin("a b+c/ü", &facts);
    let written = pair
        .destination
        .server_side_copy(&address, &content, &Precondition::Absent, &origin, &|_| true)
        .await
        .unwrap()
        .unwrap();
    let asked = pair.to.requests().by_operation();
    assert_eq!(
        (asked["UploadPartCopy"], asked.get("UploadPart"), asked.get("GetObject")),
        (3, None, None),
        "{asked:?}"
    );
    let copied = pair.destination.head(&address).await.unwrap().present().unwrap();
    assert_eq!((&copied.version, &copied.properties), (&written.version, &Some(content.properties)));
    let crc =
        |of: &[mill_model::Checksum]| of.iter().find(|sum| sum.algorithm == Algorithm::Crc64Nvme).cloned().unwrap();
    assert_eq!(crc(&written.checksums), crc(&facts.checksums));
    assert!(read(&pair.destination, "a b+c/ü").await == pattern(SIZE));
}

/// The service stores the item only if the copy has the given checksum.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_another_checksum_never_appear_and_nothing_is_left_of_them() {
    let pair = Pair::new().await;
    let (content, mut facts) = pair.put("a", SIZE).await;
    let crc = facts.checksums.iter_mut().find(|sum| sum.algorithm == Algorithm::Crc64Nvme).unwrap();
    crc.value[0] ^= 1;
    let origin = pair.origin("a", &facts);
    let refused = pair
        .destination
        .server_side_copy(&item("a"), &content, &Precondition::Absent, &origin, &|_| true)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Damaged);
    assert!(pair.is_absent("a").await);
    let began = Instant::now();
    let uploads =
        async || client(&pair.to).list_multipart_uploads().bucket(&pair.bucket).send().await.unwrap().uploads().len();
    while uploads().await > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the upload is left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_items_and_those_of_other_services_are_not_brought() {
    let pair = Pair::new().await;
    let (content, facts) = pair.put("small", 1000).await;
    let before = pair.to.requests().total();
    let origin = pair.origin("small", &facts);
    assert!(
        pair.destination
            .server_side_copy(&item("small"), &content, &Precondition::Absent, &origin, &|_| true)
            .await
            .unwrap()
            .is_none()
    );
    let (content, facts) = pair.put("large", SIZE).await;
    let origin = pair.origin("large", &facts);
    let elsewhere = crate::servers::connect(crate::servers::ministack()).await;
    let other = S3Store::new(&elsewhere, settings(SpaceLayout::InBucket("any".into())));
    assert!(
        other
            .server_side_copy(&item("large"), &content, &Precondition::Absent, &origin, &|_| true)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!((pair.to.requests().total(), elsewhere.requests().total()), (before, 0));
}

/// Mill can still read the same bytes.
#[tokio::test]
async fn a_refused_server_side_copy_leaves_nothing_and_the_bytes_are_read() {
    for (status, code) in
        [(403, "AccessDenied"), (501, "NotImplemented"), (405, "MethodNotAllowed"), (400, "InvalidArgument")]
    {
        let given_up = Arc::new(AtomicBool::new(false));
        let noted = given_up.clone();
        let endpoint = serve(move |request| match request.method().as_str() {
            "HEAD" => answer(
                200,
                &[
                    ("etag", "\"a-2\""),
                    ("content-length", "11000003"),
                    ("last-modified", "Sat, 21 Nov 2026 07:28:00 GMT"),
                    ("x-amz-checksum-crc64nvme", "PLuVz+SuNJ0="),
                    ("x-amz-checksum-type", "FULL_OBJECT"),
                ],
                "",
            ),
            "POST" => answer(
                200,
                &[],
                "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>",
            ),
            "PUT" => answer(status, &[], &format!("<Error><Code>{code}</Code></Error>")),
            _ => {
                noted.store(true, Ordering::Relaxed);
                answer(204, &[], "")
            }
        });
        let connection = crate::servers::connect(&endpoint).await;
        let spaces = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
        let store = S3Store::new(&connection, settings(spaces));
        let facts = store.head(&item("a")).await.unwrap().present().unwrap();
        let origin = store.copy_source(&item("a"), &facts).unwrap();
        let content = PutRequest::new(facts.size, Properties::default());
        let taken = store.server_side_copy(&item("b"), &content, &Precondition::Absent, &origin, &|_| true).await;
        assert!(taken.unwrap().is_none(), "{code}");
        let began = Instant::now();
        while !given_up.load(Ordering::Relaxed) {
            assert!(began.elapsed() < Duration::from_secs(20), "{code}: the upload is left");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_may_want_every_byte_to_be_read() {
    let pair = Pair::with(|settings| S3Settings { server_side_copies: false, ..settings }).await;
    let (content, facts) = pair.put("large", SIZE).await;
    let origin = pair.origin("large", &facts);
    assert!(
        pair.destination
            .server_side_copy(&item("large"), &content, &Precondition::Absent, &origin, &|_| true)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(pair.asked("CreateMultipartUpload"), 0);
}

/// A checksum of parts' checksums looks like one of the bytes, and not every tag that looks like an MD5 is one.
#[tokio::test]
async fn checksums_count_only_where_they_surely_cover_the_bytes() {
    const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
    let endpoint = serve(|request| {
        let path = request.uri().path().trim_start_matches("/bucket/").to_owned();
        let (tag, kind) = path.split_once('/').unwrap();
        let kind = kind.to_uppercase();
        let kind = [("x-amz-checksum-type", &*kind)];
        let told = [
            ("etag", tag),
            ("content-length", "3"),
            ("last-modified", "Sat, 21 Nov 2026 07:28:00 GMT"),
            ("x-amz-checksum-crc64nvme", "PLuVz+SuNJ0="),
        ];
        answer(200, &[&told[..], if kind[0].1 == "UNTOLD" { &[] } else { &kind[..] }].concat(), "")
    });
    let connection = crate::servers::connect(&endpoint).await;
    let told = async |id: String, change: fn(S3Settings) -> S3Settings| {
        let spaces = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
        let store = S3Store::new(&connection, change(settings(spaces)));
        // The key is usual, so no listing is requested.
        let facts = store.head(&item(&id.to_lowercase())).await.unwrap().present().unwrap();
        facts.checksums.into_iter().map(|sum| sum.algorithm).collect::<Vec<_>>()
    };
    let as_it_is: fn(S3Settings) -> S3Settings = |settings| settings;
    let of_parts = format!("{MD5}-2");
    assert_eq!(told(format!("{MD5}/UNTOLD"), as_it_is).await, [Algorithm::Md5, Algorithm::Crc64Nvme]);
    assert_eq!(told(format!("{of_parts}/FULL_OBJECT"), as_it_is).await, [Algorithm::Crc64Nvme]);
    for kind in ["UNTOLD", "COMPOSITE"] {
        assert_eq!(told(format!("{of_parts}/{kind}"), as_it_is).await, [], "{kind}");
    }
    let parts_alone: fn(S3Settings) -> S3Settings = |settings| S3Settings { whole_checksum: false, ..settings };
    assert_eq!(told(format!("{of_parts}/FULL_OBJECT"), parts_alone).await, []);
    let other_tags: fn(S3Settings) -> S3Settings = |settings| S3Settings { md5_tags: false, ..settings };
    assert_eq!(told(format!("{MD5}/UNTOLD"), other_tags).await, [Algorithm::Crc64Nvme]);
}
