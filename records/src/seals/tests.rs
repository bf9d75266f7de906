use futures::TryStreamExt as _;

use super::*;
use crate::test_table::TestTable;

fn pair() -> Pair {
    Pair {
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
    Checksum { algorithm, value: vec![7; value_bytes(algorithm)].into() }
}

fn settled(token: &str) -> Version {
    Version::settled_at(token)
}

#[test]
fn unsettled_versions_are_never_sealed() {
    let young = Version::unsettled("1");
    assert!(Seal::of(&young, &settled("2"), &sum(Algorithm::Md5)).is_none());
    assert!(Seal::of(&settled("1"), &Version::unsettled("2"), &sum(Algorithm::Md5)).is_none());
}

#[test]
fn what_was_settled_when_it_was_sealed_proves_however_young_it_looks() {
    let seal = Seal::of(&settled("1"), &settled("2"), &sum(Algorithm::Md5)).unwrap();
    assert!(seal.holds(&settled("1"), &settled("2")));
    assert!(seal.holds(&settled("1"), &Version::unsettled("2")));
    assert!(!seal.holds(&settled("1"), &Version::unsettled("3")));
    assert_eq!(seal.checksum_of_source(&Version::unsettled("1")), Some(sum(Algorithm::Md5)));
}

#[test]
fn a_seal_vouches_for_the_side_that_is_as_it_was() {
    let seal = Seal::of(&settled("1"), &settled("2"), &sum(Algorithm::Sha256)).unwrap();
    assert!(!seal.holds(&settled("2"), &settled("1")));
    assert_eq!(seal.checksum_of_destination(&settled("2")), Some(sum(Algorithm::Sha256)));
    assert_eq!(seal.checksum_of_destination(&settled("3")), None);
    assert_eq!(seal.checksum_of_source(&settled("1")), Some(sum(Algorithm::Sha256)));
    assert_eq!(seal.checksum_of_source(&settled("2")), None);
}

#[test]
fn a_checksum_of_the_wrong_length_is_not_sealed() {
    let cut = Checksum { algorithm: Algorithm::Md5, value: vec![1; 15].into() };
    assert!(Seal::of(&settled("1"), &settled("2"), &cut).is_none());
}

#[tokio::test]
async fn a_seal_comes_back_as_written_until_it_is_removed() {
    let seals = Seals::new(Arc::new(TestTable::default()));
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Crc64Nvme] {
        let seal = Seal::of(&settled("1"), &settled("2"), &sum(algorithm)).unwrap();
        seals.put(&pair(), &id("x"), &seal).await.unwrap();
        assert_eq!(seals.get(&pair(), &id("x")).await.unwrap(), Some(seal));
    }
    let other = Pair { space: SpaceId::new("q").unwrap(), ..pair() };
    assert_eq!(seals.get(&other, &id("x")).await.unwrap(), None);
    seals.remove(&pair(), &id("x")).await.unwrap();
    seals.remove(&pair(), &id("x")).await.unwrap();
    assert_eq!(seals.get(&pair(), &id("x")).await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_gives_every_seal_once_in_byte_order_over_many_pages() {
    let seals = Seals::new(Arc::new(TestTable::with_page_max(3)));
    let mut ids: Vec<ContentId> = (0..20).map(|n| id(&format!("{}/ü{n}", n % 7))).collect();
    for item in &ids {
        let seal = Seal::of(&settled("1"), &settled(item.as_str()), &sum(Algorithm::Md5)).unwrap();
        seals.put(&pair(), item, &seal).await.unwrap();
    }
    ids.sort();
    let all: Vec<(ContentId, Seal)> = seals.stream(&pair(), None).try_collect().await.unwrap();
    assert_eq!(all.iter().map(|(item, _)| item.clone()).collect::<Vec<_>>(), ids);
    assert!(all.iter().all(|(item, seal)| seal.holds(&settled("1"), &settled(item.as_str()))));
    let rest: Vec<(ContentId, Seal)> = seals.stream(&pair(), Some(&ids[9])).try_collect().await.unwrap();
    assert_eq!(rest.len(), 10);
    assert_eq!(rest[0].0, ids[10]);
}

#[tokio::test]
async fn a_row_of_another_form_counts_as_lost() {
    let table = Arc::new(TestTable::default());
    let seals = Seals::new(table.clone());
    let seal = Seal::of(&settled("1"), &settled("2"), &sum(Algorithm::Md5)).unwrap();
    let mut later = seal.written().to_vec();
    later[0] = 2;
    for (item, value) in [("a", later), ("b", vec![]), ("c", seal.written()[..40].to_vec())] {
        table.put(&key(&pair(), &id(item)), value.into(), RowWhen::Always).await.unwrap();
        assert_eq!(seals.get(&pair(), &id(item)).await.unwrap(), None);
    }
    seals.put(&pair(), &id("d"), &seal).await.unwrap();
    let all: Vec<(ContentId, Seal)> = seals.stream(&pair(), None).try_collect().await.unwrap();
    assert_eq!(all, [(id("d"), seal)]);
}
