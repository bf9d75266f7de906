//! What is read, and which reads sync proofs avoid.

use std::collections::BTreeMap;

use super::*;
use futures::TryStreamExt as _;
use mill_ports::{SourceStore as _, StoreErrorKind, Table};
use mill_testkit::PortCall;
use mill_testkit::{CallCount, CallRecorder};

use crate::fixture::ProbeFault;

#[tokio::test(start_paused = true)]
async fn a_proven_pair_is_not_read_again() {
    for (source, destination) in
        [(plain(), plain()), (StoreBehavior::default(), plain()), (plain(), telling(Algorithm::Sha256))]
    {
        let site = Fixture::of(source, destination);
        site.source.insert(&at("x"), vec![7; 100_000], noted("n"));
        site.settle("x").await;
        site.run("x").await.unwrap();
        assert_eq!((site.source_port.bytes_read(), site.destination_port.bytes_read()), (0, 0));
        assert_eq!(site.source_port.calls(), ["head"]);
        assert_eq!(site.destination_port.calls(), ["head"]);
        assert_eq!(site.totals().unchanged, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_item_costs_one_call_of_its_source_and_two_of_its_destination() {
    let site = Fixture::of(plain(), plain());
    let registry = site.registry(policy(true));
    let run =
        async |item| registry.processor(Fixture::task(Some(&at(item)))).unwrap().run(&site.attempt()).await.unwrap();
    let calls = || (site.source_port.calls(), site.destination_port.calls());
    run("not there").await;
    assert_eq!(calls(), (vec!["open"], vec!["head"]));
    site.source.insert(&at("x"), vec![7; 100_000], noted("n"));
    run("x").await;
    assert_eq!(calls(), (vec!["open"], vec!["head", "space", "put"]), "the first of a space looks for it too");
    site.source.insert(&at("y"), vec![7; 100_000], noted("n"));
    run("y").await;
    assert_eq!(calls(), (vec!["open"], vec!["head", "put"]));
    assert!(site.in_sync());
}

#[tokio::test(start_paused = true)]
async fn a_lost_proof_costs_one_reading_and_nothing_else() {
    let site = Fixture::of(plain(), plain());
    site.source.insert(&at("x"), vec![7; 100_000], noted("n"));
    site.settle("x").await;
    site.sync_proofs.remove(&Fixture::pair(), &at("x").id).await.unwrap();
    site.run("x").await.unwrap();
    assert_eq!((site.source_port.bytes_read(), site.destination_port.bytes_read()), (100_000, 100_000));
    site.run("x").await.unwrap();
    assert_eq!((site.source_port.bytes_read(), site.destination_port.bytes_read()), (0, 0));
    assert_eq!(site.destination.writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_compared_as_its_disk_has_it_and_not_as_a_cache_does() {
    let site = Fixture::of(plain(), plain());
    site.source.insert(&at("x"), vec![7; 1_000], noted("n"));
    site.settle("x").await;
    site.sync_proofs.remove(&Fixture::pair(), &at("x").id).await.unwrap();
    site.destination_port.calls();
    site.destination_port.meet("open_uncached", [ProbeFault::Flipped]);
    site.run("x").await.unwrap();
    assert_eq!(site.destination_port.calls(), ["head", "open_uncached", "space", "put"], "its disk has other bytes");
}

#[tokio::test(start_paused = true)]
async fn what_can_only_be_read_from_a_cache_is_written_anew_and_never_proven_for_that() {
    let site = Fixture::of(plain(), plain());
    site.source.insert(&at("x"), vec![7; 1_000], noted("n"));
    site.settle("x").await;
    site.sync_proofs.remove(&Fixture::pair(), &at("x").id).await.unwrap();
    site.destination_port.calls();
    site.destination_port.meet("open_uncached", [ProbeFault::Fails(StoreErrorKind::OnlyCached)]);
    site.destination_port.meet("put", [ProbeFault::Fails(StoreErrorKind::Unavailable)]);
    assert!(site.run("x").await.is_err() && !site.has_sync_proof("x").await);
    assert_eq!(site.destination_port.calls(), ["head", "open_uncached", "space", "put"]);
    site.settle("x").await;
    site.run("x").await.unwrap();
    assert_eq!(site.destination_port.calls(), ["head"], "what was written durably is believed");
    assert!(site.in_sync());
}

#[tokio::test(start_paused = true)]
async fn only_the_side_that_changed_is_read() {
    let site = Fixture::of(plain(), plain());
    site.source.insert(&at("x"), vec![7; 1_000], noted("n"));
    site.settle("x").await;
    site.source.insert(&at("x"), vec![7; 1_000], noted("m"));
    site.run("x").await.unwrap();
    assert_eq!((site.source_port.bytes_read(), site.destination_port.bytes_read()), (1_000, 0));
    assert_eq!(site.destination_port.calls(), ["head", "space", "put_properties"]);
    site.destination.insert(&at("x"), vec![7; 1_000], noted("tampered with"));
    site.run("x").await.unwrap();
    assert_eq!((site.source_port.bytes_read(), site.destination_port.bytes_read()), (0, 1_000));
    assert!(site.in_sync());
}

#[tokio::test(start_paused = true)]
async fn a_side_that_tells_its_checksum_is_not_read() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        for (source, destination, read) in
            [(telling(algorithm), plain(), (0, 1_000)), (plain(), telling(algorithm), (1_000, 0))]
        {
            let site = Fixture::of(source, destination);
            site.source.insert(&at("x"), vec![7; 1_000], noted("n"));
            site.destination.insert(&at("x"), vec![7; 1_000], noted("n"));
            site.run("x").await.unwrap();
            assert_eq!((site.source_port.bytes_read(), site.destination_port.bytes_read()), read);
            assert_eq!(site.totals().unchanged, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unsettled_versions_are_never_proven() {
    for young_side in 0..2 {
        let settles_after = |side| if side == young_side { Duration::from_secs(2) } else { Duration::ZERO };
        let behavior = |side| StoreBehavior { settles_after: settles_after(side), ..plain() };
        let site = Fixture::of(behavior(0), behavior(1));
        site.source.insert(&at("x"), "same", noted("n"));
        site.run("x").await.unwrap();
        assert!(!site.has_sync_proof("x").await, "after the copy");
        site.run("x").await.unwrap();
        assert!(!site.has_sync_proof("x").await, "after the comparison");
        site.clock.sleep(Duration::from_secs(2)).await;
        site.run("x").await.unwrap();
        assert!(site.has_sync_proof("x").await);
        let (source, destination) = (site.source.head(&at("x")).await, site.destination.head(&at("x")).await);
        let version =
            |head: Result<mill_ports::Presence<mill_model::ItemFacts>, _>| head.unwrap().present().unwrap().version;
        let sync_proof = site.sync_proofs.get(&Fixture::pair(), &at("x").id).await.unwrap().unwrap();
        assert!(sync_proof.holds(&version(source), &version(destination)));
    }
}

/// Stores whose items are too young for sync proofs for two seconds, and a repository of sync proofs that counts its
/// calls.
fn young() -> (Fixture, Arc<CallRecorder<dyn Table>>) {
    let young = || StoreBehavior { settles_after: Duration::from_secs(2), ..plain() };
    let mut site = Fixture::of(young(), young());
    let table: Arc<dyn Table> = Arc::new(MemoryTable::new("seals"));
    let table = Arc::new(CallRecorder::new(table));
    site.sync_proofs = SyncProofs::new(table.clone());
    (site, table)
}

#[tokio::test(start_paused = true)]
async fn a_proof_on_bytes_that_were_replaced_is_forgotten_when_there_cannot_be_another_yet() {
    // Of another size, and of the same.
    for bytes in ["longer than it was", "else"] {
        let (site, _) = young();
        site.source.insert(&at("x"), "same", noted("n"));
        site.settle("x").await;
        assert!(site.has_sync_proof("x").await);
        site.source.insert(&at("x"), bytes, noted("n"));
        site.run("x").await.unwrap();
        assert!(site.in_sync());
        assert!(!site.has_sync_proof("x").await, "it would vouch for bytes that are not there any more");
    }
    // Somebody replaced both sides alike.
    let (site, _) = young();
    site.source.insert(&at("x"), "same", noted("n"));
    site.settle("x").await;
    for side in [&site.source, &site.destination] {
        side.insert(&at("x"), "else", noted("n"));
    }
    site.run("x").await.unwrap();
    assert_eq!((site.totals().unchanged > 0, site.has_sync_proof("x").await), (true, false));
}

/// What is known of the only item: whether the current copy is this pair's, and whether there is a sync proof.
async fn known(site: &Fixture) -> Option<(bool, bool)> {
    let version = site.destination.head(&at("x")).await.unwrap().present().unwrap().version;
    let all: Vec<_> = site.sync_proofs.stream(&Fixture::pair(), None).try_collect().await.unwrap();
    assert!(all.len() <= 1);
    all.first().map(|(_, row)| (row.is_ours(&version), row.proof.is_some()))
}

#[tokio::test(start_paused = true)]
async fn what_is_written_too_young_to_be_proven_is_noted_as_ours() {
    let (site, _) = young();
    site.source.insert(&at("x"), "same", noted("n"));
    site.run("x").await.unwrap();
    assert_eq!(known(&site).await, Some((true, false)), "a copy");
    site.settle("x").await;
    assert_eq!(known(&site).await, Some((true, true)));
    site.source.insert(&at("x"), "same", noted("m"));
    site.run("x").await.unwrap();
    assert_eq!(known(&site).await, Some((true, false)), "other properties: the seal was on another state");
    site.settle("x").await;
    site.source.insert(&at("x"), "longer", noted("m"));
    site.run("x").await.unwrap();
    assert_eq!(known(&site).await, Some((true, false)), "other bytes");
    site.destination.insert(&at("x"), "longer", noted("m"));
    assert_eq!(known(&site).await, Some((false, false)), "somebody wrote it anew");
    site.run("x").await.unwrap();
    assert_eq!(known(&site).await, Some((true, false)), "it was found to be equal");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_written_or_found_equal_is_not_noted_as_ours() {
    let (site, table) = young();
    site.destination.insert(&at("x"), "theirs", noted("n"));
    site.run("x").await.unwrap();
    assert_eq!(known(&site).await, None, "it vanished");
    site.source.insert(&at("x"), "ours", noted("n"));
    let failed = StoreErrorKind::Unexpected;
    site.destination_port.meet("put", fails(&failed, 3));
    site.run("x").await.unwrap_err();
    assert_eq!(known(&site).await, None, "it was not replaced");
    assert_eq!(table.calls(PortCall::PutRow).calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_copy_costs_the_table_of_proofs_one_write() {
    let (site, table) = young();
    site.source.insert(&at("x"), "same", noted("n"));
    site.run("x").await.unwrap();
    assert!(site.in_sync());
    assert_eq!(table.all(), BTreeMap::from([(PortCall::PutRow, CallCount { calls: 1, entries: 1 })]));
}

#[tokio::test(start_paused = true)]
async fn a_table_of_proofs_that_holds_nonsense_changes_nothing() {
    let table = Arc::new(MemoryTable::new("seals"));
    let mut site = Fixture::of(plain(), plain());
    site.sync_proofs = SyncProofs::new(table.clone());
    site.source.insert(&at("x"), "same", noted("n"));
    site.settle("x").await;
    let (key, _) = table.rows().pop().unwrap();
    table.put(&key, "nonsense".into(), mill_ports::RowPrecondition::Always).await.unwrap();
    site.destination.insert(&at("x"), "else", noted("n"));
    site.run("x").await.unwrap();
    assert!(site.in_sync());
}

#[tokio::test(start_paused = true)]
async fn items_of_two_sizes_are_not_read_to_be_compared() {
    let site = Fixture::of(plain(), plain());
    site.source.insert(&at("x"), vec![7; 1_000], noted("n"));
    site.destination.insert(&at("x"), vec![7; 999], noted("n"));
    site.run("x").await.unwrap();
    assert_eq!((site.source_port.bytes_read(), site.destination_port.bytes_read()), (1_000, 0));
    assert!(site.in_sync());
}
