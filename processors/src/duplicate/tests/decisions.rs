//! The decision table, row by row.

use mill_model::digest::Digester;
use mill_ports::{RefusalReason, StoreErrorKind};

use super::*;

/// The item at one side: its bytes and a note.
type Stands = Option<(&'static str, &'static str)>;

struct Row {
    source: Stands,
    destination: Stands,
    /// Today's policy.
    policy: Policy,
    /// The writing calls, and the counts.
    done: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Policy {
    Removes,
    Keeps,
    Not(NoPolicy),
}

impl Policy {
    fn repository(self) -> PolicyRepository {
        match self {
            Self::Removes => policy(true),
            Self::Keeps => policy(false),
            Self::Not(reason) => reason.repository(),
        }
    }
}

const A: Stands = Some(("same", ""));
const A_NOTED: Stands = Some(("same", "n"));
const A_NOTED_ELSE: Stands = Some(("same", "m"));
const B: Stands = Some(("else", "n"));
const LONG: Stands = Some(("longer", "n"));
const EMPTY: Stands = Some(("", "n"));

use Policy::{Keeps, Removes};

const COVERS_NOTHING: Policy = Policy::Not(NoPolicy::CoversNothing);
const NOT_LISTED: Policy = Policy::Not(NoPolicy::NotListed);
const CONTRADICTS_ITSELF: Policy = Policy::Not(NoPolicy::ContradictsItself);

const TABLE: [Row; 19] = [
    Row { source: None, destination: None, policy: Removes, done: "[] -> vanished" },
    Row { source: A, destination: None, policy: Removes, done: "[put] -> copied" },
    Row { source: A, destination: None, policy: Keeps, done: "[put] -> copied" },
    Row { source: EMPTY, destination: None, policy: Keeps, done: "[put] -> copied" },
    Row { source: A, destination: A, policy: Removes, done: "[] -> unchanged" },
    Row { source: A_NOTED, destination: A_NOTED, policy: Removes, done: "[] -> unchanged" },
    Row { source: EMPTY, destination: EMPTY, policy: Removes, done: "[] -> unchanged" },
    Row { source: A_NOTED, destination: A, policy: Removes, done: "[put_properties] -> updated" },
    Row { source: A, destination: A_NOTED, policy: Removes, done: "[put_properties] -> updated" },
    Row { source: A_NOTED, destination: A_NOTED_ELSE, policy: Keeps, done: "[put_properties] -> updated" },
    Row { source: A_NOTED, destination: B, policy: Removes, done: "[put] -> updated" },
    Row { source: A, destination: LONG, policy: Keeps, done: "[put] -> updated" },
    Row { source: A, destination: EMPTY, policy: Keeps, done: "[put] -> updated" },
    Row { source: None, destination: A, policy: Removes, done: "[] -> vanished" },
    Row { source: None, destination: A, policy: Keeps, done: "[] -> vanished" },
    Row { source: A, destination: B, policy: COVERS_NOTHING, done: "discarded" },
    Row { source: None, destination: A, policy: NOT_LISTED, done: "discarded" },
    Row { source: None, destination: A, policy: CONTRADICTS_ITSELF, done: "waits" },
    Row { source: A, destination: B, policy: CONTRADICTS_ITSELF, done: "waits" },
];

#[tokio::test(start_paused = true)]
async fn every_row_of_the_decision_table_holds_whatever_checksums_the_stores_tell() {
    let of_a_service = || StoreBehavior { service: Some(1), ..telling(Algorithm::Crc64Nvme) };
    let behavior = [plain, StoreBehavior::default, || telling(Algorithm::Sha256), of_a_service];
    for (source_habits, destination_habits) in
        behavior.iter().flat_map(|one| behavior.iter().map(move |two| (one, two)))
    {
        for row in &TABLE {
            let site = Fixture::of(source_habits(), destination_habits());
            for (store, stands) in [(&site.source, row.source), (&site.destination, row.destination)] {
                if let Some((bytes, note)) = stands {
                    store.insert(&at("x"), bytes, noted(note));
                }
            }
            let before = site.destination.contents(&space());
            let outcome = site.run_under(row.policy.repository(), &Fixture::task(Some(&at("x")))).await.unwrap();
            assert_eq!(done(&site, &outcome), row.done, "{:?} {:?} {:?}", row.source, row.destination, row.policy);
            assert_eq!(site.source.writes(), 0);
            match row.policy {
                Removes | Keeps if row.source.is_some() => assert!(site.in_sync()),
                _ => assert_eq!(site.destination.contents(&space()), before),
            }
        }
    }
}

fn done(site: &Fixture, outcome: &TaskOutcome) -> String {
    if *outcome != TaskOutcome::done() {
        assert_eq!(site.totals(), Totals::default());
        assert!(site.source_port.calls().is_empty() && site.destination_port.calls().is_empty());
        let waits = matches!(outcome, TaskOutcome::Snooze { task: None, .. });
        return if waits { "waits" } else { "discarded" }.into();
    }
    let totals = site.totals();
    assert_eq!(totals.examined, 1);
    let mut writes = site.destination_port.calls();
    writes.retain(|op| !["head", "open", "open_uncached", "space"].contains(op));
    // A copy is written by `put`, unless the service copies it: then it gets only that call.
    match writes.iter().position(|op| *op == "take") {
        Some(at) if writes.contains(&"put") => drop(writes.remove(at)),
        Some(at) => writes[at] = "put",
        None => {}
    }
    let counted = [
        (totals.copied, "copied"),
        (totals.updated, "updated"),
        (totals.deleted, "deleted"),
        (totals.unchanged, "unchanged"),
        (totals.refused, "refused"),
        (totals.vanished, "vanished"),
    ];
    let counted: Vec<&str> = counted.into_iter().filter(|(count, _)| *count > 0).map(|(_, name)| name).collect();
    format!("[{}] -> {}", writes.join(" "), counted.join(" "))
}

#[tokio::test(start_paused = true)]
async fn properties_that_a_destination_does_not_know_are_set() {
    let site = Fixture::new();
    site.source.insert(&at("x"), "same", noted("n"));
    site.destination.insert(&at("x"), "same", noted("n"));
    site.destination_port.tell(without_properties);
    site.run("x").await.unwrap();
    assert_eq!(site.totals().updated, 1);
    site.run("x").await.unwrap();
    assert_eq!(site.totals().unchanged, 1, "the seal knows them");
}

#[tokio::test(start_paused = true)]
async fn properties_that_a_source_does_not_know_are_never_taken_for_none() {
    let site = Fixture::new();
    site.source.insert(&at("x"), "same", noted("n"));
    site.source_port.tell(without_properties);
    assert_eq!(class(site.run("x").await), FailureClass::Retryable);
    site.destination.insert(&at("x"), "same", noted("n"));
    assert_eq!(class(site.run("x").await), FailureClass::Retryable);
    assert_eq!(site.destination.content(&at("x")).unwrap().1, noted("n"));
}

#[tokio::test(start_paused = true)]
async fn an_item_in_an_archive_tier_is_named_and_no_task_waits_for_it() {
    let site = Fixture::of(plain(), plain());
    site.source.insert(&at("x"), "same", noted("n"));
    site.source_port.tell(archived);
    let refused = |outcome| match outcome {
        TaskOutcome::Discard { reason } => {
            reason.starts_with("it lies in the archive tier DEEP_ARCHIVE; bring it back")
        }
        other => panic!("{other:?}"),
    };
    assert!(refused(site.run("x").await.unwrap()));
    for way in [RefusalReason::Unreadable, RefusalReason::Archived("DEEP_ARCHIVE".into())] {
        site.source_port.meet("open", [ProbeFault::Fails(StoreErrorKind::Refused(way))]);
        assert!(refused(site.run("x").await.unwrap()), "a store may refuse to open it");
    }
    site.destination.insert(&at("x"), "same", noted("n"));
    assert!(refused(site.run("x").await.unwrap()), "nothing tells whether both are alike");
    site.destination.insert(&at("x"), "longer", noted("n"));
    assert!(refused(site.run("x").await.unwrap()));
    assert_eq!(site.destination.content(&at("x")).unwrap().0, "longer");
}

#[tokio::test(start_paused = true)]
async fn an_archived_copy_is_in_sync_if_its_checksum_says_so_and_replaced_if_it_differs() {
    let site = Fixture::new();
    site.source.insert(&at("x"), "same", noted("n"));
    site.destination.insert(&at("x"), "same", noted("n"));
    site.destination_port.tell(archived);
    assert_eq!(site.run("x").await.unwrap(), TaskOutcome::done());
    site.source.insert(&at("x"), "other", noted("n"));
    assert_eq!(site.run("x").await.unwrap(), TaskOutcome::done());
    assert_eq!(site.destination.content(&at("x")).unwrap().0, "other");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_makes_no_sense_is_permanently_failed() {
    let site = Fixture::new();
    let mut task = Fixture::task(None);
    task.detail.remove("source");
    let registry = site.registry(policy(true));
    let error = registry.processor(task).err().unwrap();
    assert_eq!((error.class, &*error.message), (FailureClass::Permanent, "the task cannot be understood"));
    let other = Task { kind: TaskKind::new("of a later mill"), ..Fixture::task(None) };
    assert!(registry.processor(other).err().unwrap().message.contains("no processor is registered"));
}

#[tokio::test(start_paused = true)]
async fn a_task_of_many_items_becomes_a_task_of_each_before_anything_is_done() {
    let site = Fixture::new();
    let (one, other) = (at("x"), at("y"));
    site.source.insert(&one, "1", noted("n"));
    let scope = DuplicateScope::Items(vec![one.id.clone(), other.id.clone()]);
    let task = DuplicateTask { pair: Fixture::pair(), scope }.to_task().unwrap();
    let singles = [one, other].map(|item| FollowUp::now(QueueName::DuplicationLow, Fixture::task(Some(&item))));
    let follow_ups = singles.to_vec();
    assert_eq!(site.run_under(policy(true), &task).await.unwrap(), TaskOutcome::Done { follow_ups });
    assert_eq!((site.source_port.calls(), site.destination_port.calls()), Default::default());
}

/// An item in sync of which a verification found the source damaged: it has these bytes in its proven version.
async fn with_damaged_source(bytes: &'static str) -> Fixture {
    let site = Fixture::of(plain(), plain());
    site.source.insert(&at("x"), "good bytes", noted("n"));
    site.settle("x").await;
    site.source.rot(&at("x"), |there| bytes.as_bytes().clone_into(there));
    let proof = site.sync_proofs.get(&Fixture::pair(), &at("x").id).await.unwrap().unwrap();
    let mut digester = Digester::new(&[Algorithm::Sha256]);
    digester.update(bytes.as_bytes());
    let damaged = proof.with_damaged_source(&digester.finish()[0]).unwrap();
    site.sync_proofs.put(&Fixture::pair(), &at("x").id, &damaged).await.unwrap();
    site
}

#[tokio::test(start_paused = true)]
async fn bytes_that_a_verification_found_damaged_are_copied_over_nothing() {
    let site = with_damaged_source("bad  bytes").await;
    let good = || site.destination.content(&at("x")).is_some_and(|(bytes, _)| bytes == "good bytes");
    // Other versions of the damaged bytes, and of the copy: rights were changed, or somebody touched them.
    for change in ["copy", "source", "copy", "both"] {
        if change != "source" {
            site.destination.insert(&at("x"), "good bytes", noted(change));
        }
        if change != "copy" {
            site.source.insert(&at("x"), "bad  bytes", noted(change));
        }
        assert!(matches!(site.run("x").await.unwrap(), TaskOutcome::Discard { .. }), "{change}");
        assert!(good(), "{change}");
    }
    let named = site.refusals.named();
    assert_eq!((named.len(), named[0].deed, named[0].item()), (4, RefusedDeed::PendingCopy, "x"));
    // Whoever writes something else has said what counts.
    site.source.insert(&at("x"), "new  bytes", noted("n"));
    site.run("x").await.unwrap();
    assert!(site.in_sync());
    let proof = site.sync_proofs.get(&Fixture::pair(), &at("x").id).await.unwrap();
    assert!(proof.is_none_or(|proof| proof.damaged_source().is_none()));
}

#[tokio::test(start_paused = true)]
async fn where_both_sides_were_damaged_a_source_that_is_brought_back_is_copied_at_once() {
    let site = with_damaged_source("bad  bytes").await;
    site.destination.rot(&at("x"), |bytes| bytes[0] ^= 1);
    site.source.insert(&at("x"), "good bytes", noted("n"));
    site.run("x").await.unwrap();
    assert!(site.in_sync());
    assert_eq!(site.destination.content(&at("x")).unwrap().0, "good bytes");
}

#[tokio::test(start_paused = true)]
async fn another_source_replaces_no_bytes_and_adds_what_is_new() {
    let mut site = Fixture::of(plain(), plain());
    for item in ["longer", "other", "same"] {
        site.source.insert(&at(item), "bytes", noted("n"));
        site.settle(item).await;
    }
    site.another_source = true;
    site.source.insert(&at("longer"), "more bytes", noted("n"));
    site.source.insert(&at("other"), "BYTES", noted("n"));
    site.source.insert(&at("same"), "bytes", noted("n"));
    site.source.insert(&at("new"), "bytes", noted("n"));
    let writes = site.destination.writes();
    for item in ["longer", "other", "same", "new"] {
        site.run(item).await.unwrap();
    }
    let named: Vec<_> = site.refusals.named().iter().map(|it| (it.item().to_owned(), it.deed)).collect();
    assert_eq!(named, ["longer", "other"].map(|item| (item.to_owned(), RefusedDeed::PendingCopy)));
    assert_eq!(site.destination.writes(), writes + 1);
    site.another_source = false;
    for item in ["longer", "other"] {
        site.run(item).await.unwrap();
    }
    assert!(site.in_sync());
}
