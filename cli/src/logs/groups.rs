//! Groups the log lines of concurrent tasks: lines are held back for a moment so that those of one task are written
//! together.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// The most lines of a group that are held back.
const LINES_MAX: usize = 5;
/// The longest time that a line is held back.
const HELD_MAX: Duration = Duration::from_secs(1);

/// The groups of held-back lines.
#[derive(Clone)]
pub(super) struct Groups {
    shared: Arc<Shared>,
}

type Write = dyn Fn(&[u8]) + Send + Sync;

struct Shared {
    write: Box<Write>,
    held: Mutex<HeldGroups>,
    changed: Condvar,
}

#[derive(Default)]
struct HeldGroups {
    groups: BTreeMap<u64, Group>,
    over: bool,
}

struct Group {
    text: String,
    lines: usize,
    since: Instant,
}

/// Writes lines that were held back for long enough; the rest when it is dropped.
pub(crate) struct GroupFlusher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for GroupFlusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupFlusher").finish_non_exhaustive()
    }
}

impl Groups {
    /// Makes groups that write their lines with `write`.
    pub(super) fn writing(write: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { write: Box::new(write), held: Mutex::default(), changed: Condvar::new() }) }
    }

    /// Starts the thread that writes lines that were held back for long enough.
    pub(super) fn keeper(&self) -> io::Result<GroupFlusher> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || shared.write_due_lines())?;
        Ok(GroupFlusher { shared: self.shared.clone(), thread: Some(thread) })
    }

    /// Writes a line that belongs to no group.
    pub(super) fn line(&self, line: &str) {
        (self.shared.write)(line.as_bytes());
    }

    /// Adds a line to a group; an `urgent` one is written at once, with the lines before it.
    pub(super) fn add_line(&self, group: u64, line: &str, urgent: bool) {
        let mut held = self.shared.lock();
        let at = held.groups.entry(group).or_insert_with(|| {
            self.shared.changed.notify_one();
            Group { text: String::new(), lines: 0, since: Instant::now() }
        });
        at.text.push_str(line);
        at.lines += 1;
        if urgent || at.lines >= LINES_MAX || held.over {
            self.shared.write_groups(held, &[group]);
        }
    }

    /// Ends a group.
    pub(super) fn end(&self, group: u64) {
        self.shared.write_groups(self.shared.lock(), &[group]);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HeldGroups> {
        self.held.lock()
    }

    /// Writes groups while the lock is held, so that no later line can overtake.
    fn write_groups(&self, mut held: MutexGuard<'_, HeldGroups>, groups: &[u64]) {
        for group in groups {
            if let Some(group) = held.groups.remove(group) {
                (self.write)(group.text.as_bytes());
            }
        }
    }

    fn write_due_lines(&self) {
        let mut held = self.lock();
        while !held.over {
            let oldest = held.groups.values().map(|group| group.since).min();
            match oldest {
                None => self.changed.wait(&mut held),
                Some(since) => {
                    self.changed.wait_for(&mut held, HELD_MAX.saturating_sub(since.elapsed()));
                }
            }
            let due = |group: &Group| group.since.elapsed() >= HELD_MAX;
            let due: Vec<u64> = held.groups.iter().filter(|(_, group)| due(group)).map(|(id, _)| *id).collect();
            self.write_groups(held, &due);
            held = self.lock();
        }
    }
}

impl Drop for GroupFlusher {
    fn drop(&mut self) {
        let mut held = self.shared.lock();
        held.over = true;
        let left: Vec<u64> = held.groups.keys().copied().collect();
        self.shared.write_groups(held, &left);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread has ended; a panic was reported already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> (Groups, Arc<Mutex<String>>) {
        let written = Arc::new(Mutex::new(String::new()));
        let out = written.clone();
        let write = move |text: &[u8]| out.lock().push_str(std::str::from_utf8(text).unwrap());
        (Groups::writing(write), written)
    }

    #[test]
    fn lines_of_one_task_stand_together() {
        let (groups, written) = groups();
        for n in 0..2 {
            groups.add_line(1, &format!("a{n} "), false);
            groups.add_line(2, &format!("b{n} "), false);
        }
        groups.line("alone ");
        groups.end(2);
        groups.end(1);
        groups.end(1);
        assert_eq!(*written.lock(), "alone b0 b1 a0 a1 ");
    }

    #[test]
    fn five_lines_or_an_urgent_one_are_not_held_back() {
        let (groups, written) = groups();
        for n in 0..6 {
            groups.add_line(1, &n.to_string(), false);
        }
        assert_eq!(*written.lock(), "01234");
        groups.add_line(1, "!", true);
        assert_eq!(*written.lock(), "012345!");
    }

    #[test]
    fn a_line_is_written_in_time_though_its_task_goes_on() {
        let (groups, written) = groups();
        let keeper = groups.keeper().unwrap();
        groups.add_line(1, "a", false);
        while written.lock().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        groups.add_line(1, "b", false);
        drop(keeper);
        assert_eq!(*written.lock(), "ab", "what is left is written at the end");
        groups.add_line(1, "c", false);
        assert_eq!(*written.lock(), "abc", "and nothing is held back any more");
    }
}
