//! Measurements, not promises. `cargo test --release -p mill-local -- --ignored --nocapture --test-threads 1 speed`

use std::time::Instant;

use super::*;

const AT_ONCE: usize = 256;

fn report(what: &str, count: usize, began: Instant) {
    let took = began.elapsed();
    println!("{what}: {count} in {took:.2?}, {:.0}/s", count as f64 / took.as_secs_f64());
}

async fn each(store: &FolderStore, count: usize, old: bool) {
    let began = Instant::now();
    stream::iter(0..count)
        .map(|n| {
            let store = store.clone();
            let pairs = if old { vec![("file-mode", "0644"), ("file-mtime", "1000000000.000000000")] } else { vec![] };
            tokio::spawn(async move {
                let id = format!("d{:03}/item-{n:06}", n / 500);
                put(&store, &id, &[7; 1000], properties(&pairs), &Precondition::Absent).await.unwrap();
            })
        })
        .buffer_unordered(AT_ONCE)
        .for_each(|done| async { done.unwrap() })
        .await;
    report(if old { "put with mode and mtime" } else { "put" }, count, began);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_small_items() {
    let count = 20_000;
    let scratch = Scratch::new();
    each(&scratch.store, count, true).await;
    let other = Scratch::new();
    each(&other.store, count, false).await;
    for (what, opening) in [("head", false), ("open and read", true)] {
        let began = Instant::now();
        stream::iter(0..5 * count)
            .map(|n| {
                let store = scratch.store.clone();
                let n = n % count;
                tokio::spawn(async move {
                    let id = format!("d{:03}/item-{n:06}", n / 500);
                    if opening {
                        assert_eq!(read(&store, &id).await.unwrap().len(), 1000);
                    } else {
                        assert_eq!(head(&store, &id).await.unwrap().size, 1000);
                    }
                })
            })
            .buffer_unordered(AT_ONCE)
            .for_each(|done| async { done.unwrap() })
            .await;
        report(what, 5 * count, began);
    }
    let began = Instant::now();
    stream::iter(0..count)
        .map(|n| {
            let store = scratch.store.clone();
            tokio::spawn(async move {
                let id = format!("d{:03}/item-{n:06}", n / 500);
                assert_eq!(store.delete(&at(&id), &Precondition::Always).await.unwrap(), Presence::Present(()));
            })
        })
        .buffer_unordered(AT_ONCE)
        .for_each(|done| async { done.unwrap() })
        .await;
    report("delete", count, began);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_listings() {
    let scratch = Scratch::new();
    let count = 300_000;
    for n in 0..count {
        std::fs::File::create(scratch.path(&format!("item-{n:08}"))).unwrap();
    }
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(ids(&scratch.store).await.len(), count);
        report("list flat", count, began);
    }
    let scratch = Scratch::new();
    for n in 0..count {
        if n % 100 == 0 {
            std::fs::create_dir_all(scratch.path(&format!("d{}/e{}", n / 10_000, n / 100))).unwrap();
        }
        std::fs::File::create(scratch.path(&format!("d{}/e{}/item-{n:08}", n / 10_000, n / 100))).unwrap();
    }
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(ids(&scratch.store).await.len(), count);
        report("list tree", count, began);
    }
}
