//! What is a host's own: its name, and the folder of this user's state.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The name of this host, which no other bears.
pub(crate) fn name() -> String {
    let read = |path| std::fs::read_to_string(path).ok().map(|text: String| text.trim().to_owned());
    let named = |text: &String| !text.is_empty();
    let machine = read("/etc/machine-id").filter(named).or_else(|| read("/proc/sys/kernel/hostname").filter(named));
    machine.unwrap_or_else(|| "host".to_owned())
}

/// The folder under which Mill keeps what belongs to a user and to no installation.
///
/// # Errors
/// When the environment names none.
pub(crate) fn state_folder() -> Result<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let base = match named("XDG_STATE_HOME") {
        Some(path) => path,
        None => named("HOME").context("neither XDG_STATE_HOME nor HOME is set")?.join(".local/state"),
    };
    Ok(base.join("mill"))
}

/// The folder of what all installations of a host are to know: root's is the host's.
///
/// # Errors
/// When there is none.
pub(crate) fn shared_folder() -> Result<PathBuf> {
    let chosen = |name| std::env::var_os(name).is_some_and(|path| !path.is_empty());
    // What systemd gives to a service is its own alone, and its home may be read-only.
    let given = std::env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from);
    match given {
        _ if chosen("XDG_STATE_HOME") => state_folder(),
        Some(folder) => Ok(folder),
        None if rustix::process::geteuid().is_root() => Ok(PathBuf::from("/var/lib/mill")),
        None => state_folder(),
    }
}
