//! Clocks that jump, for the processes of a trial alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::MissingRequirement;

/// Sets the wall clock that `command` reads: `+25h`, or `@2099-01-01 00:00:00` for a clock that starts there.
///
/// Clocks that count since the boot stay as they are, as on a machine whose clock was set. Uses Debian's `faketime`.
pub fn set_wall_clock(command: &mut Command, to: &str) -> Result<(), MissingRequirement> {
    let library = library().ok_or_else(|| MissingRequirement("there is no `libfaketime` here".into()))?;
    command.env("LD_PRELOAD", library).env("FAKETIME", to).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    // Times of files stay real: a trial sets the clock of the process alone.
    command.env("NO_FAKE_STAT", "1");
    Ok(())
}

/// Runs `program` with clocks that count since the boot as if the machine had been up for `seconds` longer.
///
/// `unshare --time` puts the program, with its arguments, into a time namespace.
pub fn with_longer_uptime(program: &Path, seconds: u64) -> Result<Command, MissingRequirement> {
    if !Path::new("/proc/self/ns/time").exists() {
        return Err(MissingRequirement("this kernel has no time namespaces".into()));
    }
    let mut command = Command::new("unshare");
    let seconds = seconds.to_string();
    command.args(["--time", "--fork", "--boottime", &seconds, "--monotonic", &seconds, "--"]).arg(program);
    Ok(command)
}

fn library() -> Option<PathBuf> {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let deeper = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    folders.into_iter().chain(deeper).map(|folder| folder.join("faketime/libfaketime.so.1")).find(|file| file.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::in_mount_namespace;

    fn seconds(command: &mut Command) -> f64 {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    fn python(clock: &str) -> Vec<String> {
        vec!["-c".into(), format!("import time; print(time.clock_gettime(time.{clock}))")]
    }

    #[test]
    fn the_wall_clock_jumps_and_the_boot_clock_does_not() {
        in_mount_namespace(|| {
            for (clock, jump) in [("CLOCK_REALTIME", 90_000.0), ("CLOCK_BOOTTIME", 0.0)] {
                let mut plain = Command::new("python3");
                let before = seconds(plain.args(python(clock)));
                let mut jumped = Command::new("python3");
                set_wall_clock(&mut jumped, "+25h")?;
                let moved = seconds(jumped.args(python(clock))) - before;
                assert!((jump..jump + 60.0).contains(&moved), "{clock} {moved}");
            }
            Ok(())
        });
    }

    #[test]
    fn a_machine_can_have_been_up_for_longer() {
        in_mount_namespace(|| {
            let up = seconds(Command::new("python3").args(python("CLOCK_BOOTTIME")));
            let mut command = with_longer_uptime(Path::new("python3"), 90_000)?;
            let longer = seconds(command.args(python("CLOCK_BOOTTIME"))) - up;
            assert!((90_000.0..90_060.0).contains(&longer), "{longer}");
            Ok(())
        });
    }
}
