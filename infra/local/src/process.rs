//! Telling whether a process of this machine still lives, so that a killed producer's lease need not run out.

use std::fs;

/// Names this process so that others on this machine can tell whether it lives: boot, pid, and when it started.
pub fn this_process() -> String {
    let pid = std::process::id();
    format!("{}/{pid}/{}", boot(), started(pid).unwrap_or(0))
}

/// Whether a process named by [`this_process`] surely lives no more. Of another machine's nothing is known: `false`.
pub fn surely_dead(holder: &str) -> bool {
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
        Ok(_) => started(pid).is_some_and(|now| now != start),
    }
}

/// A text that is this boot's alone. Source: proc(5), `/proc/sys/kernel/random/boot_id`; with the pid namespace, since
/// containers of one machine share the former and not the pids.
fn boot() -> String {
    let Ok(id) = fs::read_to_string("/proc/sys/kernel/random/boot_id") else { return String::new() };
    let namespace = fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned());
    let digits: String = namespace.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    format!("{}.{digits}", id.trim())
}

/// When a process started, in clock ticks since boot. Source: proc(5), `/proc/pid/stat` field 22.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, and may itself hold blanks and brackets.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_not_dead() {
        assert!(!surely_dead(&this_process()));
    }

    #[test]
    fn a_process_that_ended_is_surely_dead() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let name = format!("{}/{}/{}", boot(), child.id(), started(child.id()).unwrap());
        assert!(!surely_dead(&name));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(surely_dead(&name));
    }

    #[test]
    fn a_pid_taken_by_another_process_is_not_mistaken_for_it() {
        assert!(surely_dead(&format!("{}/{}/1", boot(), std::process::id())));
    }

    #[test]
    fn of_another_machine_nothing_is_known() {
        assert!(!surely_dead("other-boot/1/1"));
        assert!(!surely_dead("anything"));
    }
}
