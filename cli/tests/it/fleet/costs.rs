//! What a task and an item cost in requests, counted in front of the servers.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

use super::proxy::Proxy;
use super::{CREDENTIALS, Workman, boto, ministack, settle};
use crate::world::{Ran, World};

/// `MILL_ITEMS` makes it long.
static ITEMS: LazyLock<u64> = LazyLock::new(|| std::env::var("MILL_ITEMS").map_or(500, |items| items.parse().unwrap()));

struct Counted {
    world: World,
    engine: Proxy,
    source: Proxy,
    destination: Proxy,
}

impl Counted {
    fn new() -> Self {
        Self::with_prefix("costs")
    }

    /// Queues, tables and buckets with this prefix.
    fn with_prefix(prefix: &str) -> Self {
        let before = || Proxy::before(ministack(), 1);
        let job = Self { world: World::new(), engine: before(), source: before(), destination: before() };
        let world = &job.world;
        world.mill(&["init", ".", "--engine", "aws"]).expect(0);
        world.write(
            "mill.toml",
            format!(
                "[engine]\ntype = \"aws\"\nprefix = \"{prefix}\"\nendpoint = \"{}\"\n[workman]\nvisibility = \"10m\"\n",
                job.engine.address()
            ),
        );
        let at = |proxy: &Proxy| {
            format!(r#""type": "s3", "endpoint": "{}", "region": "us-east-1", "pathStyle": true"#, proxy.address())
        };
        world.write("policies/duplication-accounts.json", r#"["library"]"#);
        world.write(
            "policies/library-stores.json",
            format!(
                r#"{{"stores": [{{"id": "1", "primary": true, "bucketPrefix": "{prefix}-from-", {}}},
                                {{"id": "2", "bucketPrefix": "{prefix}-to-", {}}}]}}"#,
                at(&job.source),
                at(&job.destination)
            ),
        );
        job.policy("everything");
        boto(
            world,
            &format!(
                "s3 = client('s3', '{}')
s3.create_bucket(Bucket='{prefix}-from-photos')
for n in range({}): s3.put_object(Bucket='{prefix}-from-photos', Key=f'{{n:04}}', Body=b'x' * n)",
                ministack(),
                *ITEMS
            ),
        );
        job.mill(&["infra", "create"]).expect(0);
        // Items younger than two seconds are unsettled.
        std::thread::sleep(std::time::Duration::from_secs(4));
        job
    }

    fn policy(&self, compare: &str) {
        let policy =
            format!(r#"{{"defaultPolicies": [{{"srcStoreId": "1", "destStoreId": "2"}}], "compare": "{compare}"}}"#);
        self.world.write("policies/library-duplication-policy.json", policy);
    }

    fn command(&self) -> Command {
        let mut command = self.world.command();
        command.envs(CREDENTIALS);
        command
    }

    fn mill(&self, args: &[&str]) -> Ran {
        Ran::of(self.command().args(args).output().unwrap())
    }

    /// Runs a producer's loop and its tasks. Returns the requests to the source, the destination and the queues.
    fn run(&self) -> [BTreeMap<String, u64>; 3] {
        let proxies = [&self.source, &self.destination, &self.engine];
        let _before = proxies.map(Proxy::take_counts);
        self.mill(&["produce", "duplication", "--now"]).expect(0);
        let workman = Workman::begin(self.command());
        settle(&|args| self.mill(args));
        drop(workman);
        proxies.map(Proxy::take_counts)
    }
}

fn of_items(counts: &BTreeMap<String, u64>) -> [u64; 3] {
    ["HEAD item", "GET item", "PUT item"].map(|operation| counts.get(operation).copied().unwrap_or(0))
}

/// On a busy machine a call may be lost and repeated: one in a hundred, and no more.
fn assert_costs(counted: [u64; 3], told: [u64; 3], what: &str) {
    for (counted, told) in counted.into_iter().zip(told) {
        assert!((told..=told + told / 100).contains(&counted), "{what}: {counted} requests, {told} are told");
    }
}

#[test]
fn an_item_and_a_task_cost_no_more_requests_than_are_told() {
    let (job, items) = (Counted::new(), *ITEMS);
    let [source, destination, queues] = job.run();
    println!("copied: {source:?}\n{destination:?}\n{queues:?}");
    assert_costs(of_items(&source), [0, items, 0], "an item copied: read, which tells all of it");
    assert_costs(of_items(&destination), [2 * items, 0, items], "looked at, written, and its second learnt");
    assert_eq!(destination["PUT bucket"], 1, "one task makes the bucket for all that are under way");
    let sends = queues["SendMessageBatch"];
    assert!(sends <= items.div_ceil(10) + 2, "{sends} sends of {items} tasks");
    let asked = |operation: &str| queues.get(operation).copied().unwrap_or(0);
    let a_task = ["SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch"].map(asked).iter().sum::<u64>();
    // How full batches are depends on how fast tasks end, but not every task may need its own request.
    println!("{:.3} requests a task", a_task as f64 / items as f64);
    assert!(a_task < items, "{a_task}");

    job.policy("differences");
    let [source, destination, queues] = job.run();
    println!("in sync: {source:?}\n{destination:?}\n{queues:?}");
    assert_eq!(of_items(&source)[1..], [0, 0], "nothing that is in sync is read");
    assert_eq!(of_items(&destination)[1..], [0, 0], "or written");
}

#[test]
fn a_run_lists_the_destination_no_more_than_its_pages_need() {
    let (job, items) = (Counted::with_prefix("lists"), *ITEMS);
    // If there is none yet, all concurrent tasks check for it until one of them has created it.
    boto(&job.world, &format!("client('s3', '{}').create_bucket(Bucket='lists-to-photos')", ministack()));
    let _before = job.destination.take_counts();
    let began = Instant::now();
    job.mill(&["run", "--quiet"]).expect(0);
    // Whether the space is still this installation's is asked again each half minute.
    let claims = began.elapsed().as_secs() / 30;
    let asked = job.destination.take_counts();
    println!("{asked:?}");
    // Two witness objects may be written besides: for the two stores, and for the place.
    assert!((items..=items + 2).contains(&of_items(&asked)[2]), "each is written once: {asked:?}");
    // Its pages, at most twice (the loop and a closing survey); the list of spaces, the check of this one, the witness.
    let lists = asked["GET bucket"];
    assert!(lists <= 2 * (items / 1_000 + 1) + 10 + 2 * claims, "{lists} lists");
}
