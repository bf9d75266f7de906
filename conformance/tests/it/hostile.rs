//! Hostile names on the back ends, and what only a folder can hold: names that are not UTF-8.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt as _;
use mill_conformance::{HostileSubject, Keep, StoreLimits, StoreSubject};
use mill_local::OsClock;
use mill_local::folder::{FolderSettings, FolderStore, Layout};
use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use mill_ports::{ListEntry, SourceStore as _};
use mill_testkit::MemoryTable;

async fn memory() -> HostileSubject {
    HostileSubject { store: crate::backends::memory_store().await, around: Box::new(Vec::new) }
}

async fn choosy() -> HostileSubject {
    HostileSubject { store: crate::backends::choosy_store().await, around: Box::new(Vec::new) }
}

fn open(root: &Path, layout: Layout) -> FolderStore {
    FolderStore::open(FolderSettings {
        address: StoreAddress { account: AccountId::new("account").unwrap(), store: StoreId::new("1").unwrap() },
        root: root.to_owned(),
        layout,
        sidecars: Some(Arc::new(MemoryTable::new("sidecars"))),
        clock: Arc::new(OsClock),
    })
}

/// Every path below `root` except those in `but`, with its bytes and its time.
fn told(root: &Path, but: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let facts = fs::symlink_metadata(&path).unwrap();
        if path == but {
            continue;
        }
        if facts.is_dir() {
            all.push(path.display().to_string());
            all.extend(told(&path, but));
        } else {
            all.push(format!("{} {:?} {:?}", path.display(), fs::read(&path).unwrap(), facts.modified().unwrap()));
        }
    }
    all.sort();
    all
}

/// A root some levels down, with files beside and above it that an escaping name would hit.
fn folder_in(layout: &Layout) -> HostileSubject {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("a/b/root");
    fs::create_dir_all(&root).unwrap();
    for beside in ["x", "s", "a/x", "a/s", "a/b/x", "a/b/s", "a/b/p/x", "a/b/y", "tmp/x", "a/tmp/x", "a/b/tmp/x"] {
        let beside = directory.path().join(beside);
        fs::create_dir_all(beside.parent().unwrap()).unwrap();
        fs::write(beside, "not to be touched").unwrap();
    }
    let store = open(&root, layout.clone());
    let outer = directory.path().to_owned();
    HostileSubject {
        store: StoreSubject { store: Arc::new(store), limits: StoreLimits::NONE, keep: Keep::this(directory) },
        around: Box::new(move || told(&outer, &root)),
    }
}

async fn folder() -> HostileSubject {
    folder_in(&Layout::Spaces)
}

mill_conformance::hostile_suite!(in_memory, crate::hostile::memory);
mill_conformance::hostile_suite!(in_a_choosy_store, crate::hostile::choosy);
mill_conformance::hostile_suite!(in_a_folder, crate::hostile::folder);
mill_simulation::hostile_copy_suite!(copied_in_memory, crate::hostile::memory);
mill_simulation::hostile_copy_suite!(copied_in_a_choosy_store, crate::hostile::choosy);
mill_simulation::hostile_copy_suite!(copied_in_a_folder, crate::hostile::folder);

#[tokio::test]
async fn names_on_disk_that_are_not_utf8_are_refused_by_name_and_never_taken_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let bad: &[&[u8]] = &[
        b"\xff",
        b"a\xffb",
        b"\xc0\xae\xc0\xae",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"caf\xe9",
        b"\x80",
        b"ok\xc3",
        b"\xfe\xff",
        b"\xf8\x88\x80\x80\x80",
        b"x\xc1\xbf",
        b"\xed\xbf\xbf",
        b"\x9b2J",
    ];
    let folder = directory.path().join("space");
    fs::create_dir(&folder).unwrap();
    for name in bad {
        fs::write(folder.join(OsStr::from_bytes(name)), "bytes").unwrap();
    }
    // Names that a careless conversion would make of them.
    for name in ["\u{FFFD}", "a\u{FFFD}b", "caf\u{FFFD}", "ok\u{FFFD}", "caf\u{e9}", "ok"] {
        fs::write(folder.join(name), name).unwrap();
    }
    let store = open(directory.path(), Layout::Spaces);
    let pages: Vec<_> = store.list(&SpaceId::new("space").unwrap(), None).try_collect().await.unwrap();
    let entries: Vec<ListEntry> = pages.into_iter().flat_map(|page| page.entries).collect();
    let refused: Vec<&str> = entries
        .iter()
        .filter_map(|entry| if let ListEntry::Refused { shown, .. } = entry { Some(&**shown) } else { None })
        .collect();
    assert_eq!(refused.len(), bad.len(), "{refused:?}");
    let distinct: std::collections::BTreeSet<&str> = refused.iter().copied().collect();
    assert_eq!(distinct.len(), bad.len(), "each can be told from the others: {refused:?}");
    assert!(refused.iter().all(|shown| shown.is_ascii() && !shown.chars().any(char::is_control)), "{refused:?}");
    let items = entries.iter().filter(|entry| matches!(entry, ListEntry::Item(..))).count();
    assert_eq!(items, 6);
}
