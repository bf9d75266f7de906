//! Counts the received and ended tasks of each account, for producers that share a queue among accounts. Writes the counts
//! every ten seconds while tasks come, and not at all while none does.

use std::sync::Arc;
use std::time::Duration;

use mill_model::{AccountId, QueueName};
use mill_ports::error_chain;
use mill_records::account_counts::{AccountCount, AccountCounts, CountsByAccount, CountsWriter, add_counts};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::run::WorkmanShared;

/// The first count waits this long for more before it is written.
const BATCH_LINGER: Duration = Duration::from_secs(1);

/// The time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);

/// The tries of the last write.
const LAST_TRIES: u32 = 3;

/// The counts of one queue that are not written yet.
#[derive(Debug)]
pub(crate) struct AccountCounter {
    repository: AccountCounts,
    unwritten: Mutex<CountsByAccount>,
    added: Notify,
}

impl AccountCounter {
    pub(crate) fn new(repository: AccountCounts) -> Self {
        Self { repository, unwritten: Mutex::default(), added: Notify::new() }
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
        if queue != self.repository.queue {
            return;
        }
        let mut unwritten = self.unwritten();
        if unwritten.is_empty() {
            self.added.notify_one();
        }
        // Clones the name only the first time.
        if let Some(sum) = unwritten.get_mut(account) {
            sum.received += counted.received;
            sum.ended += counted.ended;
        } else {
            unwritten.insert(account.clone(), counted);
        }
    }

    fn unwritten(&self) -> MutexGuard<'_, CountsByAccount> {
        self.unwritten.lock()
    }

    /// Writes the counts. If that fails, they stay unwritten.
    async fn write(&self, writer: &mut CountsWriter, last: bool) -> bool {
        let unwritten = std::mem::take(&mut *self.unwritten());
        let Err(error) = writer.add(&unwritten, last).await else { return true };
        let mut again = self.unwritten();
        let meanwhile = std::mem::replace(&mut *again, unwritten);
        add_counts(&mut again, &meanwhile);
        debug!(error = error_chain(&error), "what was counted of accounts was not written down");
        false
    }
}

/// Writes the counts until `over` is cancelled, and then the rest.
pub(crate) async fn write_counts(shared: Arc<WorkmanShared>, over: CancellationToken) {
    let Some(counter) = &shared.account_counter else { return };
    let mut writer = CountsWriter::new(counter.repository.clone(), shared.settings.name.clone());
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
            () = counter.added.notified() => {}
        }
        pause(BATCH_LINGER).await;
        while !over.is_cancelled() && !counter.unwritten().is_empty() {
            wrote = true;
            if !counter.write(&mut writer, false).await
                && let Some(suppressed) = shared.warnings.due("counts", shared.clock.monotonic())
            {
                warn!(
                    suppressed,
                    "what was done of each account cannot be written down; producers may keep an account \
                    out of the queue for some minutes"
                );
            }
            pause(WRITE_INTERVAL).await;
        }
    }
    if wrote || !counter.unwritten().is_empty() {
        for _ in 0..LAST_TRIES {
            if counter.write(&mut writer, true).await {
                break;
            }
        }
    }
}
