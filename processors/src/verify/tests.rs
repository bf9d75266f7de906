use bytes::Bytes;
use mill_model::{AccountId, Properties, SpacePair, StoreAddress, StoreId};
use mill_ports::{DeletableStore as _, RefusalReason};
use mill_records::sync_proofs::{SyncProof, SyncProofs};
use mill_testkit::PortCall;
use mill_testkit::{
    FaultKind, FaultPlan, FaultyStore, ManualClock, MemoryStore, MemoryTable, SeededRng, StoreBehavior,
};

use super::*;

fn store(id: &str) -> MemoryStore {
    let address = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(id).unwrap() };
    MemoryStore::new(address, StoreBehavior::default(), Arc::new(ManualClock::new()))
}

fn at(id: &str) -> ItemAddress {
    ItemAddress { space: SpaceId::new("s").unwrap(), id: ContentId::new(id).unwrap() }
}

fn titled(title: &str) -> Properties {
    Properties([("title".to_owned(), title.to_owned())].into())
}

fn verification(source: &MemoryStore, destination: &MemoryStore, sample: u8) -> Verification {
    Verification {
        source: Arc::new(source.clone()),
        destination: Arc::new(destination.clone()),
        space: at("x").space,
        sample,
        concurrency: NonZeroUsize::new(2).unwrap(),
        witness: None,
    }
}

#[tokio::test]
async fn each_item_that_is_not_as_it_should_be_is_named_with_what_is_wrong() {
    let (source, destination) = (store("1"), store("2"));
    let put = |store: &MemoryStore, id: &str, bytes: &'static str, title: &str| {
        store.insert(&at(id), Bytes::from(bytes), titled(title));
    };
    for id in ["good", "other bytes", "other title", "missing"] {
        put(&source, id, "bytes", "t");
    }
    put(&destination, "good", "bytes", "t");
    put(&destination, "other bytes", "bites", "t");
    put(&destination, "other title", "bytes", "u");
    put(&destination, "too many", "bytes", "t");
    source.insert_refused(&at("link"), RefusalReason::SymbolicLink);
    destination.insert_refused(&at("odd"), RefusalReason::NotUtf8);
    let found = verification(&source, &destination, 100).run(&SeededRng::new(1)).await.unwrap();
    assert_eq!((found.examined, found.equal), (4, 1));
    let faults: Vec<(&str, String)> =
        found.faults.iter().map(|finding| (&*finding.item, finding.what.to_string())).collect();
    let [(_, missing), (_, odd), (_, bytes), (_, title), (_, many)] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!(
        faults.iter().map(|(item, _)| *item).collect::<Vec<_>>(),
        ["missing", "odd", "other bytes", "other title", "too many"]
    );
    let [link] = &found.not_compared[..] else { panic!("{:?}", found.not_compared) };
    assert!(link.item == "link" && link.what.to_string().contains("symbolic link"), "{link:?}");
    assert!(bytes.contains("differ") && title.contains("title"), "{faults:?}");
    assert_eq!(
        (&**missing, &**odd, &**many),
        ("missing at the destination", "only at the destination", "only at the destination")
    );
}

#[tokio::test]
async fn what_counts_as_equal_where_copies_are_made_counts_as_equal_here() {
    let (source, destination) = (store("1"), store("2"));
    let of = |pairs: &[(&str, &str)]| {
        Properties(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    };
    // A folder gives each file a mode, where the original has none.
    source.insert(&at("a"), "bytes", of(&[("title", "t")]));
    destination.insert(&at("a"), "bytes", of(&[("title", "t"), ("file-mode", "0644")]));
    // What a person wrote, whatever it is called.
    source.insert(&at("b"), "bytes", of(&[("etag", "1")]));
    destination.insert(&at("b"), "bytes", of(&[("etag", "2")]));
    let found = verification(&source, &destination, 100).run(&SeededRng::new(1)).await.unwrap();
    let faults: Vec<String> = found.faults.iter().map(|finding| finding.item.clone()).collect();
    assert_eq!((found.examined, found.equal, faults), (2, 1, vec!["b".to_owned()]));
}

#[tokio::test]
async fn of_a_sample_the_others_are_looked_for_and_not_read() {
    let (source, destination) = (store("1"), store("2"));
    for n in 0..200 {
        source.insert(&at(&n.to_string()), "bytes", Properties::default());
        // Of the same size, and damaged.
        destination.insert(&at(&n.to_string()), "bites", Properties::default());
    }
    destination.delete(&at("7"), &mill_ports::Precondition::Always).await.unwrap();
    let found = verification(&source, &destination, 10).run(&SeededRng::new(1)).await.unwrap();
    let differ = found.faults.iter().filter(|finding| matches!(finding.what, CopyFault::BytesDiffer { .. })).count();
    assert_eq!(found.examined, 200);
    assert!((5..50).contains(&differ), "{differ}");
    assert!(
        found.faults.iter().any(|finding| finding.item == "7" && finding.what == CopyFault::Missing),
        "it is looked for"
    );
}

#[tokio::test]
async fn a_copy_that_is_whole_is_asked_for_once_an_item() {
    let (clock, rng) = (Arc::new(ManualClock::new()), Arc::new(SeededRng::new(1)));
    let (source, destination) = (store("1"), store("2"));
    for n in 0..50 {
        for store in [&source, &destination] {
            store.insert(&at(&n.to_string()), "bytes", Properties::default());
        }
    }
    let address = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
    let plan = FaultPlan::new(clock, rng);
    plan.fail(PortCall::Head, 1, mill_testkit::InjectedFault::Before(FaultKind::Unreachable));
    let counted = Arc::new(FaultyStore::new(Arc::new(source.clone()), address, plan));
    let verification = Verification { source: counted, ..verification(&source, &destination, 100) };
    let found = verification.run(&SeededRng::new(1)).await.unwrap();
    assert_eq!((found.equal, found.faults), (50, Vec::new()), "no lookup of a single item, which would fail");
}

#[tokio::test]
async fn what_lies_in_an_archive_is_named_and_no_fault_of_the_copy() {
    for (reason, compared) in [(RefusalReason::Archived("GLACIER".into()), false), (RefusalReason::Unreadable, true)] {
        let (source, destination) = (store("1"), store("2"));
        destination.insert(&at("cold"), "bytes", Properties::default());
        source.insert_refused(&at("cold"), reason.clone());
        let found = verification(&source, &destination, 100).compare(&at("cold"), true).await;
        let named = matches!(&found, Ok(ExamineResult::Faulty(CopyFault::NotCompared(_))));
        assert_eq!((named, found.is_err()), (!compared, compared), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_breaks_off_is_no_answer_at_either_side() {
    use mill_testkit::{FaultPlan, FaultyStore, InjectedFault, PortCall, SimClock};
    let (source, destination) = (store("1"), store("2"));
    for n in 0..3_000 {
        for store in [&source, &destination] {
            store.insert(&at(&format!("{n:04}")), "bytes", Properties::default());
        }
    }
    for seed in 0..4 {
        let plan = FaultPlan::new(Arc::new(SimClock::new()), Arc::new(SeededRng::new(seed)));
        let faulty = |store: &MemoryStore, id: &str| {
            let address = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(id).unwrap() };
            Arc::new(FaultyStore::new(Arc::new(store.clone()), address, plan.clone()))
        };
        let both = verification(&source, &destination, 0);
        for one in [
            Verification { source: faulty(&source, "1"), ..both.clone() },
            Verification { destination: faulty(&destination, "2"), ..both },
        ] {
            plan.fail(PortCall::List, 1, InjectedFault::Truncate);
            let error = one.run(&SeededRng::new(1)).await.unwrap_err();
            assert!(matches!(error, ListingError::BrokenOff { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_source_that_fails_is_never_read_as_one_without_the_directory() {
    let address = |id: &str| StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(id).unwrap() };
    let (clock, behavior) =
        (Arc::new(ManualClock::new()), StoreBehavior { ids_are_paths: true, ..StoreBehavior::default() });
    let (folder, bucket) = (MemoryStore::new(address("1"), behavior, clock.clone()), store("2"));
    for one in [&folder, &bucket] {
        one.insert(&at("x/1"), Bytes::from("bytes"), titled("t"));
    }
    bucket.insert(&at("x/"), Bytes::new(), Properties::default());
    let plan = FaultPlan::new(clock, Arc::new(SeededRng::new(1)));
    // The first two listings are those of the comparison.
    plan.fail(PortCall::List, 3, mill_testkit::InjectedFault::Before(FaultKind::Unreachable));
    let inner: Arc<dyn mill_ports::DeletableStore> = Arc::new(folder.clone());
    let source = Arc::new(FaultyStore::new(inner, address("1"), plan));
    let verification = Verification { source, ..verification(&folder, &bucket, 100) };
    let found = verification.run(&SeededRng::new(1)).await.unwrap();
    let faults: Vec<_> =
        found.faults.iter().map(|it| (&*it.item, matches!(it.what, CopyFault::Unreadable(_)))).collect();
    assert_eq!(faults, [("x/", true)]);
}

#[tokio::test]
async fn the_sign_for_a_directory_that_is_there_is_no_difference_at_either_side() {
    let address = |id: &str| StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(id).unwrap() };
    let folder = |id: &str| {
        let behavior = StoreBehavior { ids_are_paths: true, ..StoreBehavior::default() };
        MemoryStore::new(address(id), behavior, Arc::new(ManualClock::new()))
    };
    for (source, destination, bucket) in
        [(store("1"), folder("2"), 0), (folder("1"), store("2"), 1), (store("1"), store("2"), 0)]
    {
        for one in [&source, &destination] {
            one.insert(&at("x/1"), Bytes::from("bytes"), titled("t"));
        }
        let bucket = [&source, &destination][bucket];
        for id in ["x/", "y/"] {
            bucket.insert(&at(id), Bytes::new(), Properties::default());
        }
        let found = verification(&source, &destination, 100).run(&SeededRng::new(1)).await.unwrap();
        let faults: Vec<&str> = found.faults.iter().map(|finding| &*finding.item).collect();
        let both_hold_any = !source.capabilities().ids_are_paths && !destination.capabilities().ids_are_paths;
        let expected = if both_hold_any { &["x/", "y/"][..] } else { &["y/"] };
        assert_eq!(faults, expected);
    }
}

#[tokio::test]
async fn the_proof_of_an_item_tells_which_side_is_damaged_and_only_a_damaged_copy_is_compared_again() {
    let (source, destination) = (store("1"), store("2"));
    let proofs = SyncProofs::new(Arc::new(MemoryTable::new("seals")));
    let id = |id: &str| StoreId::new(id).unwrap();
    let pair = SpacePair {
        account: AccountId::new("a").unwrap(),
        source: id("1"),
        destination: id("2"),
        space: at("x").space,
    };
    for item in ["both", "copy", "source", "unproven", "written"] {
        for side in [&source, &destination] {
            side.insert(&at(item), Bytes::from("bytes"), titled("t"));
        }
        let (from, to) = (present(&source, item).await, present(&destination, item).await);
        if item != "unproven" {
            let proof = SyncProof::of(&from.1.version, &to.1.version, &from.0).expect("both are settled");
            proofs.put(&pair, &at(item).id, &proof).await.unwrap();
        }
    }
    for (side, byte, items) in
        [(&source, b'B', &["both", "source"][..]), (&destination, b'?', &["both", "copy", "unproven"])]
    {
        for item in items {
            side.rot(&at(item), |bytes| bytes[0] = byte);
        }
    }
    destination.insert(&at("written"), Bytes::from("other"), titled("t"));
    let witness = Some(Witness { proofs: proofs.clone(), pair: pair.clone() });
    let verification = Verification { witness, ..verification(&source, &destination, 100) };
    let found = verification.run(&SeededRng::new(1)).await.unwrap();
    let damage = |finding: &ItemFinding| match &finding.what {
        CopyFault::BytesDiffer { damage, .. } => (finding.item.clone(), *damage),
        other => panic!("{other:?}"),
    };
    let expected = [
        ("both", DamagedSide::Both),
        ("copy", DamagedSide::Copy),
        ("source", DamagedSide::Source),
        ("unproven", DamagedSide::Unknown),
        ("written", DamagedSide::Unknown),
    ];
    let found_damage: Vec<_> = found.faults.iter().map(damage).collect();
    assert_eq!(found_damage, expected.map(|(item, damage)| (item.to_owned(), damage)));
    assert_eq!((found.damaged_copies, found.damaged_sources, found.unknown_sides), (1, 1, 2));
    for (item, kept) in [("both", true), ("copy", false), ("source", true), ("written", true)] {
        assert_eq!(proofs.get(&pair, &at(item).id).await.unwrap().is_some(), kept, "{item}");
    }
}

async fn present(store: &MemoryStore, item: &str) -> (Checksum, ItemFacts) {
    match sha256(store, &at(item)).await.unwrap() {
        Presence::Present(found) => found,
        Presence::Absent => panic!("`{item}` is there"),
    }
}
