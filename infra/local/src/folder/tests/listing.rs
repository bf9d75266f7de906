use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::*;

#[tokio::test]
async fn items_are_listed_in_the_order_of_their_ids_bytes() {
    let scratch = Scratch::new();
    let mut expected = vec!["a", "a-b", "a/b", "a/c/d", "a/c0", "a0", "b/", "c/d/e/f", "c/d/e0", "é", "日本/x"];
    for id in &expected {
        match id.strip_suffix('/') {
            Some(directory) => std::fs::create_dir_all(scratch.path(directory)).unwrap(),
            // `a` and `a/b` cannot both exist.
            None if *id == "a" => {}
            None => scratch.file(id, b"x"),
        }
    }
    expected.remove(0);
    expected.sort_unstable();
    assert_eq!(ids(&scratch.store).await, expected);
}

#[tokio::test]
async fn a_listing_after_any_id_is_the_rest_of_the_whole() {
    let scratch = Scratch::new();
    for id in ["a-b", "a/b", "a/c/d", "a/c/e/f", "a/c0", "a0", "c/d/e/f", "c/d/e0", "d"] {
        scratch.file(id, b"x");
    }
    for directory in ["b", "c/empty", "z"] {
        std::fs::create_dir(scratch.path(directory)).unwrap();
    }
    let whole = ids(&scratch.store).await;
    let mut starts: Vec<String> = whole.clone();
    starts
        .extend(["A", "a", "a/", "a/c", "a/c/", "a/c/e/", "a/c/zz", "c/", "c/d/e", "zz", "z/x", "~"].map(String::from));
    for start in starts {
        let expected: Vec<_> = whole.iter().filter(|id| **id > start).cloned().collect();
        assert_eq!(list(&scratch.store, Some(&start)).await.unwrap().0, expected, "after {start}");
    }
}

#[tokio::test]
async fn a_hostile_tree_is_listed_with_every_oddity_named() {
    let scratch = Scratch::new();
    scratch.file("file", b"x");
    symlink("file", scratch.path("link")).unwrap();
    symlink("..", scratch.path("loop")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, scratch.path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scratch.path("socket")).unwrap();
    std::fs::write(scratch.path("").join(OsStr::from_bytes(b"caf\xe9")), b"x").unwrap();
    std::fs::create_dir(scratch.path("").join(OsStr::from_bytes(b"dir\xff"))).unwrap();
    std::fs::write(scratch.path("new\nline"), b"x").unwrap();
    std::fs::create_dir(scratch.path("only-odd")).unwrap();
    symlink("x", scratch.path("only-odd/link")).unwrap();
    let name = "n".repeat(200);
    let deep: Vec<_> = (0..6).map(|_| name.clone()).collect();
    scratch.file(&deep[..5].join("/"), b"holdable");
    std::fs::create_dir_all(scratch.path(&deep[..4].join("/")).join("z".repeat(200)).join(&name)).unwrap();
    let (ids, refused) = list(&scratch.store, None).await.unwrap();
    assert_eq!(ids, ["file", "new\nline", &deep[..5].join("/")]);
    let reasons: Vec<_> = refused.values().cloned().collect();
    assert_eq!(refused.len(), 8, "{refused:?}");
    assert_eq!(refused["link"], RefusalReason::SymbolicLink);
    assert_eq!(refused["only-odd/link"], RefusalReason::SymbolicLink);
    assert_eq!(refused["pipe"], RefusalReason::SpecialFile("a pipe"));
    assert_eq!(refused["socket"], RefusalReason::SpecialFile("a socket"));
    assert_eq!(refused["caf\\xe9"], RefusalReason::NotUtf8);
    assert_eq!(refused["dir\\xff/"], RefusalReason::NotUtf8);
    assert_eq!(reasons.iter().filter(|reason| **reason == RefusalReason::TooLong).count(), 1);
}

#[tokio::test]
async fn what_stands_beside_the_spaces_is_named_with_its_reason() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.root().join(OsStr::from_bytes(b"sp\xe9"))).unwrap();
    std::fs::create_dir(scratch.root().join("tab\tbed")).unwrap();
    std::fs::write(scratch.root().join("file"), b"x").unwrap();
    symlink("s", scratch.root().join("link")).unwrap();
    std::fs::create_dir(scratch.root().join("b")).unwrap();
    let SpaceList { spaces, left_out } = scratch.store.list_spaces().await.unwrap();
    assert_eq!(spaces, [SpaceId::new("b").unwrap(), space()]);
    assert_eq!(left_out.count, 4);
    let named: BTreeMap<_, _> = left_out.first.into_iter().collect();
    assert_eq!(named["file"], RefusalReason::OutsideSpaces);
    assert_eq!(named["link"], RefusalReason::SymbolicLink);
    assert_eq!(named["sp\\xe9"], RefusalReason::NotUtf8);
    assert!(matches!(named["tab\\tbed"], RefusalReason::InvalidSpaceName(_)), "{named:?}");
}

#[tokio::test]
async fn an_absent_space_is_an_error_and_no_empty_listing() {
    let scratch = Scratch::new();
    std::fs::remove_dir(scratch.path("")).unwrap();
    assert_eq!(kind(list(&scratch.store, None).await), StoreErrorKind::SpaceAbsent);
}

#[tokio::test]
async fn a_single_space_is_the_root_less_mills_own_directory() {
    let directory = TempDir::new().unwrap();
    std::fs::create_dir_all(directory.path().join("d/.mill-in-progress")).unwrap();
    let store = store_at(directory.path(), Layout::Single(space()), None);
    put(&store, "a", b"x", properties(&[]), &Precondition::Absent).await.unwrap();
    assert!(directory.path().join(".mill-in-progress").is_dir());
    assert_eq!(ids(&store).await, ["a", "d/.mill-in-progress/"]);
    assert_eq!(store.spaces().await.unwrap(), [space()]);
    assert!(head(&store, ".mill-in-progress/").await.is_none());
    let reserved = put(&store, ".mill-in-progress/x", b"", properties(&[]), &Precondition::Always).await;
    assert_eq!(kind(reserved), StoreErrorKind::Refused(RefusalReason::Reserved));
    store.finish().await;
    assert!(!directory.path().join(".mill-in-progress").exists());
}

#[tokio::test]
async fn a_flat_directory_of_100_000_names_is_listed_in_order() {
    let scratch = Scratch::new();
    for n in 0..100_000_u32 {
        let name = format!("{:05}", (u64::from(n) * 7919) % 100_000);
        std::fs::File::create(scratch.path(&name)).unwrap();
    }
    let expected: Vec<_> = (0..100_000).map(|n| format!("{n:05}")).collect();
    assert!(ids(&scratch.store).await == expected);
    assert!(list(&scratch.store, Some("67890")).await.unwrap().0 == expected[67_891..]);
}

#[tokio::test]
async fn large_directories_below_each_other_are_listed_whole_though_the_upper_let_go_of_their_names() {
    let scratch = Scratch::new();
    let mut expected = Vec::new();
    for level in ["", "m/", "m/m/", "m/m/m/"] {
        std::fs::create_dir_all(scratch.path(level)).unwrap();
        for n in 0..25_000 {
            let id = format!("{level}{}{n:05}", if n % 2 == 0 { 'a' } else { 'z' });
            std::fs::File::create(scratch.path(&id)).unwrap();
            expected.push(id);
        }
    }
    expected.sort_unstable();
    assert!(ids(&scratch.store).await == expected);
}

#[tokio::test]
async fn what_vanishes_during_a_listing_is_hidden_and_the_rest_is_listed() {
    let scratch = Scratch::new();
    for n in 0..5000 {
        scratch.file(&format!("d{n:04}/x"), b"x");
    }
    let mut pages = scratch.store.list(&space(), None);
    let mut entries = pages.next().await.unwrap().unwrap().entries;
    for n in 4000..5000 {
        std::fs::remove_dir_all(scratch.path(&format!("d{n:04}"))).unwrap();
    }
    while let Some(page) = pages.next().await {
        entries.extend(page.unwrap().entries);
    }
    let (items, hidden): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| matches!(entry, ListEntry::Item(..)));
    assert_eq!(items.len(), 4000);
    // They were listed: the next pass shows what was in them.
    let gone = |entry: &&ListEntry| matches!(entry, ListEntry::Hidden { shown } if shown.starts_with("d4") && shown.ends_with('/'));
    assert_eq!(hidden.iter().copied().filter(gone).count(), 1000);
}
