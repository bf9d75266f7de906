//! `mill mirror`: two folders, no configuration.

use std::fs;

use crate::world::{World, walk};

fn moved(json: &serde_json::Value) -> [u64; 5] {
    ["copied", "updated", "deleted", "unchanged", "refused"].map(|member| json[member].as_u64().unwrap())
}

#[test]
fn a_copy_has_every_byte_time_and_mode_and_a_second_run_moves_nothing() {
    let world = World::new();
    world.collection("src");
    fs::create_dir_all(world.path("src/empty/inner")).unwrap();
    world.write("src/none", "");
    world.age("src");
    assert_eq!(moved(&world.mirror(&[]).expect(0).json()), [15, 0, 0, 0, 0]);
    world.same("src", "dst");
    assert_eq!(world.stamps("src"), world.stamps("dst"));
    assert_eq!(moved(&world.mirror(&[]).expect(0).json()), [0, 0, 0, 15, 0]);
    world.mirror(&["--detailed-exit-code"]).expect(1);
    world.databases_are_whole();
}

#[test]
fn only_what_changed_moves() {
    let world = World::new();
    world.collection("src");
    world.age("src");
    world.mirror(&[]).expect(0);
    world.write("src/poems/new.txt", "new");
    world.write("src/catalogue.csv", "other");
    fs::remove_file(world.path("src/README.txt")).unwrap();
    // The three changed files; the deleted one stays, because nothing is deleted without the option.
    assert_eq!(moved(&world.mirror(&[]).expect(0).json()), [1, 1, 0, 11, 0]);
    assert!(world.path("dst/README.txt").exists());
    let json = world.mirror(&["--remove-vanished"]).expect(0).json();
    assert_eq!(json["deleted"], 1, "{json}");
    world.same("src", "dst");
}

#[test]
fn a_file_replaced_by_a_folder_and_a_folder_by_a_file_are_in_sync_after_one_run() {
    let world = World::new();
    world.collection("src");
    for n in 0..40 {
        world.write(&format!("src/file{n}"), "a file");
        world.write(&format!("src/folder{n}/of/files"), "a file");
    }
    world.age("src");
    world.mirror(&[]).expect(0);
    for n in 0..40 {
        fs::remove_file(world.path(&format!("src/file{n}"))).unwrap();
        world.write(&format!("src/file{n}/of/files"), "a file");
        fs::remove_dir_all(world.path(&format!("src/folder{n}"))).unwrap();
        world.write(&format!("src/folder{n}"), "a file");
    }
    let json = world.mirror(&["--remove-vanished"]).expect(2).json();
    assert_eq!(json["held"], 80, "{json}");
    let json = world.mirror(&["--remove-vanished", "--confirm-deletes", "80"]).expect(0).json();
    assert_eq!(moved(&json)[2..], [80, 13, 0], "{json}");
    world.same("src", "dst");
}

#[test]
fn a_changed_mode_or_time_alone_moves_no_bytes() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.write("src/a", "text");
    world.age("src");
    world.mirror(&[]).expect(0);
    fs::set_permissions(world.path("src/a"), fs::Permissions::from_mode(0o600)).unwrap();
    let json = world.mirror(&[]).expect(0).json();
    assert_eq!((json["updated"].as_u64(), json["bytes"].as_u64()), (Some(1), Some(0)), "{json}");
    assert_eq!(world.stamps("src"), world.stamps("dst"));
}

#[test]
fn what_lies_in_a_private_folder_is_no_more_reachable_in_the_copy() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.write("src/private/deep/a", "text");
    world.write("src/open/b", "text");
    for (name, mode) in [("", 0o750), ("/private", 0o700), ("/private/deep", 0o755), ("/open", 0o755)] {
        fs::set_permissions(world.path(&format!("src{name}")), fs::Permissions::from_mode(mode)).unwrap();
    }
    world.mirror(&[]).expect(0);
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o7777;
    let modes = ["dst", "dst/private", "dst/private/deep", "dst/open"].map(mode);
    assert_eq!(modes, [0o750, 0o700, 0o755, 0o755]);
}

#[test]
fn a_destination_that_was_changed_by_another_is_put_right() {
    let world = World::new();
    world.collection("src");
    world.age("src");
    world.mirror(&[]).expect(0);
    world.write("dst/catalogue.csv", "tampered");
    fs::remove_file(world.path("dst/README.txt")).unwrap();
    assert_eq!(moved(&world.mirror(&[]).expect(0).json()), [1, 1, 0, 11, 0]);
    world.same("src", "dst");
}

#[test]
fn a_copy_made_by_another_tool_is_taken_over_without_copying() {
    let world = World::new();
    world.collection("src");
    world.age("src");
    let mut rsync = std::process::Command::new("rsync");
    assert!(rsync.args(["-a", "src/", "dst/"]).current_dir(world.path(".")).status().unwrap().success());
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let json = world.mirror(&["--detailed-exit-code"]).expect(1).json();
    assert_eq!(json["bytes"], 0, "{json}");
}

#[test]
fn a_pass_that_would_delete_everything_is_held_back_until_confirmed() {
    let world = World::new();
    for n in 0..30 {
        world.write(&format!("src/{n}"), "x");
    }
    world.age("src");
    world.mirror(&["--remove-vanished"]).expect(0);
    for n in 0..30 {
        fs::remove_file(world.path(&format!("src/{n}"))).unwrap();
    }
    let json = world.mirror(&["--remove-vanished"]).expect(2).json();
    assert_eq!((json["deleted"].as_u64(), json["held"].as_u64()), (Some(0), Some(30)), "{json}");
    assert_eq!(walk(&world.path("dst")).len(), 30);
    world.mirror(&["--remove-vanished", "--confirm-deletes", "29"]).expect(200);
    let ran = world.mirror(&["--remove-vanished", "--confirm-deletes", "30"]).expect(0);
    assert_eq!(ran.json()["deleted"], 30);
    assert_eq!(walk(&world.path("dst")).len(), 0, "nothing but items may stay");
}

#[test]
fn what_vanishes_after_a_list_was_confirmed_is_not_called_in_sync() {
    let world = World::new();
    let remove = |numbers: std::ops::Range<u32>| {
        for n in numbers {
            fs::remove_file(world.path(&format!("src/{n}"))).unwrap();
        }
    };
    for n in 0..100 {
        world.write(&format!("src/{n}"), "x");
    }
    world.age("src");
    world.mirror(&["--remove-vanished"]).expect(0);
    remove(0..40);
    world.mirror(&["--remove-vanished"]).expect(2);
    remove(40..45);
    let json = world.mirror(&["--remove-vanished", "--confirm-deletes", "40"]).expect(50).json();
    assert_eq!((&json["deleted"], &json["in_sync"]), (&40.into(), &false.into()), "{json}");
    assert!(json["remarks"].to_string().contains("5 items are at destinations alone"), "{json}");
    let json = world.mirror(&["--remove-vanished"]).expect(0).json();
    assert_eq!((&json["deleted"], &json["in_sync"]), (&5.into(), &true.into()), "{json}");
    world.same("src", "dst");
}

#[test]
fn two_mirrors_of_one_pair_at_once_are_one_and_a_refusal() {
    let world = World::new();
    let big = vec![7_u8; 64 << 20];
    for n in 0..6 {
        world.write(&format!("src/{n}"), &big);
    }
    let mut first = world.command();
    first.args(["mirror", "src", "dst", "--quiet"]).stdout(std::process::Stdio::null());
    let mut first = first.spawn().unwrap();
    while walk(&world.path("dst")).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let second = world.mirror(&[]);
    let first = first.wait().unwrap();
    second.expect(100);
    assert!(first.success());
    world.same("src", "dst");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_touched() {
    let world = World::new();
    world.collection("src");
    world.mill(&["mirror", "nowhere", "dst"]).expect(100);
    assert!(!world.path("dst").exists());
    world.mill(&["mirror", "src", "src"]).expect(200);
    world.mill(&["mirror", "src", "src/inside"]).expect(200);
    world.mill(&["mirror", "src"]).expect(200);
    world.mill(&["mirror", "src", "no/parent"]).expect(100);
    world.mill(&["frobnicate"]).expect(200);
}

#[test]
fn a_destination_that_is_gone_is_not_made_again_unasked() {
    let world = World::new();
    world.collection("src");
    world.mirror(&[]).expect(0);
    fs::remove_dir_all(world.path("dst")).unwrap();
    let ran = world.mirror(&[]).expect(100);
    assert!(ran.err.contains("--create"), "{}", ran.err);
    world.mirror(&["--create"]).expect(0);
    world.same("src", "dst");
}

#[test]
fn verify_reads_both_folders_again_and_names_what_differs() {
    let world = World::new();
    world.collection("src");
    world.mirror(&[]).expect(0);
    for ends in [&["--folders", "src", "dst"][..], &["src", "dst"], &["./src", "dst"]] {
        let json = world.mill(&[&["verify"], ends, &["--json"]].concat()).expect(0).json();
        assert_eq!((&json["examined"], &json["equal"], &json["faults"]), (&13.into(), &13.into(), &0.into()), "{json}");
    }
    // The same size and time, another byte: no listing shows that.
    let path = world.path("dst/catalogue.csv");
    let at = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
    let ran = world.mill(&["verify", "--folders", "src", "dst"]).expect(50);
    assert!(ran.out.contains("catalogue.csv") && ran.out.contains("bytes differ"), "{}", ran.out);
}

#[test]
fn verify_compares_nothing_with_what_is_not_there() {
    let world = World::new();
    world.write("src/a", "x");
    fs::create_dir(world.path("empty")).unwrap();
    fs::create_dir(world.path("bare")).unwrap();
    for (ends, code, said) in [
        (["src", "gone"], 100, "the destination `gone` is not there"),
        (["gone", "src"], 100, "the source folder `gone` cannot be used"),
        (["src", "src"], 200, "one cannot be a copy of the other"),
        (["empty", "bare"], 2, "There was nothing to verify"),
    ] {
        let ran = world.mill(&[&["verify"][..], &ends].concat()).expect(code);
        assert!(format!("{}{}", ran.out, ran.err).contains(said), "{ends:?}: {}{}", ran.out, ran.err);
    }
    assert!(!world.path("gone").exists());
}

/// The words of a command for a configured installation stay what they were.
#[test]
fn where_there_is_a_configuration_two_words_are_an_account_and_a_space() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    world.write("one/photos/a", "x");
    world.write("library/a", "a folder with the name of the account");
    fs::create_dir_all(world.path("photos")).unwrap();
    world.mill(&["run"]).expect(0);
    let said = world.mill(&["verify", "library", "photos"]).expect(0).out;
    assert!(said.contains("1 of the source examined, 1 read and equal, 0 faults"), "{said}");
    let said = world.mill(&["verify", "./library", "./photos"]).expect(50).out;
    assert!(said.contains("! a: missing at the destination"), "{said}");
    let ran = world.mill(&["verify", "library", "--source-region", "x"]).expect(200);
    assert!(ran.err.contains("name both"), "{}", ran.err);
}

#[test]
fn the_help_gives_the_exit_codes() {
    let world = World::new();
    let ran = world.mill(&["help", "exit-codes"]).expect(0);
    for code in ["0", "1", "2", "50", "100", "200"] {
        assert!(ran.out.lines().any(|line| line.trim_start().starts_with(code)), "{code}");
    }
    world.mill(&["--help"]).expect(0);
    world.mill(&["completions", "bash"]).expect(0);
}

#[test]
fn mills_own_state_is_never_written_over() {
    let world = World::new();
    world.write("home/a", "a");
    let mill = |args: &[&str]| {
        let mut command = world.command();
        command.args(args).env("XDG_STATE_HOME", world.path("home/.state"));
        crate::world::Ran::of(command.output().unwrap())
    };
    let ran = mill(&["mirror", "home", "bak"]).expect(0);
    assert!(ran.err.contains("the source holds Mill's own state"), "{}", ran.err);
    fs::write(world.path("home/a"), "newer").unwrap();
    for held in [&["mirror", "bak", "home"][..], &["mirror", "bak", "home/.state/mill", "--remove-vanished"]] {
        let ran = mill(held).expect(200);
        assert!(ran.err.contains("holds Mill's own state") && ran.err.contains("XDG_STATE_HOME"), "{}", ran.err);
    }
    assert_eq!(fs::read_to_string(world.path("home/a")).unwrap(), "newer");
    // Another user's state lies elsewhere; then the copy itself says what it is.
    world.mill(&["mirror", "bak", "home"]).expect(100);
    world.mill(&["mirror", "bak", "home", "--take-over"]).expect(0);
    assert_eq!(fs::read_to_string(world.path("home/a")).unwrap(), "a");
}

#[test]
fn a_directory_whose_copy_still_holds_something_is_not_copied_at_each_run() {
    let world = World::new();
    world.write("src/emptied/file", "f");
    world.mirror(&[]).expect(0);
    fs::remove_file(world.path("src/emptied/file")).unwrap();
    for _ in 0..2 {
        let planned = world.mirror(&["--dry-run"]).expect(0).json();
        let json = world.mirror(&[]).expect(0).json();
        for json in [planned, json] {
            assert_eq!(
                (&json["copied"], &json["unchanged"], &json["in_sync"]),
                (&0.into(), &1.into(), &true.into()),
                "{json}"
            );
        }
    }
    // An empty one that is not there is copied.
    fs::create_dir(world.path("src/new")).unwrap();
    assert_eq!(world.mirror(&[]).expect(0).json()["copied"], 1);
    assert!(world.path("dst/new").is_dir() && world.path("dst/emptied/file").is_file());
}

#[test]
fn a_directory_that_stays_empty_stays_in_the_copy_too() {
    let world = World::new();
    for n in 0..30 {
        world.write(&format!("src/other/{n}"), "o");
        world.write(&format!("src/emptied-{n}/deep/file"), "f");
    }
    world.age("src");
    world.mirror(&[]).expect(0);
    for n in 0..15 {
        fs::remove_file(world.path(&format!("src/emptied-{n}/deep/file"))).unwrap();
    }
    let json = world.mirror(&["--remove-vanished"]).expect(0).json();
    assert_eq!((&json["deleted"], &json["in_sync"]), (&15.into(), &true.into()), "{json}");
    world.same("src", "dst");
    // Gone at the source as well, it goes.
    for n in 0..15 {
        fs::remove_dir_all(world.path(&format!("src/emptied-{n}"))).unwrap();
    }
    world.age("src");
    world.mirror(&["--remove-vanished"]).expect(2);
    world.mirror(&["--remove-vanished", "--confirm-deletes", "15"]).expect(0);
    world.same("src", "dst");
}

#[test]
fn what_only_the_copy_has_is_counted_where_it_stays() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.write(&format!("src/{name}"), name);
    }
    world.mirror(&[]).expect(0);
    for name in ["a", "b"] {
        fs::remove_file(world.path(&format!("src/{name}"))).unwrap();
    }
    assert_eq!(world.mirror(&[]).expect(0).json()["only_in_copies"], 2);
    let said = world.mill(&["mirror", "src", "dst"]).expect(0).out;
    assert!(said.contains("1 unchanged, 2 only in the copy"), "{said}");
    let ran = world.mirror(&["--remove-vanished"]).json();
    assert_eq!((&ran["deleted"], &ran["only_in_copies"]), (&2.into(), &0.into()), "{ran}");
}
