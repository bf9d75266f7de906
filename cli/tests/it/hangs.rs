//! A hanging mount, like that of a server that is gone: it is given up and reported, and delays no other folder.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use mill_trials::fuse::{FlakyFolder, SilentMount};
use mill_trials::{MissingRequirement, in_mount_namespace};

use crate::world::{World, ends, wait_for_handler, walk};

const FILES: usize = 40;

/// Two accounts of two folders each, with one space.
fn accounts(world: &World) {
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["ill", "well"]"#);
    for account in ["ill", "well"] {
        world.write(
            &format!("policies/{account}-stores.json"),
            format!(
                r#"{{"stores": [{{"id": "1", "type": "folder", "root": "{account}/one", "primary": true}},
                                {{"id": "2", "type": "folder", "root": "{account}/two"}}]}}"#
            ),
        );
        let policy = r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#;
        world.write(&format!("policies/{account}-duplication-policy.json"), policy);
        fs::create_dir_all(world.path(&format!("{account}/two"))).unwrap();
        add(world, &format!("{account}/one"), 0);
    }
}

fn add(world: &World, store: &str, from: usize) {
    for n in from..from + FILES {
        world.write(&format!("{store}/space/{n:03}"), format!("{n}"));
    }
}

fn copies(world: &World, account: &str) -> usize {
    walk(&world.path(&format!("{account}/two"))).into_iter().filter(|path| path.is_file()).count()
}

/// When it hangs from the beginning, and when tasks that need it are already queued.
#[test]
fn a_mount_that_hangs_is_given_up_by_name_and_holds_up_no_other_folder() {
    for (store, queued, processes) in [("one", false, "0"), ("two", true, "0"), ("one", true, "2")] {
        let world = World::new();
        in_mount_namespace(move || {
            accounts(&world);
            let hung = world.path(&format!("ill/{store}"));
            fs::rename(&hung, world.path("real")).unwrap();
            let flaky = FlakyFolder::serve(&world.path("real"), &hung)?;
            world.mill(&["run", "--json"]).expect(0);
            for store in ["ill/one", "well/one"] {
                add(&world, store, FILES);
            }
            if queued {
                world.mill(&["produce", "duplication"]).expect(0);
            }
            let hangs = flaky.hang();
            let mut run = world.command();
            run.args(["run", "--json", "--give-up-after", "3s", "--processes", processes]).stdout(Stdio::piped());
            let mut run = run.spawn().unwrap();
            // The kernel keeps a process alive that waits for such a mount; it prints its messages before that.
            let mut said = String::new();
            BufReader::new(run.stdout.take().unwrap()).read_line(&mut said).unwrap();
            assert_eq!(copies(&world, "well"), 2 * FILES, "{store} {queued} {processes}: {said}");
            for words in ["store `ill:", "not answer", "; `--give-up-after` allows longer"] {
                assert!(said.contains(words), "{store} {queued} {processes}: {words}: {said}");
            }
            drop(hangs);
            assert_eq!(run.wait().unwrap().code(), Some(50));
            world.mill(&["run", "--json"]).expect(0);
            assert_eq!(copies(&world, "ill"), 2 * FILES);
            Ok(())
        });
    }
}

/// The `nth` of several processes, whose state is on a hanging mount.
fn begin(world: &World, nth: usize, args: &[&str]) -> Child {
    let mut command = world.command();
    command.args(args).env("MILL_ENGINE_DATA", format!("hung-{nth}/data"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A source folder, an installation, and one hanging mount for each process: a process cannot be killed if it waits for
/// a name on a mount on which another process waits too.
fn hung(world: &World) -> Result<Vec<SilentMount>, MissingRequirement> {
    world.mill(&["init", "."]).expect(0);
    world.write("src/a", "a");
    (0..5).map(|nth| SilentMount::at(&world.path(&format!("hung-{nth}")))).collect()
}

/// The mount still hangs when they have ended.
#[test]
fn a_hanging_path_is_given_up_in_time_and_named_as_it_was_typed() {
    let world = World::new();
    in_mount_namespace(move || {
        let _hangs = hung(&world)?;
        let data = world.path("hung-4/data").display().to_string();
        let commands: [(&str, &[&str]); 5] = [
            ("hung-0", &["mirror", "hung-0", "copies"]),
            ("./hung-1/in", &["mirror", "./hung-1/in", "copies"]),
            ("hung-2", &["mirror", "src", "hung-2"]),
            ("src/../hung-3/copies", &["mirror", "src", "src/../hung-3/copies"]),
            (&*data, &["run"]),
        ];
        let mut begun = Vec::new();
        for (nth, (named, args)) in commands.into_iter().enumerate() {
            let args = [args, &["--json", "--give-up-after", "3s"]].concat();
            begun.push((named, begin(&world, nth, &args)));
        }
        for (named, child) in begun {
            let ran = ends(child).expect(50);
            let said = format!("`{named}` does not answer; `--give-up-after`");
            assert!(ran.err.contains(&said), "{said}: {}", ran.err);
        }
        Ok(())
    });
}

#[test]
fn a_signal_ends_whoever_waits_for_a_hanging_path() {
    let world = World::new();
    in_mount_namespace(move || {
        let _hangs = hung(&world)?;
        let commands: [&[&str]; 5] = [
            &["mirror", "src", "hung-0"],
            &["mirror", "hung-1", "copies"],
            &["run"],
            &["work"],
            &["produce", "duplication", "--stay"],
        ];
        for (nth, args) in commands.into_iter().enumerate() {
            let child = begin(&world, nth, args);
            wait_for_handler(&child, 2);
            assert!(Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap().success());
            let ran = ends(child).expect(50);
            assert!(ran.err.contains("stopped before it began, while it waited for `"), "{}", ran.err);
        }
        Ok(())
    });
}

/// A signal ends each of these.
#[test]
fn who_has_no_time_limit_says_for_which_path_it_waits() {
    let world = World::new();
    in_mount_namespace(move || {
        let _hangs = hung(&world)?;
        let data = world.path("hung-4/data").display().to_string();
        let commands: [(&str, &[&str]); 5] = [
            ("hung-0", &["verify", "--folders", "hung-0", "src"]),
            ("hung-1/new", &["init", "hung-1/new"]),
            ("hung-2", &["policy", "check", "hung-2"]),
            ("hung-3/mill.toml", &["--config", "hung-3/mill.toml", "config", "show"]),
            (&*data, &["status"]),
        ];
        let mut begun = Vec::new();
        for (nth, (named, args)) in commands.into_iter().enumerate() {
            begun.push((named, begin(&world, nth, args)));
        }
        for (named, mut child) in begun {
            let mut said = String::new();
            BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(said.contains(&format!("waits for `{named}`, which takes long to answer")), "{named}: {said}");
        }
        Ok(())
    });
}

#[test]
fn policy_check_names_a_root_that_hangs_and_checks_the_others() {
    let world = World::new();
    in_mount_namespace(move || {
        let _hangs = hung(&world)?;
        world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
        let stores = r#"{"stores": [{"id": "1", "type": "folder", "root": "src", "primary": true},
                                    {"id": "2", "type": "folder", "root": "link"},
                                    {"id": "3", "type": "folder", "root": "hung-0"}]}"#;
        world.write("policies/library-stores.json", stores);
        fs::create_dir(world.path("src/in")).unwrap();
        symlink("src/in", world.path("link")).unwrap();
        let checked = ends(begin(&world, 1, &["policy", "check"])).expect(100);
        for words in ["the root of store `3` does not answer", "hold the same files"] {
            assert!(checked.out.contains(words), "{words}: {}", checked.out);
        }
        Ok(())
    });
}
