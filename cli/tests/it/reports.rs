//! What a run says of each item: lines for people, and files for auditors.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::world::{Ran, World};

/// A folder in which something is there for each thing that can become of an item, and its copy from before that.
fn changed_world() -> World {
    let world = World::new();
    for name in ["src/same", "src/deep/er/bytes", "src/mode", "src/gone", "src/other", "src/more"] {
        world.write(name, name);
    }
    world.age("src");
    world.mirror(&[]).expect(0);
    world.write("src/deep/er/bytes", "other bytes, and more of them");
    fs::set_permissions(world.path("src/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(world.path("src/gone")).unwrap();
    world.write("src/deep/new one", "a".repeat(3_000));
    std::os::unix::fs::symlink("same", world.path("src/link")).unwrap();
    fs::write(world.path("src").join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff")), "x").unwrap();
    world
}

/// The lines before the summary.
fn told(ran: &Ran) -> Vec<String> {
    let lines: Vec<&str> = ran.out.lines().filter(|line| !line.starts_with(['!', '{'])).collect();
    let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn verbose_names_each_item_that_changed_or_could_not_and_no_other() {
    let world = changed_world();
    let ran = world.mirror(&["-v", "--remove-vanished"]).expect(2);
    let said = told(&ran);
    let begins = [
        "copied     deep/new one  2.93 KiB",
        "deleted    gone",
        "refused    link: ",
        "refused    not-utf8-\\xff: ",
        "updated    deep/er/bytes  29 B",
        "updated    mode  properties",
    ];
    assert_eq!(said.len(), begins.len(), "{said:#?}");
    for (line, begin) in said.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line:?} {begin:?}");
    }
    let json = ran.json();
    for (counter, count) in [("copied", 1), ("updated", 2), ("deleted", 1), ("refused", 2), ("unchanged", 3)] {
        assert_eq!(json[counter], count, "{counter}");
    }
    let again = world.mirror(&["--verbose"]).expect(2);
    assert!(told(&again).iter().all(|line| line.starts_with("refused")), "{}", again.out);
    world.mirror(&["-v", "-q"]).expect(200);
}

#[test]
fn verbose_tells_of_worker_processes_and_of_held_items_too() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2", "removeVanished": true}]}"#);
    (0..40).for_each(|n| world.write(&format!("one/maps/{n:02}"), "map"));
    let ran = world.mill(&["run", "-v", "--processes", "2", "--json"]).expect(0);
    let mut expected: Vec<String> =
        (0..40).map(|n| format!("copied     library/maps/{n:02} (store 1 → 2)  3 B")).collect();
    assert_eq!(told(&ran), expected);
    (0..30).for_each(|n| fs::remove_file(world.path(&format!("one/maps/{n:02}"))).unwrap());
    let ran = world.mill(&["run", "-v", "--json"]).expect(2);
    expected.truncate(30);
    let held: Vec<String> = told(&ran).iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    let of = |line: &String| line.replace("copied   ", "held     ").replace("  3 B", "");
    assert_eq!(held, expected.iter().map(of).collect::<Vec<_>>());
    assert_eq!(ran.json()["held"], 30);
}
