//! In test builds alone: `MILL_CRASH_AT=NAME` or `NAME:NTH` kills this process when it passes that point the nth time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use mill_ports::CrashPoint;
use mill_ports::crash::{TEST_BUILD, listen as listen_to_points};

/// Where to die, and at which passing, counted from one.
static FATAL: OnceLock<(CrashPoint, u64)> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Does as the environment says. Where it names no point there is, the process ends: a trial must not pass for nothing.
pub(crate) fn listen() {
    if !TEST_BUILD {
        return;
    }
    let Ok(asked) = std::env::var("MILL_CRASH_AT") else { return };
    let Some(fatal) = read(&asked) else {
        crate::output::complaint(&format!("MILL_CRASH_AT=\"{asked}\" names no crash point"));
        std::process::exit(i32::from(crate::exit::Exit::BadArguments.code()));
    };
    if FATAL.set(fatal).is_ok() {
        listen_to_points(pass);
    }
}

fn read(asked: &str) -> Option<(CrashPoint, u64)> {
    let (name, nth) = match asked.split_once(':') {
        Some((name, nth)) => (name, nth.parse().ok().filter(|nth| *nth > 0)?),
        None => (asked, 1),
    };
    Some((*CrashPoint::ALL.iter().find(|point| point.name() == name)?, nth))
}

fn pass(point: CrashPoint) {
    let Some((fatal, nth)) = FATAL.get() else { return };
    if point == *fatal && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal ends all threads at their next return from the kernel; this one does no more until then.
        loop {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_named_with_or_without_the_passing() {
        assert_eq!(read("cli-done"), Some((CrashPoint::CliDone, 1)));
        assert_eq!(read("cli-done:3"), Some((CrashPoint::CliDone, 3)));
        assert_eq!([read("cli-done:0"), read("cli-done:x"), read("nowhere"), read("")], [None; 4]);
    }
}
