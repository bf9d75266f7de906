use std::os::unix::fs::symlink;

use mill_ports::ByteRange;

use super::*;

#[tokio::test]
async fn what_a_file_holds_is_read_with_its_facts() {
    let scratch = Scratch::new();
    for size in [0, 1, 40_000, 262_144, 262_145, 1_000_000] {
        let bytes: Vec<u8> = (0..size).map(|n: u32| n.wrapping_mul(31) as u8).collect();
        scratch.file("d/x", &bytes);
        assert_eq!(read(&scratch.store, "d/x").await.unwrap(), bytes);
        assert_eq!(head(&scratch.store, "d/x").await.unwrap().size, u64::from(size));
    }
}

#[tokio::test]
async fn a_range_is_read_as_far_as_there_are_bytes() {
    let scratch = Scratch::new();
    let bytes: Vec<u8> = (0..600_000_u32).map(|n| (n / 1000) as u8).collect();
    scratch.file("x", &bytes);
    for (offset, length) in [(0, 1), (10, 0), (100, 500_000), (599_999, 1), (599_999, 9), (700_000, 9), (0, u64::MAX)] {
        let range = Some(ByteRange { offset, length });
        let reading = scratch.store.open(&at("x"), range, None).await.unwrap().present().unwrap();
        let chunks: Vec<Bytes> = reading.body.try_collect().await.unwrap();
        let from = (offset as usize).min(bytes.len());
        let to = offset.saturating_add(length).min(600_000) as usize;
        assert_eq!(chunks.concat(), bytes[from..to.max(from)], "{offset}+{length}");
    }
}

#[tokio::test]
async fn many_large_items_at_once_are_read_in_smaller_pieces_and_never_wait_for_each_other() {
    let scratch = Scratch::new();
    let bytes = vec![7; 300_000];
    scratch.file("x", &bytes);
    let mut opened = Vec::new();
    for _ in 0..100 {
        let mut body = scratch.store.open(&at("x"), None, None).await.unwrap().present().unwrap().body;
        opened.push((body.next().await.unwrap().unwrap(), body));
    }
    assert!(opened[0].0.len() == 262_144 && opened[99].0.len() == 32_768);
    for (first, rest) in opened {
        let rest: Vec<Bytes> = rest.try_collect().await.unwrap();
        assert_eq!(first.len() + rest.concat().len(), 300_000);
    }
    let mut body = scratch.store.open(&at("x"), None, None).await.unwrap().present().unwrap().body;
    assert_eq!(body.next().await.unwrap().unwrap().len(), 262_144, "the room came back");
}

#[tokio::test]
async fn no_symbolic_link_leads_to_an_item() {
    let scratch = Scratch::new();
    scratch.file("real/x", b"secret");
    std::fs::write(scratch.root().join("outside"), b"secret").unwrap();
    symlink("real", scratch.path("dir-link")).unwrap();
    symlink("x", scratch.path("real/link")).unwrap();
    symlink(scratch.root().join("outside"), scratch.path("out")).unwrap();
    symlink("/", scratch.path("fs")).unwrap();
    symlink("s", scratch.root().join("space-link")).unwrap();
    for id in ["dir-link/x", "dir-link/", "real/link", "out", "fs/etc/passwd", "fs/"] {
        let link = StoreErrorKind::Refused(RefusalReason::SymbolicLink);
        assert_eq!(kind(scratch.store.head(&at(id)).await), link, "{id}");
        assert_eq!(kind(scratch.store.open(&at(id), None, None).await), link, "{id}");
        assert_eq!(kind(scratch.store.delete(&at(id), &Precondition::Always).await), link, "{id}");
        let put = scratch.put(id, b"", &Precondition::Always).await;
        assert!(matches!(kind(put), StoreErrorKind::Refused(_)), "{id}");
    }
    let linked = SpaceId::new("space-link").unwrap();
    assert!(scratch.store.space(&linked).await.is_err(), "a linked space is neither there nor gone");
    assert_eq!(scratch.store.spaces().await.unwrap(), [space()]);
    assert_eq!(std::fs::read(scratch.root().join("outside")).unwrap(), b"secret");
    assert_eq!(std::fs::read(scratch.path("real/x")).unwrap(), b"secret");
}

#[tokio::test]
async fn pipes_and_sockets_are_refused_without_being_opened() {
    let scratch = Scratch::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, scratch.path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scratch.path("socket")).unwrap();
    for id in ["pipe", "socket"] {
        for result in
            [scratch.store.head(&at(id)).await.map(drop), scratch.put(id, b"", &Precondition::Always).await.map(drop)]
        {
            assert!(matches!(kind(result), StoreErrorKind::Refused(_)), "{id}");
        }
    }
}

#[tokio::test]
async fn absence_is_told_only_where_the_space_answers() {
    let scratch = Scratch::new();
    scratch.file("a", b"x");
    scratch.file("d/x", b"x");
    let long = format!("{}/x", "y".repeat(256));
    for id in ["b", "a/b", "d", "d/", "none/at/all", "none/", "/a", "a//b", "../s/a", "a\0b", "a/", long.as_str()] {
        assert!(head(&scratch.store, id).await.is_none(), "{id:?}");
        assert!(scratch.store.open(&at(id), None, None).await.unwrap().present().is_none(), "{id:?}");
        assert_eq!(scratch.store.delete(&at(id), &Precondition::Always).await.unwrap(), Presence::Absent, "{id:?}");
    }
    let elsewhere = ItemAddress { space: SpaceId::new("gone").unwrap(), id: ContentId::new("a").unwrap() };
    assert_eq!(kind(scratch.store.head(&elsewhere).await), StoreErrorKind::SpaceAbsent);
    assert_eq!(kind(scratch.store.delete(&elsewhere, &Precondition::Always).await), StoreErrorKind::SpaceAbsent);
    assert_eq!(scratch.store.space(&elsewhere.space).await.unwrap(), Presence::Absent);
}

#[tokio::test]
async fn an_item_that_changes_while_it_is_read_is_never_read_as_two_halves() {
    use std::io::{Seek, Write};
    let scratch = Scratch::new();
    let changes: [fn(&mut std::fs::File); 3] = [
        |file| file.seek(std::io::SeekFrom::End(0)).and_then(|_| file.write_all(b"more")).unwrap(),
        |file| file.set_len(500_000).unwrap(),
        |file| file.write_all(b"other").unwrap(),
    ];
    for change in changes {
        scratch.file("x", &vec![1; 1_000_000]);
        // Longer than a clock tick, within which no file system distinguishes changes.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut body = scratch.store.open(&at("x"), None, None).await.unwrap().present().unwrap().body;
        body.next().await.unwrap().unwrap();
        change(&mut std::fs::File::options().write(true).open(scratch.path("x")).unwrap());
        let end = body.try_collect::<Vec<_>>().await;
        assert_eq!(kind(end), StoreErrorKind::Changed);
    }
}

#[tokio::test]
async fn an_item_is_opened_only_in_the_state_asked_for() {
    let scratch = Scratch::new();
    scratch.file("x", b"one");
    let seen = head(&scratch.store, "x").await.unwrap().version;
    assert!(!seen.settled(), "written this moment");
    assert!(scratch.store.open(&at("x"), None, Some(&seen)).await.is_ok());
    tokio::time::sleep(Duration::from_millis(20)).await;
    scratch.file("x", b"two");
    assert_eq!(kind(scratch.store.open(&at("x"), None, Some(&seen)).await), StoreErrorKind::Changed);
}

#[tokio::test]
async fn only_an_empty_directory_is_an_item() {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.path("empty")).unwrap();
    std::fs::create_dir_all(scratch.path("holds-a-link")).unwrap();
    symlink("nowhere", scratch.path("holds-a-link/link")).unwrap();
    let facts = head(&scratch.store, "empty/").await.unwrap();
    assert_eq!(facts.size, 0);
    assert!(facts.properties.unwrap().get("file-mode").is_some());
    assert_eq!(read(&scratch.store, "empty/").await.unwrap(), b"");
    assert!(head(&scratch.store, "empty").await.is_none());
    assert!(head(&scratch.store, "holds-a-link/").await.is_none());
}
