//! Calls that may wait for a disk, made on the runtime's threads for blocking work: many calls a hop.
//!
//! A hop costs more than most of these calls do. So calls queue up here, and the threads at work take one after another
//! without going to sleep in between; another thread joins them only when calls wait long enough to fill it.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::faults::Fault;

type Call = Box<dyn FnOnce() + Send>;

/// Most threads at work for one store: enough to keep a disk's own queue full.
const THREADS_MAX: usize = 32;
/// How many calls may wait for each thread at work before another joins.
const WAITING_EACH: usize = 4;

/// A store's calls and the threads at work on them.
#[derive(Clone, Default)]
pub(super) struct Hops(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    calls: VecDeque<Call>,
    threads: usize,
}

impl fmt::Debug for Hops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hops").finish_non_exhaustive()
    }
}

impl Hops {
    /// Makes a call and gives its answer. Once begun it runs to its end, also when this future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (answer, answered) = oneshot::channel();
        self.push(Box::new(move || {
            if !answer.is_closed() {
                let _ = answer.send(call());
            }
        }));
        answered.await.unwrap_or_else(|_| Err(Fault::unexpected("the call on the folder was given up")))
    }

    fn push(&self, call: Call) {
        let joins = {
            let mut waiting = self.waiting();
            waiting.calls.push_back(call);
            let joins = waiting.threads == 0
                || (waiting.threads < THREADS_MAX && waiting.calls.len() > waiting.threads * WAITING_EACH);
            waiting.threads += usize::from(joins);
            joins
        };
        if joins {
            let joined = Joined { hops: self.clone(), left: false };
            tokio::task::spawn_blocking(move || joined.work());
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread at work, counted until it leaves: also when the runtime ends before it began.
struct Joined {
    hops: Hops,
    left: bool,
}

impl Joined {
    fn work(mut self) {
        while let Some(call) = self.next() {
            // A call that panics drops its answer, which fails that call alone; the thread is needed by the others.
            let _ = catch_unwind(AssertUnwindSafe(call));
        }
    }

    /// The next call. Without one it leaves, under the same lock, so that whoever comes next calls another.
    fn next(&mut self) -> Option<Call> {
        let mut waiting = self.hops.waiting();
        let call = waiting.calls.pop_front();
        if call.is_none() {
            waiting.threads -= 1;
            self.left = true;
        }
        call
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if !self.left {
            self.hops.waiting().threads -= 1;
        }
    }
}
