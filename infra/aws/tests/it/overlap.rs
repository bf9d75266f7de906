//! Stores that share objects under other addresses, bucket names or keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::TryStreamExt as _;
use hyper::Request;
use mill_aws::{Connection, OverlapResult, S3Store, SpaceLayout};
use mill_local::OsRng;
use mill_model::{ContentId, Properties};
use mill_ports::{DestinationStore, Precondition, PutRequest, RefusalReason, SourceStore, StoreErrorKind};
use parking_lot::Mutex;

use crate::canned_server::{Answer, answer, listing, not_there, serve};
use crate::servers::connect;
use crate::stores::{body, item, pattern, settings, space};

/// A service: its objects, as `bucket/key`, and its requests.
#[derive(Debug, Default)]
struct Service {
    objects: Mutex<BTreeSet<String>>,
    put: AtomicUsize,
    asked: AtomicUsize,
    /// Whether writes are denied.
    read_only: bool,
}

impl Service {
    fn with(buckets: &[&str]) -> Arc<Self> {
        let made = Self::default();
        // A bucket exists as long as it holds a key.
        made.objects.lock().extend(buckets.iter().map(|bucket| format!("{bucket}/kept")));
        Arc::new(made)
    }

    fn keys(&self) -> Vec<String> {
        self.objects.lock().iter().cloned().collect()
    }

    fn answer(&self, request: &Request<Bytes>, path: &str) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut objects = self.objects.lock();
        let query = request.uri().query().unwrap_or_default();
        let told =
            |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(decoded);
        let bucket = path.split('/').next().unwrap();
        match request.method().as_str() {
            "GET" if !objects.iter().any(|object| object.starts_with(&format!("{bucket}/"))) => {
                answer(404, &[], "<Error><Code>NoSuchBucket</Code></Error>")
            }
            "GET" => {
                let (prefix, behind) = (told("prefix").unwrap_or_default(), told("start-after").unwrap_or_default());
                let keys = objects.iter().filter_map(|object| object.strip_prefix(&format!("{bucket}/")));
                let keys: Vec<&str> = keys.filter(|key| key.starts_with(&prefix) && **key > *behind).collect();
                answer(200, &[], &listing(&keys, None).replace("<Name>bucket</Name>", ""))
            }
            _ if self.read_only => answer(403, &[], "<Error><Code>AccessDenied</Code></Error>"),
            "PUT" => {
                self.put.fetch_add(1, Ordering::Relaxed);
                objects.insert(path.to_owned());
                answer(200, &[("etag", "\"e\"")], "")
            }
            "DELETE" => {
                objects.remove(path);
                answer(204, &[], "")
            }
            _ => not_there(),
        }
    }

    /// An address of the service at which another prefix of paths stands for this one.
    async fn at(self: &Arc<Self>, called: &'static str, is: &'static str) -> Connection {
        let service = self.clone();
        let address = serve(move |request| {
            let path = request.uri().path().trim_start_matches('/');
            let path = path.strip_prefix(called).map_or_else(|| path.to_owned(), |rest| format!("{is}{rest}"));
            service.answer(request, &path)
        });
        connect(&address).await.without_retries()
    }
}

fn decoded(text: &str) -> String {
    text.replace("%2F", "/")
}

fn in_bucket(connection: &Connection, bucket: &str, prefix: &str) -> S3Store {
    let single = SpaceLayout::Single { space: space(), bucket: bucket.into(), prefix: prefix.into() };
    S3Store::new(connection, settings(single))
}

async fn witnessed(destination: &S3Store, source: &S3Store) -> OverlapResult {
    destination.witness(source, &OsRng).await.unwrap()
}

#[tokio::test]
async fn a_witness_reveals_two_addresses_of_one_service_and_is_removed() {
    let service = Service::with(&["a", "b", "mill-a"]);
    let (one, other) = (service.at("", "").await, service.at("", "").await);
    assert_ne!(one.s3(), other.s3());
    let before = service.keys();
    for (destination, source, overlap) in [
        (("a", ""), ("a", ""), true),
        (("a", "x/"), ("a", ""), true),
        (("a", ""), ("a", "x/"), true),
        (("a", "x/"), ("a", "y/"), false),
        (("a", ""), ("b", ""), false),
    ] {
        let (to, from) = (in_bucket(&one, destination.0, destination.1), in_bucket(&other, source.0, source.1));
        let found = witnessed(&to, &from).await;
        assert_eq!(matches!(found, OverlapResult::Overlap(_)), overlap, "{destination:?} {source:?}: {found:?}");
        assert_eq!(service.keys(), before, "{destination:?} {source:?}");
    }
    // Each store has its own bucket.
    let buckets = |connection: &Connection, prefix: &str| {
        S3Store::new(connection, settings(SpaceLayout::Buckets { prefix: prefix.into() }))
    };
    let found = witnessed(&in_bucket(&one, "mill-a", ""), &buckets(&other, "mill-")).await;
    assert!(matches!(found, OverlapResult::Overlap(_)), "{found:?}");
    assert_eq!(witnessed(&in_bucket(&one, "a", ""), &buckets(&other, "mill-")).await, OverlapResult::Apart);
}

/// A gateway shows the destination's bucket, or a part of it, under another name.
#[tokio::test]
async fn a_bucket_that_is_called_otherwise_is_found() {
    let service = Service::with(&["real"]);
    let direct = service.at("", "").await;
    let gateway = service.at("shown", "real").await;
    let found = witnessed(&in_bucket(&direct, "real", ""), &in_bucket(&gateway, "shown", "")).await;
    assert!(matches!(found, OverlapResult::Overlap(_)), "{found:?}");
    let part = service.at("shown", "real/deep").await;
    let found = witnessed(&in_bucket(&direct, "real", "deep/"), &in_bucket(&part, "shown", "")).await;
    assert!(matches!(found, OverlapResult::Overlap(_)), "{found:?}");
}

#[tokio::test]
async fn what_names_tell_costs_no_request() {
    let service = Service::with(&["a", "b"]);
    let connection = service.at("", "").await;
    let store = |bucket: &str| in_bucket(&connection, bucket, "");
    assert!(matches!(witnessed(&store("a"), &store("a")).await, OverlapResult::Overlap(_)));
    assert_eq!(witnessed(&store("a"), &store("b")).await, OverlapResult::Apart);
    assert_eq!(service.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn two_services_are_apart_and_one_that_says_nothing_is_not_known() {
    let (to, from) = (Service::with(&["a"]), Service::with(&["a"]));
    let (there, here) = (to.at("", "").await, from.at("", "").await);
    assert_eq!(witnessed(&in_bucket(&there, "a", ""), &in_bucket(&here, "a", "")).await, OverlapResult::Apart);
    assert_eq!((to.keys(), from.put.load(Ordering::Relaxed)), (vec!["a/kept".to_owned()], 0));
    assert_eq!(witnessed(&in_bucket(&there, "new", ""), &in_bucket(&here, "a", "")).await, OverlapResult::NoBucketYet);
    let silent = connect("http://127.0.0.1:9").await.without_retries();
    let failed = in_bucket(&there, "a", "").witness(&in_bucket(&silent, "a", ""), &OsRng).await.unwrap_err();
    assert_eq!(failed.kind, StoreErrorKind::Unreachable);
    assert_eq!(to.keys(), ["a/kept"], "the witness goes also where nothing is known");
    let read_only = Arc::new(Service { read_only: true, ..Service::default() });
    read_only.objects.lock().insert("a/kept".into());
    let to = in_bucket(&read_only.at("", "").await, "a", "");
    assert_eq!(to.witness(&in_bucket(&here, "a", ""), &OsRng).await.unwrap_err().kind, StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn a_witness_that_a_dead_process_left_is_nobodys_content() {
    let name = format!(".mill-witness-{}", "0a".repeat(16));
    let service = Service::with(&["a"]);
    service.objects.lock().extend([format!("a/{name}"), format!("a/x/{name}")]);
    let store = in_bucket(&service.at("", "").await, "a", "");
    let pages: Vec<_> = store.list(&space(), None).try_collect().await.unwrap();
    let entries: Vec<String> = pages.iter().flat_map(|page| &page.entries).map(|entry| format!("{entry:?}")).collect();
    assert!(entries.len() == 1 && entries[0].contains("kept"), "{entries:?}");
    let beside = S3Store::new(&service.at("", "").await, settings(SpaceLayout::InBucket("a".into())));
    let left_out = beside.list_spaces().await.unwrap().left_out;
    assert_eq!(left_out.count, 1, "only what is no witness is named: {left_out:?}");
    let bytes = pattern(3);
    let content = PutRequest::new(3, Properties::default());
    let address = mill_model::ItemAddress { id: ContentId::new(name.as_str()).unwrap(), ..item("a") };
    let refused = store.put(&address, &content, &Precondition::Always, body(&bytes)).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Refused(RefusalReason::Reserved));
}
