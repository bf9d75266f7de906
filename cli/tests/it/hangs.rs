//! A mount that hangs, as a server's does that went away: it is given up by name, and holds up no other folder.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use mill_trials::apart;
use mill_trials::fuse::FlakyFolder;

use crate::world::{World, walk};

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

/// As it hangs from the beginning, and as tasks are in the queue already that need it.
#[test]
fn a_mount_that_hangs_is_given_up_by_name_and_holds_up_no_other_folder() {
    for (store, queued, processes) in [("one", false, "0"), ("two", true, "0"), ("one", true, "2")] {
        let world = World::new();
        apart(move || {
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
            // The system lets no process end that waits for such a mount; what it has to say it says before.
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
