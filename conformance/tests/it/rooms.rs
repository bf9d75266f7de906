//! The direction of the rooms: who may import whom, read from the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

const ROOMS: &[(&str, &[&str])] = &[
    ("mill-hooks", &[]),
    ("mill-model", &[]),
    ("mill-policy", &["mill-model"]),
    ("mill-ports", &["mill-hooks", "mill-model"]),
    ("mill-transparency", &[]),
    ("mill-records", &["mill-hooks", "mill-model", "mill-policy", "mill-ports", "mill-transparency"]),
    ("mill-producer", &["mill-hooks", "mill-model", "mill-policy", "mill-ports", "mill-records", "mill-transparency"]),
    ("mill-workman", &["mill-hooks", "mill-model", "mill-policy", "mill-ports", "mill-records", "mill-transparency"]),
    (
        "mill-processors",
        &["mill-hooks", "mill-model", "mill-policy", "mill-ports", "mill-records", "mill-transparency"],
    ),
    ("mill-run", &["mill-hooks", "mill-model", "mill-ports", "mill-producer", "mill-transparency", "mill-workman"]),
    ("mill-trials", &[]),
    ("mill-testkit", &["mill-hooks", "mill-model", "mill-ports"]),
    ("mill-conformance", &["mill-model", "mill-ports"]),
    // And all back ends.
    (
        "mill-app",
        &[
            "mill-hooks",
            "mill-model",
            "mill-policy",
            "mill-ports",
            "mill-processors",
            "mill-producer",
            "mill-records",
            "mill-run",
            "mill-transparency",
            "mill-workman",
        ],
    ),
    (
        "mill",
        &[
            "mill-app",
            "mill-hooks",
            "mill-local",
            "mill-model",
            "mill-policy",
            "mill-ports",
            "mill-processors",
            "mill-producer",
            "mill-records",
            "mill-run",
            "mill-transparency",
            "mill-workman",
        ],
    ),
];

/// What each back end may import: each crate under `infra/` is one.
const BACK_END: &[&str] = &["mill-hooks", "mill-model", "mill-ports"];

/// Rooms that may import across: they need all others.
const ACROSS: &[&str] = &["mill-simulation"];

/// Rooms for tests, which nothing that ships may link.
const PROVING: &[&str] = &["mill-conformance", "mill-simulation", "mill-testkit", "mill-trials"];

/// The packages of the workspace, as cargo knows them.
fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// The folders of all crates.
pub(super) fn folders() -> Vec<PathBuf> {
    let manifests = packages().into_iter().map(|package| package["manifest_path"].as_str().map(PathBuf::from));
    manifests.map(|path| path.expect("a manifest").parent().expect("its folder").to_owned()).collect()
}

/// The crates under `infra/`.
fn back_ends() -> BTreeSet<String> {
    let is_back_end = |package: &serde_json::Value| {
        let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a manifest"));
        manifest.ancestors().nth(2).is_some_and(|above| above.ends_with("infra"))
    };
    let found = packages().into_iter().filter(is_back_end);
    found.map(|package| package["name"].as_str().expect("a name").to_owned()).collect()
}

/// The dependencies of a package but those of its tests: these may stand on `mill-testkit`; what ships may not.
fn dependencies(package: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    let all = package["dependencies"].as_array().expect("dependencies");
    all.iter().filter(|dependency| dependency["kind"] != "dev")
}

fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for package in packages() {
        let rooms = dependencies(&package)
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|name| *name == "mill" || name.starts_with("mill-"))
            .map(str::to_owned)
            .collect();
        found.insert(package["name"].as_str().expect("a name").to_owned(), rooms);
    }
    found
}

#[test]
fn every_room_imports_only_what_the_design_lets_it() {
    let back_ends = back_ends();
    assert!(back_ends.contains("mill-local") && back_ends.contains("mill-aws"), "{back_ends:?}");
    let mut allowed: BTreeMap<&str, Vec<&str>> = ROOMS.iter().map(|(room, rooms)| (*room, rooms.to_vec())).collect();
    allowed.entry("mill-app").or_default().extend(back_ends.iter().map(String::as_str));
    allowed.extend(back_ends.iter().map(|back_end| (back_end.as_str(), BACK_END.to_vec())));
    for (room, rooms) in imports() {
        if ACROSS.contains(&room.as_str()) {
            continue;
        }
        let allowed = allowed.get(room.as_str()).unwrap_or_else(|| panic!("`{room}` has no place in ROOMS yet"));
        for import in rooms {
            assert!(allowed.contains(&import.as_str()), "`{room}` may not import `{import}`");
        }
    }
}

#[test]
fn what_ships_links_no_room_for_tests() {
    let imports = imports();
    for room in PROVING {
        assert!(imports.contains_key(*room), "there is no `{room}` any more");
    }
    let (mut shipped, mut next) = (BTreeSet::new(), vec!["mill"]);
    while let Some(room) = next.pop() {
        assert!(!PROVING.contains(&room), "`{room}` would ship: one of {shipped:?} imports it");
        if shipped.insert(room) {
            next.extend(imports[room].iter().map(String::as_str));
        }
    }
    assert!(shipped.contains("mill-model") && shipped.contains("mill-aws"), "the search is broken: {shipped:?}");
}

#[test]
fn the_hooks_of_tests_are_on_only_in_tests() {
    let turns_on = |package: &serde_json::Value| {
        dependencies(package).any(|dependency| {
            dependency["name"] == "mill-hooks" && !dependency["features"].as_array().expect("features").is_empty()
        })
    };
    let found = packages().into_iter().filter(turns_on);
    let found: Vec<String> = found.map(|package| package["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(found, ["mill-simulation"]);
}

#[test]
fn what_all_looping_producers_share_imports_the_plan_of_none() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../producer/src/looping");
    let files = std::fs::read_dir(folder).expect("the folder of what they share");
    let files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        assert!(!text.contains("crate::duplication"), "{}", file.display());
    }
}
