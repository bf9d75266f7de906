//! Mounts that only one test sees, and that go with it.

use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::NotRun;

/// Runs a trial on a thread in a mount namespace of its own. Processes and threads that it starts are in it too.
///
/// What is mounted there is seen by nobody else, and is gone when the thread and its children are, however they end.
/// A trial that cannot run here is [reported](NotRun::report).
pub fn apart(trial: impl FnOnce() -> Result<(), NotRun> + Send + 'static) {
    let name = thread::current().name().unwrap_or("a trial").to_owned();
    let run = move || {
        if let Err(not_run) = enter().and_then(|()| trial()) {
            not_run.report();
        }
    };
    let joined = thread::Builder::new().name(name).spawn(run).unwrap().join();
    if let Err(panic) = joined {
        std::panic::resume_unwind(panic);
    }
}

/// Moves this thread into a mount namespace of its own, out of which nothing is propagated.
fn enter() -> Result<(), NotRun> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => {}
        Err(Errno::EPERM) => return Err(NotRun("mounting needs root".into())),
        Err(error) => return Err(NotRun(format!("no mount namespace can be made: {error}"))),
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::{Mount, apart};

    #[test]
    fn what_is_mounted_apart_is_seen_by_children_and_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_owned();
        apart(move || {
            let mount = Mount::tmpfs(&at, "size=1m")?;
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
        apart(|| panic!("the trial's own words"));
    }
}
