//! Two programs that verify logs and share no code with Mill: tlog-scales (Python), and Go's `x/mod/sumdb`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Where Debian's packages have the sources of Go's modules.
const GO_PATH: &str = "/usr/share/gocode";

/// Go's verifier, compiled once.
static GO: LazyLock<PathBuf> = LazyLock::new(|| {
    let sources = Path::new(GO_PATH).join("src/golang.org/x/mod/sumdb/tlog");
    assert!(sources.exists(), "{GO_PATH} has no x/mod: `./test` installs golang-golang-x-mod-dev");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let binary = folder.join("verify-log");
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([&binary, &source("verify.go")])
        .env("GO111MODULE", "off")
        .env("GOPATH", GO_PATH)
        .env("GOCACHE", folder.join("go-cache"))
        .output()
        .unwrap_or_else(|error| panic!("`go` does not start ({error}): `./test` installs golang-go"));
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    binary
});

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent").join(name)
}

/// A program that verifies logs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verifier {
    /// PyPI's tlog-scales.
    Python,
    /// Debian's golang-golang-x-mod-dev.
    Go,
}

/// Both.
pub(crate) const BOTH: [Verifier; 2] = [Verifier::Python, Verifier::Go];

impl Verifier {
    /// Runs it: what it prints, as an error if it ends with one.
    pub(crate) fn run(self, arguments: &[&str]) -> Result<String, String> {
        let mut command = match self {
            Self::Go => Command::new(&*GO),
            Self::Python => {
                let mut python = Command::new(python());
                python.arg(source("verify.py"));
                python
            }
        };
        let output = command.args(arguments).output().expect("it starts");
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let is_answer = output.status.success() || output.status.code() == Some(1) && !printed.is_empty();
        assert!(is_answer, "{self:?} failed: {printed} {}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(printed) } else { Err(printed) }
    }

    /// Verifies a log, and that it begins with a kept checkpoint.
    pub(crate) fn verify(self, log: &Path, key: &str, kept: Option<&Path>) -> Result<String, String> {
        let mut arguments = vec![log.to_str().expect("a text"), key];
        arguments.extend(kept.map(|kept| kept.to_str().expect("a text")));
        self.run(&arguments)
    }
}

fn python() -> PathBuf {
    let place = Path::new(".test-tools/aws/bin");
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(place));
    // `tlog-tiles` is the command of tlog-scales.
    let tools = folders.into_iter().find(|folder| folder.join("tlog-tiles").exists());
    tools.unwrap_or_else(|| panic!("`{}/tlog-tiles` is missing: `./test` installs it", place.display())).join("python")
}
