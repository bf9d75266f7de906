use super::*;
use crate::StoreKind;

fn overlap(a: &str, b: &str) -> bool {
    let folder = |root: &str| StoreKind::Folder(FolderSpec { root: root.into() });
    let (a, b) = (folder(a), folder(b));
    assert_eq!(a.overlaps(&b), b.overlaps(&a));
    a.overlaps(&b)
}

#[test]
fn one_folder_inside_another_overlaps_and_a_like_name_does_not() {
    assert!(overlap("/a", "/a"));
    assert!(overlap("/a", "/a/b/"));
    assert!(overlap("/a/./x/..", "/a/b"));
    assert!(overlap("a", "./a/b"));
    assert!(overlap(".", "a"));
    assert!(overlap("/", "/a"));
    assert!(!overlap("/a", "/ab"));
    assert!(!overlap("/a/b", "/a/c"));
    assert!(!overlap(".", "/a"));
    assert!(!overlap("../a", "a"));
    assert!(overlap("/../a", "/a"));
}
