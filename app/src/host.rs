//! The host's name, and the folder of this user's state.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The name of this host, which no other host has.
pub(crate) fn name() -> String {
    let read = |path| std::fs::read_to_string(path).ok().map(|text: String| text.trim().to_owned());
    let named = |text: &String| !text.is_empty();
    let machine = read("/etc/machine-id").filter(named).or_else(|| read("/proc/sys/kernel/hostname").filter(named));
    machine.unwrap_or_else(|| "host".to_owned())
}

/// The folder of the state that belongs to a user, not to an installation.
///
/// A service of the system may have no `HOME`: then the user's entry in `/etc/passwd` has it.
///
/// # Errors
/// When neither the environment nor that entry names one.
pub(crate) fn state_folder() -> Result<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let user = rustix::process::geteuid();
    let of_home = |home: PathBuf| home.join(".local/state");
    let base = named("XDG_STATE_HOME").or_else(|| named("HOME").or_else(|| home(user.as_raw())).map(of_home));
    // A minimal host may lack even the entry.
    let base = base.or_else(|| user.is_root().then(|| PathBuf::from("/var/lib")));
    let base = base.with_context(|| {
        format!(
            "there is no place for what mill keeps: neither XDG_STATE_HOME nor HOME is set, and user {} has no home; set \
             XDG_STATE_HOME to a folder that this user may write",
            user.as_raw()
        )
    })?;
    Ok(base.join("mill"))
}

/// The home of a user, if it exists.
fn home(user: u32) -> Option<PathBuf> {
    home_in(&std::fs::read_to_string("/etc/passwd").ok()?, user).filter(|home| home.is_dir())
}

/// Source: passwd(5).
fn home_in(passwd: &str, user: u32) -> Option<PathBuf> {
    let entry = |line: &str| {
        let [_, _, id, _, _, home, ..] = line.split(':').collect::<Vec<_>>()[..] else { return None };
        (id.parse() == Ok(user) && home.starts_with('/')).then(|| PathBuf::from(home))
    };
    passwd.lines().find_map(entry)
}

/// The folder of the state that all installations of a host share. Root's folder is the host's.
///
/// # Errors
/// There is none.
pub(crate) fn shared_folder() -> Result<PathBuf> {
    let chosen = |name| std::env::var_os(name).is_some_and(|path| !path.is_empty());
    // The state directory that systemd gives to a service is not shared, and the service's home may be read-only.
    let given = std::env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from);
    match given {
        _ if chosen("XDG_STATE_HOME") => state_folder(),
        Some(folder) => Ok(folder),
        None if rustix::process::geteuid().is_root() => Ok(PathBuf::from("/var/lib/mill")),
        None => state_folder(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_a_user_is_read_from_its_own_entry() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nmill:x:100:7::/srv/mill:/bin/false\nnone:x:7:7:::\n";
        assert_eq!(home_in(passwd, 0), Some(PathBuf::from("/root")));
        assert_eq!(home_in(passwd, 100), Some(PathBuf::from("/srv/mill")));
        assert_eq!([home_in(passwd, 7), home_in(passwd, 8)], [None, None]);
    }
}
