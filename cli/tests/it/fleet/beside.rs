//! The same faults for Mill and for rclone: how many items are copied, the exit code, and the message. `docs/faults.md`
//! has the table that this prints: `cargo test -p mill --test it -- --ignored --nocapture beside`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mill_trials::fuse::{FlakyFolder, FolderOperation};
use mill_trials::{MissingRequirement, in_mount_namespace};
use rustix::io::Errno;

use super::proxy::{Mood, Proxy};
use super::{CREDENTIALS, boto, ministack};
use crate::world::{Ran, World, walk};

const ITEMS: usize = 40;
/// This many of them are in the folder that some cases are about.
const APART: usize = 5;

/// One end, as each of the two tools writes it.
#[derive(Debug, Clone)]
enum End {
    Folder(&'static str),
    Bucket(String),
}

/// The result of one tool.
struct Came {
    arrived: usize,
    ran: Ran,
}

/// One fault: the ends, and what happens while a tool copies.
struct Case {
    name: &'static str,
    mood: Mood,
    /// The fault ends after this time.
    passes_after: Option<Duration>,
    /// The number of copied items, and Mill's exit code.
    expected: (usize, i32),
}

impl Case {
    fn new(name: &'static str, mood: Mood, expected: (usize, i32)) -> Self {
        Self { name, mood, passes_after: None, expected }
    }

    /// Copies with both tools, each through its own proxy, and adds their row to the table.
    fn try_between(&self, world: &World, ends: &dyn Fn(&str) -> (End, End), table: &mut String) {
        let came = ["mill", "rclone"].map(|tool| {
            let proxy = Proxy::before(ministack(), 1);
            proxy.set(self.mood);
            if let Some(after) = self.passes_after {
                let proxy = proxy.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(after);
                    proxy.set(Mood::Quiet);
                });
            }
            let (from, to) = ends(tool);
            let ran = if tool == "mill" { mill(world, &proxy, &from, &to) } else { rclone(world, &proxy, &from, &to) };
            Came { arrived: arrived(world, &to), ran }
        });
        self.tell(&came, table);
    }

    fn tell(&self, [mill, rclone]: &[Came; 2], table: &mut String) {
        let said = |ran: &Ran| {
            let words = ran.json()["remarks"].as_array().unwrap().first().map_or(String::new(), ToString::to_string);
            words.trim_matches('"').to_owned()
        };
        let last = rclone.ran.err.lines().rfind(|line| line.contains("ERROR") || line.contains("Failed"));
        let cut = |text: &str| text.replace('|', "/").chars().take(230).collect::<String>();
        let of_rclone = last.map_or("", |line| line.split_once(": ").map_or(line, |(_, words)| words));
        let row = format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            self.name,
            mill.arrived,
            rclone.arrived,
            mill.ran.code,
            rclone.ran.code,
            cut(&said(&mill.ran)),
            cut(of_rclone)
        );
        println!("{row}");
        writeln!(table, "{row}").unwrap();
        assert_eq!((mill.arrived, mill.ran.code), self.expected, "{}: {} {}", self.name, mill.ran.out, mill.ran.err);
        assert!(mill.arrived >= rclone.arrived, "{}: rclone brings more", self.name);
    }
}

fn mill(world: &World, proxy: &Proxy, from: &End, to: &End) -> Ran {
    let spelled = |end: &End| match end {
        End::Folder(path) => (*path).to_owned(),
        End::Bucket(name) => format!("s3://{name}"),
    };
    let mut command = world.command();
    command.envs(CREDENTIALS).args(["mirror", &spelled(from), &spelled(to), "--json", "--quiet"]);
    for (end, option) in [(from, "--source-endpoint"), (to, "--destination-endpoint")] {
        if let End::Bucket(_) = end {
            command.args([option, proxy.address()]);
        }
    }
    Ran::of(command.output().unwrap())
}

fn rclone(world: &World, proxy: &Proxy, from: &End, to: &End) -> Ran {
    let spelled = |end: &End| match end {
        End::Folder(path) => (*path).to_owned(),
        End::Bucket(name) => format!("remote:{name}"),
    };
    let mut command = Command::new("rclone");
    command.args(["copy", "--config", "/dev/null", &spelled(from), &spelled(to)]).current_dir(world.path(""));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    for (name, value) in [
        ("TYPE", "s3"),
        ("PROVIDER", "Other"),
        ("ENDPOINT", proxy.address()),
        ("ACCESS_KEY_ID", "test"),
        ("SECRET_ACCESS_KEY", "test"),
    ] {
        command.env(format!("RCLONE_CONFIG_REMOTE_{name}"), value);
    }
    Ran::of(command.output().expect("rclone is installed by `./test`"))
}

fn arrived(world: &World, to: &End) -> usize {
    match to {
        End::Folder(path) => walk(&world.path(path)).iter().filter(|path| path.is_file()).count(),
        End::Bucket(name) => {
            let script = format!(
                "keys = client('s3', '{}').list_objects_v2(Bucket='{name}').get('Contents', [])
print(len([o for o in keys if o['Size'] > 0 and '.mill' not in o['Key']]))",
                ministack()
            );
            boto(world, &script).trim().parse().unwrap()
        }
    }
}

fn put_items(world: &World, bucket: &str, last: &str) {
    boto(
        world,
        &format!(
            "s3 = client('s3', '{}')
s3.create_bucket(Bucket='{bucket}')
for n in range({ITEMS} - 1): s3.put_object(Bucket='{bucket}', Key=f'item-{{n}}', Body=b'x' * 999)
s3.put_object(Bucket='{bucket}', Key='last', Body=b'x' * 999{last})",
            ministack()
        ),
    );
}

fn from_bucket(world: &World, bucket: &'static str, last: &str) -> impl Fn(&str) -> (End, End) {
    put_items(world, bucket, last);
    move |tool| {
        let to = if tool == "mill" { format!("{bucket}-mill") } else { format!("{bucket}-rclone") };
        (End::Bucket(bucket.to_owned()), End::Folder(Box::leak(to.into_boxed_str())))
    }
}

/// A folder of items, some of them in `apart`.
fn put_files(world: &World, folder: &str) {
    for n in 0..ITEMS {
        let within = if n < APART { "apart" } else { "else" };
        world.write(&format!("{folder}/{within}/{n}"), "x".repeat(999));
    }
}

fn chattr(flag: &str, path: &Path) {
    assert!(Command::new("chattr").arg(flag).arg(path).status().unwrap().success(), "chattr needs ext4, xfs or btrfs");
}

#[test]
#[ignore = "a comparison with rclone that takes minutes"]
fn of_each_fault_as_many_items_arrive_as_with_rclone() {
    let world = World::new();
    let mut table = String::new();
    let all = (ITEMS, 0);
    let last = |mood, name, expected| Case::new(name, mood, expected);

    let case = Case::new("each call on an item fails twice with 500", Mood::FailsTwice, all);
    case.try_between(&world, &from_bucket(&world, "twice", ""), &mut table);
    for (seconds, name) in [(6, "no network for 6 s"), (60, "no network for 60 s")] {
        let bucket = if seconds == 6 { "short" } else { "long" };
        let passes_after = Some(Duration::from_secs(seconds));
        let case = Case { passes_after, ..Case::new(name, Mood::AwayAfter(ITEMS as u64 / 2), all) };
        case.try_between(&world, &from_bucket(&world, bucket, ""), &mut table);
    }
    let denied = Mood::Denies("PUT", "/apart/");
    put_files(&world, "files");
    for tool in ["mill", "rclone"] {
        boto(&world, &format!("client('s3', '{}').create_bucket(Bucket='denies-{tool}')", ministack()));
    }
    let case = Case::new("a prefix of the destination answers 403", denied, (ITEMS - APART, 50));
    case.try_between(&world, &|tool| (End::Folder("files"), End::Bucket(format!("denies-{tool}"))), &mut table);
    let case = last(Mood::Denies("GET", "/last"), "an item of the source answers 403", (ITEMS - 1, 2));
    case.try_between(&world, &from_bucket(&world, "hides", ""), &mut table);
    let case = last(Mood::Archives("/last"), "an item lies in an archive", (ITEMS - 1, 2));
    case.try_between(&world, &from_bucket(&world, "archives", ", StorageClass='GLACIER'"), &mut table);
    let many = ", Metadata={f'name-{n}': str(n) for n in range(90)}";
    let case = last(Mood::Quiet, "90 pairs of user metadata", all);
    case.try_between(&world, &from_bucket(&world, "many", many), &mut table);

    for tool in ["mill", "rclone"] {
        put_files(&world, &format!("fixed-{tool}"));
        let file = world.path(&format!("fixed-{tool}/apart/0"));
        fs::write(&file, "older").unwrap();
        chattr("+i", &file);
    }
    let case = Case::new("one copy is immutable", Mood::Quiet, (ITEMS, 50));
    let fixed =
        |tool: &str| (End::Folder("files"), End::Folder(if tool == "mill" { "fixed-mill" } else { "fixed-rclone" }));
    case.try_between(&world, &fixed, &mut table);
    for tool in ["mill", "rclone"] {
        chattr("-i", &world.path(&format!("fixed-{tool}/apart/0")));
    }

    let case = Case::new("a directory of the source fails (EIO)", Mood::Quiet, (ITEMS - APART, 2));
    let told = std::sync::Arc::new(parking_lot::Mutex::new(table));
    let told_here = told.clone();
    in_mount_namespace(move || -> Result<(), MissingRequirement> {
        fs::create_dir(world.path("flaky")).unwrap();
        let flaky = FlakyFolder::serve(&world.path("files"), &world.path("flaky"))?;
        flaky.fail(FolderOperation::OpenDirectory, "apart", Errno::IO.raw_os_error());
        let ends =
            |tool: &str| (End::Folder("flaky"), End::Folder(if tool == "mill" { "eio-mill" } else { "eio-rclone" }));
        case.try_between(&world, &ends, &mut told_here.lock());
        Ok(())
    });
    println!("\n| fault | items, Mill | items, rclone | exit, Mill | exit, rclone | Mill says | rclone says |");
    println!("|---|---|---|---|---|---|---|\n{}", told.lock());
}
