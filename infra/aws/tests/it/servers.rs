//! The servers that the cases run on: ministack, started once for this process and ended with it.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use mill_aws::contract::{self, Names};
use mill_aws::{Access, Connection, KeySource, Keys};
use mill_local::OsClock;

fn tool(name: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.test-tools/aws/bin")).join(name);
    assert!(path.exists(), "`{}` is missing: `./test` installs it", path.display());
    path
}

/// The address of ministack.
pub(crate) fn ministack() -> &'static str {
    static STARTED: OnceLock<String> = OnceLock::new();
    STARTED.get_or_init(start)
}

/// The address of another, for queues: their cases run in real time, and what keeps a server busy would make it late.
pub(crate) fn punctual() -> &'static str {
    static STARTED: OnceLock<String> = OnceLock::new();
    STARTED.get_or_init(start)
}

fn start() -> String {
    let port = free_port();
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
        let failed = child.as_ref().err().map(ToString::to_string);
        started.send(failed).unwrap();
        loop {
            std::thread::park();
        }
    });
    assert_eq!(ready.recv().unwrap(), None, "ministack does not start");
    await_port(port);
    format!("http://127.0.0.1:{port}")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn await_port(port: u16) {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_mins(1), "nothing answers at port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection to a server.
pub(crate) async fn connect(endpoint: &str) -> Connection {
    Connection::open(Access {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".into()),
        keys: Some(KeySource::fixed(Keys { id: "test".into(), secret: "test".into(), token: None })),
        ..Access::default()
    })
    .await
}

/// A name that nothing on the servers has yet.
pub(crate) fn fresh(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An installation of its own.
pub(crate) async fn installation(server: &str) -> (Connection, Names) {
    let connection = connect(server).await;
    let names = Names::new(fresh("mill"));
    contract::provision(&connection, &names, &OsClock).await.unwrap();
    (connection, names)
}

pub(crate) fn clock() -> Arc<OsClock> {
    Arc::new(OsClock)
}
