//! Tests that need a server that checks signatures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mill_aws::{AccessKeys, Connection, ConnectionSettings, KeySource, S3Settings, S3Store, SpaceLayout};
use mill_model::{ContentId, ItemAddress, Properties, SpaceId};
use mill_ports::{DestinationStore, Precondition, PutRequest, SourceStore, StoreError, StoreErrorKind};

use crate::signature_server::serve;
use crate::stores::settings;

const KEY: &str = "AKIAMILL";
const SECRET: &str = "a secret";

fn space() -> SpaceId {
    SpaceId::new("space").unwrap()
}

fn item(id: &str) -> ItemAddress {
    ItemAddress { space: space(), id: ContentId::new(id).unwrap() }
}

fn access(endpoint: &str, keys: KeySource) -> ConnectionSettings {
    ConnectionSettings {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".into()),
        keys: Some(keys),
        ..ConnectionSettings::default()
    }
}

fn keys(secret: &str) -> AccessKeys {
    AccessKeys { id: KEY.into(), secret: secret.into(), token: None }
}

async fn store(endpoint: &str, source: KeySource) -> S3Store {
    let connection = Connection::open(access(endpoint, source)).await.unwrap();
    let spaces = SpaceLayout::Buckets { prefix: "mill-".into() };
    S3Store::new(&connection, S3Settings { part_bytes: 5 << 20, ..settings(spaces) })
}

async fn put(store: &S3Store, id: &str, bytes: &Bytes) -> Result<(), StoreError> {
    let content = PutRequest::new(bytes.len() as u64, Properties::default());
    let body = stream::iter([Ok(bytes.clone())]).boxed();
    store.put(&item(id), &content, &Precondition::Always, body).await.map(|_| ())
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_tells_nothing_of_items() {
    let root = tempfile::tempdir().unwrap();
    let endpoint = serve(root.path(), KEY, SECRET);
    let right = store(&endpoint, KeySource::fixed(keys(SECRET))).await;
    right.create_space(&space()).await.unwrap();
    put(&right, "a", &Bytes::from_static(b"bytes")).await.unwrap();
    assert!(right.head(&item("a")).await.unwrap().present().is_some());

    let wrong = store(&endpoint, KeySource::fixed(keys("another"))).await;
    for id in ["a", "b"] {
        assert_eq!(wrong.head(&item(id)).await.unwrap_err().kind, StoreErrorKind::Unavailable, "{id}");
        assert_eq!(wrong.open(&item(id), None, None).await.unwrap_err().kind, StoreErrorKind::Unavailable, "{id}");
        assert_eq!(put(&wrong, id, &Bytes::new()).await.unwrap_err().kind, StoreErrorKind::Unavailable, "{id}");
    }
    assert_eq!(wrong.space(&space()).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    assert_eq!(wrong.spaces().await.unwrap_err().kind, StoreErrorKind::Unavailable);
    let listed = wrong.list(&space(), None).try_collect::<Vec<_>>().await;
    assert_eq!(listed.unwrap_err().kind, StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn keys_that_cannot_be_read_make_the_store_unavailable_until_they_can() {
    let root = tempfile::tempdir().unwrap();
    let endpoint = serve(root.path(), KEY, SECRET);
    let there = Arc::new(AtomicBool::new(false));
    let seen = there.clone();
    let source = KeySource::new("a file".into(), move || {
        if seen.load(Ordering::Acquire) { Ok(keys(SECRET)) } else { Err("`/run/secrets/archive` is not there".into()) }
    });
    let store = store(&endpoint, source).await;
    let error = store.spaces().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(mill_ports::error_chain(&error).contains("/run/secrets/archive"), "{}", mill_ports::error_chain(&error));
    there.store(true, Ordering::Release);
    assert_eq!(store.spaces().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_written_in_signed_parts_reads_whole() {
    let root = tempfile::tempdir().unwrap();
    let endpoint = serve(root.path(), KEY, SECRET);
    let store = store(&endpoint, KeySource::fixed(keys(SECRET))).await;
    store.create_space(&space()).await.unwrap();
    for size in [(5 << 20) + 1, 16_000_003] {
        let bytes: Bytes = (0..size).map(|at: usize| (at * 31 + at / 251) as u8).collect();
        put(&store, "large", &bytes).await.unwrap();
        let reading = store.open(&item("large"), None, None).await.unwrap().present().unwrap();
        let read = reading.body.try_collect::<Vec<Bytes>>().await.unwrap().concat();
        assert!(read == bytes, "{size}");
    }
}
