//! The number of requests for a space while its items are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use mill_aws::{S3Settings, S3Store, SpaceLayout};
use mill_model::{Monotonic, Timestamp};
use mill_ports::{Clock, SourceStore as _};

use crate::canned_server::{answer, listing, not_there, serve};
use crate::servers::connect;
use crate::stores::{MODIFIED, item, settings, space};

/// A clock that the test moves.
#[derive(Debug, Default)]
struct Seconds(AtomicU64);

#[async_trait]
impl Clock for Seconds {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed) * 1_000)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_origin(Duration::from_secs(self.0.load(Ordering::Relaxed)))
    }

    async fn sleep(&self, _: Duration) {}
}

/// A store with only the item `here`, and the number of its list requests.
async fn store() -> (S3Store, Arc<Seconds>, Arc<AtomicUsize>) {
    let lists = Arc::new(AtomicUsize::new(0));
    let noted = lists.clone();
    let endpoint = serve(move |request| {
        if request.uri().query().unwrap_or_default().contains("list-type=2") {
            noted.fetch_add(1, Ordering::Relaxed);
            return answer(200, &[], &listing(&[], None));
        }
        if request.uri().path().ends_with("/here") {
            return answer(200, &[("etag", "\"e\""), ("content-length", "3"), ("last-modified", MODIFIED)], "");
        }
        not_there()
    });
    let clock = Arc::new(Seconds::default());
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    let settings = S3Settings { clock: clock.clone(), ..settings(single) };
    (S3Store::new(&connect(&endpoint).await.without_retries(), settings), clock, lists)
}

async fn is_here(store: &S3Store, id: &str) -> bool {
    store.head(&item(id)).await.unwrap().present().is_some()
}

#[tokio::test]
async fn of_many_simultaneous_calls_one_asks_for_the_space() {
    let (store, clock, lists) = store().await;
    for round in 1..=3 {
        let ids: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        let looks = join_all(ids.iter().map(|id| is_here(&store, id))).await;
        assert!(!looks.contains(&true));
        assert_eq!(lists.load(Ordering::Relaxed), round);
        clock.0.fetch_add(60, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_space_in_which_items_are_found_is_not_asked_for() {
    let (store, clock, lists) = store().await;
    for _ in 0..20 {
        assert!(is_here(&store, "here").await && !is_here(&store, "gone").await);
        clock.0.fetch_add(4, Ordering::Relaxed);
    }
    assert_eq!(lists.load(Ordering::Relaxed), 0);
    // An old sighting proves nothing.
    clock.0.fetch_add(60, Ordering::Relaxed);
    assert!(!is_here(&store, "gone").await);
    assert_eq!(lists.load(Ordering::Relaxed), 1);
}
