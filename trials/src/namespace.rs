//! Mounts that only one test sees, and that vanish with it.

use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::MissingRequirement;

/// Runs a trial on a thread in a mount namespace of its own. Processes and threads that it starts are in it too.
///
/// Nobody else sees mounts made there, and they vanish with the thread and its children, however those end.
/// A trial that cannot run on this machine is [reported](MissingRequirement::report).
pub fn in_mount_namespace(trial: impl FnOnce() -> Result<(), MissingRequirement> + Send + 'static) {
    let name = thread::current().name().unwrap_or("a trial").to_owned();
    let run = move || {
        if let Err(missing) = enter_namespace().and_then(|()| trial()) {
            missing.report();
        }
    };
    let joined = thread::Builder::new().name(name).spawn(run).unwrap().join();
    if let Err(panic) = joined {
        std::panic::resume_unwind(panic);
    }
}

/// Moves this thread into a mount namespace of its own. Its mounts do not propagate to others.
fn enter_namespace() -> Result<(), MissingRequirement> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => {}
        Err(Errno::EPERM) => return Err(MissingRequirement("mounting needs root".into())),
        Err(error) => return Err(MissingRequirement(format!("no mount namespace can be made: {error}"))),
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::{MountGuard, in_mount_namespace};

    #[test]
    fn what_is_mounted_apart_is_seen_by_children_and_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_owned();
        in_mount_namespace(move || {
            let mount = MountGuard::tmpfs(&at, "size=1m")?;
            std::fs::write(at.join("inside"), "x").unwrap();
            assert!(Command::new("test").arg("-e").arg(at.join("inside")).status().unwrap().success());
            std::mem::forget(mount);
            Ok(())
        });
        assert!(!folder.path().join("inside").exists());
    }

    #[test]
    #[should_panic(expected = "the trial's own words")]
    fn a_trial_that_fails_fails_its_test() {
        in_mount_namespace(|| panic!("the trial's own words"));
    }
}
