use futures::TryStreamExt as _;

use mill_model::{AccountId, SpaceId, StoreId};

use super::*;
use crate::test_table::TestTable;

fn pair() -> SpacePair {
    SpacePair {
        account: AccountId::new("a").unwrap(),
        source: StoreId::new("s").unwrap(),
        destination: StoreId::new("d").unwrap(),
        space: SpaceId::new("p").unwrap(),
    }
}

fn id(text: &str) -> ContentId {
    ContentId::new(text).unwrap()
}

fn sum(algorithm: Algorithm) -> Checksum {
    Checksum { algorithm, value: vec![7; algorithm.value_bytes()].into() }
}

fn settled(token: &str) -> Version {
    Version::settled_at(token)
}

#[test]
fn unsettled_versions_are_never_proven() {
    let young = Version::unsettled("1");
    assert!(SyncProof::of(&young, &settled("2"), &sum(Algorithm::Md5)).is_none());
    assert!(SyncProof::of(&settled("1"), &Version::unsettled("2"), &sum(Algorithm::Md5)).is_none());
}

#[test]
fn what_was_settled_when_it_was_proven_proves_however_young_it_looks() {
    let proof = SyncProof::of(&settled("1"), &settled("2"), &sum(Algorithm::Md5)).unwrap();
    assert!(proof.holds(&settled("1"), &settled("2")));
    assert!(proof.holds(&settled("1"), &Version::unsettled("2")));
    assert!(!proof.holds(&settled("1"), &Version::unsettled("3")));
    assert_eq!(proof.checksum_of_source(&Version::unsettled("1")), Some(sum(Algorithm::Md5)));
}

#[test]
fn a_proof_vouches_for_the_side_that_is_as_it_was() {
    let proof = SyncProof::of(&settled("1"), &settled("2"), &sum(Algorithm::Sha256)).unwrap();
    assert!(!proof.holds(&settled("2"), &settled("1")));
    assert_eq!(proof.checksum_of_destination(&settled("2")), Some(sum(Algorithm::Sha256)));
    assert_eq!(proof.checksum_of_destination(&settled("3")), None);
    assert_eq!(proof.checksum_of_source(&settled("1")), Some(sum(Algorithm::Sha256)));
    assert_eq!(proof.checksum_of_source(&settled("2")), None);
}

#[test]
fn a_checksum_of_the_wrong_length_is_no_proof() {
    let cut = Checksum { algorithm: Algorithm::Md5, value: vec![1; 15].into() };
    assert!(SyncProof::of(&settled("1"), &settled("2"), &cut).is_none());
}

#[tokio::test]
async fn a_proof_comes_back_as_written_until_it_is_removed() {
    let proofs = SyncProofs::new(Arc::new(TestTable::default()));
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Crc64Nvme] {
        let proof = SyncProof::of(&settled("1"), &settled("2"), &sum(algorithm)).unwrap();
        proofs.put(&pair(), &id("x"), &proof).await.unwrap();
        assert_eq!(proofs.get(&pair(), &id("x")).await.unwrap(), Some(proof));
    }
    let other = SpacePair { space: SpaceId::new("q").unwrap(), ..pair() };
    assert_eq!(proofs.get(&other, &id("x")).await.unwrap(), None);
    proofs.remove(&pair(), &id("x")).await.unwrap();
    proofs.remove(&pair(), &id("x")).await.unwrap();
    assert_eq!(proofs.get(&pair(), &id("x")).await.unwrap(), None);
}

#[tokio::test]
async fn a_proof_remembers_the_damaged_bytes_of_its_source() {
    let proofs = SyncProofs::new(Arc::new(TestTable::default()));
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Crc64Nvme] {
        let proof = SyncProof::of(&settled("1"), &settled("2"), &sum(algorithm)).unwrap();
        assert_eq!(proof.damaged_source(), None);
        let found = Checksum { algorithm, value: vec![9; algorithm.value_bytes()].into() };
        let damaged = proof.with_damaged_source(&found).unwrap();
        proofs.put(&pair(), &id("x"), &damaged).await.unwrap();
        let back = proofs.get(&pair(), &id("x")).await.unwrap().unwrap();
        assert_eq!((back.damaged_source(), back.checksum()), (Some(found), sum(algorithm)));
        assert!(back.holds(&settled("1"), &settled("2")));
    }
    let proof = SyncProof::of(&settled("1"), &settled("2"), &sum(Algorithm::Sha256)).unwrap();
    assert!(proof.with_damaged_source(&sum(Algorithm::Md5)).is_none());
}

#[tokio::test]
async fn a_stream_gives_every_proof_once_in_byte_order_over_many_pages() {
    let proofs = SyncProofs::new(Arc::new(TestTable::with_page_max(3)));
    let mut ids: Vec<ContentId> = (0..20).map(|n| id(&format!("{}/ü{n}", n % 7))).collect();
    for item in &ids {
        let proof = SyncProof::of(&settled("1"), &settled(item.as_str()), &sum(Algorithm::Md5)).unwrap();
        proofs.put(&pair(), item, &proof).await.unwrap();
    }
    ids.sort();
    let all: Vec<(ContentId, SyncProofRow)> = proofs.stream(&pair(), None).try_collect().await.unwrap();
    assert_eq!(all.iter().map(|(item, _)| item.clone()).collect::<Vec<_>>(), ids);
    let proves =
        |row: &SyncProofRow, id: &ContentId| row.proof.as_ref().unwrap().holds(&settled("1"), &settled(id.as_str()));
    assert!(all.iter().all(|(item, row)| proves(row, item) && row.is_ours(&settled(item.as_str()))));
    let rest: Vec<(ContentId, SyncProofRow)> = proofs.stream(&pair(), Some(&ids[9])).try_collect().await.unwrap();
    assert_eq!(rest.len(), 10);
    assert_eq!(rest[0].0, ids[10]);
}

#[tokio::test]
async fn what_was_written_is_ours_and_is_never_taken_for_a_proof() {
    let proofs = SyncProofs::new(Arc::new(TestTable::default()));
    for version in [Version::unsettled("2"), settled("2")] {
        proofs.put_written(&pair(), &id("x"), &version).await.unwrap();
        assert_eq!(proofs.get(&pair(), &id("x")).await.unwrap(), None);
        let row = only_row(&proofs).await;
        assert_eq!(row.proof, None);
        assert!(row.is_ours(&version) && row.is_ours(&settled("2")) && row.is_ours(&Version::unsettled("2")));
        assert!(!row.is_ours(&settled("3")), "somebody wrote it anew");
    }
    let other = SpacePair { source: StoreId::new("s2").unwrap(), ..pair() };
    assert!(proofs.stream(&other, None).try_next().await.unwrap().is_none(), "it is this pair's alone");
    proofs.remove(&pair(), &id("x")).await.unwrap();
    assert!(proofs.stream(&pair(), None).try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn of_proof_and_written_the_later_one_stands() {
    let proofs = SyncProofs::new(Arc::new(TestTable::default()));
    let proof = SyncProof::of(&settled("1"), &settled("2"), &sum(Algorithm::Crc64Nvme)).unwrap();
    for _ in 0..2 {
        proofs.put_written(&pair(), &id("x"), &settled("3")).await.unwrap();
        let row = only_row(&proofs).await;
        assert!(row.proof.is_none() && row.is_ours(&settled("3")) && !row.is_ours(&settled("2")));
        proofs.put(&pair(), &id("x"), &proof).await.unwrap();
        assert_eq!(proofs.get(&pair(), &id("x")).await.unwrap().as_ref(), Some(&proof));
        let row = only_row(&proofs).await;
        assert!(row.is_ours(&settled("2")) && !row.is_ours(&settled("3")) && !row.is_ours(&settled("1")));
        assert_eq!(row.proof.as_ref(), Some(&proof));
    }
}

#[tokio::test]
async fn a_stream_gives_both_forms_in_order_over_many_pages() {
    let proofs = SyncProofs::new(Arc::new(TestTable::with_page_max(2)));
    let proof = SyncProof::of(&settled("1"), &settled("2"), &sum(Algorithm::Sha256)).unwrap();
    for number in 0..9 {
        let item = id(&number.to_string());
        match number % 2 {
            0 => proofs.put(&pair(), &item, &proof).await.unwrap(),
            _ => proofs.put_written(&pair(), &item, &settled("2")).await.unwrap(),
        }
    }
    let all: Vec<(ContentId, SyncProofRow)> = proofs.stream(&pair(), None).try_collect().await.unwrap();
    assert!(all.iter().all(|(_, row)| row.is_ours(&settled("2"))));
    let proofs: String = all.iter().map(|(_, row)| if row.proof.is_some() { 'p' } else { '-' }).collect();
    let ids: String = all.iter().map(|(item, _)| item.as_str()).collect();
    assert_eq!((&*ids, &*proofs), ("012345678", "p-p-p-p-p"));
}

/// The stream of a pair with one known item.
async fn only_row(proofs: &SyncProofs) -> SyncProofRow {
    let all: Vec<(ContentId, SyncProofRow)> = proofs.stream(&pair(), None).try_collect().await.unwrap();
    assert_eq!((all.len(), &all[0].0), (1, &id("x")));
    all[0].1.clone()
}

#[tokio::test]
async fn a_row_of_another_form_counts_as_lost() {
    let table = Arc::new(TestTable::default());
    let proofs = SyncProofs::new(table.clone());
    let proof = SyncProof::of(&settled("1"), &settled("2"), &sum(Algorithm::Md5)).unwrap();
    let in_form = |form: u8| {
        let mut value = proof.encode().to_vec();
        value[0] = form;
        value
    };
    let written = [vec![2], VersionDigest::of(&settled("2")).0.to_vec()].concat();
    let later = [vec![4], written[1..].to_vec()].concat();
    let cut = proof.encode()[..40].to_vec();
    for (item, value) in [
        ("a", in_form(2)),
        ("b", vec![]),
        ("c", cut),
        ("e", in_form(4)),
        ("f", written[..16].to_vec()),
        ("g", [&written[..], &[0]].concat()),
        ("h", later),
    ] {
        table.put(&key(&pair(), &id(item)), value.into(), RowPrecondition::Always).await.unwrap();
        assert_eq!(proofs.get(&pair(), &id(item)).await.unwrap(), None);
    }
    proofs.put(&pair(), &id("d"), &proof).await.unwrap();
    proofs.put_written(&pair(), &id("i"), &settled("2")).await.unwrap();
    let all: Vec<(ContentId, SyncProofRow)> = proofs.stream(&pair(), None).try_collect().await.unwrap();
    let found: Vec<_> = all.into_iter().map(|(item, row)| (item, row.is_ours(&settled("2")), row.proof)).collect();
    assert_eq!(found, [(id("d"), true, Some(proof)), (id("i"), true, None)]);
}

#[tokio::test]
async fn what_is_no_twin_in_one_state_keeps_all_else_that_is_known_of_it() {
    let proofs = SyncProofs::new(Arc::<TestTable>::default());
    let proof = SyncProof::of(&settled("1"), &settled("2"), &sum(Algorithm::Md5)).unwrap();
    proofs.put_no_twin(&pair(), &id("x"), &settled("2")).await.unwrap();
    let row = only_row(&proofs).await;
    assert!(row.is_no_twin(&settled("2")) && !row.is_no_twin(&settled("3")));
    assert!(!row.is_ours(&settled("2")) && row.proof.is_none(), "nobody wrote or proved it");
    assert_eq!(proofs.get(&pair(), &id("x")).await.unwrap(), None);

    proofs.put(&pair(), &id("x"), &proof).await.unwrap();
    assert!(!only_row(&proofs).await.is_no_twin(&settled("2")));
    for state in ["2", "3"] {
        proofs.put_no_twin(&pair(), &id("x"), &settled(state)).await.unwrap();
        let row = only_row(&proofs).await;
        assert!(row.is_no_twin(&settled(state)) && row.is_ours(&settled("2")));
        assert_eq!(
            (&row.proof, &proofs.get(&pair(), &id("x")).await.unwrap()),
            (&Some(proof.clone()), &Some(proof.clone()))
        );
    }
}
