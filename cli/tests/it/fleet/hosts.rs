//! Workmen on two hosts that share only the servers: each host is a network namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::network::{Network, SERVERS};
use super::proxy::{Mood, Proxy};
use super::{CREDENTIALS, Workman, boto, ministack, settle};
use crate::world::{Ran, World};

const HOSTS: [&str; 2] = ["one", "other"];
const VISIBILITY: Duration = Duration::from_secs(8);
/// Longer than leases last, and longer than anybody waits for a response: later events belong to new work.
const CUT_OFF: Duration = Duration::from_secs(21);

/// One account, S3 → S3. Each host reaches the queues through its own counting proxy, and both reach the stores through
/// one with a delay; policies are in S3.
struct Fleet<'a> {
    network: &'a Network,
    world: World,
    server: String,
    _process: Workman,
    engines: [Proxy; 2],
    stores: Proxy,
    mill: &'a Path,
}

impl<'a> Fleet<'a> {
    /// Call it in the servers' namespace.
    fn new(network: &'a Network, mill: &'a Path, workers: u32) -> Self {
        let (process, server) = ministack::start_at(SERVERS);
        let before = || Proxy::before(&server, 1);
        let (engines, stores) = ([before(), before()], before());
        let fleet = Self { network, world: World::new(), server, _process: Workman(process), engines, stores, mill };
        for (host, engine) in HOSTS.iter().zip(&fleet.engines) {
            fleet.world.write(
                &format!("{host}/mill.toml"),
                format!(
                    "[engine]\ntype = \"aws\"\nprefix = \"hosts\"\nendpoint = \"{}\"\n[policies]\nbucket = \"policies\"\n\
                     [workman]\nworkers = {workers}\nvisibility = \"{}s\"\nidle-backoff = \"200ms\"\n",
                    engine.address(),
                    VISIBILITY.as_secs()
                ),
            );
        }
        fleet.policies();
        fleet.mill(&["infra", "create"]).expect(0);
        fleet
    }

    fn policies(&self) {
        let at = format!(
            r#""type": "s3", "endpoint": "{}", "region": "us-east-1", "pathStyle": true"#,
            self.stores.address()
        );
        let stores = format!(
            r#"{{"stores": [{{"id": "1", "primary": true, "bucket": "originals", {at}}}, {{"id": "2", "bucket": "copies", {at}}}]}}"#
        );
        let policy = r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#;
        self.world.write("files/duplication-accounts.json", r#"["library"]"#);
        self.world.write("files/library-stores.json", stores);
        self.world.write("files/library-duplication-policy.json", policy);
        self.boto(
            "for bucket in ['policies', 'originals', 'copies']: s3.create_bucket(Bucket=bucket)
for file in pathlib.Path('files').iterdir():
    s3.put_object(Bucket='policies', Key=file.name, Body=file.read_bytes())",
        );
    }

    fn boto(&self, script: &str) -> String {
        boto(&self.world, &format!("s3 = client('s3', '{}')\n{script}", self.server))
    }

    /// A `mill` as it is started on a host.
    fn command(&self, host: &str) -> Command {
        let mut command = self.world.command_of(self.mill);
        command.current_dir(self.world.path(host)).env("XDG_STATE_HOME", self.world.path(host)).envs(CREDENTIALS);
        command.env("MILL_LOG", "warn,mill_workman=info");
        command
    }

    /// Runs `mill` in the servers' namespace with the first host's configuration: it is not cut off with that host.
    fn mill(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(HOSTS[0]).args(args).output().unwrap())
    }

    fn workman(&self, host: &str) -> Workman {
        Workman::begin(self.network.on(host, &self.command(host)))
    }

    /// People write, and a producer queues it.
    fn people_work(&self, round: u32, items: u32) {
        self.boto(&format!(
            "for n in range({items}):
    s3.put_object(Bucket='originals', Key=f'photos/{round}/{{n}}', Body=f'{round} {{n}} '.encode() * n * 3, Metadata={{'n': str(n)}})"
        ));
        // Items younger than two seconds are unsettled.
        sleep(Duration::from_secs(3));
        self.mill(&["produce", "duplication", "--now"]).expect(0);
    }

    /// Repeats `go_on` until workmen of both hosts have finished tasks.
    fn until_both_take_part(&self, mut go_on: impl FnMut()) {
        let acknowledged =
            || self.engines.each_ref().map(|engine| engine.take_counts().contains_key("DeleteMessageBatch"));
        let (began, _before, mut took_part) = (Instant::now(), acknowledged(), [false; 2]);
        while took_part != [true; 2] {
            assert!(began.elapsed() < Duration::from_mins(2), "{took_part:?} {}", self.logs());
            go_on();
            let more = acknowledged();
            took_part = [0, 1].map(|host| took_part[host] || more[host]);
        }
    }

    fn log(&self, host: &str) -> String {
        fs::read_to_string(self.world.path(host).join("log")).unwrap()
    }

    fn logs(&self) -> String {
        HOSTS.map(|host| self.log(host)).concat()
    }

    fn settle(&self) {
        settle(&|args| self.mill(args));
    }

    fn all_copies_are_true(&self) {
        self.boto(
            "def items(bucket):
    pages = s3.get_paginator('list_objects_v2').paginate(Bucket=bucket)
    # The key that ends in a slash is the space itself.
    keys = [o['Key'] for page in pages for o in page.get('Contents', []) if o['Key'] != 'photos/']
    got = {key: s3.get_object(Bucket=bucket, Key=key) for key in keys}
    return {key: (of['Body'].read(), of['Metadata']) for key, of in got.items()}
one, other = items('originals'), items('copies')
differ = [key for key in {**one, **other} if one.get(key) != other.get(key)]
assert one and not differ, differ",
        );
    }
}

#[test]
fn tasks_of_a_host_that_is_cut_off_come_to_another_and_it_takes_part_again_when_it_is_back() {
    let network = Network::new(&HOSTS);
    let mill = Path::new(env!("CARGO_BIN_EXE_mill"));
    network.at_the_servers(|| cut_off_and_rejoined(&Fleet::new(&network, mill, 8)));
}

fn cut_off_and_rejoined(fleet: &Fleet) {
    fleet.stores.set(Mood::Far(Duration::from_millis(100)));
    let mut workmen: Vec<Workman> = [HOSTS, HOSTS].concat().into_iter().map(|host| fleet.workman(host)).collect();
    fleet.people_work(0, 200);
    fleet.until_both_take_part(|| sleep(Duration::from_millis(20)));
    let leases_lost = || fleet.log("one").matches("a lease ran out").count();
    let before = leases_lost();
    fleet.network.cut_off("one");
    let cut = Instant::now();
    fleet.settle();
    fleet.all_copies_are_true();
    sleep(CUT_OFF.saturating_sub(cut.elapsed()));
    let in_hand = leases_lost() - before;
    assert!(in_hand > 0, "nothing was in hand: {}", fleet.logs());

    fleet.network.rejoin("one");
    let (rejoined, mut rounds) = (Instant::now(), 0);
    // Its connections are dead, which takes some seconds to notice.
    fleet.until_both_take_part(|| {
        rounds += 1;
        fleet.people_work(rounds, 60);
        fleet.settle();
    });
    println!(
        "{in_hand} tasks were in hand; both took part again in {:.0?}, {rounds} rounds of work",
        rejoined.elapsed()
    );
    fleet.all_copies_are_true();
    assert!(workmen.iter_mut().all(Workman::lives), "{}", fleet.logs());
    let letters = fleet.mill(&["deadletters", "list", "--json"]).expect(0);
    assert_eq!(letters.out, "", "nothing was given up");
}

/// Items of each measurement; items in flight in one process; the added delay of a call to any server.
const ITEMS: u32 = 400;
const WORKERS: u32 = 4;
const FAR: Duration = Duration::from_millis(40);

/// The number of items that this many workmen copy in a second. All items are queued before the first workman begins.
fn speed(fleet: &Fleet, workmen: usize) -> f64 {
    fleet.people_work(0, ITEMS);
    let queue = format!(
        "import time
sqs = client('sqs', '{}')
url = sqs.get_queue_url(QueueName='hosts-duplication-low')['QueueUrl']
def there():
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=['All'])['Attributes']
    return sum(int(told['ApproximateNumberOfMessages' + state]) for state in ['', 'NotVisible', 'Delayed'])
",
        fleet.server
    );
    let queued = fleet.boto(&format!("{queue}print(there())"));
    assert_eq!(queued.trim(), (ITEMS + 1).to_string(), "a task for each item and one for their space");
    fleet.engines.iter().chain([&fleet.stores]).for_each(|proxy| proxy.set(Mood::Far(FAR)));
    let began = Instant::now();
    let _workmen: Vec<Workman> = (0..workmen).map(|n| fleet.workman(HOSTS[n % 2])).collect();
    fleet.boto(&format!("{queue}while there(): time.sleep(0.05)"));
    let took = began.elapsed();
    fleet.all_copies_are_true();
    f64::from(ITEMS) / took.as_secs_f64()
}

/// How the fleet scales with its workmen while they mostly wait for servers. A measurement, not a promise: run with
/// `cargo test -p mill --test it --locked -- --ignored --nocapture speed_of_workmen_on_two_hosts`. The workmen are
/// `MILL_BIN`, or what `cargo build --release` made.
#[test]
#[ignore = "a measurement; needs a release build"]
fn speed_of_workmen_on_two_hosts() {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/mill");
    let mill = std::env::var_os("MILL_BIN").map_or(built, PathBuf::from);
    assert!(mill.exists(), "{} is missing: `cargo build --release -p mill --locked` makes it", mill.display());
    for workmen in [1, 2, 4] {
        let network = Network::new(&HOSTS);
        let rate = network.at_the_servers(|| speed(&Fleet::new(&network, &mill, WORKERS), workmen));
        println!("{workmen} workmen of {WORKERS} workers, servers {FAR:?} away: {rate:.0} items a second");
    }
}
