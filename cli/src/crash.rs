//! Only in test builds: `MILL_CRASH_AT=NAME` or `NAME:NTH` kills this process when it passes that point the nth time,
//! and `MILL_CRASH_LOG=FILE` logs each passed point, one line each.

use std::fs::File;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use mill_hooks::CrashPoint;
use mill_hooks::crash::{TEST_BUILD, listen as listen_to_points};

use crate::crash_points;

/// The point at which to die, and at which pass, counted from one.
static FATAL: OnceLock<(CrashPoint, u64)> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);
static LOG: OnceLock<File> = OnceLock::new();

/// Follows the environment variables.
///
/// # Errors
/// The point does not exist: a test must not silently test nothing.
pub(crate) fn listen() -> Result<()> {
    if !TEST_BUILD {
        return Ok(());
    }
    if let Ok(path) = std::env::var("MILL_CRASH_LOG") {
        let _ = LOG.set(File::options().create(true).append(true).open(path)?);
        listen_to_points(note);
    }
    if let Ok(asked) = std::env::var("MILL_CRASH_AT") {
        let fatal = read(&asked).with_context(|| format!("MILL_CRASH_AT=\"{asked}\" names no crash point"))?;
        let _ = FATAL.set(fatal);
        listen_to_points(pass);
    }
    Ok(())
}

fn read(asked: &str) -> Option<(CrashPoint, u64)> {
    let (name, nth) = match asked.split_once(':') {
        Some((name, nth)) => (name, nth.parse().ok().filter(|nth| *nth > 0)?),
        None => (asked, 1),
    };
    Some((crash_points::all().into_iter().find(|point| point.name() == name)?, nth))
}

fn note(point: CrashPoint) {
    if let Some(mut log) = LOG.get() {
        // One write for each line: several processes may write to the same file.
        let _ = log.write_all(format!("{}\n", point.name()).as_bytes());
    }
}

fn pass(point: CrashPoint) {
    let Some((fatal, nth)) = FATAL.get() else { return };
    if point == *fatal && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal ends all threads at their next return from the kernel; this thread does nothing until then.
        loop {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_point_is_named_with_or_without_the_passing() {
        assert_eq!(read("cli-done"), Some((crash_points::CLI_DONE, 1)));
        assert_eq!(read("cli-done:3"), Some((crash_points::CLI_DONE, 3)));
        assert_eq!([read("cli-done:0"), read("cli-done:x"), read("nowhere"), read("")], [None; 4]);
    }

    #[test]
    fn names_are_words_of_their_own() {
        let all = crash_points::all();
        for name in all.iter().map(|point| point.name()) {
            assert!(name.contains('-') && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
            assert_eq!(all.iter().filter(|other| other.name() == name).count(), 1, "{name}");
        }
    }

    /// The names that the list of a crate declares, if it has one.
    fn declared(of_crate: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(of_crate.join("src/crash_points.rs")).unwrap_or_default();
        let names = text.lines().filter_map(|line| line.trim().strip_suffix("\",")?.split_once(" = \""));
        names.map(|(_, name)| name.to_owned()).collect()
    }

    #[test]
    fn the_points_of_every_crate_are_collected() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let crates = [root.to_owned(), root.join("infra")]
            .into_iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        let declared: BTreeSet<String> = crates.flat_map(|of_crate| declared(&of_crate)).collect();
        let collected = crash_points::all().into_iter().map(|point| point.name().to_owned()).collect();
        assert_eq!(declared, collected);
    }
}
