//! Whether a process of this machine is still alive. So the lease of a killed producer and the tasks in flight of a
//! killed workman are released at once, not at their timeout.

use std::fs;

/// The name of this process, by which others on this machine check whether it is alive: boot, pid and start time.
pub fn this_process() -> String {
    name_of(std::process::id())
}

/// The name of a process that is alive.
pub(crate) fn name_of(pid: u32) -> String {
    format!("{}/{pid}/{}", boot(), start_ticks(pid).unwrap_or(0))
}

/// Whether the process named by [`this_process`] is dead for certain. `false` for a process of another machine, of
/// which nothing is known.
pub fn is_dead(holder: &str) -> bool {
    let mut parts = holder.split('/');
    let (Some(booted), Some(pid), Some(start), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else { return false };
    if booted != boot() || booted.is_empty() || start == 0 {
        return false;
    }
    match fs::metadata(format!("/proc/{pid}")) {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound && fs::metadata("/proc/self").is_ok(),
        Ok(_) => start_ticks(pid).is_some_and(|now| now != start) || has_ended(pid),
    }
}

/// A text unique to this boot and pid namespace: containers of one machine share the boot id, but not the pids.
/// Source: proc(5), `/proc/sys/kernel/random/boot_id`.
fn boot() -> String {
    let Ok(id) = fs::read_to_string("/proc/sys/kernel/random/boot_id") else { return String::new() };
    let namespace = fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned());
    let digits: String = namespace.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    format!("{}.{digits}", id.trim())
}

/// When a process started, in clock ticks since boot. Source: proc(5), `/proc/pid/stat` field 22.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, which may itself contain blanks and brackets.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether a process has ended and only waits to be reaped by its parent. All its threads must have ended: a thread
/// that is killed while it waits for a disk ends when the disk answers. Source: proc(5), `/proc/pid/stat` field 3.
fn has_ended(pid: u32) -> bool {
    let state = |path: String| {
        let stat = fs::read_to_string(path).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().next().map(str::to_owned)
    };
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let mut threads = threads.map(|thread| state(format!("{}/stat", thread.ok()?.path().display())));
    state(format!("/proc/{pid}/stat")).is_some_and(|state| state == "Z")
        && threads.all(|thread| thread.is_some_and(|state| state == "Z" || state == "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_not_dead() {
        assert!(!is_dead(&this_process()));
    }

    #[test]
    fn a_process_that_ended_is_surely_dead() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let name = format!("{}/{}/{}", boot(), child.id(), start_ticks(child.id()).unwrap());
        assert!(!is_dead(&name));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_dead(&name));
    }

    #[test]
    fn a_process_that_ended_is_dead_though_its_parent_does_not_ask() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let name = name_of(child.id());
        child.kill().unwrap();
        for _ in 0..10_000 {
            if is_dead(&name) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(is_dead(&name));
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_taken_by_another_process_is_not_mistaken_for_it() {
        assert!(is_dead(&format!("{}/{}/1", boot(), std::process::id())));
    }

    #[test]
    fn of_another_machine_nothing_is_known() {
        assert!(!is_dead("other-boot/1/1"));
        assert!(!is_dead("anything"));
    }
}
