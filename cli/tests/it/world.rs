//! A scratch folder in which `mill` runs, and checks by other tools.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

pub(crate) struct World {
    folder: tempfile::TempDir,
}

/// The result of a run of `mill`.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[allow(clippy::needless_pass_by_value)] // callers have no other use for it
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The object on the last line of standard output.
    pub(crate) fn json(&self) -> Value {
        let last = self.out.lines().last().unwrap_or_else(|| panic!("nothing on stdout; stderr: {}", self.err));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in {last:?}; stderr: {}", self.err))
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// The result of a process that must end by itself, long before a client of S3 would give up.
#[track_caller]
pub(crate) fn ends(mut child: Child) -> Ran {
    let (mut out, mut errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |from: &mut dyn Read| {
        let mut said = Vec::new();
        from.read_to_end(&mut said).unwrap();
        said
    };
    let reading = std::thread::spawn(move || (read(&mut out), read(&mut errors)));
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > ENDS {
            child.kill().unwrap();
            panic!("it did not end: {}", String::from_utf8_lossy(&reading.join().unwrap().1));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let (stdout, stderr) = reading.join().unwrap();
    Ran::of(Output { status, stdout, stderr })
}

const ENDS: Duration = Duration::from_mins(2);

/// Waits until the process has a handler for this signal. Source: proc_pid_status(5).
#[track_caller]
pub(crate) fn wait_for_handler(child: &Child, signal: u32) {
    let began = Instant::now();
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (signal - 1)) != 0 {
            return;
        }
        assert!(began.elapsed() < ENDS, "no handler for signal {signal}: {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A copy of another world, in its own folder.
    pub(crate) fn copy_of(other: &Self) -> Self {
        let world = Self::new();
        let status = Command::new("cp").arg("-aT").arg(other.folder.path()).arg(world.folder.path()).status().unwrap();
        assert!(status.success());
        world
    }

    /// One account, `library`, over two folders, `one` and `two`, with this duplication policy.
    pub(crate) fn library(&self, policy: &str) {
        self.write("policies/duplication-accounts.json", r#"["library"]"#);
        self.write(
            "policies/library-stores.json",
            r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true},
                           {"id": "2", "type": "folder", "root": "two"}]}"#,
        );
        self.write("policies/library-duplication-policy.json", policy);
        for store in ["one", "two"] {
            fs::create_dir_all(self.path(store)).unwrap();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_mill")))
    }

    /// The same of another binary.
    pub(crate) fn command_of(&self, mill: &Path) -> Command {
        let mut command = Command::new(mill);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"));
        // If coverage is measured, the binary's counts too.
        command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        command
    }

    pub(crate) fn mill(&self, args: &[&str]) -> Ran {
        Ran::of(self.command().args(args).output().unwrap())
    }

    /// Runs `mill` without root's permissions: as user 65534 if the tests run as root.
    pub(crate) fn as_nobody(&self, args: &[&str]) -> Ran {
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        if !root {
            return self.mill(args);
        }
        // The binary may be in a folder that nobody cannot enter.
        let binary = self.path("mill-for-nobody");
        // By another process: a child that another test starts would hold this one's descriptor, and the file could not be run.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_mill")).arg(&binary).status();
        assert!(copied.unwrap().success());
        for writable in ["dst", "state", "data"] {
            let _ = Command::new("chown").args(["-R", "65534:65534"]).arg(self.path(writable)).output().unwrap();
        }
        let output = Command::new("chmod").arg("755").arg(self.folder.path()).output().unwrap();
        assert!(output.status.success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(binary).args(args);
        command.current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.path("home")).env("XDG_STATE_HOME", self.path("state"));
        Ran::of(command.output().unwrap())
    }

    /// Mirrors `src` to `dst` and returns the result.
    pub(crate) fn mirror(&self, more: &[&str]) -> Ran {
        self.mill(&[&["mirror", "src", "dst", "--json"], more].concat())
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes everything under `name` old enough to have settled versions.
    pub(crate) fn age(&self, name: &str) {
        let at = SystemTime::now() - Duration::from_hours(1);
        for path in walk(&self.path(name)) {
            if fs::symlink_metadata(&path).unwrap().is_file() {
                fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
            }
        }
        // The change time cannot be set: wait until it is old enough too.
        std::thread::sleep(Duration::from_millis(2_100));
    }

    /// A small real collection: that of the repository.
    pub(crate) fn collection(&self, name: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/collection");
        fs::create_dir_all(self.path(name)).unwrap();
        let status = Command::new("cp").arg("-rT").arg(from).arg(self.path(name)).status().unwrap();
        assert!(status.success());
    }

    /// What `diff -r --no-dereference` says of the two folders.
    pub(crate) fn diff(&self, from: &str, to: &str) -> Vec<String> {
        let output = Command::new("diff")
            .args(["-r", "--no-dereference", "--brief"])
            .arg(from)
            .arg(to)
            .current_dir(self.folder.path())
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        assert!(output.status.code().unwrap() < 2 || !output.stderr.is_empty(), "diff itself failed");
        let both = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&both).lines().map(str::to_owned).collect()
    }

    #[track_caller]
    pub(crate) fn same(&self, from: &str, to: &str) {
        assert_eq!(self.diff(from, to), Vec::<String>::new());
    }

    /// The modes and modification times of all files, by relative name.
    pub(crate) fn stamps(&self, name: &str) -> Vec<(Vec<u8>, u32, SystemTime)> {
        use std::os::unix::fs::PermissionsExt as _;
        let root = self.path(name);
        let mut found: Vec<_> = walk(&root)
            .into_iter()
            .filter_map(|path| {
                let facts = fs::symlink_metadata(&path).unwrap();
                let relative = path.strip_prefix(&root).unwrap().as_os_str().as_bytes().to_vec();
                facts.is_file().then(|| (relative, facts.permissions().mode() & 0o777, facts.modified().unwrap()))
            })
            .collect();
        found.sort();
        found
    }

    /// Runs a Python script in the scratch folder, and returns its output.
    #[track_caller]
    pub(crate) fn python(&self, script: &str) -> String {
        let output = Command::new("python3").args(["-c", script]).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Sends a body, unchanged, to the queue that the producer fills.
    pub(crate) fn queue(&self, body: &str) {
        self.python(&format!(
            "
import sqlite3
db = sqlite3.connect('data/mill.db')
db.execute('update number set last = last + 1')
db.execute('insert into message (id, queue, visible_at, sent_at, body) select last, 3, 0, 0, ? from number',
           (b'{body}',))
db.execute('update queue set messages = messages + 1 where id = 3')
db.commit()
"
        ));
    }

    /// Checks every SQLite file under the folder with SQLite's own integrity check, in Python.
    #[track_caller]
    pub(crate) fn databases_are_whole(&self) {
        self.databases_are_whole_in("");
    }

    /// The same of those under one folder.
    #[track_caller]
    pub(crate) fn databases_are_whole_in(&self, name: &str) {
        let script = "
import sqlite3, sys, pathlib
found = [p for p in pathlib.Path(sys.argv[1]).rglob('*.db')]
assert found, 'no database'
for p in found:
    db = sqlite3.connect(p)
    assert db.execute('pragma integrity_check').fetchone()[0] == 'ok', p
    counts = db.execute('select id, messages, (select count(*) from message where queue = queue.id) from queue')
    for queue, said, there in counts:
        assert said == there, (p, queue, said, there)
";
        let output = Command::new("python3").arg("-c").arg(script).arg(self.path(name)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A mount that is removed with the test.
pub(crate) struct Mount(pub(crate) PathBuf);

impl Mount {
    pub(crate) fn new(args: &[&str], at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let output = Command::new("mount").args(args).arg(at).output().unwrap();
        assert!(
            output.status.success(),
            "these tests mount, so they need root: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// All paths under a folder, itself left out.
pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_dir()) {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}
