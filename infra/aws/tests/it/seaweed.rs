//! SeaweedFS, an S3 server that checks signatures, stores and verifies checksums of whole items, and copies parts.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::ministack::tool;

pub(crate) const KEY: &str = "AKIAMILL";
pub(crate) const SECRET: &str = "a secret of seaweed";

/// Sockets of servers that were killed: SeaweedFS makes them at paths of its own.
fn tidy() {
    for entry in std::fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with("seaweedfs-");
        let refused = |path| UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        if ours && refused(entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Starts a server that ends with this process, and returns its address. It responds before it can store anything.
pub(crate) fn start() -> String {
    tidy();
    let (started, ready) = mpsc::channel();
    // The server ends with the thread that started it, and this thread ends with the process.
    std::thread::spawn(move || {
        // Another server may take a port between its choice and its use: then this one ends, and another try has other ports.
        for _ in 0..10 {
            let home = tempfile::tempdir().unwrap();
            let (mut process, port) = run(home.path());
            if answers(&mut process, port) {
                started.send(format!("http://127.0.0.1:{port}")).unwrap();
                loop {
                    std::thread::park();
                }
            }
            let _ = process.kill();
        }
    });
    ready.recv().expect("SeaweedFS does not start")
}

/// Waits until the server takes connections, or has ended.
fn answers(process: &mut Child, port: u16) -> bool {
    let until = Instant::now() + Duration::from_mins(1);
    while Instant::now() < until && process.try_wait().unwrap().is_none() {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// Starts the server, and returns its S3 port.
fn run(home: &Path) -> (Child, u16) {
    let config = home.join("s3.json");
    let identity = serde_json::json!({ "identities": [{
        "name": "mill",
        "credentials": [{ "accessKey": KEY, "secretKey": SECRET }],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }] });
    std::fs::write(&config, identity.to_string()).unwrap();
    // All ports stay bound while they are drawn, so that no two are the same.
    let held: Vec<_> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = held.iter().map(|one| one.local_addr().unwrap().port()).collect();
    drop(held);
    let named = ["master", "volume", "filer", "s3"]
        .iter()
        .flat_map(|part| [format!("{part}.port"), format!("{part}.port.grpc")]);
    let settings = named.zip(&ports).map(|(name, port)| format!("-{name}={port}"));
    let process = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(tool("weed"))
        .arg("server")
        .args(settings)
        .args(["-ip=127.0.0.1", "-master.telemetry=false", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"])
        .args(["-master.volumeSizeLimitMB=64", "-volume.max=1000"])
        .args(
            [("dir", ""), ("s3.config", "s3.json"), ("filer.localSocket", "f"), ("s3.localSocket", "s")]
                .map(|(name, file)| format!("-{name}={}", home.join(file).display())),
        )
        .env("TMPDIR", home)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("SeaweedFS does not start");
    (process, ports[6])
}
