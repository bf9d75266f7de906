//! Disks that fold names by case or normal form: the binary on real ones, on loop devices.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use mill_trials::{FileSystem, LoopDisk, MissingRequirement, MountGuard, in_mount_namespace};

use crate::world::{World, walk};

/// A destination that folds names.
#[derive(Debug, Clone, Copy)]
enum Folding {
    ExFat,
    Vfat,
    /// NTFS by a driver with that option.
    Ntfs,
    /// A directory of ext4 with that attribute.
    Ext4,
}

impl Folding {
    fn mount(self, disk: &LoopDisk, at: &Path) -> Result<MountGuard, MissingRequirement> {
        match self {
            Self::ExFat => {
                disk.format(FileSystem::ExFat)?;
                disk.mount(FileSystem::ExFat, at, "")
            }
            Self::Vfat => {
                disk.format(FileSystem::Vfat)?;
                disk.mount(FileSystem::Vfat, at, "utf8")
            }
            Self::Ntfs => {
                disk.format(FileSystem::Ntfs)?;
                disk.mount(FileSystem::Ntfs, at, "")
            }
            Self::Ext4 => {
                if !Path::new("/sys/fs/ext4/features/casefold").exists() {
                    return Err(MissingRequirement(
                        "ext4 of this kernel does not fold names (CONFIG_UNICODE is not set)".into(),
                    ));
                }
                let made = Command::new("mkfs.ext4")
                    .args(["-q", "-F", "-O", "casefold", "-E", "encoding=utf8"])
                    .arg(disk.device())
                    .status();
                assert!(made.unwrap().success());
                let mount = disk.mount(FileSystem::Ext4, at, "")?;
                fs::remove_dir(at.join("lost+found")).unwrap();
                assert!(Command::new("chattr").arg("+F").arg(at).status().unwrap().success());
                Ok(mount)
            }
        }
    }
}

/// Runs a test with a disk at `dst`; its second argument is whether the disk folds case.
fn trial(folding: Folding, run: impl FnOnce(&World, bool) + Send + 'static) {
    in_mount_namespace(move || {
        let world = World::new();
        let disk = LoopDisk::create(&world.path("image"), 64 << 20)?;
        let at = world.path("dst");
        let mount = folding.mount(&disk, &at)?;
        fs::write(at.join("Probe"), "").unwrap();
        let folds = at.join("pROBE").exists();
        fs::remove_file(at.join("Probe")).unwrap();
        assert!(folds || matches!(folding, Folding::Ntfs), "{folding:?} takes case apart here");
        run(&world, folds);
        mount.unmount();
        Ok(())
    });
}

/// All files by the names in their directories, with their content.
fn listed(world: &World, folder: &str) -> BTreeMap<String, String> {
    let root = world.path(folder);
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let files = walk(&root).into_iter().filter(|path| path.is_file());
    files.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
}

fn mirror(world: &World, more: &[&str]) -> crate::world::Ran {
    world.mill(&[&["mirror", "src", "dst", "--json"], more].concat())
}

/// Checks that each listed name that is also a source name has the source's content.
fn nothing_bears_anothers_name(world: &World) {
    let (source, destination) = (listed(world, "src"), listed(world, "dst"));
    for (name, bytes) in &destination {
        assert_eq!(source.get(name), Some(bytes), "{name} in {destination:?}");
    }
}

fn twins_are_never_made_one(folding: Folding) {
    trial(folding, |world, folds| {
        let files = ["README", "readme", "Photos/a", "photos/a", "photos/b", "plain"];
        for name in files {
            world.write(&format!("src/{name}"), format!("this is {name}"));
        }
        world.age("src");
        for round in 0..3 {
            let ran = mirror(world, &["--remove-vanished"]).expect(if folds { 2 } else { 0 });
            nothing_bears_anothers_name(world);
            let there = listed(world, "dst");
            if folds {
                let refused = ran.json()["refused"].as_u64().unwrap();
                assert_eq!(refused as usize + there.len(), files.len(), "{}", ran.out);
                assert!(ran.out.contains("takes its name for that of"), "{}", ran.out);
                assert!(there.contains_key("README") != there.contains_key("readme"), "{there:?}");
            } else {
                assert_eq!(there, listed(world, "src"));
            }
            assert_eq!(ran.json()["deleted"], 0, "round {round}: {}", ran.out);
        }
    });
}

fn a_change_of_case_alone_is_a_rename(folding: Folding) {
    trial(folding, |world, _| {
        for n in 0..12 {
            world.write(&format!("src/Photos/IMG_{n}.JPG"), format!("photo {n}"));
        }
        world.write("src/README", "text");
        world.write("src/kept", "kept");
        // Folders that contain only folders.
        world.write("src/Alpha/In/f", "f");
        world.write("src/Beta/Sub/Deep/g", "g");
        world.age("src");
        mirror(world, &["--remove-vanished"]).expect(0);
        assert_eq!(listed(world, "dst"), listed(world, "src"));
        fs::rename(world.path("src/Alpha"), world.path("src/alpha")).unwrap();
        fs::rename(world.path("src/Beta/Sub"), world.path("src/Beta/sub")).unwrap();
        fs::rename(world.path("src/Beta"), world.path("src/beta")).unwrap();
        fs::rename(world.path("src/Photos"), world.path("src/photos")).unwrap();
        fs::rename(world.path("src/README"), world.path("src/ReadMe")).unwrap();
        let ran = mirror(world, &["--remove-vanished"]).expect(0);
        assert_eq!(listed(world, "dst"), listed(world, "src"), "{}", ran.out);
        assert_eq!((&ran.json()["deleted"], &ran.json()["held"]), (&0.into(), &0.into()), "{}", ran.out);
        // Without `--remove-vanished`, a rename removes nothing either.
        fs::rename(world.path("src/photos/IMG_1.JPG"), world.path("src/photos/img_1.jpg")).unwrap();
        mirror(world, &[]).expect(0);
        assert_eq!(listed(world, "dst").get("photos/img_1.jpg").map(String::as_str), Some("photo 1"));
    });
}

#[test]
fn on_exfat_twins_are_never_made_one() {
    twins_are_never_made_one(Folding::ExFat);
}

#[test]
fn on_vfat_twins_are_never_made_one() {
    twins_are_never_made_one(Folding::Vfat);
}

#[test]
fn on_ntfs_twins_are_never_made_one() {
    twins_are_never_made_one(Folding::Ntfs);
}

#[test]
fn on_ext4_that_folds_twins_are_never_made_one() {
    twins_are_never_made_one(Folding::Ext4);
}

#[test]
fn on_exfat_a_change_of_case_alone_is_a_rename() {
    a_change_of_case_alone_is_a_rename(Folding::ExFat);
}

#[test]
fn on_vfat_a_change_of_case_alone_is_a_rename() {
    a_change_of_case_alone_is_a_rename(Folding::Vfat);
}

#[test]
fn on_ext4_that_folds_a_change_of_case_alone_is_a_rename() {
    a_change_of_case_alone_is_a_rename(Folding::Ext4);
}

#[test]
fn content_of_one_size_under_another_case_is_told_apart_by_reading_it() {
    trial(Folding::ExFat, |world, _| {
        for name in ["README", "readme", "kept"] {
            world.write(&format!("src/{name}"), &name[..4]);
        }
        world.age("src");
        mirror(world, &["--remove-vanished"]).expect(2);
        let there = if listed(world, "dst").contains_key("README") { "README" } else { "readme" };
        fs::remove_file(world.path(&format!("src/{there}"))).unwrap();
        let ran = mirror(world, &["--remove-vanished"]).expect(2);
        assert_eq!(listed(world, "dst")[there], there[..4], "{}", ran.out);
        let ran = mirror(world, &["--remove-vanished"]).expect(0);
        assert_eq!(ran.json()["deleted"], 1, "{}", ran.out);
        assert_eq!(listed(world, "dst"), listed(world, "src"));
    });
}

#[test]
fn other_content_under_another_case_waits_for_the_delete_of_what_is_there() {
    trial(Folding::ExFat, |world, _| {
        world.write("src/README", "the original");
        world.write("src/kept", "kept");
        world.age("src");
        mirror(world, &["--remove-vanished"]).expect(0);
        fs::remove_file(world.path("src/README")).unwrap();
        world.write("src/readme", "of another size than the original");
        world.age("src");
        let ran = mirror(world, &[]).expect(2);
        assert_eq!(listed(world, "dst")["README"], "the original", "{}", ran.out);
        assert!(ran.out.contains("takes its name for that of `README`"), "{}", ran.out);
        let ran = mirror(world, &["--remove-vanished"]).expect(0);
        assert_eq!(listed(world, "dst"), listed(world, "src"), "{}", ran.out);
        assert_eq!(ran.json()["deleted"], 1, "{}", ran.out);
    });
}

#[test]
fn what_a_disk_cannot_keep_is_no_difference_to_verify() {
    use std::os::unix::fs::PermissionsExt as _;
    trial(Folding::ExFat, |world, _| {
        for (name, mode) in [("run.sh", 0o755), ("secret", 0o600), ("read only", 0o444)] {
            world.write(&format!("src/{name}"), name);
            fs::set_permissions(world.path(&format!("src/{name}")), fs::Permissions::from_mode(mode)).unwrap();
        }
        world.age("src");
        mirror(world, &[]).expect(0);
        world.mill(&["verify", "--folders", "src", "dst"]).expect(0);
        fs::set_permissions(world.path("src/secret"), fs::Permissions::from_mode(0o640)).unwrap();
        let ran = world.mill(&["verify", "--folders", "src", "dst"]).expect(50);
        assert!(ran.out.contains("secret") && !ran.out.contains("run.sh"), "{}", ran.out);
    });
}

#[test]
fn what_the_disk_of_a_restore_does_not_keep_is_said_and_the_bytes_are_back() {
    use std::os::unix::fs::PermissionsExt as _;
    trial(Folding::ExFat, |world, _| {
        for (name, mode) in [("run.sh", 0o755), ("secret", 0o600)] {
            world.write(&format!("src/{name}"), name);
            fs::set_permissions(world.path(&format!("src/{name}")), fs::Permissions::from_mode(mode)).unwrap();
        }
        world.age("src");
        world.mill(&["mirror", "src", "copy"]).expect(0);
        let ran = world.mill(&["restore", "--mirror", "src", "copy", "dst/back", "--json"]);
        let json = ran.json();
        assert_eq!((&json["copied"], &json["unproven"]), (&2.into(), &0.into()), "{json}");
        assert_eq!((ran.code, &json["not_kept"], &json["faults"]), (2, &2.into(), &0.into()), "{json}");
        assert!(ran.out.contains("! secret: brought back, but its property `file-mode` is not kept"), "{}", ran.out);
    });
}

#[test]
fn a_disk_that_was_plugged_in_again_is_verified_by_its_bytes() {
    in_mount_namespace(|| {
        let world = World::new();
        let disk = LoopDisk::create(&world.path("image"), 64 << 20)?;
        let at = world.path("dst");
        let mount = Folding::ExFat.mount(&disk, &at)?;
        for name in ["a", "b", "c"] {
            world.write(&format!("src/{name}"), name);
        }
        world.age("src");
        mirror(&world, &[]).expect(0);
        mount.unmount();
        // It assigns new inode numbers at each mount.
        let mount = disk.mount(FileSystem::ExFat, &at, "")?;
        let ran = world.mill(&["verify", "--folders", "src", "dst", "--json"]);
        let (equal, unknown) = (ran.json()["equal"].clone(), ran.json()["properties_unknown"].clone());
        assert_eq!((equal, unknown.as_u64() > Some(0)), (3.into(), ran.code == 2), "{} {}", ran.out, ran.err);
        fs::write(at.join("b"), "B").unwrap();
        let ran = world.mill(&["verify", "--folders", "src", "dst"]).expect(50);
        assert!(ran.out.contains("b: the bytes differ") && !ran.out.contains("! a"), "{}", ran.out);
        mount.unmount();
        Ok(())
    });
}
