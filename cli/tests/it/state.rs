//! Mill's own state: gone, emptied, damaged, older, of another installation. It existed, so Mill never starts again
//! from nothing.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mill_trials::{MountGuard, in_mount_namespace};

use crate::world::{Ran, World, walk};

const FROM_ONE: &str = r#"{"spaceDuplicationStorePolicies": {"room": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#;
const FROM_THREE: &str = r#"{"spaceDuplicationStorePolicies": {"room": [{"srcStoreId": "3", "destStoreId": "2"}]}}"#;

/// An installation that has run.
fn installation() -> World {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["library"]"#);
    world.write(
        "policies/library-stores.json",
        r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true},
                       {"id": "2", "type": "folder", "root": "two"}, {"id": "3", "type": "folder", "root": "three"}]}"#,
    );
    world.write("policies/library-duplication-policy.json", FROM_ONE);
    world.write("one/room/a", "a");
    world.write("three/room/b", "b");
    fs::create_dir_all(world.path("two")).unwrap();
    world.mill(&["run", "--quiet"]).expect(0);
    world
}

/// Every command that opens the state reports what is wrong with it and what to do; none changes anything.
#[track_caller]
fn refused_by_all(world: &World, why: &str) {
    let before = walk(&world.path("data"));
    for command in
        ["run", "produce duplication", "work", "status", "deadletters list", "restore library room --from 2 back"]
    {
        let args: Vec<&str> = command.split(' ').collect();
        let ran = world.mill(&args).expect(100);
        assert!(ran.err.contains(why) && ran.err.contains("mill.toml.state"), "{command}: {}", ran.err);
    }
    assert_eq!(walk(&world.path("data")), before);
    assert!(!world.path("back").exists(), "nothing is begun");
}

#[test]
fn an_installation_whose_state_is_gone_or_emptied_ends_with_the_way_out() {
    let gone = |world: &World| fs::remove_dir_all(world.path("data")).unwrap();
    let file_gone = |world: &World| fs::remove_file(world.path("data/mill.db")).unwrap();
    let emptied = |world: &World| fs::write(world.path("data/mill.db"), "").unwrap();
    let harms: [&dyn Fn(&World); 3] = [&gone, &file_gone, &emptied];
    for (harm, why) in harms.into_iter().zip(["is gone", "is gone", "was emptied"]) {
        let world = installation();
        harm(&world);
        refused_by_all(&world, why);
        // What the message says to do.
        let _ = fs::remove_file(world.path("data/mill.db"));
        fs::remove_file(world.path("mill.toml.state")).unwrap();
        world.mill(&["run", "--quiet"]).expect(0);
        world.same("one", "two");
    }
}

#[test]
fn an_installation_whose_state_is_damaged_older_or_anothers_ends_with_the_way_out() {
    let world = installation();
    let backup = fs::read(world.path("data/mill.db")).unwrap();
    world.mill(&["run", "--quiet"]).expect(0);
    let newest = fs::read(world.path("data/mill.db")).unwrap();
    fs::write(world.path("data/mill.db"), &backup).unwrap();
    refused_by_all(&world, "older");
    let other = installation();
    fs::copy(other.path("data/mill.db"), world.path("data/mill.db")).unwrap();
    refused_by_all(&world, "another installation");
    for harm in [|bytes: &mut Vec<u8>| bytes[..100].fill(0), |bytes: &mut Vec<u8>| bytes[8_192..].fill(0xA5)] {
        let mut bytes = newest.clone();
        harm(&mut bytes);
        fs::write(world.path("data/mill.db"), bytes).unwrap();
        refused_by_all(&world, "damaged");
    }
    fs::write(world.path("data/mill.db"), &newest).unwrap();
    world.mill(&["run", "--quiet"]).expect(0);
    // A person who wants to continue with the older one can do so.
    fs::write(world.path("data/mill.db"), &backup).unwrap();
    fs::remove_file(world.path("mill.toml.state")).unwrap();
    world.mill(&["run", "--quiet"]).expect(0);
    refused_by_nobody(&world);
}

#[track_caller]
fn refused_by_nobody(world: &World) {
    for command in ["run --quiet", "status", "deadletters list"] {
        world.mill(&command.split(' ').collect::<Vec<_>>()).expect(0);
    }
}

#[test]
fn a_state_that_is_elsewhere_is_not_begun_anew_and_one_that_was_moved_is_gone_on_with() {
    let world = installation();
    world.write("mill.toml", "[engine]\ndata = \"elsewhere\"\n");
    let ran = world.mill(&["run"]).expect(100);
    assert!(ran.err.contains("data") && ran.err.contains("elsewhere"), "{}", ran.err);
    assert!(!world.path("elsewhere").exists());
    fs::rename(world.path("data"), world.path("elsewhere")).unwrap();
    let json = world.mill(&["run", "--json"]).expect(0).json();
    assert_eq!((json["copied"].as_u64(), json["unchanged"].as_u64()), (Some(0), Some(1)), "{json}");
}

/// Makes the database so large, with meaningless rows, that it is not checked completely at each opening.
fn grow(world: &World) {
    world.python(
        "
import sqlite3
db = sqlite3.connect('data/mill.db')
db.create_function('mill_toggled', 6, lambda digest, *row: digest)
db.executemany('insert into entry values (?, ?, ?, 1, ?)',
               (('seals', b'library/1/2/room', b'z%06d' % n, bytes(1000)) for n in range(12000)))
db.commit()
db.close()
",
    );
    assert!(fs::metadata(world.path("data/mill.db")).unwrap().len() > 10 << 20);
}

#[test]
fn of_a_large_damaged_state_nothing_is_believed_and_no_space_is_taken_over() {
    let world = installation();
    grow(&world);
    let whole = fs::read(world.path("data/mill.db")).unwrap();
    world.write("policies/library-duplication-policy.json", FROM_THREE);
    // A bit in the key of the owner's row, in all pages that contain it or contained it before.
    let key = b"ownerslibrary/2";
    let held: Vec<usize> = (0..whole.len() - key.len()).filter(|at| whole[*at..].starts_with(key)).collect();
    let bit = |at: usize| at + 5..at + 6;
    let page = |at: usize| at / 4096 * 4096..at / 4096 * 4096 + 4096;
    for harmed in [&bit as &dyn Fn(usize) -> std::ops::Range<usize>, &page] {
        let mut bytes = whole.clone();
        for at in &held {
            bytes[harmed(*at)].iter_mut().for_each(|byte| *byte ^= 1);
        }
        fs::write(world.path("data/mill.db"), bytes).unwrap();
        let ran = world.mill(&["run", "--quiet"]).expect(100);
        assert!(ran.err.contains("damaged") && ran.err.contains("mill.toml.state"), "{}", ran.err);
        assert!(!world.path("two/room/b").exists(), "the space is not another's");
    }
}

#[test]
fn damage_that_is_met_in_mid_run_ends_the_run_as_an_error() {
    let world = installation();
    grow(&world);
    for n in 0..200 {
        world.write(&format!("one/room/{n}"), "x");
    }
    let mut bytes = fs::read(world.path("data/mill.db")).unwrap();
    // All pages of sync proofs except the first and last ones, which are next to the small tables.
    let end = bytes.len() / 4096 - 20;
    (20..end).for_each(|page| bytes[page * 4096..(page + 1) * 4096].fill(0xA5));
    fs::write(world.path("data/mill.db"), bytes).unwrap();
    for args in [&["run", "--quiet"][..], &["run", "--quiet", "--processes", "2"], &["produce", "duplication", "--now"]]
    {
        let began = std::time::Instant::now();
        let ran = world.mill(args).expect(100);
        assert!(ran.err.contains("damaged") && ran.err.contains("mill.toml.state"), "{args:?} {}", ran.err);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}

#[test]
fn a_workman_whose_state_is_removed_under_it_ends_as_an_error() {
    let world = installation();
    let workman = world.command().arg("work").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    fs::remove_dir_all(world.path("data")).unwrap();
    let ran = Ran::of(workman.wait_with_output().unwrap()).expect(100);
    assert!(ran.err.contains("removed") && ran.err.contains("mill.toml.state"), "{}", ran.err);
    assert!(!world.path("data").exists(), "nothing is made in its place");
}

/// A mirrored pair, and the folder of its state.
fn mirrored() -> (World, String) {
    let world = World::new();
    world.collection("src");
    let ran = world.mill(&["mirror", "src", "dst"]).expect(0);
    assert!(ran.out.contains("First run"), "{}", ran.out);
    let folders: Vec<_> = fs::read_dir(world.path("state/mill/mirror")).unwrap().map(Result::unwrap).collect();
    let [folder] = &folders[..] else { panic!("{folders:?}") };
    let folder = format!("state/mill/mirror/{}", folder.file_name().to_str().unwrap());
    (world, folder)
}

#[test]
fn a_mirror_whose_state_is_gone_emptied_or_damaged_says_which_folder_to_delete() {
    let gone = |db: &Path| fs::remove_file(db).unwrap();
    let emptied = |db: &Path| fs::write(db, "").unwrap();
    let damaged = |db: &Path| fs::write(db, vec![0xA5; 100_000]).unwrap();
    let harms: [&dyn Fn(&Path); 3] = [&gone, &emptied, &damaged];
    for (harm, why) in harms.into_iter().zip(["is gone", "was emptied", "damaged"]) {
        let (world, folder) = mirrored();
        harm(&world.path(&folder).join("mill.db"));
        let ran = world.mirror(&["--remove-vanished"]).expect(100);
        let way_out = format!("delete `{}`", world.path(&folder).display());
        assert!(ran.err.contains(why) && ran.err.contains(&way_out), "{}", ran.err);
        fs::remove_dir_all(world.path(&folder)).unwrap();
        let ran = world.mill(&["mirror", "src", "dst"]).expect(0);
        assert!(ran.out.contains("First run") && ran.out.contains("0 copied"), "{}", ran.out);
        let ran = world.mill(&["mirror", "src", "dst"]).expect(0);
        assert!(!ran.out.contains("First run"), "{}", ran.out);
    }
}

#[test]
fn a_first_run_says_so_to_machines_too() {
    let world = World::new();
    world.write("src/a", "a");
    assert_eq!(world.mirror(&[]).expect(0).json()["first_run"], true);
    assert_eq!(world.mirror(&[]).expect(0).json()["first_run"], false);
}

#[test]
fn state_is_for_its_owner_alone_and_holds_no_password() {
    let world = World::new();
    world.write("src/a", "a");
    let mut command = world.command();
    command.args(["mirror", "src", "s3://bucket/prefix", "--destination-endpoint", "http://me:pass-word@127.0.0.1:9"]);
    command.args(["--destination-region", "us-east-1"]);
    command.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "secret-key"), ("AWS_MAX_ATTEMPTS", "1")]);
    let ran = Ran::of(command.output().unwrap());
    assert_ne!(ran.code, 0);
    for secret in ["pass-word", "secret-key"] {
        assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{} {}", ran.out, ran.err);
    }
    world.mirror(&[]).expect(0);
    let installed = installation();
    let marker = installed.path("mill.toml.state");
    let of = |world: &World, name: &str| [walk(&world.path(name)), vec![world.path(name)]].concat();
    for path in [of(&world, "state"), of(&installed, "data"), vec![marker]].concat() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let mode = facts.permissions().mode() & 0o777;
        assert_eq!(mode, if facts.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        if facts.is_file() {
            let bytes = fs::read(&path).unwrap();
            for secret in [&b"pass-word"[..], b"secret-key"] {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
            }
        }
    }
}

#[test]
fn state_that_an_earlier_mill_left_open_to_others_is_closed_to_them() {
    let (world, folder) = mirrored();
    let chmod =
        |mode: &str, path: &Path| assert!(Command::new("chmod").arg(mode).arg(path).status().unwrap().success());
    chmod("755", &world.path(&folder));
    chmod("644", &world.path(&folder).join("pair.txt"));
    chmod("644", &world.path(&folder).join("lock"));
    world.mirror(&[]).expect(0);
    for (name, mode) in [("", 0o700), ("pair.txt", 0o600), ("lock", 0o600)] {
        let found = fs::metadata(world.path(&folder).join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

#[test]
fn a_service_without_home_keeps_its_state_where_the_users_entry_says() {
    let world = World::new();
    in_mount_namespace(move || {
        world.collection("src");
        fs::create_dir(world.path("its home")).unwrap();
        world.write("passwd", format!("root:x:0:0::{}:/bin/sh\n", world.path("its home").display()));
        let mut mount = Command::new("mount");
        assert!(mount.args(["--bind"]).arg(world.path("passwd")).arg("/etc/passwd").status().unwrap().success());
        let homeless = || {
            let mut command = world.command();
            command.args(["mirror", "src", "dst", "--json"]).env_remove("HOME").env_remove("XDG_STATE_HOME");
            command
        };
        Ran::of(homeless().output().unwrap()).expect(0);
        assert!(world.path("its home/.local/state/mill").is_dir());
        Ran::of(homeless().arg("--detailed-exit-code").output().unwrap()).expect(1);
        Ok(())
    });
}

/// Fills a disk except for this many bytes.
fn fill(world: &World, folder: &str, but: usize) {
    let path = world.path(&format!("{folder}/fill"));
    let mut bytes = Vec::new();
    while fs::write(&path, &bytes).is_ok() {
        bytes.resize(bytes.len() + 16 * 1024, 1);
    }
    bytes.truncate(bytes.len().saturating_sub(16 * 1024 + but));
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_run_whose_own_state_has_no_room_ends_after_its_patience_and_says_what_to_do() {
    let world = installation();
    in_mount_namespace(move || {
        fs::rename(world.path("data"), world.path("kept")).unwrap();
        let _disk = MountGuard::tmpfs(&world.path("data"), "size=4m")?;
        let copied = Command::new("cp").args(["-a", "kept/.", "data"]).current_dir(world.path("")).status();
        assert!(copied.unwrap().success());
        for n in 0..3_000 {
            world.write(&format!("one/room/{n:04}-{}", "long".repeat(40)), "x");
        }
        fill(&world, "data", 512 * 1024);
        let ran = world.mill(&["run", "--quiet", "--give-up-after", "2s"]);
        assert!([50, 100].contains(&ran.code), "{} {}", ran.code, ran.err);
        let said = format!("the disk of `{}` is full; free space on it", world.path("data/mill.db").display());
        assert!(format!("{}{}", ran.out, ran.err).contains(&said), "{} {}", ran.out, ran.err);
        // Nothing fits any more.
        fill(&world, "data", 0);
        let ran = world.mill(&["run", "--quiet", "--give-up-after", "1s"]).expect(100);
        assert!(ran.err.contains(&said), "{}", ran.err);
        Ok(())
    });
}

/// A program that holds the database's lock, as a backup program may, until it is killed or its time is over.
struct Holder(Child);

impl Holder {
    fn hold(world: &World, seconds: u32) -> Self {
        let script = format!(
            "import sqlite3, time
db = sqlite3.connect('data/mill.db', isolation_level=None, timeout=60)
db.execute('BEGIN IMMEDIATE')
print('held', flush=True)
time.sleep({seconds})"
        );
        let mut command = Command::new("python3");
        command.arg("-c").arg(script).current_dir(world.path("")).stdout(Stdio::piped());
        let mut holder = Self(command.spawn().unwrap());
        let said = BufReader::new(holder.0.stdout.as_mut().unwrap()).lines().next();
        assert_eq!(said.unwrap().unwrap(), "held");
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A run that has copied some of many items.
fn amid_a_run(world: &World, more: &[&str]) -> Child {
    for n in 0..3_000 {
        world.write(&format!("one/room/{n:04}"), "x");
    }
    let mut command = world.command();
    command.args(["run", "--quiet", "--json", "--workers", "2"]).args(more);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while walk(&world.path("two/room")).len() < 20 {
        std::thread::sleep(Duration::from_millis(2));
    }
    run
}

#[test]
fn a_run_whose_state_another_program_holds_locked_waits_goes_on_and_loses_nothing() {
    let world = installation();
    let mut run = amid_a_run(&world, &[]);
    let holder = Holder::hold(&world, 600);
    assert!(walk(&world.path("two/room")).len() < 3_001, "it came too late to be in the way");
    // Held until a write has waited in vain; the time depends on the disk.
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("another program holds")), "it was never in the way");
    drop(holder);
    let rest = std::thread::spawn(move || lines.count());
    let ran = Ran::of(run.wait_with_output().unwrap()).expect(0);
    rest.join().unwrap();
    assert_eq!((&ran.json()["dead_lettered"], &ran.json()["in_sync"]), (&0.into(), &true.into()), "{}", ran.out);
    world.same("one/room", "two/room");
    world.databases_are_whole();
}

#[test]
fn a_run_whose_state_another_program_never_gives_back_ends_and_names_the_file() {
    let world = installation();
    let run = amid_a_run(&world, &["--give-up-after", "2s"]);
    let holder = Holder::hold(&world, 600);
    let ran = Ran::of(run.wait_with_output().unwrap());
    let said = format!("another program holds `{}` locked", world.path("data/mill.db").display());
    assert!([50, 100].contains(&ran.code), "{} {} {}", ran.code, ran.out, ran.err);
    assert!((ran.out.clone() + &ran.err).contains(&said), "{} {}", ran.out, ran.err);
    drop(holder);
    world.mill(&["run", "--quiet"]).expect(0);
    world.same("one/room", "two/room");
}
