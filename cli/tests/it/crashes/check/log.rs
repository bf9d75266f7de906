//! The audit log of the account whose store is audited: each change once, whichever processes died.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::super::template::{LOGS, signer};
use crate::audit_world::verified_entries;
use crate::world::{World, walk};

/// Each entry is of a change, each change has its entry, and nothing waits any more.
#[track_caller]
pub(super) fn says_what_happened(world: &World) {
    let [one, other] = LOGS.map(|store| verified_entries(&world.path(store).join("x-audit-log"), &signer()));
    assert_eq!(one, other, "both stores have the same log");
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    let (mut ids, mut versions, mut spaces) = (Vec::new(), Vec::new(), Vec::new());
    for entry in one {
        let event = entry["event"].clone();
        ids.push(event["id"].to_string());
        assert_eq!(event["store"], "2");
        let Some(item) = event["item"].as_str() else {
            // Of two writers that made it at once, one of them killed, the other entry says that nobody knows.
            if event["certainty"].is_null() {
                spaces.push(event["space"].to_string());
            }
            continue;
        };
        let path = format!("{}/{item}", event["space"].as_str().unwrap());
        if let Some(version) = event["version"].as_str() {
            versions.push(format!("{} {path} {version}", event["action"]));
        }
        // A task that a killed process had in hand comes late, and its event stands later in the log. Ids are in order of time.
        if last.get(&path).is_none_or(|known| known["id"].as_str() < event["id"].as_str()) {
            last.insert(path, event);
        }
    }
    for (what, mut all) in [("an event", ids), ("a change", versions), ("a space", spaces)] {
        all.sort();
        let twice: Vec<_> = all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
        assert!(twice.is_empty(), "{what} has one entry, not two: {twice:?}");
    }
    ends_as_the_copy_is(world, last);
    assert_eq!(waiting(world), "0", "nothing waits for its place or its result");
}

/// The last entry of each item says how it is now.
#[track_caller]
fn ends_as_the_copy_is(world: &World, mut last: BTreeMap<String, Value>) {
    let root = world.path("library-two");
    for path in walk(&root) {
        let meta = fs::symlink_metadata(&path).unwrap();
        if !meta.is_file() {
            continue;
        }
        let id = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let event = last.remove(&id).unwrap_or_else(|| panic!("no entry of {id}"));
        assert_ne!(event["action"], "delete-content", "{id}");
        if event["action"] == "add-content" && event["certainty"].is_null() {
            assert_eq!(event["size"], meta.len(), "{id}");
            let sums: Vec<&str> =
                event["checksums"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            // A lost writer's entry says what was seen of it, which has no checksum in a folder.
            if let Some(sum) = sums.iter().find_map(|sum| sum.strip_prefix("sha256:")) {
                assert_eq!(sum, sha256(&path), "{id}");
            }
        }
    }
    for (id, event) in last {
        // A directory is an item while it is empty, and no file.
        if !id.ends_with('/') {
            assert_eq!(event["action"], "delete-content", "{id} is gone: {event}");
        }
    }
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg("-b").arg("--").arg(path).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.trim_start_matches('\\').split(' ').next().unwrap().to_owned()
}

fn waiting(world: &World) -> String {
    let script = "
import sqlite3
rows = sqlite3.connect('data/mill.db').execute(\"select cast(partition as text) from entry where book = 'audit'\").fetchall()
print(len([row for (row,) in rows if row.startswith(('ready/', 'intent/', 'large/'))]))
";
    world.python(script).trim().to_owned()
}
