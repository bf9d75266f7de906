//! ministack, the server that speaks SQS, DynamoDB and S3; and the tools installed beside it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A program that `./test` installs.
pub(crate) fn tool(name: &str) -> PathBuf {
    let place = Path::new(".test-tools/aws/bin").join(name);
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(&place));
    folders
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("`{}` is missing: `./test` installs it", place.display()))
}

/// Starts a server that ends with this process, and returns its address.
pub(crate) fn start() -> String {
    let (started, ready) = mpsc::channel();
    // The server ends with the thread that started it, and this thread ends with the process.
    std::thread::spawn(move || {
        let (_process, address) = start_at("127.0.0.1");
        started.send(address).unwrap();
        loop {
            std::thread::park();
        }
    });
    ready.recv().expect("ministack does not start")
}

/// Starts a server on this host that ends with this thread at the latest, and returns its address.
pub(crate) fn start_at(host: &str) -> (Child, String) {
    let port = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port();
    let process = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(tool("ministack"))
        .env("BIND_HOST", host)
        .env("GATEWAY_PORT", port.to_string())
        .env("LOG_LEVEL", "WARNING")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ministack does not start");
    let began = Instant::now();
    while TcpStream::connect((host, port)).is_err() {
        assert!(began.elapsed() < Duration::from_mins(1), "nothing answers at {host}, port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    (process, format!("http://{host}:{port}"))
}
