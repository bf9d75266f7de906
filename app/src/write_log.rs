//! Writes for which a store is waited for so long that it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::StoreAddress;
use mill_run::silence::time;

/// A write is said to be waited for from then on. It may take long: that ends no run.
const LONG_WRITE: Duration = Duration::from_secs(30);

/// The stores that are waited for to write for so long that it is said, and what is said.
pub fn long_writes(writes: &BTreeMap<StoreAddress, Duration>) -> impl Iterator<Item = (&StoreAddress, String)> {
    let long = writes.iter().filter(|(_, waited)| **waited >= LONG_WRITE);
    long.map(|(store, waited)| (store, format!("waits for store `{store}` to write ({})", time(*waited))))
}

/// Says in the log, once each time, that a store is waited for to write: where nothing shows it.
#[derive(Debug, Default)]
pub struct WriteLog {
    said: BTreeSet<StoreAddress>,
}

impl WriteLog {
    /// Looks at the writes that are waited for now.
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
