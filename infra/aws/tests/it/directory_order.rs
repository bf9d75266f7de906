//! A server that lists directory by directory: Mill still lists its keys in byte order, each once.

use std::sync::Arc;

use futures::TryStreamExt as _;
use mill_aws::{S3Store, SpaceLayout};
use mill_model::{ContentId, Properties};
use mill_ports::{
    DestinationStore, ListEntry, Precondition, PutRequest, Rng, SourceStore, StoreError, StoreErrorKind, error_chain,
};
use mill_testkit::SeededRng;
use parking_lot::Mutex;

use crate::canned_server::{answer, listing, serve};
use crate::listing_responses::percent;
use crate::servers::connect;
use crate::stores::{body, bucket, item, pattern, settings, space};

async fn listed(store: &S3Store, after: Option<&str>) -> Result<Vec<String>, StoreError> {
    let pages: Vec<_> = store.list(&space(), after.map(|after| ContentId::new(after).unwrap())).try_collect().await?;
    let names = pages.into_iter().flat_map(|page| page.entries).map(|entry| match entry {
        ListEntry::Item(id, _) => id.as_str().to_owned(),
        other => panic!("{other:?}"),
    });
    Ok(names.collect())
}

/// A slash sorts lowest.
fn in_its_order(key: &str) -> String {
    key.replace('/', "\0")
}

/// A page of such a server: entries, those that end in a slash rolled up, and a token for the next.
fn page(keys: &[String], most: usize, query: &str) -> String {
    let told = |name: &str| query.split('&').find_map(|part| part.strip_prefix(&format!("{name}="))).map(percent);
    let prefix = told("prefix").unwrap_or_default();
    let mut entries: Vec<String> = Vec::new();
    for rest in keys.iter().filter_map(|key| key.strip_prefix(&prefix)) {
        let rolled = told("delimiter").and_then(|_| rest.split_once('/')).map(|(name, _)| format!("{name}/"));
        let entry = format!("{prefix}{}", rolled.unwrap_or_else(|| rest.to_owned()));
        if entries.last() != Some(&entry) {
            entries.push(entry);
        }
    }
    let from: usize = match (told("continuation-token"), told("start-after")) {
        (Some(token), _) => token.parse().unwrap(),
        (None, Some(after)) => entries.partition_point(|entry| in_its_order(entry) <= in_its_order(&after)),
        (None, None) => 0,
    };
    // A page with a maximum is full as well.
    let most = told("max-keys").map_or(most, |most| most.parse().unwrap());
    let some = &entries[from..entries.len().min(from + most)];
    let next = (from + most < entries.len()).then(|| (from + most).to_string());
    let files: Vec<&str> = some.iter().filter(|entry| !entry.ends_with('/')).map(String::as_str).collect();
    let folders = some.iter().filter(|entry| entry.ends_with('/'));
    let folders: Vec<_> =
        folders.map(|name| format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>")).collect();
    let folders = folders.concat();
    listing(&files, next.as_deref()).replace("</ListBucketResult>", &format!("{folders}</ListBucketResult>"))
}

/// Keys of a few short names, so that many share a prefix.
fn random_keys(chance: &SeededRng) -> Vec<String> {
    let below = |most: u64| chance.next_u64() % most;
    let name = || (0..=below(3)).map(|_| char::from(b"a-.!b0"[below(6) as usize])).collect::<String>();
    let mut keys: Vec<String> =
        (0..=below(30)).map(|_| (0..=below(4)).map(|_| name()).collect::<Vec<_>>().join("/")).collect();
    keys.sort_by_key(|key| in_its_order(key));
    keys.dedup();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_listed_by_directory_come_in_byte_order_each_once() {
    let held = Arc::new(Mutex::new((Vec::new(), 1)));
    let served = held.clone();
    let endpoint = serve(move |request| {
        let (keys, most) = &*served.lock();
        answer(200, &[], &page(keys, *most, request.uri().query().unwrap_or_default()))
    });
    let connection = connect(&endpoint).await.without_retries();
    let mut late = 0;
    for seed in 0..70 {
        let chance = SeededRng::new(seed);
        let keys = random_keys(&chance);
        *held.lock() = (keys.clone(), (seed % 7 + 1) as usize);
        let mut expected = keys.clone();
        expected.sort();
        let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
        let store = S3Store::new(&connection, settings(single));
        // The first page alone does not reveal the order.
        late += usize::from(!keys.is_sorted() && keys.iter().take((seed % 7 + 1) as usize).is_sorted());
        let found = listed(&store, None).await;
        assert_eq!(
            found.unwrap_or_else(|error| panic!("{seed} {keys:?}: {}", error_chain(&error))),
            expected,
            "{seed}"
        );
        if !keys.is_sorted() {
            for after in keys.iter().chain(&["a".to_owned(), "a-/b".to_owned(), "zz".to_owned()]) {
                let behind: Vec<_> = expected.iter().filter(|key| *key > after).cloned().collect();
                // Also for a store object that knows nothing about the server yet.
                let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
                for store in [&store, &S3Store::new(&connection, settings(single))] {
                    let found = listed(store, Some(after)).await;
                    let found = found.unwrap_or_else(|error| panic!("{seed} {after}: {}", error_chain(&error)));
                    assert_eq!(found, behind, "{seed} {after} of {keys:?}");
                }
            }
        }
    }
    assert!(late > 10, "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_disorder_is_an_error_that_names_the_server() {
    let endpoint = serve(|_| answer(200, &[], &listing(&["b", "a"], None)));
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    let store = S3Store::new(&connect(&endpoint).await, settings(single));
    let error = listed(&store, None).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unexpected);
    let (told, port) = (error_chain(&error), endpoint.rsplit(':').next().unwrap());
    assert!(told.contains("`a` stands out of order") && told.contains(port), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_seaweed_lists_directory_by_directory_is_listed_by_bytes() {
    let connection = crate::server_side_copy::connect().await;
    let single = SpaceLayout::Single { space: space(), bucket: bucket(&connection).await, prefix: String::new() };
    let store = S3Store::new(&connection, settings(single));
    let mut keys = ["a", "photos/x", "photos/-/a", "photos-old/y", "photos.txt", "photos!/z/-", "photos!/z-", "z"];
    for key in keys {
        let content = PutRequest::new(3, Properties::default());
        store.put(&item(key), &content, &Precondition::Absent, body(&pattern(3))).await.unwrap();
    }
    keys.sort_unstable();
    assert_eq!(listed(&store, None).await.unwrap(), keys);
    for (at, after) in keys.iter().enumerate() {
        assert_eq!(listed(&store, Some(after)).await.unwrap(), keys[at + 1..], "{after}");
    }
}
