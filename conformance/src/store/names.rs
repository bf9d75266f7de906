//! Names that do harm, on purpose or by accident: a faithful copy or a typed refusal, never another item.

use mill_model::{ContentId, ItemAddress, Properties, SpaceId};
use mill_ports::{Precondition, Presence, StoreErrorKind};

use super::{item, kept, pattern, properties, space};
use crate::subject::StoreSubject;

/// Parts of names, each hostile to some file system, shell, protocol or parser.
const HOSTILE: [&str; 62] = [
    ".",
    "..",
    "...",
    "../x",
    "..\\x",
    "../../../../tmp/x",
    "/",
    "//",
    "/x",
    "//x",
    "x/",
    "x//",
    "x//y",
    "./x",
    "x/.",
    "x/..",
    "x/./y",
    "x/../y",
    "x/../../y",
    "\\",
    "C:",
    "C:\\x",
    "CON",
    "nul.txt",
    "COM1",
    "~",
    "~root",
    "-rf",
    "--",
    "*",
    "?",
    "[x]",
    "{x}",
    "$HOME",
    "$(x)",
    "`x`",
    "'x'",
    "\"x\"",
    "x;y",
    "x|y",
    "x&y",
    "x<y>",
    "#x",
    "%2e%2e%2f",
    "%2F",
    "%00",
    "%",
    "+",
    " ",
    " x",
    "x ",
    "x.",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "x\0y",
    "\u{7f}",
    "\u{1b}[2J",
    "\u{202e}x",
    "\u{feff}x",
    "\u{1F468}\u{200D}\u{1F469}",
];

/// Writes an id beside a neighbour: it is kept to the byte or refused, and the neighbour is unchanged.
pub(crate) async fn kept_or_refused(subject: &StoreSubject, id: &str, size: usize) -> bool {
    let address = item(id);
    let read = (pattern(size, 1), properties(&[("k", "v")]));
    let neighbour = subject.put("neighbour", "untouched", &[]).await;
    let kept = kept(subject.put_when(&address, &read, &Precondition::Always).await, id);
    if kept {
        subject.assert_reads(&address, &read).await;
        let mut both = [id, "neighbour"];
        both.sort_unstable();
        assert_eq!(subject.ids().await, both);
        assert_eq!(
            subject.store.delete(&address, &Precondition::Always).await.unwrap(),
            Presence::Present(()),
            "{id:?}"
        );
    }
    assert_eq!(subject.ids().await, ["neighbour"], "after {id:?}");
    subject.assert_reads(&item("neighbour"), &neighbour).await;
    assert_eq!(subject.store.spaces().await.unwrap(), [space()], "after {id:?}");
    kept
}

/// 1,024 bytes, in one part or in many.
pub async fn ids_of_the_greatest_length(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let parts = format!("{}{}", "0123456789abcde/".repeat(63), "0123456789abcdef");
    let deep = format!("{}ab", "a/".repeat(511));
    let wide = "é".repeat(512);
    for id in ["x".repeat(1024), parts, deep, wide] {
        assert_eq!(id.len(), ContentId::BYTES_MAX);
        kept_or_refused(&subject, &id, 10).await;
    }
}

/// Two ids are two items, even if they look alike.
async fn two_items(subject: &StoreSubject, first: &str, second: &str) {
    let (one, two) = ((pattern(10, 1), Properties::default()), (pattern(20, 2), Properties::default()));
    assert!(kept(subject.put_when(&item(first), &one, &Precondition::Absent).await, first), "{first:?}");
    subject.assert_absent(&item(second)).await;
    if kept(subject.put_when(&item(second), &two, &Precondition::Absent).await, second) {
        subject.assert_reads(&item(second), &two).await;
        let mut both = [first, second];
        both.sort_unstable();
        assert_eq!(subject.ids().await, both);
        subject.store.delete(&item(second), &Precondition::Always).await.unwrap();
    }
    subject.assert_reads(&item(first), &one).await;
    assert_eq!(subject.ids().await, [first]);
    subject.store.delete(&item(first), &Precondition::Always).await.unwrap();
}

/// NFC and NFD.
pub async fn composed_and_decomposed_letters_are_two_ids(subject: StoreSubject) {
    let subject = subject.with_space().await;
    two_items(&subject, "caf\u{e9}", "cafe\u{301}").await;
    two_items(&subject, "cafe\u{301}", "caf\u{e9}").await;
}

/// No case is folded.
pub async fn upper_and_lower_case_are_two_ids(subject: StoreSubject) {
    let subject = subject.with_space().await;
    two_items(&subject, "Photo", "photo").await;
    two_items(&subject, "a/Photo", "A/photo").await;
    two_items(&subject, "\u{130}", "i\u{307}").await;
}

/// A folder refuses what it cannot hold, whichever came first.
pub async fn an_id_and_one_beneath_it(subject: StoreSubject) {
    let subject = subject.with_space().await;
    two_items(&subject, "a", "a/b").await;
    two_items(&subject, "a/b", "a").await;
    two_items(&subject, "a/b/c", "a/b").await;
}

/// An empty directory, if the store has them.
pub async fn a_directory_is_an_empty_item(subject: StoreSubject) {
    let subject = subject.with_space().await;
    kept_or_refused(&subject, "photos/", 0).await;
    kept_or_refused(&subject, "photos/2026/", 0).await;
    kept_or_refused(&subject, "photos/2026/", 10).await;
}

/// As whole ids.
pub async fn hostile_ids_are_kept_or_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    for id in HOSTILE {
        kept_or_refused(&subject, id, 10).await;
        kept_or_refused(&subject, id, 0).await;
    }
}

/// As parts of ids, at the end and in the middle.
pub async fn hostile_ids_beneath_a_prefix_are_kept_or_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    for part in HOSTILE {
        for id in [format!("p/{part}"), format!("{part}/s"), format!("p/{part}/s"), format!("p{part}s")] {
            kept_or_refused(&subject, &id, 10).await;
        }
    }
}

/// An id that cannot be stored is absent, and no other item is returned for it.
pub async fn hostile_ids_are_absent_until_they_are_written(subject: StoreSubject) {
    let subject = subject.with_space().await;
    for id in ["x", "y/z", "p/x", "p/y"] {
        subject.put(id, "untouched", &[]).await;
    }
    let before = subject.ids().await;
    for id in HOSTILE.into_iter().filter(|id| !before.contains(&(*id).to_owned())) {
        let refused = |kind: &StoreErrorKind| matches!(kind, StoreErrorKind::Refused(_));
        match subject.store.head(&item(id)).await {
            Ok(presence) => assert!(presence.present().is_none(), "{id:?} is there"),
            Err(error) => assert!(refused(&error.kind), "{id:?}: {error:?}"),
        }
        match subject.store.open(&item(id), None, None).await {
            Ok(presence) => assert!(presence.present().is_none(), "{id:?} can be opened"),
            Err(error) => assert!(refused(&error.kind), "{id:?}: {error:?}"),
        }
        match subject.store.delete(&item(id), &Precondition::Always).await {
            Ok(presence) => assert_eq!(presence, Presence::Absent, "{id:?} was deleted"),
            Err(error) => assert!(refused(&error.kind), "{id:?}: {error:?}"),
        }
    }
    assert_eq!(subject.ids().await, before);
}

/// Spaces too.
pub async fn hostile_spaces_are_kept_or_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let neighbour = subject.put("neighbour", "untouched", &[]).await;
    for hostile in HOSTILE.into_iter().filter_map(|text| SpaceId::new(text).ok()) {
        if kept(subject.store.create_space(&hostile).await, hostile.as_str()) {
            let mut both = [hostile.clone(), space()];
            both.sort();
            assert_eq!(subject.store.spaces().await.unwrap(), both);
            let address = ItemAddress { space: hostile.clone(), id: item("a").id };
            let read = (pattern(10, 1), Properties::default());
            subject.put_when(&address, &read, &Precondition::Absent).await.unwrap();
            subject.assert_reads(&address, &read).await;
            subject.store.delete(&address, &Precondition::Always).await.unwrap();
            subject.store.remove_empty_space(&hostile).await.unwrap();
        }
        assert_eq!(subject.store.spaces().await.unwrap(), [space()], "after {hostile:?}");
        subject.assert_reads(&item("neighbour"), &neighbour).await;
    }
}

/// Properties too: all of them to the byte, or the item is refused.
pub async fn odd_properties_are_kept_or_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let large = "value ".repeat(20_000);
    let many: Vec<(String, String)> = (0..500).map(|n| (format!("name-{n}"), format!("value {n}"))).collect();
    let mut odd: Vec<Properties> = [
        ("k", ""),
        ("", "v"),
        ("k", " v "),
        ("k", "a\nb"),
        ("k", "a\0b"),
        ("K", "v"),
        ("k=v", "v=k"),
        ("k\n", "v"),
        ("k\0", "v"),
        ("é", "日本 \u{1F600}"),
        ("file-mode", "not a mode"),
        ("file-mtime", "yesterday"),
        ("k", &large),
    ]
    .map(|pair| properties(&[pair]))
    .into();
    odd.push(Properties(many.into_iter().collect()));
    for properties in odd {
        let read = (pattern(100, 1), properties);
        if kept(subject.put_when(&item("a"), &read, &Precondition::Absent).await, &format!("{:.80?}", read.1)) {
            subject.assert_reads(&item("a"), &read).await;
            subject.store.delete(&item("a"), &Precondition::Always).await.unwrap();
        }
        assert!(subject.ids().await.is_empty());
    }
}
