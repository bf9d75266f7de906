//! Paths at which something changed, until they are due.

use std::collections::BTreeMap;
use std::time::Duration;

use mill_model::Monotonic;

use super::WatchPace;

/// How a path was touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Touch {
    /// Whether its writer is known to have finished.
    pub(super) finished: bool,
    /// Whether it was made just now: if it is gone before it was ever reported, nobody needs to know.
    pub(super) created: bool,
    /// Whether it is known to have been an item before: for empty directories.
    pub(super) was_item: bool,
}

#[derive(Debug)]
struct Pending {
    touch: Touch,
    first: Monotonic,
    last: Monotonic,
}

impl Pending {
    fn due(&self, pace: &WatchPace) -> Monotonic {
        let quiet = if self.touch.finished { pace.linger } else { pace.quiet };
        self.last.plus(quiet).min(self.first.plus(pace.latest))
    }
}

/// The touched paths, relative to the root. One with `/` at its end is a directory as an item.
#[derive(Debug)]
pub(super) struct Debounce {
    pending: BTreeMap<String, Pending>,
    pace: WatchPace,
    pending_max: usize,
}

impl Debounce {
    pub(super) fn new(pace: WatchPace, pending_max: usize) -> Self {
        Self { pending: BTreeMap::new(), pace, pending_max }
    }

    /// Notes a path. `false` if there is no room for it.
    pub(super) fn touch(&mut self, path: &str, touch: Touch, now: Monotonic) -> bool {
        if let Some(pending) = self.pending.get_mut(path) {
            pending.last = now;
            pending.touch.finished = touch.finished;
            pending.touch.was_item |= touch.was_item;
            return true;
        }
        if self.pending.len() >= self.pending_max {
            return false;
        }
        self.pending.insert(path.to_owned(), Pending { touch, first: now, last: now });
        true
    }

    /// Forgets all paths for which that holds.
    pub(super) fn forget(&mut self, which: impl Fn(&str) -> bool) {
        self.pending.retain(|path, _| !which(path));
    }

    /// Takes what is due, in order, and at most so many.
    pub(super) fn take_due(&mut self, now: Monotonic, most: usize) -> Vec<(String, Touch)> {
        let due = self.pending.iter().filter(|(_, pending)| pending.due(&self.pace) <= now);
        let due: Vec<(String, Touch)> = due.take(most).map(|(path, pending)| (path.clone(), pending.touch)).collect();
        for (path, _) in &due {
            self.pending.remove(path);
        }
        due
    }

    /// How long until the next one is due; `None` if none waits.
    pub(super) fn next_due(&self, now: Monotonic) -> Option<Duration> {
        self.pending.values().map(|pending| pending.due(&self.pace)).min().map(|due| due.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: WatchPace = WatchPace::USUAL;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_origin(Duration::from_millis(millis))
    }

    fn names(due: Vec<(String, Touch)>) -> Vec<String> {
        due.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn a_file_that_is_written_in_pieces_is_due_once_when_it_is_quiet() {
        let mut debounce = Debounce::new(PACE, 10);
        for millis in [0, 200, 400] {
            assert!(debounce.touch("s/a", Touch::default(), at(millis)));
            assert_eq!(debounce.take_due(at(millis + 199), 9), []);
        }
        assert_eq!(debounce.next_due(at(500)), Some(Duration::from_millis(200)));
        assert_eq!(names(debounce.take_due(at(700), 9)), ["s/a"]);
        assert_eq!(debounce.next_due(at(700)), None);
    }

    #[test]
    fn a_file_whose_writer_closed_it_is_due_at_once_unless_it_is_opened_again() {
        let mut debounce = Debounce::new(PACE, 10);
        debounce.touch("s/a", Touch::default(), at(0));
        debounce.touch("s/a", Touch { finished: true, ..Touch::default() }, at(10));
        assert_eq!(debounce.take_due(at(59), 9), []);
        assert_eq!(names(debounce.take_due(at(60), 9)), ["s/a"]);
        debounce.touch("s/a", Touch { finished: true, ..Touch::default() }, at(100));
        debounce.touch("s/a", Touch::default(), at(110));
        assert_eq!(debounce.take_due(at(400), 9), []);
        assert_eq!(names(debounce.take_due(at(410), 9)), ["s/a"]);
    }

    #[test]
    fn a_log_that_is_never_quiet_is_due_after_some_seconds() {
        let mut debounce = Debounce::new(PACE, 10);
        let mut due = Vec::new();
        for millis in (0..12_000).step_by(100) {
            debounce.touch("s/log", Touch::default(), at(millis));
            due.extend(debounce.take_due(at(millis), 9).into_iter().map(|_| millis));
        }
        assert_eq!(due, [5_000, 10_100]);
    }

    #[test]
    fn what_it_keeps_is_bounded_and_one_path_takes_one_place() {
        let mut debounce = Debounce::new(PACE, 2);
        assert!(debounce.touch("s/a", Touch::default(), at(0)) && debounce.touch("s/b", Touch::default(), at(0)));
        assert!(!debounce.touch("s/c", Touch::default(), at(0)));
        assert!(debounce.touch("s/a", Touch::default(), at(1)));
        assert_eq!(names(debounce.take_due(at(900), 1)), ["s/a"]);
        assert_eq!(names(debounce.take_due(at(900), 1)), ["s/b"]);
    }
}
