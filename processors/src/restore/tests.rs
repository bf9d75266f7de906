//! What a restore promises, on stores in memory.

use std::collections::BTreeMap;

use mill_model::{AccountId, Algorithm, Properties, StoreId, Version};
use mill_ports::RefusalReason;
use mill_testkit::{
    FaultInjector, FaultKind, FaultPlan, FaultyStore, InjectedFault, MemoryStore, MemoryTable, PortCall, SeededRng,
    SimClock, StoreBehavior,
};

use super::*;

/// A copy, the place to restore it to, and its sync proofs.
struct Fixture {
    copy: MemoryStore,
    to: MemoryStore,
    sync_proofs: SyncProofs,
    /// The faults of the copy and of the repository of sync proofs.
    plan: Arc<FaultPlan>,
}

fn address(id: &str) -> StoreAddress {
    StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(id).unwrap() }
}

fn at(id: &str) -> ItemAddress {
    ItemAddress { space: SpaceId::new("s").unwrap(), id: ContentId::new(id).unwrap() }
}

fn titled(title: &str) -> Properties {
    Properties([("title".to_owned(), title.to_owned())].into())
}

fn pair() -> SpacePair {
    let (source, destination) = (address("1").store, address("2").store);
    SpacePair { account: address("1").account, source, destination, space: at("x").space }
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(SimClock::new());
        // Bodies come in several pieces.
        let behavior = StoreBehavior { piece_bytes_max: 3, ..StoreBehavior::default() };
        let store = |id| MemoryStore::new(address(id), behavior.clone(), clock.clone());
        let plan = FaultPlan::new(clock.clone(), Arc::new(SeededRng::new(1)));
        let sync_proofs =
            SyncProofs::new(Arc::new(FaultInjector::new(Arc::new(MemoryTable::new("seals")), plan.clone())));
        Self { copy: store("2"), to: store("1"), sync_proofs, plan }
    }

    /// Adds an item to the copy, with a sync proof.
    async fn add_proven(&self, id: &str, bytes: &'static str) {
        self.proven_under(Algorithm::Sha256, id, bytes).await;
    }

    async fn proven_under(&self, algorithm: Algorithm, id: &str, bytes: &'static str) {
        self.copy.insert(&at(id), bytes, titled(id));
        let Presence::Present(facts) = self.copy.head(&at(id)).await.unwrap() else { panic!("it was planted") };
        let mut digester = Digester::new(&[algorithm]);
        digester.update(bytes.as_bytes());
        let proof = SyncProof::of(&Version::settled_at("then"), &facts.version, &digester.finish()[0]).unwrap();
        self.sync_proofs.put(&pair(), &at(id).id, &proof).await.unwrap();
    }

    fn restoration(&self) -> Restoration {
        Restoration {
            copy: Arc::new(FaultyStore::new(Arc::new(self.copy.clone()), address("2"), self.plan.clone())),
            from: address("2"),
            space: at("x").space,
            parts: NamedParts::default(),
            to: Arc::new(self.to.clone()),
            proven_pairs: vec![pair()],
            sync_proofs: Some(self.sync_proofs.clone()),
            overwrite: false,
            unproven: false,
            concurrency: NonZeroUsize::new(2).unwrap(),
        }
    }

    fn there(&self, id: &str) -> Option<Bytes> {
        self.to.content(&at(id)).map(|(bytes, _)| bytes)
    }
}

fn named(restored: &RestorationReport) -> BTreeMap<&str, String> {
    restored.faults.iter().map(|finding| (&*finding.item, finding.what.to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_space_comes_back_with_every_byte_and_property_and_a_second_run_moves_nothing() {
    let site = Fixture::new();
    site.add_proven("large", "many bytes in several pieces").await;
    site.add_proven("empty", "").await;
    site.copy.insert(&at("never sealed"), "bytes", titled("t"));
    let restored = site.restoration().run().await.unwrap();
    assert_eq!(restored, RestorationReport { copied: 3, proven: 2, bytes: 28 + 5, ..RestorationReport::default() });
    assert_eq!(site.to.contents(&at("x").space), site.copy.contents(&at("x").space));
    let writes = site.to.writes();
    let restored = site.restoration().run().await.unwrap();
    assert_eq!(restored, RestorationReport { unchanged: 3, proven: 2, ..RestorationReport::default() });
    assert_eq!(site.to.writes(), writes + 1, "only the space is asked for");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_as_it_was_proven_comes_back_only_when_asked_for_and_is_named_either_way() {
    let site = Fixture::new();
    site.add_proven("changed", "bytes").await;
    site.add_proven("rotten", "bytes").await;
    site.add_proven("whole", "bytes").await;
    site.copy.insert(&at("changed"), "bites", titled("t"));
    site.copy.rot(&at("rotten"), |bytes| bytes[0] ^= 1);
    for unproven in [false, true] {
        let restored = Restoration { unproven, ..site.restoration() }.run().await.unwrap();
        let named = named(&restored);
        assert_eq!(named.keys().copied().collect::<Vec<_>>(), ["changed", "rotten"]);
        assert!(named["changed"].contains("it was changed since"), "{named:?}");
        assert!(named["rotten"].contains("nothing seems to have written it"), "{named:?}");
        assert_eq!(named.values().all(|why| why.starts_with("brought back, but")), unproven, "{named:?}");
        let back = |id| site.there(id).is_some();
        assert_eq!((back("changed"), back("rotten"), back("whole")), (unproven, unproven, true));
        assert_eq!((restored.copied, restored.proven), (if unproven { 2 } else { 1 }, 1));
    }
    let again = Restoration { unproven: true, ..site.restoration() }.run().await.unwrap();
    assert_eq!((again.copied, again.unchanged, again.proven), (0, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn what_stands_there_already_is_kept_and_named_unless_it_may_be_replaced() {
    let site = Fixture::new();
    site.add_proven("bytes", "bytes").await;
    site.add_proven("title", "bytes").await;
    site.to.insert(&at("bytes"), "other", titled("bytes"));
    site.to.insert(&at("title"), "bytes", titled("another"));
    let before = site.to.contents(&at("x").space);
    let restored = site.restoration().run().await.unwrap();
    let kept = named(&restored);
    assert!(kept["bytes"].contains("another file of this name") && kept["title"].contains("--overwrite"), "{kept:?}");
    assert_eq!(site.to.contents(&at("x").space), before);
    let restored = Restoration { overwrite: true, ..site.restoration() }.run().await.unwrap();
    assert_eq!(restored, RestorationReport { copied: 2, proven: 2, bytes: 10, ..RestorationReport::default() });
    assert_eq!(site.to.contents(&at("x").space), site.copy.contents(&at("x").space));
}

#[tokio::test(start_paused = true)]
async fn a_rotten_copy_never_replaces_what_stands_there() {
    let site = Fixture::new();
    site.add_proven("x", "bytes").await;
    site.copy.rot(&at("x"), |bytes| bytes[0] ^= 1);
    site.to.insert(&at("x"), "older", titled("x"));
    let restored = Restoration { overwrite: true, ..site.restoration() }.run().await.unwrap();
    assert!(named(&restored)["x"].contains("not those that were copied here"), "{restored:?}");
    assert_eq!(site.there("x").unwrap(), "older");
    // Nothing is known of an item that was never proven.
    site.copy.insert(&at("y"), "bites", titled("y"));
    site.to.insert(&at("y"), "bytes", titled("y"));
    let restored = Restoration { overwrite: true, ..site.restoration() }.run().await.unwrap();
    assert!(named(&restored)["y"].contains("nothing vouches for"), "{restored:?}");
    assert_eq!(site.there("y").unwrap(), "bytes");
    Restoration { overwrite: true, unproven: true, ..site.restoration() }.run().await.unwrap();
    assert_eq!(site.there("y").unwrap(), "bites");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_leaves_nothing_and_is_named() {
    let site = Fixture::new();
    site.add_proven("x", "bytes in several pieces").await;
    site.plan.fail(PortCall::Open, 1, InjectedFault::Mid(FaultKind::Unexpected));
    let restored = site.restoration().run().await.unwrap();
    assert_eq!(named(&restored).len(), 1, "{restored:?}");
    assert!(site.there("x").is_none());
    assert_eq!(site.restoration().run().await.unwrap().proven, 1, "and comes back with the next run");
}

#[tokio::test(start_paused = true)]
async fn bytes_damaged_on_their_way_do_not_come_back() {
    let site = Fixture::new();
    site.add_proven("x", "bytes in several pieces").await;
    site.plan.fail(PortCall::Open, 1, InjectedFault::Damage);
    let restored = site.restoration().run().await.unwrap();
    assert_eq!((named(&restored).len(), site.there("x")), (1, None), "{restored:?}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_be_listed_is_no_answer() {
    let site = Fixture::new();
    site.add_proven("x", "bytes").await;
    site.plan.fail(PortCall::List, 1, InjectedFault::Before(FaultKind::Unexpected));
    assert!(site.restoration().run().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_does_not_say_whether_it_has_a_proven_item_is_no_answer() {
    let site = Fixture::new();
    site.add_proven("x", "bytes").await;
    site.copy.remove(&at("x"));
    site.plan.fail(PortCall::Head, 1, InjectedFault::Before(FaultKind::Unavailable));
    assert!(site.restoration().run().await.is_err());
    let restored = site.restoration().run().await.unwrap();
    assert!(named(&restored)["x"].contains("is not here any more"), "{restored:?}");
}

#[tokio::test(start_paused = true)]
async fn proven_items_that_may_not_be_read_are_named_and_the_others_come_back() {
    let site = Fixture::new();
    site.copy.insert(&at("good"), "bytes", Properties::default());
    for id in ["gone", "locked"] {
        site.add_proven(id, "bytes").await;
        site.copy.remove(&at(id));
    }
    site.copy.insert_refused(&at("locked"), RefusalReason::Unreadable);
    let restored = Restoration { unproven: true, ..site.restoration() }.run().await.unwrap();
    assert!(site.there("good").is_some());
    for id in ["gone", "locked"] {
        let named = |finding: &ItemFinding| finding.item == id && matches!(finding.what, CopyFault::NotRestored(_));
        assert!(restored.faults.iter().any(named), "{id}: {:?}", restored.faults);
    }
}

/// A sync proof has the checksum that both stores returned.
#[tokio::test(start_paused = true)]
async fn whatever_checksum_a_proof_has_what_came_back_is_proven_again_and_damage_is_named() {
    for algorithm in [Algorithm::Sha256, Algorithm::Md5, Algorithm::Crc64Nvme] {
        let site = Fixture::new();
        site.to.insert_space(&at("x").space);
        site.proven_under(algorithm, "x", "sound bytes").await;
        let restored = site.restoration().run().await.unwrap();
        assert_eq!((restored.copied, restored.proven, restored.faults.len()), (1, 1, 0), "{algorithm:?}");
        let restored = site.restoration().run().await.unwrap();
        assert_eq!((restored.unchanged, restored.proven, restored.faults.len()), (1, 1, 0), "{algorithm:?}");
        site.to.insert(&at("x"), "something else", titled("x"));
        let overwriting = Restoration { overwrite: true, ..site.restoration() };
        let restored = overwriting.run().await.unwrap();
        assert_eq!((restored.copied, restored.proven), (1, 1), "{algorithm:?}");
        assert_eq!(site.there("x").unwrap(), "sound bytes");
        site.copy.rot(&at("x"), |bytes| bytes[0] ^= 1);
        let restored = site.restoration().run().await.unwrap();
        assert_eq!((restored.unchanged, restored.faults.len()), (0, 1), "{algorithm:?}");
        assert_eq!(site.there("x").unwrap(), "sound bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_that_the_copy_does_not_have_leaves_nothing_and_names_those_there_are() {
    let site = Fixture::new();
    site.add_proven("x", "bytes").await;
    let unknown = Restoration { space: SpaceId::new("unknown").unwrap(), ..site.restoration() };
    let error = unknown.run().await.unwrap_err();
    assert!(matches!(&error, RestoreError::SpaceAbsent { known, .. } if *known == [at("x").space]), "{error}");
    assert_eq!(site.to.writes(), 0);
}

/// Enough items for listings and tables of several pages.
async fn many(site: &Fixture) -> Vec<String> {
    let names: Vec<String> = (0..2_500).map(|n| format!("{n:05}")).collect();
    for name in &names {
        site.add_proven(name, "bytes").await;
    }
    names
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_breaks_off_is_named_with_all_that_did_not_come_back() {
    for fault in [InjectedFault::Truncate, InjectedFault::Mid(FaultKind::Unexpected)] {
        let mut broke_midway = 0;
        for seed in 0..6 {
            let site = Fixture { plan: plan(seed), ..Fixture::new() };
            let all = many(&site).await;
            site.plan.fail(PortCall::List, 1, fault);
            let Ok(restored) = site.restoration().run().await else { continue };
            broke_midway += 1;
            let said = named(&restored);
            assert!(said["s"].contains("broke off behind"), "{:?}", said["s"]);
            for name in &all {
                assert_ne!(site.there(name).is_some(), said.contains_key(&**name), "{name}: either back or named");
            }
        }
        assert!(broke_midway > 0, "{fault:?}");
    }
}

fn plan(seed: u64) -> Arc<FaultPlan> {
    FaultPlan::new(Arc::new(SimClock::new()), Arc::new(SeededRng::new(seed)))
}

#[tokio::test(start_paused = true)]
async fn proofs_that_cannot_be_read_to_their_end_are_named_and_never_taken_for_none() {
    let site = Fixture::new();
    many(&site).await;
    site.copy.remove(&at("02400"));
    site.plan.fail(PortCall::Query, 2, InjectedFault::Before(FaultKind::Unexpected));
    let restored = site.restoration().run().await.unwrap();
    let said = named(&restored);
    assert!(said["s"].contains("behind `00099`") && said["s"].contains("is not known"), "{said:?}");
    let restored = site.restoration().run().await.unwrap();
    assert_eq!(named(&restored).keys().copied().collect::<Vec<_>>(), ["02400"]);
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_proof_cannot_be_read_comes_back_and_is_named() {
    let site = Fixture::new();
    site.add_proven("x", "bytes").await;
    for there in ["brought back", "there already"] {
        site.plan.fail(PortCall::GetRow, 1, InjectedFault::Before(FaultKind::Unexpected));
        let restored = site.restoration().run().await.unwrap();
        let said = named(&restored);
        assert!(said["x"].starts_with(there) && said["x"].contains("could not be told"), "{said:?}");
        assert_eq!((site.there("x").unwrap(), restored.proven), ("bytes".into(), 0));
    }
}

#[tokio::test]
async fn only_named_items_and_folders_come_back() {
    let restored = async |names: &[&str]| {
        let site = Fixture::new();
        for id in ["a", "a-1", "a.b", "a/1", "a/2/x", "a0", "b/1", "b/2", "c"] {
            site.add_proven(id, "bytes").await;
        }
        // It was proven, and is gone: a fault only for whoever asks for it.
        site.add_proven("b/gone", "bytes").await;
        site.copy.remove(&at("b/gone"));
        let parts = NamedParts::of(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let report = Restoration { parts, ..site.restoration() }.run().await.unwrap();
        let back = ["a", "a-1", "a.b", "a/1", "a/2/x", "a0", "b/1", "b/2", "c"]
            .into_iter()
            .filter(|id| site.there(id).is_some());
        let faults: Vec<_> = report.faults.iter().map(|fault| fault.item.clone()).collect();
        (back.collect::<Vec<_>>().join(" "), faults.join(" "))
    };
    let expect = |back: &str, faults: &str| (back.to_owned(), faults.to_owned());
    assert_eq!(restored(&["a"]).await, expect("a a/1 a/2/x", ""));
    assert_eq!(restored(&["a/", "a/2", "c"]).await, expect("a a/1 a/2/x c", ""));
    assert_eq!(restored(&["a/2", "c", "none"]).await, expect("a/2/x c", "none"));
    assert_eq!(restored(&["b"]).await, expect("b/1 b/2", "b/gone"));
    assert_eq!(restored(&["a", "b", "c"]).await, expect("a a/1 a/2/x b/1 b/2 c", "b/gone"));
    assert!(NamedParts::of(&[String::new()]).is_err());
}
