//! How many tasks of each workman may use a store, across the whole fleet: one row for each store.
//!
//! A row holds each workman's number of permits and its last beat. The sum of permits never exceeds the cap, because
//! each change is a compare-and-set of the whole row. A workman writes the row when it wants more permits, when it has
//! too many, and to beat. For each workman and capped store that is one read and one write per third of the timeout,
//! however many permits there are; a store without a cap costs nothing. Clocks of different machines are never
//! compared: a workman is gone if its beat does not change while another watches it for the timeout. By then it has
//! noticed itself that its permits have lapsed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{Monotonic, StoreAddress};
use mill_ports::{Clock, Row, RowKey, RowPrecondition, Table, TableError, TableErrorKind};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

/// How often a row is read again after another process has written it.
const TRIES_MAX: u32 = 5;

/// The table.
#[derive(Clone)]
pub struct PermitRepository {
    /// The table of the rows.
    pub table: Arc<dyn Table>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How long permits outlive their holder's last beat.
    pub timeout: Duration,
    /// Whether a holder is certainly dead. Then its permits are free at once.
    pub holder_is_dead: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl fmt::Debug for PermitRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitRepository").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What a workman asks for.
#[derive(Debug, Clone)]
pub struct PermitRequest {
    /// The store.
    pub store: StoreAddress,
    /// The workman's name. It is unique, and a restarted workman has a new one.
    pub holder: String,
    /// How many permits it believes that it holds. It keeps them, unless the row no longer names it as their holder.
    pub held: u32,
    /// How many permits it wants, at least `held`. To release permits it lowers both.
    pub wanted: u32,
    /// The store's cap.
    pub cap: u32,
}

/// The permits that a workman holds from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedPermits {
    /// The number of permits.
    pub permits: u32,
    /// When they lapse, unless the workman beats before.
    pub until: Monotonic,
    /// Whether all holders together exceed the cap because it was lowered. Then each releases the permits that it does
    /// not use.
    pub over: bool,
}

/// The last seen beat of each other holder, and since when; kept between calls.
#[derive(Debug, Clone, Default)]
pub struct WatchedHolders(BTreeMap<String, (u64, Monotonic)>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct StoreRow {
    /// Counts the writes of this row, so that no beat occurs twice.
    writes: u64,
    holders: BTreeMap<String, HolderEntry>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct HolderEntry {
    permits: u32,
    beat: u64,
}

impl PermitRepository {
    /// The table's name.
    pub const TABLE: &'static str = "permits";

    /// Acquires, keeps or releases permits of a store, and beats.
    ///
    /// # Errors
    /// The table's. Then the workman may hold more permits than it knows of, but never fewer, until its earlier ones
    /// lapse.
    pub async fn hold(
        &self,
        request: &PermitRequest,
        watched: &mut WatchedHolders,
    ) -> Result<GrantedPermits, TableError> {
        let key = RowKey::new(format!("account/{}", request.store.account.as_str()), request.store.store.as_str());
        let mut tries = 0;
        loop {
            tries += 1;
            let found = self.table.get(&key).await?;
            let at = self.clock.monotonic();
            let mut row = found.as_ref().map_or_else(StoreRow::default, read);
            self.remove_dead_holders(&mut row, request, watched, at);
            let granted = grant(&mut row, request);
            if granted.permits == 0 && !row.holders.contains_key(&request.holder) && !granted.changed {
                return Ok(GrantedPermits { permits: 0, until: at, over: granted.over });
            }
            let when = found.map_or(RowPrecondition::Absent, |found| RowPrecondition::VersionIs(found.version));
            // A struct of texts and numbers is always JSON; an empty row would read as one without holders.
            let value = serde_json::to_vec(&row).unwrap_or_default().into();
            match self.table.put(&key, value, when).await {
                Ok(_) => {
                    let GrantResult { permits, over, .. } = granted;
                    return Ok(GrantedPermits { permits, until: at.plus(self.timeout), over });
                }
                Err(error) if error.kind == TableErrorKind::Conflict && tries < TRIES_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes holders that are gone.
    fn remove_dead_holders(
        &self,
        row: &mut StoreRow,
        request: &PermitRequest,
        watched: &mut WatchedHolders,
        at: Monotonic,
    ) {
        watched.0.retain(|holder, (beat, _)| row.holders.get(holder).is_some_and(|entry| entry.beat == *beat));
        row.holders.retain(|holder, entry| {
            if *holder == request.holder {
                return true;
            }
            let (_, since) = *watched.0.entry(holder.clone()).or_insert((entry.beat, at));
            let gone = at.since(since) >= self.timeout || (self.holder_is_dead)(holder);
            if gone {
                info!(holder, store = %request.store, permits = entry.permits, "the permits of a workman that is gone are free");
            }
            !gone
        });
    }
}

struct GrantResult {
    permits: u32,
    over: bool,
    /// Whether the row must be written although this workman holds nothing.
    changed: bool,
}

/// Enters the permits that a workman gets into the row.
fn grant(row: &mut StoreRow, request: &PermitRequest) -> GrantResult {
    let before = row.holders.remove(&request.holder);
    let others: u32 = row.holders.values().map(|entry| entry.permits).sum();
    let free = request.cap.saturating_sub(others);
    let kept = before.map_or(0, |before| before.permits.min(request.held));
    let permits = request.wanted.min(free).max(kept);
    row.writes += 1;
    if permits > 0 {
        row.holders.insert(request.holder.clone(), HolderEntry { permits, beat: row.writes });
    }
    GrantResult { permits, over: others + permits > request.cap, changed: before.is_some() }
}

fn read(row: &Row) -> StoreRow {
    serde_json::from_slice(&row.value).unwrap_or_else(|error| {
        warn!(store = row.sort, %error, "the row of a store's permits cannot be read; it is written anew");
        StoreRow::default()
    })
}

#[cfg(test)]
mod tests;
