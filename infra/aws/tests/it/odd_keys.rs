//! Keys with characters that XML forbids: each is an item like any other.

use futures::TryStreamExt as _;
use mill_aws::{Connection, S3Settings, S3Store, SpaceLayout};
use mill_model::Properties;
use mill_ports::{DestinationStore, ListEntry, Precondition, PutRequest, SourceStore};

use crate::canned_server::{answer, listing, serve};
use crate::servers::{connect, ministack};
use crate::stores::{body, bucket, item, pattern, read, settings, space};

async fn listed(store: &S3Store) -> Vec<String> {
    let pages: Vec<_> = store.list(&space(), None).try_collect().await.unwrap();
    let names = pages.into_iter().flat_map(|page| page.entries).map(|entry| match entry {
        ListEntry::Item(id, _) => id.as_str().to_owned(),
        other => panic!("{other:?}"),
    });
    names.collect()
}

async fn keeps_them(connection: &Connection, part: usize, whole_checksum: bool) {
    let single = SpaceLayout::Single { space: space(), bucket: bucket(connection).await, prefix: String::new() };
    let settings = S3Settings { part_bytes: part as u64, whole_checksum, ..settings(single) };
    let store = S3Store::new(connection, settings);
    let keys = [("a\u{FFFF}b", 10), ("a\u{FFFF}large", part + 10_000), ("b\u{1}c", 10), ("d\u{FFFE}", 10), ("z", 10)];
    for (key, size) in keys {
        let content = PutRequest::new(size as u64, Properties::default());
        let written = store.put(&item(key), &content, &Precondition::Absent, body(&pattern(size))).await;
        written.unwrap_or_else(|error| panic!("{key:?}: {}", mill_ports::error_chain(&error)));
        assert_eq!(read(&store, key).await, pattern(size), "{key:?}");
    }
    assert_eq!(listed(&store).await, keys.map(|(key, _)| key));
    assert!(store.head(&item("q\u{FFFF}")).await.unwrap().present().is_none());
    assert!(store.open(&item("q\u{FFFF}"), None, None).await.unwrap().present().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_xml_cannot_hold_is_an_item_on_ministack() {
    keeps_them(&connect(ministack()).await, 64 << 10, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_xml_cannot_hold_is_an_item_on_seaweed() {
    keeps_them(&crate::server_side_copy::connect().await, 5 << 20, true).await;
}

/// SeaweedFS uses the last key as token, with a replacement for characters that XML forbids.
#[tokio::test]
async fn a_token_that_xml_could_not_hold_leads_to_the_next_page() {
    let endpoint = serve(|request| {
        let query = request.uri().query().unwrap_or_default();
        let page = match query.split('&').find_map(|part| part.strip_prefix("start-after=")) {
            Some("a%EF%BF%BF") => listing(&["b"], None),
            Some(_) => listing(&[], None),
            None if query.contains("continuation-token=") => listing(&["a%EF%BF%BF", "b"], None),
            None => listing(&["a%EF%BF%BF"], Some("a\u{FFFD}")),
        };
        answer(200, &[], &page)
    });
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    let store = S3Store::new(&connect(&endpoint).await, settings(single));
    assert_eq!(listed(&store).await, ["a\u{FFFF}", "b"]);
}
