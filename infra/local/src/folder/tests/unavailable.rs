use std::os::unix::fs::PermissionsExt;

use super::*;

/// The kinds of failure of every call on the store.
async fn every_call(store: &FolderStore) -> Vec<StoreErrorKind> {
    vec![
        kind(store.spaces().await),
        kind(store.space(&space()).await),
        kind(store.head(&at("x")).await),
        kind(store.head(&at("//")).await),
        kind(store.open(&at("x"), None, None).await),
        kind(list(store, None).await),
        kind(store.create_space(&space()).await),
        kind(store.remove_empty_space(&space()).await),
        kind(put(store, "x", b"1", properties(&[]), &Precondition::Always).await),
        kind(put(store, "d/", b"", properties(&[]), &Precondition::Always).await),
        kind(store.put_properties(&at("x"), &properties(&[]), &Precondition::Always).await),
        kind(store.delete(&at("x"), &Precondition::Always).await),
    ]
}

#[tokio::test]
async fn a_root_that_is_away_or_another_is_unavailable_until_it_is_back() {
    let scratch = Scratch::new();
    let root = scratch.root().join("disk");
    let store = store_at(&root, Layout::Spaces, None);
    let unavailable = |kinds: Vec<StoreErrorKind>| kinds.iter().all(|kind| *kind == StoreErrorKind::Unavailable);
    assert!(unavailable(every_call(&store).await), "never there");

    std::fs::create_dir_all(root.join("s")).unwrap();
    put(&store, "x", b"1", properties(&[]), &Precondition::Always).await.unwrap();

    let away = scratch.root().join("away");
    std::fs::rename(&root, &away).unwrap();
    assert!(unavailable(every_call(&store).await), "unplugged");
    std::fs::create_dir_all(root.join("s")).unwrap();
    assert!(unavailable(every_call(&store).await), "the place it was mounted on");
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::write(&root, b"").unwrap();
    assert!(unavailable(every_call(&store).await), "a file");
    std::fs::remove_file(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    assert_eq!(read(&store, "x").await.unwrap(), b"1");
    put(&store, "y", b"1", properties(&[]), &Precondition::Always).await.unwrap();
    assert_eq!(ids(&store).await, ["x", "y"]);

    std::fs::rename(&root, &away).unwrap();
    std::fs::create_dir_all(root.join("s")).unwrap();
    assert!(unavailable(every_call(&store).await), "changed for another between two calls");
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn permissions_refuse_one_item_or_make_the_store_unavailable() {
    let scratch = Scratch::new();
    let allow = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for id in ["x", "secret", "closed/x", "closed/y/z", "names/x", "names/y/z", "z"] {
        scratch.file(id, b"1");
    }
    allow(scratch.root(), 0o755);
    allow(&scratch.path("secret"), 0o000);
    allow(&scratch.path("closed"), 0o000);
    allow(&scratch.path("names"), 0o744);
    let root = scratch.root().to_owned();
    as_nobody(async move {
        let store = store_at(&root, Layout::Spaces, None);
        let unreadable = StoreErrorKind::Refused(RefusalReason::Unreadable);
        assert_eq!(read(&store, "x").await.unwrap(), b"1");
        assert_eq!(kind(store.head(&at("secret")).await), unreadable);
        assert_eq!(kind(read(&store, "secret").await), unreadable);
        let hidden = ["closed/", "closed/none", "closed/x", "closed/y/", "closed/y/none", "closed/y/z", "names/none"];
        for id in hidden.into_iter().chain(["names/x", "names/y/z"]) {
            assert_eq!(kind(store.head(&at(id)).await), unreadable, "{id}");
            assert_eq!(kind(store.open(&at(id), None, None).await), unreadable, "{id}");
        }
        let named = ["closed/", "names/x", "names/y/"].map(|name| (name.to_owned(), RefusalReason::Unreadable));
        let (ids, refused) = list(&store, None).await.unwrap();
        assert_eq!((ids, refused), (strings(&["secret", "x", "z"]), named.clone().into()));
        let (ids, refused) = list(&store, Some("closed/w")).await.unwrap();
        assert_eq!((ids, refused), (strings(&["secret", "x", "z"]), named.into()), "within one of them");
        let (ids, refused) = list(&store, Some("names/y/z")).await.unwrap();
        assert_eq!((ids, refused.len()), (strings(&["secret", "x", "z"]), 1), "behind others of them");
        for change in [
            put(&store, "y", b"1", properties(&[]), &Precondition::Always).await.map(drop),
            store.delete(&at("x"), &Precondition::Always).await.map(drop),
            store.create_space(&SpaceId::new("t").unwrap()).await,
        ] {
            assert_eq!(kind(change), StoreErrorKind::Unavailable);
        }
    });
    allow(&scratch.path("closed"), 0o755);
    // Without any permission for the space, or with its names alone, the scope is the space while the root answers.
    for mode in [0o000, 0o744] {
        allow(&scratch.path(""), mode);
        let root = scratch.root().to_owned();
        as_nobody(async move {
            let store = store_at(&root, Layout::Spaces, None);
            assert_eq!(kind(store.head(&at("x")).await), StoreErrorKind::Refused(RefusalReason::Unreadable));
            assert_eq!(kind(list(&store, None).await), StoreErrorKind::Refused(RefusalReason::Unreadable));
        });
    }
    allow(&scratch.path(""), 0o755);
    allow(scratch.root(), 0o700);
    let root = scratch.root().to_owned();
    as_nobody(async move {
        let store = store_at(&root, Layout::Spaces, None);
        assert!(every_call(&store).await.iter().all(|kind| *kind == StoreErrorKind::Unavailable));
    });
}

#[tokio::test]
async fn a_failure_of_all_of_a_store_names_the_store_and_its_root() {
    let scratch = Scratch::new();
    let root = scratch.root().join("no such disk");
    let store = store_at(&root, Layout::Spaces, None);
    let error = store.spaces().await.unwrap_err();
    let said = mill_ports::error_chain(&error);
    for words in [format!("`{}`", root.display()), format!("store `{}`", error.store)] {
        assert!(said.contains(&words), "{words}: {said}");
    }
}

#[tokio::test]
async fn an_owner_that_cannot_be_noted_on_a_folder_is_told_with_the_attribute_and_what_to_do() {
    let scratch = Scratch::new();
    // More than an attribute can hold.
    let mark = OwnerMark { names: vec!["x".repeat(100_000)], shown: "somebody".to_owned(), original: None };
    let error = scratch.store.put_mark(&space(), mark, false).await.unwrap_err();
    let said = mill_ports::error_chain(&error);
    for words in ["extended attribute `user.mill.owner`) of `s`", "make the folder writable"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
