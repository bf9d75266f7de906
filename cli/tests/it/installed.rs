//! A real tree with the worst entries. The short form copies the repository's own collection, the long form any tree:
//! `MILL_TREE=/usr/share cargo test --release -p mill --test it installed`, with a file of 2 GiB in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::world::{Ran, World, walk};

/// Puts the tree under `src`; returns `true` for the long form.
fn tree(world: &World) -> bool {
    let Some(tree) = std::env::var_os("MILL_TREE") else {
        world.collection("src");
        return false;
    };
    let status = Command::new("cp").arg("-aT").arg(tree).arg(world.path("src")).status().unwrap();
    assert!(status.success());
    true
}

fn sparse(path: &Path, size: u64) {
    use std::io::{Seek as _, SeekFrom, Write as _};
    let mut file = fs::File::create(path).unwrap();
    for at in (0..size).step_by(64 << 20) {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&at.to_be_bytes()).unwrap();
    }
    file.set_len(size).unwrap();
}

fn plant_what_can_be_copied(world: &World, long: bool) {
    for name in
        ["", " ", " both ends ", "line\nbreak", "-rf", "a\\b", "*", "CON", "a:b", "\u{1}", "caf\u{e9}", "cafe\u{301}"]
    {
        world.write(&format!("src/odd/x{name}"), name);
    }
    world.write(&format!("src/odd/{}", "n".repeat(250)), "250 bytes");
    for name in ["a-b", "a/b", "a0"] {
        world.write(&format!("src/order/{name}"), name);
    }
    for n in 0..10 {
        world.write(&format!("src/empties/{n}"), "");
    }
    fs::create_dir_all(world.path("src/empty/inner")).unwrap();
    sparse(&world.path("src/big"), if long { 2 << 30 } else { 32 << 20 });
}

fn plant_what_cannot(world: &World) {
    fs::create_dir_all(world.path("src/only/refused")).unwrap();
    for (to, name) in [("/etc/hostname", "outward"), ("nowhere", "dangling"), ("odd", "only/refused/inward")] {
        symlink(to, world.path("src").join(name)).unwrap();
    }
    fs::write(world.path("src/odd").join(OsStr::from_bytes(b"not-utf8-\xff")), "x").unwrap();
    assert!(Command::new("mkfifo").arg(world.path("src/fifo")).status().unwrap().success());
    world.write("src/locked", "x");
    assert!(Command::new("chmod").args(["000"]).arg(world.path("src/locked")).status().unwrap().success());
}

/// Every path that a faithful copy by nobody must refuse, found without Mill: what is neither a readable file nor a
/// folder, or has a name that is not UTF-8. Nothing beneath an unreadable folder is named.
fn refusable(world: &World) -> BTreeSet<Vec<u8>> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "find", ".", "-mindepth", "1"]);
    command.args("( -type d ! ( -readable -executable ) -prune -printf R%P\\0 ) -o".split(' '));
    command.args("( ! -type d ! ( -type f -readable ) -printf R%P\\0 ) -o -printf A%P\\0".split(' '));
    let output = command.current_dir(world.path("src")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let paths = output.stdout.split(|byte| *byte == 0).filter_map(|path| path.split_first());
    let refused = |(mark, path): &(&u8, &[u8])| **mark == b'R' || std::str::from_utf8(path).is_err();
    paths.filter(refused).map(|(_, path)| path.to_vec()).collect()
}

/// The differences between `src` and `dst`, compared byte by byte by Python.
fn differing(world: &World) -> BTreeSet<Vec<u8>> {
    let script = r"
import filecmp, os, stat, sys
def kinds(folder):
    try:
        return {entry.name: entry for entry in os.scandir(folder)}
    except FileNotFoundError:
        return {}
def say(path):
    sys.stdout.buffer.write(path + b'\0')
def look(relative):
    ours, theirs = kinds(os.path.join(b'src', relative)), kinds(os.path.join(b'dst', relative))
    for name in ours.keys() | theirs.keys():
        path = os.path.join(relative, name)
        a, b = ours.get(name), theirs.get(name)
        kind = lambda e: e and stat.S_IFMT(e.stat(follow_symlinks=False).st_mode)
        if kind(a) == stat.S_IFDIR and kind(b) in (None, stat.S_IFDIR) and (b or any(os.scandir(a.path))):
            look(path)
        elif kind(a) != kind(b) or (kind(a) == stat.S_IFREG and not filecmp.cmp(a.path, b.path, shallow=False)):
            say(path)
look(b'')
";
    let output = Command::new("python3").args(["-c", script]).current_dir(world.path(".")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()
}

#[track_caller]
fn only_these(differing: &BTreeSet<Vec<u8>>, refused: &BTreeSet<Vec<u8>>) {
    let shown = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
    // The content of a refused folder is refused with it.
    let under = |path: &Vec<u8>| {
        let ends = (0..path.len()).filter(|end| path[*end] == b'/');
        ends.map(|end| path[..end].to_vec()).find(|folder| refused.contains(folder)).unwrap_or_else(|| path.clone())
    };
    let differing: BTreeSet<Vec<u8>> = differing.iter().map(under).collect();
    let lost: Vec<String> = differing.difference(refused).map(shown).collect();
    let copied: Vec<String> = refused.difference(&differing).map(shown).collect();
    assert!(lost.is_empty() && copied.is_empty(), "not refused and not equal: {lost:?}; to be refused: {copied:?}");
}

/// A path as Mill prints it: invalid UTF-8 is escaped byte by byte.
fn shown(path: &[u8]) -> String {
    let mut name = String::new();
    for chunk in path.utf8_chunks() {
        name.extend(chunk.valid().escape_debug());
        name.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    name
}

fn nobody(world: &World, more: &[&str]) -> Ran {
    world.as_nobody(&[&["mirror", "src", "dst", "--json"], more].concat())
}

/// A file that keeps changing until `stop` is set; each of its states is one byte repeated.
fn restless(path: PathBuf, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for moment in (b'0'..=b'9').cycle() {
            fs::write(&path, vec![moment; 24 << 20]).unwrap();
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    })
}

#[test]
fn of_a_hostile_tree_all_arrives_but_what_is_refused_by_name() {
    let world = World::new();
    let long = tree(&world);
    plant_what_can_be_copied(&world, long);
    plant_what_cannot(&world);
    for folder in ["dst", "state"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    assert!(Command::new("chmod").arg("755").arg(world.path(".")).status().unwrap().success());
    let stop = Arc::new(AtomicBool::new(false));
    let writer = restless(world.path("src/restless"), stop.clone());
    std::thread::sleep(Duration::from_millis(100));
    let during = nobody(&world, &[]);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(matches!(during.code, 2 | 50), "{}\n{}", during.code, during.err);
    if let Ok(copy) = fs::read(world.path("dst/restless")) {
        assert!(copy.iter().all(|byte| Some(byte) == copy.first()), "a copy of two moments");
    }

    let refused = refusable(&world);
    let mut left = differing(&world);
    left.remove(&b"restless"[..]);
    only_these(&left, &refused);
    let ran = nobody(&world, &["--log", "warn"]).expect(2);
    only_these(&differing(&world), &refused);
    let json = ran.json();
    assert_eq!(json["refused"].as_u64(), Some(refused.len() as u64), "{json}");
    for path in &refused {
        let name = shown(path);
        let ways = [format!("item=\"{}", name.escape_debug()), format!(" {name} (duplicate")];
        let line = ran.err.lines().find(|line| ways.iter().any(|way| line.contains(way)));
        let line = line.unwrap_or_else(|| panic!("`{name}` should be named:\n{}", ran.err));
        let reasons = ["symbolic link", "not a file or directory", "not UTF-8", "may not be read"];
        assert!(reasons.iter().any(|reason| line.contains(reason)), "no reason given: {line}");
    }
    eprintln!(
        "{} entries, {} of them refused; first run: {}",
        walk(&world.path("src")).len(),
        refused.len(),
        during.out
    );
    world.databases_are_whole_in("state");
}

#[test]
fn of_a_clean_tree_everything_arrives_and_then_only_what_changes_moves() {
    let world = World::new();
    let long = tree(&world);
    for path in walk(&world.path("src")).iter().rev() {
        let facts = fs::symlink_metadata(path).unwrap();
        let emptied = || facts.is_dir() && fs::read_dir(path).unwrap().next().is_none();
        if !facts.is_file() && !facts.is_dir() {
            fs::remove_file(path).unwrap();
        } else if emptied() {
            fs::remove_dir(path).unwrap();
        }
    }
    plant_what_can_be_copied(&world, long);
    std::thread::sleep(Duration::from_millis(2_100));
    let json = world.mirror(&[]).expect(0).json();
    world.same("src", "dst");
    assert_eq!(world.stamps("src"), world.stamps("dst"));
    let all = json["copied"].as_u64().unwrap();
    eprintln!("{json}");

    world.write("src/odd/x*", "changed");
    world.write("src/added", "new");
    fs::remove_file(world.path("src/empties/3")).unwrap();
    std::thread::sleep(Duration::from_millis(2_100));
    let json = world.mirror(&["--remove-vanished"]).expect(0).json();
    let moved = ["copied", "updated", "deleted", "unchanged"].map(|member| json[member].as_u64().unwrap());
    assert_eq!(moved, [1, 1, 1, all - 2], "{json}");
    world.same("src", "dst");
    let json = world.mirror(&["--remove-vanished", "--detailed-exit-code"]).expect(1).json();
    assert_eq!(json["unchanged"].as_u64(), Some(all), "{json}");
    assert_eq!(json["bytes"], 0, "{json}");
    eprintln!("{json}");
}
