//! A port that counts its calls, so that a test can assert the cost of some work.

mod queue;
mod store;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::port_call::PortCall;

/// How often something was called, and over how many entries in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallCount {
    /// The calls.
    pub calls: u64,
    /// The entries of these calls: messages sent or received, receipts, rows, listed entries. One for a call about one
    /// thing.
    pub entries: u64,
}

/// Counts the calls of a queue, table or store.
#[derive(Debug)]
pub struct CallRecorder<P: ?Sized> {
    log: Arc<CallLog>,
    inner: Arc<P>,
}

#[derive(Debug, Default)]
struct CallLog(Mutex<BTreeMap<PortCall, CallCount>>);

impl<P: ?Sized> CallRecorder<P> {
    /// Counts from zero.
    pub fn new(inner: Arc<P>) -> Self {
        Self { log: Arc::default(), inner }
    }

    /// The calls of `op` so far.
    pub fn calls(&self, op: PortCall) -> CallCount {
        self.log.0.lock().get(&op).copied().unwrap_or_default()
    }

    /// All calls so far.
    pub fn all(&self) -> BTreeMap<PortCall, CallCount> {
        self.log.0.lock().clone()
    }

    /// The number of calls that may have changed the store.
    pub fn store_writes(&self) -> u64 {
        self.all().iter().filter(|(op, _)| op.writes_store()).map(|(_, calls)| calls.calls).sum()
    }

    /// Counts from zero again.
    pub fn reset(&self) {
        self.log.0.lock().clear();
    }
}

impl CallLog {
    fn call(&self, op: PortCall, entries: usize) {
        let mut log = self.0.lock();
        let calls = log.entry(op).or_default();
        calls.calls += 1;
        calls.entries += entries as u64;
    }

    fn entries(&self, op: PortCall, entries: usize) {
        self.0.lock().entry(op).or_default().entries += entries as u64;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mill_ports::{RowKey, RowPrecondition, Table as _};

    use super::*;
    use crate::MemoryTable;

    #[tokio::test]
    async fn calls_and_entries_are_counted_apart() {
        let table = CallRecorder::new(Arc::new(MemoryTable::new("book")));
        let row = |sort| (RowKey::new("p", sort), Bytes::new());
        table.put_many(&[row("a"), row("b"), row("c")]).await.unwrap();
        table.put(&row("a").0, Bytes::new(), RowPrecondition::Always).await.unwrap();
        table.query("p", &mill_ports::KeyRange::default(), 2).await.unwrap();
        assert_eq!(table.calls(PortCall::PutRows), CallCount { calls: 1, entries: 3 });
        assert_eq!(table.calls(PortCall::PutRow), CallCount { calls: 1, entries: 1 });
        assert_eq!(table.calls(PortCall::Query), CallCount { calls: 1, entries: 2 });
        assert_eq!(table.store_writes(), 0);
        table.reset();
        assert!(table.all().is_empty());
    }
}
