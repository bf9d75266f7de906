//! Disks that refuse writes, and power cuts: whatever Mill has proven is intact on the disk itself.
//!
//! `MILL_DISKS=20` runs this many rounds of each on each file system; the short form runs one, on ext4.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use mill_trials::fuse::FlakyDisk;
use mill_trials::{FileSystem, LoopDisk, MissingRequirement, in_mount_namespace};

use crate::kills::{Dice, seed};
use crate::world::{World, walk};

/// The content of each id, in each state that the source had.
type Contents = BTreeMap<String, Vec<Vec<u8>>>;

/// The beginning of each block of a file, by which the disk distinguishes it from the file system's own tables.
const MARK: &[u8] = b"bytes of a file";

fn rounds() -> u64 {
    std::env::var("MILL_DISKS").map_or(1, |rounds| rounds.parse().unwrap())
}

/// The file systems and how much they need.
fn file_systems() -> &'static [(FileSystem, u64)] {
    let all = &[(FileSystem::Ext4, 64 << 20), (FileSystem::Xfs, 320 << 20), (FileSystem::Btrfs, 256 << 20)];
    if rounds() > 1 { all } else { &all[..1] }
}

/// Writes files, new ones and over existing ones.
fn people_write(world: &World, contents: &mut Contents, dice: &mut Dice, files: u64) {
    for n in 0..files {
        let id = format!("box {}/{n}", n % 7);
        let size = if dice.roll(4) == 0 { dice.roll(600_000) } else { dice.roll(9_000) };
        let first = dice.roll(u64::MAX);
        let byte = |at: u64| (first.wrapping_add(at).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        let mut bytes: Vec<u8> = (0..size).map(byte).collect();
        for block in bytes.chunks_mut(4_096) {
            let marked = MARK.len().min(block.len());
            block[..marked].copy_from_slice(&MARK[..marked]);
        }
        world.write(&format!("src/{id}"), &bytes);
        let file = fs::File::options().append(true).open(world.path(&format!("src/{id}"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600 + dice.roll(1_000))).unwrap();
        contents.entry(id).or_default().push(bytes);
    }
    // Until it is old enough for a sync proof.
    std::thread::sleep(Duration::from_millis(2_100));
}

/// The ids with a sync proof in the mirror's database, read by another tool.
fn sealed(world: &World) -> Vec<String> {
    let ids = world.python(
        "
import sqlite3, pathlib
for path in pathlib.Path('state').rglob('*.db'):
    db = sqlite3.connect(path, timeout=20)
    # At its very beginning it has no tables yet.
    if not db.execute(\"select 1 from sqlite_master where name = 'entry'\").fetchone():
        continue
    for (id,) in db.execute(\"select sort from entry where book = 'seals'\"):
        print(id.decode() if isinstance(id, bytes) else id)
",
    );
    ids.lines().map(str::to_owned).collect()
}

/// Each proven item must be intact, in one of the states that its source had; and so must every other visible item.
#[track_caller]
fn all_whole(copy: &Path, proven: &[String], contents: &Contents, what: &str) {
    let mut torn = Vec::new();
    for id in proven {
        match fs::read(copy.join(id)) {
            Ok(bytes) if contents[id].contains(&bytes) => {}
            Ok(_) => torn.push(format!("{id}: other bytes")),
            Err(error) => torn.push(format!("{id}: {error}")),
        }
    }
    assert!(torn.is_empty(), "{what}: {} of {} proven items are not whole: {torn:?}", torn.len(), proven.len());
    let in_progress = copy.join(".mill-in-progress");
    for path in walk(copy).into_iter().filter(|path| path.is_file() && !path.starts_with(&in_progress)) {
        let id = path.strip_prefix(copy).unwrap().to_str().unwrap().to_owned();
        assert!(contents[&id].contains(&fs::read(&path).unwrap()), "{what}: {id} is in view and not whole");
    }
}

fn refuses(kind: FileSystem, bytes: u64, dice: &mut Dice) -> Result<(u64, usize), MissingRequirement> {
    let world = World::new();
    let mut contents = Contents::new();
    people_write(&world, &mut contents, dice, 150);
    let flaky = FlakyDisk::serve(&world.path("image"), bytes, &world.path("served"))?;
    let disk = LoopDisk::attach(flaky.file())?;
    disk.format(kind)?;
    let mount = disk.mount(kind, &world.path("disk"), "")?;
    let copy = world.path("disk/copy");
    fs::create_dir(&copy).unwrap();
    fs::File::open(&copy).unwrap().sync_all().unwrap();
    flaky.fail_writes_starting_with(MARK, (0..bytes / FlakyDisk::BLOCK).filter(|_| dice.roll(150) == 0));
    for _ in 0..2 {
        let ran = world.mill(&["mirror", "src", "disk/copy", "--json"]);
        assert!([0, 2, 50, 100].contains(&ran.code), "{} {} {}", ran.code, ran.out, ran.err);
    }
    let (proven, refused) = (sealed(&world), flaky.failed_count());
    mount.unmount();
    let mount = disk.mount(kind, &world.path("disk"), "")?;
    all_whole(&copy, &proven, &contents, &format!("{kind:?} with bad blocks"));
    flaky.repair();
    mount.unmount();
    // A journal that was cut off is replayed with all blocks good.
    let mount = disk.mount(kind, &world.path("disk"), "")?;
    world.mill(&["mirror", "src", "disk/copy", "--json"]).expect(0);
    world.same("src", "disk/copy");
    mount.unmount();
    Ok((refused, proven.len()))
}

#[test]
fn nothing_that_a_disk_refused_is_ever_called_proven() {
    in_mount_namespace(|| {
        let mut dice = Dice(seed());
        for (kind, bytes) in file_systems() {
            for round in 0..rounds() {
                let (refused, proven) = refuses(*kind, *bytes, &mut dice)?;
                println!("{kind:?}, round {round}: {refused} writes refused, {proven} items proven, 0 not whole");
            }
        }
        Ok(())
    });
}

fn loses_power(kind: FileSystem, bytes: u64, dice: &mut Dice) -> Result<(usize, usize), MissingRequirement> {
    let world = World::new();
    let mut contents = Contents::new();
    let flaky = FlakyDisk::serve(&world.path("image"), bytes, &world.path("served"))?;
    flaky.record();
    let disk = LoopDisk::attach(flaky.file())?;
    disk.format(kind)?;
    let mount = disk.mount(kind, &world.path("disk"), "")?;
    let mut moments = Vec::new();
    for (pass, files) in [(0, 120), (1, 80)] {
        people_write(&world, &mut contents, dice, files);
        let mut mill = world.command();
        let mut mill = mill.args(["mirror", "src", "disk/copy", "--quiet"]).stderr(Stdio::null()).spawn().unwrap();
        for n in 0..4 {
            std::thread::sleep(Duration::from_millis(dice.roll(200)));
            // The proven ids are read first: items that come meanwhile may be on the disk already.
            let proven = sealed(&world);
            let image = world.path(&format!("after {pass} {n}"));
            flaky.power_loss(&image, || dice.roll(2) == 0);
            moments.push((image, proven));
        }
        assert!(mill.wait().unwrap().success());
    }
    mount.unmount();
    drop(disk);
    let proven = moments.iter().map(|(_, proven)| proven.len()).sum();
    for (image, proven) in &moments {
        let disk = LoopDisk::attach(image)?;
        let mount = disk.mount(kind, &world.path("after"), "")?;
        all_whole(&world.path("after/copy"), proven, &contents, &format!("{kind:?} without power"));
        mount.unmount();
    }
    Ok((moments.len(), proven))
}

#[test]
fn what_is_proven_when_the_power_goes_is_there_when_it_comes_back() {
    in_mount_namespace(|| {
        let mut dice = Dice(seed());
        for (kind, bytes) in file_systems() {
            for round in 0..rounds() {
                let (moments, proven) = loses_power(*kind, *bytes, &mut dice)?;
                println!(
                    "{kind:?}, round {round}: power gone at {moments} moments, {proven} items proven, 0 not whole"
                );
            }
        }
        Ok(())
    });
}
