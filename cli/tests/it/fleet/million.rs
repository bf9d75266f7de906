//! A space with very many keys, from a server that computes its listing and receives the tasks. `MILL_KEYS=1000000`
//! runs the long form; the short form always runs.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::listener::listen;
use super::proxy::{Answer, passed_on, told, whole};
use super::{CREDENTIALS, ministack};
use crate::world::World;

const PAGE: usize = 1000;
const MEMORY_MAX: u64 = 64 << 20;

fn keys() -> usize {
    std::env::var("MILL_KEYS").map_or(100_000, |number| number.parse().unwrap())
}

/// An id that a listing, a task and a folder's name must not change.
fn id(number: usize) -> String {
    format!("{number:07} /é + %2F \u{1F600} ")
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect::<Vec<_>>().concat()
}

/// The ids for which it has received tasks.
#[derive(Debug)]
struct Big {
    seen: Mutex<Vec<bool>>,
    /// Has the tables.
    server: SocketAddr,
}

impl Big {
    fn serve(keys: usize) -> (String, Arc<Self>) {
        let server = ministack().trim_start_matches("http://").parse().unwrap();
        let big = Arc::new(Self { seen: Mutex::new(vec![false; keys]), server });
        let state = big.clone();
        (listen(service_fn(move |call| answer(state.clone(), call))), big)
    }

    /// A page of the only bucket, which has one space.
    fn listing(&self, query: &str) -> String {
        let asked = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        if asked("delimiter").is_some() {
            // An id contains a slash: its first part is a directory.
            let deeper = asked("prefix").and_then(|prefix| prefix.strip_prefix("space%2F")?.get(..7)?.parse().ok());
            let directory =
                deeper.map_or(String::new(), |number: usize| format!("{}/", encoded(&format!("{number:07} "))));
            return page(&format!("<CommonPrefixes><Prefix>space/{directory}</Prefix></CommonPrefixes>"), None);
        }
        let all = self.seen.lock().len();
        let most = asked("max-keys").map_or(PAGE, |most| most.parse().unwrap());
        let behind =
            asked("start-after").map(|key| key.trim_start_matches("space%2F")[..7].parse::<usize>().unwrap() + 1);
        let from = asked("continuation-token").map_or(behind.unwrap_or(0), |token| token.parse().unwrap());
        let to = (from + most).min(all);
        let entry = |number: usize| {
            format!(
                "<Contents><Key>space/{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{number:032x}&quot;</ETag><Size>{number}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                encoded(&id(number))
            )
        };
        let entries: Vec<String> = (from..to).map(entry).collect();
        page(&entries.concat(), (to < all).then_some(to))
    }

    /// Receives tasks, like a queue that is always empty.
    fn take(&self, operation: &str, body: &Value) -> Value {
        match operation {
            "GetQueueUrl" => json!({ "QueueUrl": format!("http://queue/{}", body["QueueName"].as_str().unwrap()) }),
            "GetQueueAttributes" => {
                let states = ["", "NotVisible", "Delayed"].map(|state| format!("ApproximateNumberOfMessages{state}"));
                json!({ "Attributes": states.into_iter().map(|name| (name, "0".into())).collect::<serde_json::Map<_, Value>>() })
            }
            "SendMessageBatch" => {
                let entries = body["Entries"].as_array().unwrap();
                let mut seen = self.seen.lock();
                for entry in entries {
                    let task: Value = serde_json::from_str(entry["MessageBody"].as_str().unwrap()).unwrap();
                    let Some(item) = task["task"]["item"].as_str() else { continue };
                    let number: usize = item[..7].parse().unwrap();
                    assert_eq!(item, id(number), "to the byte");
                    seen[number] = true;
                }
                let done = |entry: &Value| json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "" });
                json!({ "Successful": entries.iter().map(done).collect::<Vec<_>>(), "Failed": [] })
            }
            other => panic!("{other} is not asked of a queue by a producer"),
        }
    }
}

fn page(entries: &str, next: Option<usize>) -> String {
    let next = next.map_or("<IsTruncated>false</IsTruncated>".to_owned(), |next| {
        format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>")
    });
    format!("<ListBucketResult><Name>big</Name><EncodingType>url</EncodingType>{next}{entries}</ListBucketResult>")
}

async fn answer(big: Arc<Big>, call: Request<Incoming>) -> io::Result<Answer> {
    let target = call.headers().get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
    let (parts, body) = call.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    match target.as_deref().and_then(|target| target.split_once('.')) {
        Some(("AmazonSQS", operation)) => {
            let body: Value = serde_json::from_slice::<Value>(&body).unwrap();
            Ok(told(200, big.take(operation, &body).to_string(), true))
        }
        Some(_) => passed_on(big.server, parts, Bytes::clone(&body)).await.map(whole),
        None => Ok(told(200, big.listing(parts.uri.query().unwrap_or_default()), false)),
    }
}

/// The peak resident memory of a process, in bytes.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

#[test]
fn a_space_of_very_many_keys_is_queued_within_little_memory() {
    let (world, keys) = (World::new(), keys());
    let (address, big) = Big::serve(keys);
    world.mill(&["init", ".", "--engine", "aws"]).expect(0);
    world.write("mill.toml", format!("[engine]\ntype = \"aws\"\nprefix = \"big\"\nendpoint = \"{address}\"\n"));
    world.write("policies/duplication-accounts.json", r#"["big"]"#);
    world.write(
        "policies/big-stores.json",
        format!(
            r#"{{"stores": [{{"id": "1", "type": "s3", "bucket": "big", "endpoint": "{address}", "region": "us-east-1",
                              "pathStyle": true, "primary": true}},
                            {{"id": "2", "type": "folder", "root": "copy"}}]}}"#
        ),
    );
    world.write(
        "policies/big-duplication-policy.json",
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#,
    );
    fs::create_dir(world.path("copy")).unwrap();
    let at_ministack = world.command();
    create_tables(at_ministack, &world);

    let mut command = world.command();
    command.envs(CREDENTIALS).args(["produce", "duplication", "--now"]);
    let mut producer = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut most = 0;
    while producer.try_wait().unwrap().is_none() {
        most = peak(producer.id()).unwrap_or(0).max(most);
        std::thread::sleep(Duration::from_millis(20));
    }
    let ran = crate::world::Ran::of(producer.wait_with_output().unwrap()).expect(0);
    println!("{keys} keys: {} KiB at most; {}", most >> 10, ran.out.trim());
    assert!(big.seen.lock().iter().all(|seen| *seen), "a key without a task; {}", ran.out);
    assert!(most < MEMORY_MAX, "{most} bytes");
}

/// Creates the queues and tables on their server.
fn create_tables(mut command: Command, world: &World) {
    world.write("create.toml", format!("[engine]\ntype = \"aws\"\nprefix = \"big\"\nendpoint = \"{}\"\n", ministack()));
    command.envs(CREDENTIALS).args(["--config", "create.toml", "infra", "create"]);
    crate::world::Ran::of(command.output().unwrap()).expect(0);
}
