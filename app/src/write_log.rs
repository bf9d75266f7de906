//! Reports writes that wait long for their store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::StoreAddress;
use mill_run::silence::time;

/// A write that waits longer is reported. It may take long without ending the run.
const LONG_WRITE: Duration = Duration::from_secs(30);

/// The stores whose writes wait for so long that it is reported, and the message for each.
pub fn long_writes(writes: &BTreeMap<StoreAddress, Duration>) -> impl Iterator<Item = (&StoreAddress, String)> {
    let long = writes.iter().filter(|(_, waited)| **waited >= LONG_WRITE);
    long.map(|(store, waited)| (store, format!("waits for store `{store}` to write ({})", time(*waited))))
}

/// Logs, once each time, that writes wait for a store, when there is no progress display.
#[derive(Debug, Default)]
pub struct WriteLog {
    said: BTreeSet<StoreAddress>,
}

impl WriteLog {
    /// Checks the writes that wait now.
    pub fn look(&mut self, writes: &BTreeMap<StoreAddress, Duration>) {
        let long: BTreeMap<&StoreAddress, String> = long_writes(writes).collect();
        self.said.retain(|store| long.contains_key(store));
        for (store, said) in long {
            if self.said.insert(store.clone()) {
                tracing::warn!("{said}");
            }
        }
    }
}
