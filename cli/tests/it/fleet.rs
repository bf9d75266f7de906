//! The fleet engine and stores in S3, as a person uses them: real processes on a server that speaks SQS, DynamoDB and S3,
//! a second S3 server that checks signatures, and boto3 and rclone as checkers.

#[path = "fleet/asked.rs"]
mod asked;
#[path = "fleet/beside.rs"]
mod beside;
#[path = "fleet/carried.rs"]
mod carried;
#[path = "fleet/costs.rs"]
mod costs;
#[path = "fleet/deployed.rs"]
mod deployed;
#[path = "fleet/dry_run.rs"]
mod dry_run;
#[path = "fleet/endures.rs"]
mod endures;
#[path = "fleet/environment.rs"]
mod environment;
#[path = "fleet/fairness.rs"]
mod fairness;
#[path = "fleet/faults.rs"]
mod faults;
#[path = "fleet/headers.rs"]
mod headers;
#[path = "fleet/hosts.rs"]
mod hosts;
#[path = "fleet/job.rs"]
mod job;
#[path = "../../../infra/aws/tests/it/listener.rs"]
mod listener;
#[path = "fleet/marks.rs"]
mod marks;
#[path = "fleet/messages.rs"]
mod messages;
#[path = "fleet/million.rs"]
mod million;
#[path = "../../../infra/aws/tests/it/ministack.rs"]
mod ministack;
#[path = "fleet/mirror.rs"]
mod mirror;
#[path = "fleet/moving.rs"]
mod moving;
#[path = "fleet/network.rs"]
mod network;
#[path = "fleet/notifications.rs"]
mod notifications;
#[path = "fleet/one_space.rs"]
mod one_space;
#[path = "fleet/proxy.rs"]
mod proxy;
#[path = "fleet/restore.rs"]
mod restore;
#[path = "fleet/same.rs"]
mod same;
#[path = "../../../infra/aws/tests/it/seaweed.rs"]
mod seaweed;
#[path = "fleet/shapes.rs"]
mod shapes;
#[path = "../../../infra/aws/tests/it/signature_server.rs"]
mod signature_server;
#[path = "fleet/silent.rs"]
mod silent;
#[path = "fleet/sources.rs"]
mod sources;
#[path = "../../../infra/aws/tests/it/stack.rs"]
mod stack;
#[path = "fleet/state.rs"]
mod state;
#[path = "fleet/verify.rs"]
mod verify;
#[path = "fleet/within.rs"]
mod within;

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ministack::tool;
use proxy::Proxy;
use serde_json::Value;

use crate::world::{Ran, World};

/// The address of ministack, started once for this process and ended with it.
fn ministack() -> &'static str {
    static STARTED: OnceLock<String> = OnceLock::new();
    STARTED.get_or_init(ministack::start)
}

/// A bucket with this many items, and a proxy in front of it.
fn bucket(world: &World, name: &str, items: usize) -> Proxy {
    boto(
        world,
        &format!(
            "s3 = client('s3', '{}')
s3.create_bucket(Bucket='{name}')
for n in range({items}): s3.put_object(Bucket='{name}', Key=f'item-{{n}}', Body=b'x' * n)",
            ministack()
        ),
    );
    Proxy::before(ministack(), 1)
}

/// The environment that finds ministack's credentials; it takes any.
const CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")];

/// A process that is killed when it goes out of scope, mostly a workman.
struct Workman(Child);

impl Workman {
    /// `command` is a `mill` with its environment.
    fn begin(command: Command) -> Self {
        Self::doing(command, &["work"])
    }

    /// Another process that keeps running.
    fn doing(mut command: Command, args: &[&str]) -> Self {
        let log =
            std::fs::File::options().create(true).append(true).open(command.get_current_dir().unwrap().join("log"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
        Self(command.spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Workman {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until nothing is queued, snoozed or in flight, three times in a row.
fn settle(mill: &dyn Fn(&[&str]) -> Ran) {
    let began = Instant::now();
    let mut empty = 0;
    while empty < 3 {
        let status = mill(&["status", "--json"]).expect(0).json();
        let long = std::env::var_os("MILL_TREE").is_some();
        assert!(began.elapsed() < Duration::from_mins(if long { 60 } else { 6 }), "{status}");
        let queues = status["queues"].as_array().unwrap();
        let count = |queue: &Value| {
            ["visible", "in_flight", "delayed"].iter().map(|state| queue[*state].as_u64().unwrap()).sum::<u64>()
        };
        empty = if queues.iter().map(count).sum::<u64>() == 0 { empty + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Runs a script with boto3. `client(service, endpoint, key, secret)` and `out`, a list of lines to print, are there.
fn boto(world: &World, script: &str) -> String {
    let head = "
import boto3, json, hashlib, pathlib
from botocore.config import Config
from botocore.handlers import set_list_objects_encoding_type_url as encoded
def client(service, endpoint, key='test', secret='test'):
    style = Config(s3={'addressing_style': 'path'})
    made = boto3.client(service, endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
                        region_name='us-east-1', config=style if service == 's3' else None)
    # s3s-fs says that it encodes keys when asked to, and does not: a `+` would be read as a space.
    made.meta.events.unregister('before-parameter-build.s3.ListObjectsV2', encoded)
    return made
";
    let mut command = Command::new(tool("python"));
    command.args(["-c", &format!("{head}{script}")]).current_dir(world.path("")).env_remove("AWS_CA_BUNDLE");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
