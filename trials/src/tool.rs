//! Programs of the system: `mount`, `losetup`, `mkfs.*`.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::{Command, Output};

use crate::MissingRequirement;

/// Runs a program to its end, and returns its output.
pub(crate) fn output<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
) -> Result<Output, MissingRequirement> {
    match Command::new(program).args(args).env("LC_ALL", "C").output() {
        Ok(output) => Ok(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(MissingRequirement(format!("there is no `{program}` here")))
        }
        Err(error) => panic!("`{program}` cannot be run: {error}"),
    }
}

/// Runs a program that must succeed, and returns what it printed.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
) -> Result<String, MissingRequirement> {
    let output = output(program, args)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{program}`: {} {complaint}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
