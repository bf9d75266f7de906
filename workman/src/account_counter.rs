//! Counts what it receives and ends of each account, and now and then writes that down, for producers that share a queue out
//! among accounts. Costs a write each ten seconds while tasks come, and nothing while none does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mill_model::{AccountId, QueueName};
use mill_ports::error_chain;
use mill_records::account_counts::{AccountCount, AccountCounts, Counts, CountsWriter, add};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::run::WorkmanShared;

/// What is counted first waits so long for company.
const LINGER: Duration = Duration::from_secs(1);

/// Between two writes.
const EVERY: Duration = Duration::from_secs(10);

/// How often the last write is tried.
const LAST_TRIES: u32 = 3;

/// What was counted of one queue and is not written down yet.
#[derive(Debug)]
pub(crate) struct AccountCounter {
    book: AccountCounts,
    fresh: Mutex<Counts>,
    more: Notify,
}

impl AccountCounter {
    pub(crate) fn new(book: AccountCounts) -> Self {
        Self { book, fresh: Mutex::default(), more: Notify::new() }
    }

    /// Notes a task that was received from a queue.
    pub(crate) fn received(&self, queue: QueueName, account: &AccountId) {
        self.count(queue, account, AccountCount { received: 1, ended: 0 });
    }

    /// Notes a task that has left a queue for good.
    pub(crate) fn ended(&self, queue: QueueName, account: &AccountId) {
        self.count(queue, account, AccountCount { received: 0, ended: 1 });
    }

    fn count(&self, queue: QueueName, account: &AccountId, counted: AccountCount) {
        if queue != self.book.queue {
            return;
        }
        let mut fresh = self.fresh();
        if fresh.is_empty() {
            self.more.notify_one();
        }
        // No copy of the name but the first time.
        if let Some(sum) = fresh.get_mut(account) {
            sum.received += counted.received;
            sum.ended += counted.ended;
        } else {
            fresh.insert(account.clone(), counted);
        }
    }

    fn fresh(&self) -> MutexGuard<'_, Counts> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is not yet; what could not be written stays to be.
    async fn write(&self, writer: &mut CountsWriter, last: bool) -> bool {
        let fresh = std::mem::take(&mut *self.fresh());
        let Err(error) = writer.add(&fresh, last).await else { return true };
        let mut again = self.fresh();
        let meanwhile = std::mem::replace(&mut *again, fresh);
        add(&mut again, &meanwhile);
        debug!(error = error_chain(&error), "what was counted of accounts was not written down");
        false
    }
}

/// Writes down what is counted until it is over, and then the rest.
pub(crate) async fn keep_counts(shared: Arc<WorkmanShared>, over: CancellationToken) {
    let Some(counting) = &shared.counting else { return };
    let mut writer = CountsWriter::new(counting.book.clone(), shared.settings.name.clone());
    let mut wrote = false;
    let pause = async |pause| {
        tokio::select! {
            biased;
            () = over.cancelled() => {}
            () = shared.clock.sleep(pause) => {}
        }
    };
    while !over.is_cancelled() {
        tokio::select! {
            biased;
            () = over.cancelled() => break,
            () = counting.more.notified() => {}
        }
        pause(LINGER).await;
        while !over.is_cancelled() && !counting.fresh().is_empty() {
            wrote = true;
            if !counting.write(&mut writer, false).await
                && let Some(suppressed) = shared.warnings.due("counts", shared.clock.monotonic())
            {
                warn!(
                    suppressed,
                    "what was done of each account cannot be written down; producers may keep an account \
                    out of the queue for some minutes"
                );
            }
            pause(EVERY).await;
        }
    }
    if wrote || !counting.fresh().is_empty() {
        for _ in 0..LAST_TRIES {
            if counting.write(&mut writer, true).await {
                break;
            }
        }
    }
}
