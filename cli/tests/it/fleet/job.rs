//! The main job on the fleet engine. `MILL_TREE=/usr/share` makes it copy a real tree with all its oddities.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{CREDENTIALS, Workman, boto, ministack, settle, signature_server};
use crate::world::{Ran, World};

/// Two accounts: folder → two S3 servers with different credentials, and S3 → the other server and a folder.
struct Job {
    world: World,
    endpoint: &'static str,
    other: String,
}

fn tree() -> Option<PathBuf> {
    std::env::var_os("MILL_TREE").map(PathBuf::from)
}

impl Job {
    fn new() -> Self {
        let (world, endpoint) = (World::new(), ministack());
        fs::create_dir(world.path("vendor")).unwrap();
        let other = signature_server::serve(&world.path("vendor"), "KEY", "a secret");
        world.write("secret", "a secret\n");
        world.mill(&["init", ".", "--engine", "aws"]).expect(0);
        let config = format!(
            "[engine]\ntype = \"aws\"\nprefix = \"job\"\nendpoint = \"{endpoint}\"\n[policies]\nbucket = \"policies/of\"\n\
             [workman]\nidle-backoff = \"200ms\"\nvisibility = \"20s\"\n"
        );
        world.write("mill.toml", config);
        let job = Self { world, endpoint, other };
        job.policies();
        job.collections();
        job
    }

    fn policies(&self) {
        let Self { world, endpoint, other } = self;
        let credentials = r#""credentials": {"accessKeyIdEnv": "OTHER_KEY", "secretAccessKeyFile": "secret"}"#;
        // For an item in parts, ministack reports a wrong checksum of the whole.
        let ours = format!(
            r#""type": "s3", "endpoint": "{endpoint}", "region": "us-east-1", "pathStyle": true, "wholeChecksums": false"#
        );
        let theirs =
            format!(r#""type": "s3", "endpoint": "{other}", "region": "us-east-1", "pathStyle": true, {credentials}"#);
        let library = format!(
            r#"{{"stores": [{{"id": "1", "type": "folder", "root": "library", "primary": true}},
                {{"id": "2", "bucket": "library", {ours}}}, {{"id": "3", "bucketPrefix": "library-", {theirs}}}]}}"#
        );
        let museum = format!(
            r#"{{"stores": [{{"id": "1", "bucketPrefix": "museum-", "primary": true, {ours}}},
                {{"id": "2", "bucketPrefix": "museum-", {theirs}}}, {{"id": "3", "type": "folder", "root": "museum"}}]}}"#
        );
        let policy = r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"},
            {"srcStoreId": "1", "destStoreId": "3"}], "removeVanished": true}"#;
        world.write("files/duplication-accounts.json", r#"["library", "museum"]"#);
        world.write("files/library-stores.json", library);
        world.write("files/museum-stores.json", museum);
        world.write("files/library-duplication-policy.json", policy);
        world.write("files/museum-duplication-policy.json", policy);
        boto(
            world,
            &format!(
                "s3 = client('s3', '{endpoint}')
s3.create_bucket(Bucket='policies')
for file in pathlib.Path('files').iterdir():
    s3.put_object(Bucket='policies', Key='of/' + file.name, Body=file.read_bytes())"
            ),
        );
    }

    fn collections(&self) {
        let Self { world, endpoint, .. } = self;
        fs::create_dir_all(world.path("museum")).unwrap();
        match tree() {
            None => world.collection("library/reading-room"),
            Some(tree) => {
                fs::create_dir_all(world.path("library")).unwrap();
                let copied = Command::new("cp").arg("-a").args([&tree, &world.path("library/reading-room")]).status();
                assert!(copied.unwrap().success());
            }
        }
        world.age("library");
        boto(
            world,
            &format!(
                "s3 = client('s3', '{endpoint}')
for bucket in ['museum-gems', 'library']:
    s3.create_bucket(Bucket=bucket)
for n in range(40):
    s3.put_object(Bucket='museum-gems', Key=f'case {{n % 5}}/gem {{n}}.txt', Body=b'gem' * n, Metadata={{'carat': str(n)}},
                  ContentType='text/x-gem', ContentLanguage='de', CacheControl='max-age=7',
                  ContentDisposition=f'attachment; filename=\"{{n}}.txt\"')"
            ),
        );
    }

    fn command(&self) -> Command {
        let mut command = self.world.command();
        command.envs(CREDENTIALS).env("OTHER_KEY", "KEY");
        command
    }

    /// Like cron: a producer that finds the queue full leaves the rest to the next one.
    fn produce(&self) {
        loop {
            let ran = self.mill(&["produce", "duplication", "--now"]);
            if tree().is_none() || !ran.out.contains("queue full") {
                // Symbolic links of a real tree are refused by name.
                ran.expect(if tree().is_some() { 2 } else { 0 });
                return;
            }
            std::thread::sleep(Duration::from_secs(5));
        }
    }

    fn mill(&self, args: &[&str]) -> Ran {
        Ran::of(self.command().args(args).output().unwrap())
    }

    fn workman(&self) -> Workman {
        Workman::begin(self.command())
    }

    fn settle(&self) {
        settle(&|args| self.mill(args));
    }

    /// Every copy is equal to its source, in bytes and properties, as boto3 sees it.
    fn boto_agrees(&self) {
        let Self { world, endpoint, other } = self;
        boto(
            world,
            &format!(
                "ours, theirs = client('s3', '{endpoint}'), client('s3', '{other}', 'KEY', 'a secret')
def items(s3, bucket, prefix=''):
    found = {{}}
    pages = s3.get_paginator('list_objects_v2').paginate(Bucket=bucket, Prefix=prefix)
    for o in [o for page in pages for o in page.get('Contents', [])]:
        if o['Key'] == prefix: continue
        got = s3.get_object(Bucket=bucket, Key=o['Key'])
        headers = [got.get(name) for name in ['ContentType', 'ContentLanguage', 'CacheControl', 'ContentDisposition']]
        found[o['Key'][len(prefix):]] = (got['Body'].read(), got['Metadata'], headers)
    return found
def files(root):
    found = [p for p in pathlib.Path(root).rglob('*') if p.is_file() and not p.is_symlink()]
    return {{str(p.relative_to(root)): p.read_bytes() for p in found}}
bytes_of = lambda found: {{name: body for name, (body, _, _) in found.items()}}
room = files('library/reading-room')
a, b = items(ours, 'library', 'reading-room/'), items(theirs, 'library-reading-room')
assert bytes_of(a) == room and bytes_of(b) == room, (sorted(room), sorted(a), sorted(b))
assert all(a[name][1] == b[name][1] and 'file-mtime' in a[name][1] for name in a)
gems = items(ours, 'museum-gems')
copies = items(theirs, 'museum-gems')
assert copies == gems, [(name, gems.get(name), copies.get(name)) for name in {{**gems, **copies}} if gems.get(name) != copies.get(name)]
assert files('museum/gems') == bytes_of(gems)"
            ),
        );
    }

    /// The server that checks signatures rejects any other secret.
    fn a_wrong_key_is_refused(&self) {
        self.world.write("secret", "another\n");
        let verified = self.mill(&["verify", "museum"]);
        assert_ne!(verified.code, 0, "{}", verified.out);
        assert!(verified.err.contains("SignatureDoesNotMatch"), "{}", verified.err);
        let produced = self.mill(&["produce", "duplication", "--now"]).expect(2);
        assert!(produced.err.contains("SignatureDoesNotMatch"), "{}", produced.err);
        self.world.write("secret", "a secret\n");
        self.mill(&["verify", "museum"]).expect(0);
    }

    /// The same as rclone sees it.
    fn rclone_agrees(&self) {
        let remote = |name: &str, endpoint: &str, key: &str, secret: &str| {
            let set = |setting: &str, value: &str| (format!("RCLONE_CONFIG_{name}_{setting}"), value.to_owned());
            vec![
                set("TYPE", "s3"),
                set("PROVIDER", "Other"),
                set("ENDPOINT", endpoint),
                set("REGION", "us-east-1"),
                set("ACCESS_KEY_ID", key),
                set("SECRET_ACCESS_KEY", secret),
                set("FORCE_PATH_STYLE", "true"),
                set("LIST_URL_ENCODE", "false"),
            ]
        };
        let environment =
            [remote("OURS", self.endpoint, "test", "test"), remote("THEIRS", &self.other, "KEY", "a secret")];
        for (one, other) in [
            ("library/reading-room", "ours:library/reading-room"),
            ("library/reading-room", "theirs:library-reading-room"),
            ("ours:museum-gems", "theirs:museum-gems"),
            ("ours:museum-gems", "museum/gems"),
        ] {
            let mut command = Command::new("rclone");
            command.args(["check", "--download", "--config", "/dev/null", one, other]);
            command.current_dir(self.world.path("")).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
            let output = command.envs(environment.concat()).output().expect("rclone is installed by `./test`");
            assert!(output.status.success(), "{one} {other}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn producers_from_cron_and_workmen_bring_every_copy_in_sync() {
    let job = Job::new();
    job.mill(&["infra", "check"]).expect(100);
    job.mill(&["infra", "create"]).expect(0);
    job.mill(&["policy", "check"]).expect(0);
    let workmen: Vec<Workman> = (0..4).map(|_| job.workman()).collect();
    for _ in 0..2 {
        job.produce();
    }
    job.settle();
    job.boto_agrees();
    job.rclone_agrees();
    if tree().is_some() {
        return;
    }
    job.a_wrong_key_is_refused();
    // A killed workman loses nothing: another gets its tasks once their leases lapse.
    drop(workmen);
    boto(
        &job.world,
        &format!(
            "s3 = client('s3', '{}')
for n in range(40): s3.put_object(Bucket='museum-gems', Key=f'new/{{n}}', Body=b'new' * n)
s3.delete_object(Bucket='museum-gems', Key='case 0/gem 5.txt')",
            job.endpoint
        ),
    );
    job.mill(&["produce", "duplication", "--now"]).expect(0);
    let killed = job.workman();
    std::thread::sleep(Duration::from_millis(700));
    drop(killed);
    let _workmen: Vec<Workman> = (0..2).map(|_| job.workman()).collect();
    job.settle();
    job.boto_agrees();
    let status = job.mill(&["status", "--json"]).expect(0).json();
    assert_eq!(status["dead_letters_open"], 0, "{status}");
    assert!(!job.world.path("museum/gems/case 0/gem 5.txt").exists());
}

#[test]
fn a_run_on_the_fleet_engine_ends_when_all_is_in_sync() {
    let world = World::new();
    let endpoint = ministack();
    world.mill(&["init", ".", "--engine", "aws"]).expect(0);
    let config = format!("[engine]\ntype = \"aws\"\nprefix = \"run\"\nendpoint = \"{endpoint}\"\n");
    world.write("mill.toml", config);
    world.write("policies/duplication-accounts.json", r#"["library"]"#);
    let stores = r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true},
        {"id": "2", "type": "folder", "root": "two"}]}"#;
    world.write("policies/library-stores.json", stores);
    let policy = r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#;
    world.write("policies/library-duplication-policy.json", policy);
    world.collection("one/reading-room");
    fs::create_dir(world.path("two")).unwrap();
    let mill = |args: &[&str]| Ran::of(world.command().envs(CREDENTIALS).args(args).output().unwrap());
    mill(&["infra", "create"]).expect(0);
    mill(&["infra", "check"]).expect(0);
    let json = mill(&["run", "--json"]).expect(0).json();
    assert_eq!(json["copied"], 13, "{json}");
    world.same("one", "two");
}
