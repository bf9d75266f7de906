//! What a process has done so far, counted without locks, and what it has in hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use mill_model::Totals;

/// Counters shared by everything that works in one process. Each is a sum since the start.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Items looked at.
    pub examined: AtomicU64,
    /// Items copied where there was none.
    pub copied: AtomicU64,
    /// Items whose bytes or properties were replaced.
    pub updated: AtomicU64,
    /// Items removed from a destination.
    pub deleted: AtomicU64,
    /// Items found in step.
    pub unchanged: AtomicU64,
    /// Items that cannot be copied.
    pub refused: AtomicU64,
    /// Items that were gone at the source when their turn came, after they had been listed there.
    pub vanished: AtomicU64,
    /// Deletes held back.
    pub held: AtomicU64,
    /// Executions that failed.
    pub failed: AtomicU64,
    /// Tasks given up.
    pub dead_lettered: AtomicU64,
    /// Tasks that a producer has sent: of items, and of spaces.
    pub sent: AtomicU64,
    /// Tasks that came to their end, done or given up, and were acknowledged.
    pub ended: AtomicU64,
    /// Content bytes durably written.
    pub bytes: AtomicU64,
    /// Items that a producer has queued.
    pub queued: AtomicU64,
    /// Their content bytes, where the producer knew them.
    pub bytes_queued: AtomicU64,
    /// Content bytes of transfers begun and not yet ended.
    pub bytes_moving: AtomicU64,
    in_hand: Mutex<BTreeMap<u64, Arc<InHand>>>,
    next: AtomicU64,
}

/// One transfer going on.
#[derive(Debug)]
pub struct InHand {
    /// What is transferred: `account/space/item`.
    pub subject: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes moved so far.
    pub moved: AtomicU64,
}

impl Statistics {
    /// Adds one.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// The sums now.
    pub fn totals(&self) -> Totals {
        Totals {
            examined: self.examined.load(Relaxed),
            copied: self.copied.load(Relaxed),
            updated: self.updated.load(Relaxed),
            deleted: self.deleted.load(Relaxed),
            unchanged: self.unchanged.load(Relaxed),
            refused: self.refused.load(Relaxed),
            vanished: self.vanished.load(Relaxed),
            held: self.held.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    /// Notes a transfer until the guard is dropped. Its bytes count as durable only by [`Transferring::durable`].
    pub fn transfer(self: &Arc<Self>, subject: impl FnOnce() -> String, size: u64) -> Transferring {
        /// Smaller ones are over before anyone could read their names.
        const SHOWN_FROM_BYTES: u64 = 4 << 20;
        let key = self.next.fetch_add(1, Relaxed);
        let in_hand = (size >= SHOWN_FROM_BYTES).then(|| {
            let entry = Arc::new(InHand { subject: subject(), size, moved: AtomicU64::new(0) });
            self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry.clone());
            entry
        });
        Transferring { statistics: self.clone(), key, in_hand, moved: AtomicU64::new(0) }
    }

    /// The larger transfers going on, oldest first.
    pub fn in_hand(&self) -> Vec<Arc<InHand>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Keeps a transfer among those in hand.
#[derive(Debug)]
pub struct Transferring {
    statistics: Arc<Statistics>,
    key: u64,
    in_hand: Option<Arc<InHand>>,
    moved: AtomicU64,
}

impl Transferring {
    /// Counts bytes that have passed.
    pub fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Relaxed);
        self.statistics.bytes_moving.fetch_add(bytes, Relaxed);
        if let Some(in_hand) = &self.in_hand {
            in_hand.moved.fetch_add(bytes, Relaxed);
        }
    }

    /// Counts the transfer's bytes as durably written.
    pub fn durable(&self, bytes: u64) {
        self.statistics.bytes.fetch_add(bytes, Relaxed);
    }
}

impl Drop for Transferring {
    fn drop(&mut self) {
        self.statistics.bytes_moving.fetch_sub(self.moved.load(Relaxed), Relaxed);
        if self.in_hand.is_some() {
            self.statistics.in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        }
    }
}
