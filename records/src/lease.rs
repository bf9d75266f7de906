//! The lease: of all producers that share a table, only one works at a time.
//!
//! ```text
//!            put epoch+1                      beat, beat, beat …               release
//!   free ───────────────▶ held by us ────────────────────────────▶ held ──────────────▶ free
//!    ▲                                                               │
//!    └── another puts epoch+1: no beat for `timeout` by its own clock, or the holder is surely dead
//! ```
//!
//! Wall clocks of different machines are never compared: a process that wants the lease watches the beat by its own
//! monotonic clock. A holder that could not beat for a whole timeout treats the lease as lost. That does not rule out
//! an overlap, so a holder's writes are conditional too (see [`crate::producer_state`]): an overlap only repeats tasks.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::Monotonic;
use mill_ports::{Clock, Row, RowKey, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

/// Returns whether a holder, by its name, is certainly dead; `false` if that is unknown.
pub type HolderIsDead = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Where the lease is stored, and when it may be taken over.
#[derive(Clone)]
pub struct LeaseConfig {
    /// The table.
    pub table: Arc<dyn Table>,
    /// The row.
    pub key: RowKey,
    /// A name that no other process has. This process has another one after a restart.
    pub holder: String,
    /// The lease may be taken over after this time without a beat. A beat is due after each third of it.
    pub timeout: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Allows a takeover without waiting for the timeout.
    pub holder_is_dead: HolderIsDead,
}

impl fmt::Debug for LeaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseConfig").field("key", &self.key).field("holder", &self.holder).finish_non_exhaustive()
    }
}

/// The result of trying to acquire the lease.
#[derive(Debug)]
pub enum AcquireOutcome {
    /// This process holds it.
    Ours(ProducerLease),
    /// Another live process holds it.
    HeldByAnother {
        /// Its name.
        holder: String,
    },
}

/// The row as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseRow {
    holder: String,
    epoch: u64,
    beat: u64,
    #[serde(default)]
    released: bool,
}

/// The lease, while this process holds it.
#[derive(Debug)]
pub struct ProducerLease {
    config: LeaseConfig,
    epoch: u64,
    taken_over: bool,
    // Never locked across an await.
    last: Mutex<LastBeat>,
}

#[derive(Debug, Clone)]
struct LastBeat {
    number: u64,
    version: RowVersion,
    at: Monotonic,
}

impl ProducerLease {
    /// Acquires the lease. While another process holds it, watches its beat for up to the timeout.
    ///
    /// # Errors
    /// The table's. A conflict means that another process acquired it at the same moment; that is no error but
    /// `HeldByAnother`.
    pub async fn acquire(config: LeaseConfig) -> Result<AcquireOutcome, TableError> {
        let mut watched: Option<(RowVersion, Monotonic)> = None;
        loop {
            let seen_at = config.clock.monotonic();
            let row = config.table.get(&config.key).await?;
            // The row may have been lost, and with it the name of a holder.
            let Some(row) = row else { return Self::write_new_epoch(config, None, 0, true).await };
            let Some(written) = decode(&row) else {
                warn!(key = %config.key.sort, "the row of the lease cannot be read; it is taken as released");
                return Self::write_new_epoch(config, Some(row.version), 0, true).await;
            };
            if written.released || is_planted(PlantedBug::StateLeaseIgnored) {
                return Self::write_new_epoch(config, Some(row.version), written.epoch, false).await;
            }
            let since = match watched {
                // It beat while it was watched: it is alive.
                Some((version, _)) if version != row.version => {
                    return Ok(AcquireOutcome::HeldByAnother { holder: written.holder });
                }
                Some((_, since)) => since,
                // The time starts after the read: the holder may have beaten until then.
                None => config.clock.monotonic(),
            };
            if (config.holder_is_dead)(&written.holder) || seen_at.since(since) >= config.timeout {
                warn!(holder = written.holder, "the lease's holder is gone; it is taken over");
                return Self::write_new_epoch(config, Some(row.version), written.epoch, true).await;
            }
            watched = Some((row.version, since));
            let left = config.timeout.saturating_sub(seen_at.since(since));
            config.clock.sleep(left.min(config.timeout / 4).max(Duration::from_millis(1))).await;
        }
    }

    async fn write_new_epoch(
        config: LeaseConfig,
        over: Option<RowVersion>,
        epoch: u64,
        taken_over: bool,
    ) -> Result<AcquireOutcome, TableError> {
        let epoch = epoch + 1;
        let at = config.clock.monotonic();
        let value = encode(&config.holder, epoch, 0, false);
        let when = over.map_or(RowPrecondition::Absent, RowPrecondition::VersionIs);
        match config.table.put(&config.key, value, when).await {
            Ok(version) => {
                let last = Mutex::new(LastBeat { number: 0, version, at });
                Ok(AcquireOutcome::Ours(Self { config, epoch, taken_over, last }))
            }
            Err(error) if error.kind == TableErrorKind::Conflict => {
                let row = config.table.get(&config.key).await?;
                let holder = row.as_ref().and_then(decode).map_or_else(|| "another".to_owned(), |row| row.holder);
                Ok(AcquireOutcome::HeldByAnother { holder })
            }
            Err(error) => Err(error),
        }
    }

    /// A number that each acquisition increases. It distinguishes this holder's writes from those of earlier ones.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the previous holder did not release it, or is unknown: it may still believe that it holds the lease.
    pub fn taken_over(&self) -> bool {
        self.taken_over
    }

    /// Runs `work` and beats meanwhile. `None` if the lease is lost: then `work` is dropped at its current await.
    pub async fn hold<W: Future>(&self, work: W) -> Option<W::Output> {
        // The beat is polled first: a lost lease ends the work before the work goes on.
        match select(pin!(self.beat_until_lost()), pin!(work)).await {
            Either::Left(((), _)) => None,
            Either::Right((done, _)) => Some(done),
        }
    }

    async fn beat_until_lost(&self) {
        loop {
            self.config.clock.sleep(self.config.timeout / 3).await;
            let at = self.config.clock.monotonic();
            match self.write(false, at).await {
                Ok(true) => {}
                Ok(false) => {
                    warn!("another has taken the lease over");
                    return;
                }
                Err(error) => {
                    warn!(error = mill_ports::error_chain(&error), "no beat of the lease could be written");
                    let last = self.last.lock().at;
                    if self.config.clock.monotonic().since(last) >= self.config.timeout {
                        return;
                    }
                }
            }
        }
    }

    /// The holder of the lease now, as the table says, for the message when it is lost.
    pub async fn current_holder(&self) -> Option<String> {
        let row = self.config.table.get(&self.config.key).await.ok()??;
        decode(&row).map(|written| written.holder)
    }

    /// Releases the lease if this process still holds it. If that fails, others take it over after the timeout.
    pub async fn release(self) {
        let at = self.config.clock.monotonic();
        if let Err(error) = self.write(true, at).await {
            debug!(error = mill_ports::error_chain(&error), "the lease was not released; it will run out");
        }
    }

    /// Writes the next beat or the release. `false` if another process has written the row.
    async fn write(&self, released: bool, at: Monotonic) -> Result<bool, TableError> {
        let mut last = self.last.lock().clone();
        // Twice, because a cancelled or failed beat may have been written nevertheless.
        for _ in 0..2 {
            let number = last.number + 1;
            let value = encode(&self.config.holder, self.epoch, number, released);
            match self.config.table.put(&self.config.key, value, RowPrecondition::VersionIs(last.version.clone())).await
            {
                Ok(version) => {
                    *self.last.lock() = LastBeat { number, version, at };
                    return Ok(true);
                }
                Err(error) if error.kind == TableErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
            let Some(row) = self.config.table.get(&self.config.key).await? else { return Ok(false) };
            match decode(&row) {
                Some(found) if found.epoch == self.epoch && found.holder == self.config.holder => {
                    last = LastBeat { number: found.beat, version: row.version, at };
                }
                _ => return Ok(false),
            }
        }
        Ok(false)
    }
}

fn decode(row: &Row) -> Option<LeaseRow> {
    serde_json::from_slice(&row.value).ok()
}

fn encode(holder: &str, epoch: u64, beat: u64, released: bool) -> Bytes {
    let row = LeaseRow { holder: holder.to_owned(), epoch, beat, released };
    // A struct of texts and numbers is always JSON; an empty row would read as a lost lease.
    serde_json::to_vec(&row).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
