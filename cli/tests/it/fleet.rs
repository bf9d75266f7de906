//! The fleet engine and stores in S3, as a person uses them: real processes on a server that speaks SQS, DynamoDB and S3,
//! a second S3 server that checks signatures, and boto3 and rclone as checkers.

#[path = "fleet/job.rs"]
mod job;
#[path = "fleet/mirror.rs"]
mod mirror;
#[path = "../../../infra/aws/tests/it/verifying.rs"]
mod verifying;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::world::World;

fn tool(name: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.test-tools/aws/bin")).join(name);
    assert!(path.exists(), "`{}` is missing: `./test` installs it", path.display());
    path
}

/// The address of ministack, started once for this process and ended with it.
fn ministack() -> &'static str {
    static STARTED: OnceLock<String> = OnceLock::new();
    STARTED.get_or_init(|| {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (started, ready) = mpsc::channel();
        // The server ends with the thread that began it, and this one ends with the process.
        std::thread::spawn(move || {
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .arg(tool("ministack"))
                .env("BIND_HOST", "127.0.0.1")
                .env("GATEWAY_PORT", port.to_string())
                .env("LOG_LEVEL", "WARNING")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            started.send(child.as_ref().err().map(ToString::to_string)).unwrap();
            loop {
                std::thread::park();
            }
        });
        assert_eq!(ready.recv().unwrap(), None, "ministack does not start");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_mins(1), "nothing answers at port {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        format!("http://127.0.0.1:{port}")
    })
}

/// The environment that finds ministack's credentials; it takes any.
const CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")];

/// Runs a script with boto3. `client(service, endpoint, key, secret)` and `out`, a list of lines to print, are there.
fn boto(world: &World, script: &str) -> String {
    let head = "
import boto3, json, hashlib, pathlib
from botocore.config import Config
def client(service, endpoint, key='test', secret='test'):
    style = Config(s3={'addressing_style': 'path'})
    return boto3.client(service, endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
                        region_name='us-east-1', config=style if service == 's3' else None)
";
    let mut command = Command::new(tool("python"));
    command.args(["-c", &format!("{head}{script}")]).current_dir(world.path("")).env_remove("AWS_CA_BUNDLE");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
