//! Ids of a bucket that conflict in a folder, and the directory markers that consoles create.

use std::num::NonZeroUsize;

use mill_model::Properties;
use mill_ports::SourceStore as _;

use super::world::{DIFFERENCES, ONE, World, content, is_finished, item};
use crate::{ProducerSettings, SessionEnd, SessionReport};

/// A source that holds any ids, and a destination whose ids are paths.
fn to_folder(file: &str) -> World {
    let mut world = World::new(file);
    world.ids_are_paths("2");
    world
}

fn sign(world: &World, id: &str, name: &str, properties: Properties) {
    world.store(id).insert(&item("s", name), "", properties);
}

/// Runs sessions with a small queue and small nibbles until the run is over. Returns the queued ids in order and the named entries.
async fn run(world: &World, nibble: usize, queue_max: u64) -> (Vec<String>, Vec<String>) {
    let (mut queued, mut named) = (Vec::new(), Vec::new());
    let small = move |settings: &mut ProducerSettings| {
        settings.looping.nibble = NonZeroUsize::new(nibble).unwrap();
        settings.looping.queue_max = queue_max;
    };
    loop {
        let report: SessionReport = world.session_with(small).await;
        queued.extend(world.ids().into_iter().filter(|id| id != "/"));
        named.extend(report.findings.named_first.iter().map(|entry| format!("{}: {}", entry.shown, entry.class)));
        world.queue.drain().await;
        if is_finished(&report) {
            return (queued, named);
        }
        assert_eq!(report.ended, SessionEnd::QueueFull);
    }
}

#[tokio::test(start_paused = true)]
async fn of_ids_that_exclude_each_other_the_first_is_queued_however_a_run_is_cut() {
    for file in [DIFFERENCES, ONE] {
        for (nibble, queue_max) in [(1, 1), (2, 3), (3, 1), (1_000, 10_000)] {
            let world = to_folder(file);
            for id in ["a", "a!", "a-x", "a/b", "a/b/c", "ab", "ab.d/e", "c/d", "c/d.e", "c/d/e", "c/f"] {
                world.plant_one("1", id);
            }
            sign(&world, "1", "a/", Properties::default());
            let (queued, named) = run(&world, nibble, queue_max).await;
            assert_eq!(queued, ["a", "a!", "a-x", "ab", "ab.d/e", "c/d", "c/d.e", "c/f"], "{nibble} {queue_max}");
            let ids: Vec<&str> = named.iter().map(|entry| entry.split(':').next().unwrap()).collect();
            assert_eq!(ids, ["a/", "a/b", "a/b/c", "c/d/e"], "{nibble} {queue_max}");
            assert!(named[3].contains("`c/d`"), "{named:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_at_the_destination_keeps_its_place() {
    let world = to_folder(DIFFERENCES);
    for id in ["a", "a/b", "a/c", "d", "d/e"] {
        world.plant_one("1", id);
    }
    world.plant_one("2", "a/c");
    world.plant_one("2", "d");
    let (queued, named) = run(&world, 1_000, 10_000).await;
    assert_eq!(queued, ["a", "a/b", "a/c", "d"], "the task of `a` finds its place taken");
    assert_eq!(named.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn between_stores_that_hold_any_ids_none_excludes_another() {
    let world = World::new(DIFFERENCES);
    for id in ["a", "a/", "a/b", "c/", "c/d"] {
        world.plant_one("1", id);
    }
    world.plant_one("2", "c/d");
    assert_eq!(run(&world, 2, 10_000).await.0, ["a", "a/", "a/b", "c/", "c/d"]);
}

#[tokio::test(start_paused = true)]
async fn the_sign_for_a_directory_that_is_there_is_in_sync_once_its_task_has_seen_it() {
    let world = to_folder(DIFFERENCES);
    sign(&world, "1", "x/", Properties::default());
    sign(&world, "1", "y/", Properties::default());
    for id in ["x/1", "z"] {
        world.plant_one("1", id);
        world.plant_one("2", id);
        world.add_sync_proof(id).await;
    }
    let (queued, _) = run(&world, 1_000, 10_000).await;
    assert_eq!(queued, ["x/", "y/"], "their properties are not known yet");
    let source = world.store("1").head(&item("s", "x/")).await.unwrap().present().unwrap().version;
    for id in ["x/", "y/"] {
        world.sync_proofs.put_copied(&World::pair(), &content(id), &source, &source).await.unwrap();
    }
    let report = world.session_with(|settings| settings.looping.run_start = crate::RunStart::Now).await;
    assert_eq!(world.ids(), ["y/"], "of which nothing is there");
    assert_eq!((report.survey.unchanged, report.survey.queued), (3, 1));
    world.queue.drain().await;
    sign(&world, "1", "x/", Properties([("title".to_owned(), "t".to_owned())].into()));
    world.session_with(|settings| settings.looping.run_start = crate::RunStart::Now).await;
    assert_eq!(world.ids(), ["x/", "y/"], "changed at the source");
}

#[tokio::test(start_paused = true)]
async fn the_sign_for_a_directory_of_the_source_is_never_taken_to_have_vanished() {
    let mut world = World::new(DIFFERENCES);
    world.ids_are_paths("1");
    for id in ["x/1", "z"] {
        world.plant_one("1", id);
        world.plant_one("2", id);
        world.add_sync_proof(id).await;
    }
    world.store("1").insert_refused(&item("s", "links/one"), mill_ports::RefusalReason::SymbolicLink);
    for id in ["x/", "links/"] {
        sign(&world, "2", id, Properties::default());
    }
    let report = world.session().await;
    assert!(world.queue.removes().is_empty() && report.findings.held.is_empty(), "{:?}", report.findings.held);
    sign(&world, "2", "gone/", Properties::default());
    let report = world.session_with(|settings| settings.looping.run_start = crate::RunStart::Now).await;
    assert_eq!(report.findings.held.iter().map(|held| held.count).sum::<u64>(), 1, "what has no directory is");
}
