//! A world with all kinds of pending work, made once and copied for each trial.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use mill_transparency::LogSigner;

use crate::world::World;

/// A body that is in the queue from the beginning and that nobody can decode.
pub(super) const NO_ENVELOPE: &str = "this is no envelope";

/// A property that only a sidecar can store if files have no attributes.
pub(super) const PROPERTY: (&str, &str) = ("title", "Meadow in May");

/// The name of the account's items in the space `room` that have it.
pub(super) const WITH_PROPERTY: &str = "painting";

/// The obstacle in the place of an item of that name.
pub(super) const BLOCKED: &str = "library-two/photos/blocked";

/// The accounts: one with changes of all kinds, one whose destination cannot be written at first, one whose destination
/// stores no properties.
pub(super) const ACCOUNTS: [&str; 3] = ["library", "later", "thin"];

/// The stores of the account's log.
pub(super) const LOGS: [&str; 2] = ["log-three", "log-four"];

/// The world.
pub(super) struct Template(World);

impl Template {
    /// A destination in sync, and changes to its source since.
    pub(super) fn new() -> Self {
        let world = World::new();
        world.mill(&["init", "."]).expect(0);
        policies(&world, &["library"]);
        first_state(&world.path("library-one/photos"));
        world.age("library-one");
        world.mill(&["run", "--json"]).expect(0);
        changes(&world.path("library-one"));
        policies(&world, &ACCOUNTS);
        for n in 0..60 {
            world.write(&format!("later-one/box/{n}"), format!("letter {n}"));
        }
        // A file is in the place of the folder for temporary files: the store cannot be used.
        world.write("later-two/.mill-in-progress", "");
        for n in 0..5 {
            let name = format!("thin-one/room/{WITH_PROPERTY} {n}");
            world.write(&name, format!("picture {n}"));
            set_property(&world.path(&name));
        }
        // A directory is in the place of an item, and nobody may delete its content.
        fs::create_dir_all(world.path(BLOCKED)).unwrap();
        std::os::unix::fs::symlink("/nowhere", world.path(BLOCKED).join("link")).unwrap();
        fs::create_dir_all(world.path("thin-two")).unwrap();
        leftovers(&world.path("library-two"));
        world.queue(NO_ENVELOPE);
        Self(world)
    }

    /// A world like it.
    pub(super) fn world(&self) -> World {
        let world = World::copy_of(&self.0);
        // Only items that are unchanged for two seconds get a sync proof, and a copied world is new.
        std::thread::sleep(std::time::Duration::from_millis(2_100));
        world
    }
}

const AUDITED: &str = r#", "audited": true},
                               {"id": "3", "type": "folder", "root": "log-three"},
                               {"id": "4", "type": "folder", "root": "log-four""#;
const LOG: &str =
    r#", "auditLog": {"stores": ["3", "4"], "origin": "example.org/library", "signingKeyFile": "audit-key"}"#;

/// What signs the log.
pub(super) fn signer() -> LogSigner {
    LogSigner::generate("example.org/library", [7; 32]).unwrap()
}

fn policies(world: &World, accounts: &[&str]) {
    world.write("audit-key", signer().to_secret());
    for store in LOGS {
        fs::create_dir_all(world.path(store)).unwrap();
    }
    for account in accounts {
        // One transfer at a time, so that tasks are in flight for a while.
        let transfers_max = if *account == "later" { r#", "transfersMax": 1"# } else { "" };
        // What happens to one account's copy is recorded, in a log that is in two stores.
        let (audited, log) = if *account == "library" { (AUDITED, LOG) } else { ("", "") };
        world.write(
            &format!("policies/{account}-stores.json"),
            format!(
                r#"{{"stores": [{{"id": "1", "type": "folder", "root": "{account}-one", "primary": true}},
                               {{"id": "2", "type": "folder", "root": "{account}-two"{transfers_max}{audited}}}]{log}}}"#
            ),
        );
        world.write(
            &format!("policies/{account}-duplication-policy.json"),
            r#"{"removeVanished": true, "defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#,
        );
        fs::create_dir_all(world.path(&format!("{account}-two"))).unwrap();
    }
    world.write("policies/duplication-accounts.json", serde_json::to_string(accounts).unwrap());
}

fn put(at: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(at, bytes).unwrap();
}

fn first_state(photos: &Path) {
    for n in 0..90_u8 {
        put(&photos.join(format!("box {}/{n}", n % 5)), vec![n; 10 + 100 * usize::from(n)]);
    }
    for n in 0..3_u8 {
        put(&photos.join(format!("vanishing/deep/{n}")), vec![n; 50]);
    }
}

/// Changes of people: they add, change, move and delete.
fn changes(one: &Path) {
    let photos = one.join("photos");
    for n in 0..10_u8 {
        // Of another size, and of the same.
        put(&photos.join(format!("box {}/{n}", n % 5)), vec![n; 77]);
        put(&photos.join(format!("box {}/{}", n % 5, n + 10)), vec![b'x'; 10 + 100 * usize::from(n + 10)]);
    }
    for n in 20..26 {
        let path = photos.join(format!("box {}/{n}", n % 5));
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    for n in 30..33 {
        fs::remove_file(photos.join(format!("box {}/{n}", n % 5))).unwrap();
    }
    fs::remove_dir_all(photos.join("vanishing")).unwrap();
    for n in 0..30_u8 {
        put(&photos.join(format!("new/{}/deeper/{n}", n % 7)), vec![n; 500]);
    }
    for n in 0..3_u8 {
        put(&photos.join(format!("large {n}")), vec![n; (1 << 20) * usize::from(n + 1) + 17]);
    }
    put(&photos.join("blocked"), "something stands where this belongs");
    for n in 0..12_u8 {
        put(&one.join(format!("maps/{n}")), vec![n; 300]);
    }
}

/// What a process leaves that dies during a write.
fn leftovers(root: &Path) {
    put(&root.join(".mill-in-progress/00000000000000aa/0"), "half a fi");
}

fn set_property(path: &Path) {
    let script = "import os, sys; os.setxattr(sys.argv[1], 'user.mill.properties', sys.argv[2].encode())";
    let map = format!(r#"{{"{}": "{}"}}"#, PROPERTY.0, PROPERTY.1);
    let output = Command::new("python3").args(["-c", script]).arg(path).arg(map).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
