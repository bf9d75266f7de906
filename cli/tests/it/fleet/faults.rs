//! The fleet engine while its servers fail, credentials expire and workmen are killed. `MILL_KILLS=100` runs the long
//! form; the short form always runs.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::proxy::{Lot, Mood, Proxy};
use super::{CREDENTIALS, Workman, boto, ministack, settle, signature_server};
use crate::kills::{Dice, kills, people_work, seed};
use crate::world::{Ran, World};

/// Three accounts: folder → S3, folder → an S3 server that checks signatures, S3 → folder. All requests go through a
/// proxy.
struct Troubled {
    world: World,
    dice: Dice,
    ours: Proxy,
    theirs: Proxy,
    behind: String,
    round: u64,
}

impl Troubled {
    fn new() -> Self {
        let (world, mut dice) = (World::new(), Dice(seed()));
        fs::create_dir(world.path("vendor")).unwrap();
        let behind = signature_server::serve(&world.path("vendor"), "KEY", "a secret");
        let ours = Proxy::before(ministack(), dice.roll(u64::MAX) | 1);
        let theirs = Proxy::before(&behind, dice.roll(u64::MAX) | 1);
        let job = Self { world, dice, ours, theirs, behind, round: 0 };
        job.set_up();
        job
    }

    fn set_up(&self) {
        let (world, ours, theirs) = (&self.world, self.ours.address(), self.theirs.address());
        world.mill(&["init", ".", "--engine", "aws"]).expect(0);
        world.write(
            "mill.toml",
            format!(
                "[engine]\ntype = \"aws\"\nprefix = \"troubled\"\nendpoint = \"{ours}\"\n\
                 [workman]\nidle-backoff = \"200ms\"\nvisibility = \"20s\"\n"
            ),
        );
        world.write("secret", "a secret\n");
        let credentials = r#""credentials": {"accessKeyIdEnv": "OTHER_KEY", "secretAccessKeyFile": "secret"}"#;
        let at = |endpoint: &str| {
            format!(r#""type": "s3", "endpoint": "{endpoint}", "region": "us-east-1", "pathStyle": true"#)
        };
        world.write("policies/duplication-accounts.json", r#"["library", "museum", "archive"]"#);
        for (account, from, to) in [
            (
                "library",
                r#""type": "folder", "root": "library""#.into(),
                format!(r#"{}, "bucket": "library""#, at(ours)),
            ),
            (
                "museum",
                r#""type": "folder", "root": "museum""#.into(),
                format!(r#"{}, {credentials}, "bucketPrefix": "museum-""#, at(theirs)),
            ),
            (
                "archive",
                format!(r#"{}, "bucket": "archive""#, at(ours)),
                r#""type": "folder", "root": "archive""#.into(),
            ),
        ] {
            let stores = format!(r#"{{"stores": [{{"id": "1", "primary": true, {from}}}, {{"id": "2", {to}}}]}}"#);
            world.write(&format!("policies/{account}-stores.json"), stores);
            world.write(
                &format!("policies/{account}-duplication-policy.json"),
                r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#,
            );
        }
        for folder in ["library/photos", "museum/gems", "archive"] {
            fs::create_dir_all(world.path(folder)).unwrap();
        }
        let buckets = format!(
            "for bucket in ['library', 'archive']: client('s3', '{}').create_bucket(Bucket=bucket)",
            ministack()
        );
        boto(world, &buckets);
        self.mill(&["infra", "create"]).expect(0);
    }

    fn command(&self) -> Command {
        let mut command = self.world.command();
        command.envs(CREDENTIALS).env("OTHER_KEY", "KEY");
        command
    }

    fn mill(&self, args: &[&str]) -> Ran {
        Ran::of(self.command().args(args).output().unwrap())
    }

    fn set(&self, mood: Mood) {
        self.ours.set(mood);
        self.theirs.set(mood);
    }

    /// People write at all three sources.
    fn people_work(&mut self) {
        self.round += 1;
        people_work(&self.world.path("library/photos"), &mut self.dice, self.round);
        let large = vec![self.round as u8; 9 << 20];
        self.world.write(&format!("museum/gems/large {}", self.round % 3), large);
        for n in 0..10 {
            self.world.write(&format!("museum/gems/gem {n} {}", self.round), vec![b'x'; 3000 * n]);
        }
        let script = format!(
            "s3 = client('s3', '{}')
for n in range(20):
    s3.put_object(Bucket='archive', Key=f'files/box {{n % 4}}/{{n}} {}', Body=bytes([n]) * 40000 * n, Metadata={{'n': str(n)}})",
            ministack(),
            self.round % 4
        );
        boto(&self.world, &script);
    }

    /// Starts producers until one loop that began now has queued everything.
    fn produce(&self) {
        let began = Instant::now();
        // If a loop was left unfinished, the next producer only continues it.
        let mut to_finish = 1;
        while to_finish > 0 {
            let ran = self.mill(&["produce", "duplication", "--now"]);
            let finished = ran.code == 0 && ran.out.contains("loop finished");
            to_finish = if finished { to_finish - 1 } else { 2 };
            assert!(began.elapsed() < Duration::from_mins(8), "{}", ran.err);
        }
    }

    /// The number of tasks that the server itself reports.
    fn waiting(&self) -> u64 {
        let script = format!(
            "sqs = client('sqs', '{}')
url = sqs.get_queue_url(QueueName='troubled-duplication-low')['QueueUrl']
told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=['All'])['Attributes']
print(sum(int(told['ApproximateNumberOfMessages' + state]) for state in ['', 'NotVisible', 'Delayed']))",
            ministack()
        );
        boto(&self.world, &script).trim().parse().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.world.path("log")).unwrap()
    }

    fn all_copies_are_true(&self) {
        let script = format!(
            "def items(s3, bucket, prefix=''):
    pages = s3.get_paginator('list_objects_v2').paginate(Bucket=bucket, Prefix=prefix)
    keys = [o['Key'] for page in pages for o in page.get('Contents', []) if o['Key'] != prefix]
    return {{key[len(prefix):]: s3.get_object(Bucket=bucket, Key=key)['Body'].read() for key in keys}}
def files(root):
    return {{str(p.relative_to(root)): p.read_bytes() for p in pathlib.Path(root).rglob('*') if p.is_file()}}
ours, theirs = client('s3', '{}'), client('s3', '{}', 'KEY', 'a secret')
for one, other in [(files('library/photos'), items(ours, 'library', 'photos/')),
                   (files('museum/gems'), items(theirs, 'museum-gems')),
                   (items(ours, 'archive', 'files/'), files('archive/files'))]:
    assert one and sorted(one) == sorted(other), (sorted(one), sorted(other))
    assert one == other, [name for name in one if one[name] != other[name]]",
            ministack(),
            self.behind
        );
        boto(&self.world, &script);
    }
}

const KILLS_A_ROUND: u64 = 8;
const FEWEST_KILLS_A_ROUND: u64 = 5;

#[test]
fn everything_arrives_through_failing_servers_expired_keys_and_kills() {
    let mut job = Troubled::new();
    let long = std::env::var_os("MILL_KILLS").is_some();
    let mut victims = Dice(job.dice.roll(u64::MAX) | 1);
    let mut workmen: Vec<Workman> = (0..3).map(|_| Workman::begin(job.command())).collect();
    job.set(Mood::Troubled);
    let mut killed = 0;
    while killed < kills() {
        job.people_work();
        std::thread::scope(|scope| {
            let producer = scope.spawn(|| job.produce());
            // So few that no task loses its workman so often that the queue dead-letters it, however slow the producer
            // is.
            for kill in 0..KILLS_A_ROUND {
                if producer.is_finished() && kill >= FEWEST_KILLS_A_ROUND {
                    break;
                }
                sleep(Duration::from_millis(300 + victims.roll(2500)));
                workmen[victims.roll(3) as usize] = Workman::begin(job.command());
                killed += 1;
            }
        });
    }
    // For a while all keys are invalid, then only those of one store: all workmen wait, and none ends.
    workmen.clear();
    job.people_work();
    job.set(Mood::Quiet);
    job.produce();
    job.set(Mood::Expired);
    workmen.extend((0..3).map(|_| Workman::begin(job.command())));
    let while_expired = Duration::from_secs(if long { 60 } else { 4 });
    for only_theirs in [false, true] {
        job.ours.set(if only_theirs { Mood::Quiet } else { Mood::Expired });
        sleep(while_expired);
        assert!(workmen.iter_mut().all(Workman::lives), "{}", job.log());
        assert!(job.waiting() > 0, "{}", job.log());
    }
    job.set(Mood::Troubled);
    sleep(Duration::from_secs(2));
    job.set(Mood::Quiet);
    settle(&|args| job.mill(args));
    job.all_copies_are_true();
    let letters = job.mill(&["deadletters", "list", "--json"]).expect(0);
    assert_eq!(letters.out, "", "nothing was given up");
    assert!(workmen.iter_mut().all(Workman::lives), "{}", job.log());
    let (mut passed, mut troubled) = (0, 0);
    for (name, proxy) in [("SQS, DynamoDB and S3", &job.ours), ("the other S3", &job.theirs)] {
        let mut lots = proxy.lots();
        println!("{name}: {lots:?}");
        lots.remove(&Lot::Expired);
        passed += lots.remove(&Lot::Passes).unwrap_or(0);
        assert!(!lots.is_empty(), "{name} had no trouble");
        troubled += lots.values().sum::<u64>();
    }
    assert!(troubled * 4 > passed + troubled, "only {troubled} calls had trouble, and {passed} had none");
    println!("{killed} workmen killed");
}
