//! A tree full of the worst entries that a copy tool can encounter.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::world::World;

#[test]
fn all_that_can_be_copied_is_and_the_rest_is_named_with_its_reason() {
    let world = World::new();
    world.collection("src/collection");
    fs::create_dir_all(world.path("src/empty")).unwrap();
    world.write("src/zero", "");
    for name in [" blanks ", "line\nbreak", "-rf", "a\\b", "*", "caf\u{e9}", "cafe\u{301}", "CON", "a:b", "\u{1}"] {
        world.write(&format!("src/names/{name}"), name);
    }
    world.write(&format!("src/names/{}", "x".repeat(250)), "long");
    for name in ["a-b", "a/b", "a0"] {
        world.write(&format!("src/order/{name}"), name);
    }
    fs::write(world.path("src").join(OsStr::from_bytes(b"not-utf8-\xff")), "x").unwrap();
    symlink("/etc/hostname", world.path("src/outward")).unwrap();
    symlink("nowhere", world.path("src/dangling")).unwrap();
    symlink("collection", world.path("src/inward")).unwrap();
    assert!(Command::new("mkfifo").arg(world.path("src/fifo")).status().unwrap().success());
    let ran = world.mirror(&["--remove-vanished"]).expect(2);

    let mut left: Vec<String> = world.diff("src", "dst");
    left.sort();
    let refused = ["dangling", "fifo", "inward", "not-utf8-", "outward"];
    assert_eq!(left.len(), refused.len(), "{left:#?}");
    let json = ran.json();
    assert_eq!(json["refused"].as_u64(), Some(refused.len() as u64), "{json}");
    let remarks: Vec<&str> = json["remarks"].as_array().unwrap().iter().filter_map(|remark| remark.as_str()).collect();
    for (name, reason) in
        refused.iter().zip(["symbolic link", "not a file or directory", "symbolic link", "not UTF-8", "symbolic link"])
    {
        assert!(left.iter().any(|line| line.contains(name)), "{name} should differ: {left:#?}");
        let named = remarks.iter().any(|remark| remark.contains(name) && remark.contains(reason));
        assert!(named, "`{name}` should be named with `{reason}`: {remarks:#?}");
    }
    assert_eq!(world.stamps("src").len() - 1, world.stamps("dst").len());
}

#[test]
fn a_file_that_may_not_be_read_is_named_and_the_others_arrive() {
    let world = World::new();
    world.collection("src");
    let locked = world.path("src/locked");
    fs::write(&locked, "x").unwrap();
    // Root can read everything: run as nobody if the tests run as root.
    assert!(Command::new("chmod").args(["-R", "a+rX,go-w"]).arg(world.path(".")).status().unwrap().success());
    assert!(Command::new("chmod").arg("000").arg(&locked).status().unwrap().success());
    fs::create_dir_all(world.path("dst")).unwrap();
    fs::create_dir_all(world.path("state")).unwrap();
    let ran = world.as_nobody(&["mirror", "src", "dst", "--json"]).expect(2);
    assert_eq!(ran.json()["refused"], 1);
    let left = world.diff("src", "dst");
    assert_eq!(left.len(), 1, "{left:#?}");
    assert!(left[0].contains("locked"), "{left:#?}");
}

#[test]
fn a_directory_that_may_not_be_read_is_named_the_others_arrive_and_its_copy_stays() {
    let world = World::new();
    world.collection("src");
    world.write("src/locked/a", "x");
    world.write("src/locked/deep/b", "x");
    world.write("dst/locked/a", "x");
    world.write("dst/locked/deep/gone", "x");
    world.write("dst/vanished", "x");
    let locked = world.path("src/locked");
    assert!(Command::new("chmod").args(["-R", "a+rX,go-w"]).arg(world.path(".")).status().unwrap().success());
    assert!(Command::new("chmod").arg("000").arg(&locked).status().unwrap().success());
    fs::create_dir_all(world.path("state")).unwrap();
    let ran = world.as_nobody(&["mirror", "src", "dst", "--remove-vanished", "--json"]);
    assert!(Command::new("chmod").arg("755").arg(&locked).status().unwrap().success());
    let ran = ran.expect(2);
    assert_eq!(ran.json()["refused"], 1);
    let left = world.diff("src", "dst");
    assert_eq!(left.len(), 3, "{left:#?}");
    assert_eq!(left.iter().filter(|line| line.contains("locked")).count(), 2, "{left:#?}");
    // Neither is deleted: one may only be hidden, and Mill never wrote the other.
    assert_eq!(ran.json()["held"], 1);
    assert!(world.path("dst/locked/deep/gone").exists() && world.path("dst/vanished").exists());
}

#[test]
fn a_file_that_changes_while_it_is_read_is_never_a_copy_of_two_moments() {
    let world = World::new();
    // Every moment of the file is one byte repeated; a mixture would show.
    let big = 48 << 20;
    world.write("src/moving", vec![b'0'; big]);
    let path = world.path("src/moving");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut moment = 0_u8;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                moment = (moment + 1) % 10;
                let mut bytes = vec![b'0' + moment; big];
                bytes.truncate(big);
                fs::write(&path, bytes).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(30));
            }
        }
    });
    let during = world.mirror(&[]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert!(matches!(during.code, 0 | 50), "{}", during.err);
    if let Ok(copy) = fs::read(world.path("dst/moving")) {
        assert!(copy.len() == big || copy.is_empty(), "a length of no moment: {}", copy.len());
        assert!(copy.iter().all(|byte| Some(byte) == copy.first()), "a copy of two moments");
    }
    world.mirror(&[]).expect(0);
    world.same("src", "dst");
}
