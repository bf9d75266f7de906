//! One failure stops nothing else: it is reported, everything else is copied, and it causes no delete.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use mill_trials::fuse::{FlakyFolder, FolderOperation};
use mill_trials::{FileSystem, LoopDisk, MissingRequirement, in_mount_namespace};

use crate::world::{Ran, World, walk};

const EIO: i32 = 5;
const EBUSY: i32 = 16;
const EXDEV: i32 = 18;
const ENOMEM: i32 = 12;
const ESTALE: i32 = 116;

/// 40 files in each of three folders.
fn files(world: &World, folder: &str) {
    for place in ["a", "bad", "z"] {
        for n in 0..40 {
            world.write(&format!("{folder}/{place}/{n:02}"), format!("{place} {n}"));
        }
    }
}

fn arrived(world: &World) -> usize {
    walk(&world.path("dst")).into_iter().filter(|path| path.is_file()).count()
}

/// What a run reads of its source alone decides: the copy has all that can be had.
const AS_FAR_AS_IT_CAN: i32 = 2;
/// The destination could take more.
const IN_PART: i32 = 50;

/// Checks that the run reported what it did not copy, dead-lettered nothing, and ended with that code.
#[track_caller]
fn named(ran: Ran, (code, refused): (i32, u64), words: &[&str]) {
    let ran = ran.expect(code);
    let json = ran.json();
    assert_eq!(json["in_sync"], code == AS_FAR_AS_IT_CAN, "{}", ran.out);
    assert_eq!((&json["refused"], &json["dead_lettered"]), (&refused.into(), &0.into()), "{}", ran.out);
    for words in words {
        assert!(json["remarks"].to_string().contains(words), "{words}: {}", ran.out);
    }
}

/// A file that is immutable until this value is dropped.
struct Immutable(PathBuf);

impl Immutable {
    fn make(path: &Path) -> Self {
        assert!(Command::new("chattr").arg("+i").arg(path).status().unwrap().success());
        Self(path.to_owned())
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn an_immutable_file_and_directory_at_the_destination_stop_no_other() {
    let world = World::new();
    files(&world, "src");
    world.write("dst/z/07", "another");
    fs::create_dir_all(world.path("dst/bad")).unwrap();
    let immutable = ["dst/z/07", "dst/bad"].map(|name| Immutable::make(&world.path(name)));
    named(world.mirror(&[]), (IN_PART, 41), &["z/07` is immutable", "bad/00"]);
    assert_eq!(arrived(&world), 80, "with the one that was there");
    drop(immutable);
    world.mirror(&[]).expect(0);
    world.same("src", "dst");
}

#[test]
fn a_directory_of_the_destination_without_permission_stops_no_other() {
    let world = World::new();
    files(&world, "src");
    for (name, mode) in [("bad", 0o555), ("a", 0o000)] {
        let path = world.path(&format!("dst/{name}"));
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir_all(world.path("state")).unwrap();
    let ran = world.as_nobody(&["mirror", "src", "dst", "--json"]);
    named(ran, (IN_PART, 80), &["bad/00", "Permission denied", "a/00", "it may not be read"]);
    assert_eq!(arrived(&world), 40);
}

#[test]
fn a_directory_of_the_source_that_cannot_be_read_stops_no_other_and_deletes_nothing() {
    let world = World::new();
    in_mount_namespace(move || {
        files(&world, "real");
        let flaky = FlakyFolder::serve(&world.path("real"), &world.path("src"))?;
        flaky.fail(FolderOperation::OpenDirectory, "bad", EIO);
        let ran = world.mirror(&[]).expect(2);
        assert_eq!(arrived(&world), 80, "{} {}", ran.out, ran.err);
        assert_eq!(ran.json()["hidden"], 1, "{}", ran.out);
        assert!(ran.json()["remarks"].to_string().contains("bad/"), "{}", ran.out);
        flaky.repair();
        world.mirror(&[]).expect(0);
        for operation in [FolderOperation::OpenDirectory, FolderOperation::ReadDirectory, FolderOperation::Lookup] {
            flaky.fail(operation, "bad", EIO);
            world.mirror(&["--remove-vanished"]).expect(2);
            assert_eq!(arrived(&world), 120, "{operation:?}");
            flaky.repair();
        }
        Ok(())
    });
}

#[test]
fn a_file_of_the_source_that_cannot_be_read_stops_no_other() {
    let world = World::new();
    in_mount_namespace(move || {
        files(&world, "real");
        let flaky = FlakyFolder::serve(&world.path("real"), &world.path("src"))?;
        flaky.fail(FolderOperation::Open, "a/03", EIO);
        flaky.fail(FolderOperation::Read, "z/04", EIO);
        named(world.mirror(&[]), (AS_FAR_AS_IT_CAN, 2), &["a/03", "z/04", "Input/output error"]);
        assert_eq!(arrived(&world), 118);
        Ok(())
    });
}

/// Sets a quota for a whole btrfs.
fn limit_to_8_mib(folder: &Path) -> Result<(), MissingRequirement> {
    for args in [&["quota", "enable"][..], &["qgroup", "limit", "8M"]] {
        let output = Command::new("btrfs").args(args).arg(folder).output();
        match output {
            Ok(output) if output.status.success() => {}
            other => return Err(MissingRequirement(format!("no quota: {other:?}"))),
        }
    }
    Ok(())
}

/// Small items that are written while a large one fills the disk are not refused.
#[test]
fn a_file_too_large_for_what_is_left_of_a_disk_or_quota_stops_no_other() {
    let world = World::new();
    in_mount_namespace(move || {
        for (kind, size, large, quota) in
            [(FileSystem::Ext4, 64 << 20, 100 << 20, false), (FileSystem::Btrfs, 256 << 20, 12 << 20, true)]
        {
            files(&world, "src");
            world.write("src/m-large", vec![1; large]);
            let disk = LoopDisk::create(&world.path("image"), size)?;
            disk.format(kind)?;
            let _mount = disk.mount(kind, &world.path("dst"), "")?;
            if quota {
                limit_to_8_mib(&world.path("dst"))?;
            }
            named(
                world.mirror(&["--create"]),
                (IN_PART, 1),
                &["m-large", "no room for its", "while smaller items fit"],
            );
            assert_eq!(arrived(&world), 120, "{kind:?}");
        }
        Ok(())
    });
}

#[test]
fn a_file_larger_than_the_file_system_takes_stops_no_other() {
    let world = World::new();
    files(&world, "src");
    world.write("src/m-large", vec![1; 5 << 20]);
    // As an old file system would answer, without a signal that ends the process.
    let script = format!("trap '' XFSZ; ulimit -f 4096; exec '{}' mirror src dst --json", env!("CARGO_BIN_EXE_mill"));
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(world.path("")).env("XDG_STATE_HOME", world.path("state"));
    named(Ran::of(shell.output().unwrap()), (AS_FAR_AS_IT_CAN, 1), &["m-large", "takes no file of this size"]);
    assert_eq!(arrived(&world), 120);
}

/// As ext4 and XFS do with project quotas, and Ceph with directory quotas.
#[test]
fn a_directory_that_takes_no_file_by_renaming_stops_no_other_and_says_what_to_do() {
    let world = World::new();
    in_mount_namespace(move || {
        files(&world, "src");
        fs::create_dir_all(world.path("real")).unwrap();
        let flaky = FlakyFolder::serve(&world.path("real"), &world.path("dst"))?;
        for n in 0..40 {
            flaky.fail(FolderOperation::Rename, format!("bad/{n:02}"), EXDEV);
        }
        let ran = world.mirror(&["--create"]);
        assert!(!ran.out.contains("mount point"), "{}", ran.out);
        named(
            ran,
            (IN_PART, 40),
            &["bad/00", "a quota or project of its own", "make that directory a store of its own"],
        );
        assert_eq!(arrived(&world), 80);
        Ok(())
    });
}

#[test]
fn an_item_that_is_in_use_is_tried_again_and_only_one_that_is_mounted_over_is_called_so() {
    let world = World::new();
    in_mount_namespace(move || {
        files(&world, "src");
        fs::create_dir_all(world.path("real/a")).unwrap();
        fs::create_dir_all(world.path("real/z")).unwrap();
        let flaky = FlakyFolder::serve(&world.path("real"), &world.path("dst"))?;
        flaky.fail_times(2, FolderOperation::Rename, "a/00", EBUSY);
        flaky.fail(FolderOperation::Rename, "a/01", EBUSY);
        world.write("dst/z/00", "older");
        world.write("other", "other");
        let (other, at) = (world.path("other"), world.path("dst/z/00"));
        assert!(Command::new("mount").arg("--bind").args([other, at]).status().unwrap().success());
        let ran = world.mirror(&["--create"]).expect(50);
        let remarks = ran.json()["remarks"].to_string();
        for words in ["a/01", "another program or its file server holds it", "something is mounted at `z/00`"] {
            assert!(remarks.contains(words), "{words}: {remarks}");
        }
        assert!(!remarks.contains("a/00") && !remarks.contains("mount point"), "{remarks}");
        assert_eq!(fs::read(world.path("other")).unwrap(), b"other");
        Ok(())
    });
}

#[test]
fn a_file_or_directory_of_either_side_that_is_stale_stops_no_other() {
    for side in ["src", "dst"] {
        let world = World::new();
        in_mount_namespace(move || {
            files(&world, "src");
            fs::create_dir_all(world.path("dst/bad")).unwrap();
            fs::rename(world.path(side), world.path("real")).unwrap();
            let flaky = FlakyFolder::serve(&world.path("real"), &world.path(side))?;
            flaky.fail(FolderOperation::Open, "a/03", ESTALE);
            flaky.fail(FolderOperation::Lookup, "bad", ESTALE);
            flaky.fail(FolderOperation::OpenDirectory, "z", ENOMEM);
            let ran = world.mirror(&[]).expect(2);
            let remarks = ran.json()["remarks"].to_string();
            assert!(remarks.contains("bad/") && !remarks.contains("unavailable"), "{side}: {}", ran.out);
            flaky.repair();
            assert!(arrived(&world) >= 39, "{side}: {}", ran.out);
            world.mirror(&[]).expect(0);
            assert_eq!(arrived(&world), 120, "{side}");
            Ok(())
        });
    }
}

#[test]
fn a_name_that_the_destination_does_not_take_is_refused_in_one_run() {
    let world = World::new();
    in_mount_namespace(move || {
        let disk = LoopDisk::create(&world.path("image"), 64 << 20)?;
        disk.format(FileSystem::ExFat)?;
        let _mount = disk.mount(FileSystem::ExFat, &world.path("dst"), "")?;
        for name in ["a:b", "q?", "back\\slash", "bell\u{7}", "deep/pipe|", "plain", "deep/plain"] {
            world.write(&format!("src/{name}"), name);
        }
        for _ in 0..2 {
            let ran = world.mirror(&[]);
            let failed = ran.json()["failed"].clone();
            named(ran, (AS_FAR_AS_IT_CAN, 5), &["a:b", "q?", "takes no such name"]);
            assert_eq!(failed, 0, "no try fails");
        }
        assert_eq!(walk(&world.path("dst")).into_iter().filter(|path| path.ends_with("plain")).count(), 2);
        Ok(())
    });
}
