//! Needs a small file system of its own, such as `mount -t tmpfs -o size=8m tmpfs /mnt/small`, named by
//! `MILL_TEST_SMALL_DISK`. `cargo test -p mill-local -- --ignored mounted`

use super::*;

fn disk() -> PathBuf {
    PathBuf::from(std::env::var_os("MILL_TEST_SMALL_DISK").expect("MILL_TEST_SMALL_DISK names a small file system"))
}

#[tokio::test]
#[ignore = "needs MILL_TEST_SMALL_DISK"]
async fn a_full_disk_makes_the_store_unavailable_and_leaves_whole_items_only() {
    let root = tempfile::tempdir_in(disk()).unwrap();
    let store = store_at(root.path(), Layout::Single(space()), None);
    let mut kept = Vec::new();
    let full = loop {
        let id = format!("d/{:04}", kept.len());
        match put(&store, &id, &vec![7; 1_000_000], properties(&[]), &Precondition::Always).await {
            Ok(_) => kept.push(id),
            Err(error) => break error,
        }
        assert!(kept.len() < 1000, "the disk is not small");
    };
    assert_eq!(full.kind, StoreErrorKind::Unavailable, "{full:?}");
    assert!(!kept.is_empty());
    for _ in 0..3 {
        let again = put(&store, "more", &vec![7; 1_000_000], properties(&[]), &Precondition::Always).await;
        assert_eq!(kind(again), StoreErrorKind::Unavailable);
    }
    assert_eq!(ids(&store).await, kept);
    for id in &kept {
        assert!(read(&store, id).await.unwrap() == vec![7; 1_000_000]);
    }
    store.delete(&at(&kept[0]), &Precondition::Always).await.unwrap();
    put(&store, "d/again", b"fits", properties(&[]), &Precondition::Always).await.unwrap();
    store.finish().await;
    assert!(!root.path().join(".mill-in-progress").exists());
}

#[tokio::test]
#[ignore = "needs MILL_TEST_SMALL_DISK"]
async fn a_mount_point_in_the_path_of_an_item_is_refused() {
    let disk = disk();
    let store = store_at(disk.parent().unwrap(), Layout::Single(space()), None);
    let id = format!("{}/d/x", disk.file_name().unwrap().to_str().unwrap());
    let refused = kind(put(&store, &id, b"x", properties(&[]), &Precondition::Always).await);
    assert!(matches!(refused, StoreErrorKind::Refused(RefusalReason::UnrepresentableId(_))), "{refused:?}");
    assert!(!disk.join("d").exists(), "and its directories are not left");
}
