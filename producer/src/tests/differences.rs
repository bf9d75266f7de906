//! Compare `differences`: items that listings and proofs show to be in sync are not queued.

use std::num::NonZeroUsize;

use super::world::{DIFFERENCES, ONE, World, is_finished};
use crate::ProducerSettings;

/// Both sides with the same items, all proven in sync.
async fn in_sync(file: &str, count: usize) -> World {
    let world = World::new(file);
    world.insert("1", "item", count);
    world.insert("2", "item", count);
    for number in 0..count {
        world.add_sync_proof(&format!("item{number:05}")).await;
    }
    world
}

fn nibble(most: usize) -> impl FnOnce(&mut ProducerSettings) {
    move |settings| settings.looping.nibble = NonZeroUsize::new(most).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_proven_at_both_sides_is_counted_and_not_queued() {
    let world = in_sync(DIFFERENCES, 120).await;
    let report = world.session().await;
    assert!(is_finished(&report));
    assert!(world.queue.sent().is_empty());
    let totals = world.statistics.totals();
    assert_eq!((totals.examined(), totals.unchanged()), (120, 120));
}

#[tokio::test(start_paused = true)]
async fn compare_everything_trusts_no_proof() {
    let world = in_sync(ONE, 12).await;
    world.session().await;
    assert_eq!(world.ids().len(), 12);
    assert_eq!(world.statistics.totals().examined(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_at_either_side_a_missing_item_and_a_lost_proof_are_queued() {
    for most in [2, 1_000] {
        let world = in_sync(DIFFERENCES, 50).await;
        world.plant_one("1", "item00003"); // written again: another version
        world.plant_one("2", "item00011");
        world.store("2").remove(&super::world::item("s", "item00022"));
        world.sync_proofs.remove(&World::pair(), &super::world::content("item00044")).await.unwrap();
        world.plant_one("1", "new");
        world.plant_one("2", "old");
        world.know_places().await;
        let old = super::world::item("s", "old");
        let found = mill_ports::SourceStore::head(world.store("2"), &old).await.unwrap().present().unwrap();
        world.sync_proofs.put_written(&World::pair(), &old.id, &found.version).await.unwrap();
        let report = world.session_with(nibble(most)).await;
        assert!(is_finished(&report));
        let mut ids = world.ids();
        assert_eq!(ids.remove(0), "old");
        assert_eq!(ids, ["item00003", "item00011", "item00022", "item00044", "new"], "nibbles of {most}");
        let totals = world.statistics.totals();
        assert_eq!((totals.examined(), totals.unchanged()), (46, 46), "nibbles of {most}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_too_young_proves_nothing() {
    let world = World::new(DIFFERENCES);
    world.insert("1", "item", 3);
    world.insert("2", "item", 3);
    world.session().await;
    assert_eq!(world.ids().len(), 3, "never sealed, so never proven");
}

#[tokio::test(start_paused = true)]
async fn a_long_stretch_in_sync_moves_the_marker_without_queueing() {
    let world = in_sync(DIFFERENCES, 450).await;
    for name in ["new1", "new2", "new3"] {
        world.plant_one("1", name);
    }
    let report = world.session_with(nibble(2)).await;
    assert!(is_finished(&report));
    assert_eq!(world.ids(), ["new1", "new2", "new3"]);
    assert_eq!(world.statistics.totals().unchanged(), 450);
}
