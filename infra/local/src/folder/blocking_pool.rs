//! A pool for calls that may wait for a disk, on the runtime's threads for blocking work.
//!
//! Starting a blocking task costs more than most of these calls. So calls queue up here, and each thread takes one
//! after another without sleeping in between. Another thread starts only when enough calls wait, or one waits too long.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::error::FolderError;

type BlockingCall = Box<dyn FnOnce() + Send>;

/// Most busy threads of one store: enough to keep a disk's own queue full. Stuck threads do not count.
const THREADS_MAX: usize = 32;
/// Most threads of one store, with the stuck ones: the rest is left to other stores.
const THREADS_ALL: usize = 256;
/// A thread that is in one call for this long counts as stuck in a mount that hangs.
const HELD_AFTER: Duration = Duration::from_mins(1);
/// How many calls may wait for each thread before another thread starts.
const WAITING_EACH: usize = 4;
/// How long a call waits before another thread starts for it: the others may be stuck in a mount that hangs.
const WAITS_MAX: Duration = Duration::from_secs(1);

/// A store's pending calls and the threads that make them.
#[derive(Clone, Default)]
pub(super) struct BlockingPool(Arc<Mutex<PoolState>>);

#[derive(Default)]
struct PoolState {
    calls: VecDeque<BlockingCall>,
    threads: usize,
    /// The start of each running call.
    in_call: BTreeMap<u64, Instant>,
    next: u64,
}

impl PoolState {
    /// Whether one more thread may start.
    fn has_room(&self) -> bool {
        let held = self.in_call.values().filter(|since| since.elapsed() >= HELD_AFTER).count();
        self.threads.saturating_sub(held) < THREADS_MAX && self.threads < THREADS_ALL
    }
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingPool").finish_non_exhaustive()
    }
}

impl BlockingPool {
    /// Makes a call and returns its result. Once started the call runs to its end, also when this future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, FolderError> {
        let (answer, mut answered) = oneshot::channel();
        self.push(Box::new(move || {
            if !answer.is_closed() {
                let _ = answer.send(call());
            }
        }));
        let soon = tokio::time::timeout(WAITS_MAX, &mut answered).await;
        if soon.is_err() {
            self.spawn_thread_for_waiting();
        }
        let answer = if let Ok(answer) = soon { answer } else { answered.await };
        answer.unwrap_or_else(|_| Err(FolderError::unexpected("the call on the folder was given up")))
    }

    fn push(&self, call: BlockingCall) {
        let spawns = {
            let mut state = self.state();
            state.calls.push_back(call);
            let spawns =
                state.threads == 0 || (state.threads < THREADS_MAX && state.calls.len() > state.threads * WAITING_EACH);
            state.threads += usize::from(spawns);
            spawns
        };
        if spawns {
            self.spawn_thread();
        }
    }

    /// Starts another thread if calls wait and there are not too many threads.
    fn spawn_thread_for_waiting(&self) {
        let spawns = {
            let mut state = self.state();
            let spawns = !state.calls.is_empty() && state.has_room();
            state.threads += usize::from(spawns);
            spawns
        };
        if spawns {
            self.spawn_thread();
        }
    }

    /// Starts a thread that is counted already.
    fn spawn_thread(&self) {
        let thread = PoolThread { blocking_pool: self.clone(), number: None, left: false };
        tokio::task::spawn_blocking(move || thread.work());
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, PoolState> {
        self.0.lock()
    }
}

/// A thread of the pool, counted until it is dropped, also when the runtime ends before the thread starts.
struct PoolThread {
    blocking_pool: BlockingPool,
    /// The number under which its running call is noted.
    number: Option<u64>,
    left: bool,
}

impl PoolThread {
    fn work(mut self) {
        while let Some(call) = self.next() {
            // A call that panics drops its channel, which fails that call alone; the other calls need the thread.
            let _ = catch_unwind(AssertUnwindSafe(call));
        }
    }

    /// The next call. Without one the thread leaves, under the same lock, so that the next call starts another thread.
    fn next(&mut self) -> Option<BlockingCall> {
        let mut state = self.blocking_pool.state();
        if let Some(number) = self.number.take() {
            state.in_call.remove(&number);
        }
        let call = state.calls.pop_front();
        if call.is_none() {
            state.threads -= 1;
            self.left = true;
        } else {
            let number = state.next;
            state.next += 1;
            state.in_call.insert(number, Instant::now());
            self.number = Some(number);
        }
        call
    }
}

impl Drop for PoolThread {
    fn drop(&mut self) {
        if !self.left {
            let mut state = self.blocking_pool.state();
            state.threads -= 1;
            if let Some(number) = self.number {
                state.in_call.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn threads_that_a_call_holds_for_long_leave_room_for_others() {
        let long_ago = Instant::now().checked_sub(HELD_AFTER).unwrap();
        let of = |held: usize, busy: usize| {
            let since = |number: usize| if number < held { long_ago } else { Instant::now() };
            let in_call = (0..held + busy).map(|number| (number as u64, since(number))).collect();
            PoolState { threads: held + busy, in_call, ..PoolState::default() }
        };
        assert!(of(0, THREADS_MAX - 1).has_room() && !of(0, THREADS_MAX).has_room());
        assert!(of(THREADS_MAX, THREADS_MAX - 1).has_room() && !of(THREADS_MAX, THREADS_MAX).has_room());
        assert!(!of(THREADS_ALL, 0).has_room());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_that_hangs_keeps_no_other_waiting() {
        let blocking_pool = BlockingPool::default();
        let (let_go, held) = mpsc::channel::<()>();
        let hangs = tokio::spawn({
            let blocking_pool = blocking_pool.clone();
            async move {
                blocking_pool
                    .run(move || {
                        let _ = held.recv();
                        Ok(0)
                    })
                    .await
            }
        });
        while blocking_pool.state().threads == 0 || !blocking_pool.state().calls.is_empty() {
            tokio::task::yield_now().await;
        }
        for number in 1..=3 {
            assert_eq!(blocking_pool.run(move || Ok(number)).await.unwrap(), number);
        }
        let_go.send(()).unwrap();
        assert_eq!(hangs.await.unwrap().unwrap(), 0);
    }
}
