//! A part of the source that disappears causes no delete at its copy, whenever it disappears and however often Mill
//! runs.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mill_trials::{MountGuard, in_mount_namespace};

use super::{Installed, count, files};
use crate::world::{Ran, World};

#[test]
fn what_a_mount_held_is_not_deleted_when_it_is_unmounted_between_producer_and_workman() {
    in_mount_namespace(|| {
        let installed = Installed::new();
        let world = &installed.world;
        files(world, "one/photos", 50, "beside");
        let mount = MountGuard::tmpfs(&world.path("one/photos/mounted"), "size=16m")?;
        files(world, "one/photos/mounted", 600, "mounted");
        // Copied before by another tool, so each item has a task.
        let rsync = Command::new("rsync").args(["-a", "one/", "two/"]).current_dir(world.path(".")).status();
        assert!(rsync.unwrap().success());
        world.mill(&["produce", "duplication", "--now"]).expect(0);
        mount.unmount();
        installed.work_off();
        assert_eq!((count(world, "two/photos"), count(world, "two/photos/mounted")), (650, 600), "{}", installed.log());
        Ok(())
    });
}

/// A mirror that must copy every item of `src/part` again, interrupted by what happens to that part.
fn in_mid_run(part_goes: impl FnOnce(&World)) -> (World, Ran) {
    const FILES: usize = 1_500;
    let world = World::new();
    files(&world, "src", 50, "beside");
    // Anything that should be mounted there is mounted.
    files(&world, "src/part", FILES, "first");
    world.mirror(&["--quiet"]).expect(0);
    files(&world, "src/part", FILES, "second, longer");
    let mut command = world.command();
    command.args(["mirror", "src", "dst", "--json", "--remove-vanished", "--workers", "2"]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let second = |n: usize| {
        fs::read_to_string(world.path(&format!("dst/part/{n:04}"))).is_ok_and(|text| text.starts_with("second"))
    };
    let run = until(run, || (0..FILES).any(second));
    part_goes(&world);
    let ran = Ran::of(run.wait_with_output().unwrap());
    let copied = (0..FILES).filter(|n| second(*n)).count();
    assert!(copied < FILES, "the run was over before anything happened");
    assert_eq!(count(&world, "dst/part"), FILES, "nothing is deleted: {} {}", ran.out, ran.err);
    assert_eq!(count(&world, "dst"), FILES + 50, "{} {}", ran.out, ran.err);
    (world, ran)
}

/// Waits until something has begun, while the process is alive.
fn until(mut child: Child, is_seen: impl Fn() -> bool) -> Child {
    let began = Instant::now();
    while !is_seen() {
        assert!(child.try_wait().unwrap().is_none(), "the process ended before it had begun");
        assert!(began.elapsed() < Duration::from_mins(1), "nothing began");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn a_mirror_deletes_nothing_of_a_mount_that_goes_in_mid_run() {
    in_mount_namespace(|| {
        // A folder that is gone like an unplugged disk: open files stay.
        let (world, _) = in_mid_run(|world| hide(world, "src/part"));
        // The next run, which finds an empty mount point, deletes nothing either.
        world.mirror(&["--remove-vanished"]);
        assert_eq!(count(&world, "dst/part"), 1_500);
        Ok(())
    });
}

/// Mounts an empty file system over a folder: its content still exists and cannot be reached.
fn hide(world: &World, folder: &str) {
    std::mem::forget(MountGuard::tmpfs(&world.path(folder), "size=1m").unwrap());
}

#[test]
fn a_mirror_deletes_nothing_of_a_folder_that_is_moved_in_mid_run() {
    let (world, _) = in_mid_run(|world| fs::rename(world.path("src/part"), world.path("src/moved")).unwrap());
    // The next run copies it under its new name, and asks before the old one is deleted.
    let ran = world.mirror(&["--remove-vanished"]).expect(2);
    assert_eq!((count(&world, "dst/part"), count(&world, "dst/moved")), (1_500, 1_500), "{} {}", ran.out, ran.err);
}

#[test]
fn what_is_held_stays_held_until_it_is_back() {
    in_mount_namespace(|| {
        let installed = Installed::new();
        let world = &installed.world;
        // A file in the mount point, visible when nothing is mounted.
        world.write("one/photos/stray", "stray");
        let mounted = |text: &str| -> Result<MountGuard, mill_trials::MissingRequirement> {
            let mount = MountGuard::tmpfs(&world.path("one/photos"), "size=1m")?;
            files(world, "one/photos", 20, text);
            Ok(mount)
        };
        let mount = mounted("mounted")?;
        installed.run().expect(0);
        mount.unmount();
        for look in 1..=3 {
            let ran = installed.run();
            assert_eq!(held_and_deleted(&ran), (20, 0), "look {look}: {} {}", ran.out, ran.err);
            assert_eq!(ran.code, 2);
        }
        assert_eq!(count(world, "two/photos"), 21, "the stray file is copied, and nothing deleted");
        let _mount = mounted("mounted")?;
        let ran = installed.run();
        assert_eq!(held_and_deleted(&ran).1, 0, "{} {}", ran.out, ran.err);
        assert!(world.path("two/photos/0019").exists());
        Ok(())
    });
}

fn held_and_deleted(ran: &Ran) -> (u64, u64) {
    let json = ran.json();
    (json["held"].as_u64().unwrap(), json["deleted"].as_u64().unwrap())
}

#[test]
fn a_mount_within_a_space_is_not_deleted_however_little_it_held() {
    in_mount_namespace(|| {
        let installed = Installed::new();
        let world = &installed.world;
        // So few, and so small a share, that the rule would grant their deletes if they were ordinary files.
        files(world, "one/photos", 400, "beside");
        let mount = MountGuard::tmpfs(&world.path("one/photos/nested"), "size=1m")?;
        files(world, "one/photos/nested", 4, "nested");
        installed.run().expect(0);
        mount.unmount();
        for _ in 0..2 {
            let ran = installed.run();
            assert_eq!(held_and_deleted(&ran), (4, 0), "{} {}", ran.out, ran.err);
        }
        assert_eq!(count(world, "two/photos/nested"), 4);
        Ok(())
    });
}

/// The same for a disk: ext4 on a loop device, which leaves an empty folder when it is not mounted.
#[test]
fn a_disk_that_is_not_mounted_deletes_nothing_and_is_gone_on_with_when_it_is_back() {
    in_mount_namespace(|| {
        use mill_trials::{FileSystem, LoopDisk};
        let installed = Installed::new();
        let world = &installed.world;
        world.write("one/letters/1", "a letter");
        let disk = LoopDisk::create(&world.path("image"), 64 << 20)?;
        disk.format(FileSystem::Ext4)?;
        let at: &Path = &world.path("one/photos");
        let mount = disk.mount(FileSystem::Ext4, at, "")?;
        files(world, "one/photos", 30, "on the disk");
        installed.run();
        assert_eq!(count(world, "two/photos"), 30);
        mount.unmount();
        for _ in 0..2 {
            let ran = installed.run();
            assert_eq!(held_and_deleted(&ran).1, 0, "{} {}", ran.out, ran.err);
        }
        assert_eq!(count(world, "two/photos"), 30);
        let _mount = disk.mount(FileSystem::Ext4, at, "")?;
        world.write("one/photos/new", "new");
        let ran = installed.run();
        assert_eq!((held_and_deleted(&ran).1, count(world, "two/photos")), (0, 31), "{} {}", ran.out, ran.err);
        Ok(())
    });
}
