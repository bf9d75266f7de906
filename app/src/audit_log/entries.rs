//! The entries of a log, in order, with the names that are still known.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use mill_model::{AccountId, AuditEvent};
use mill_records::audit_log::entry::{LogEntry, ReadEntry, read_entry};
use mill_transparency::path::TILE_WIDTH;
use mill_transparency::{Checkpoint, LogPath, OpenedCheckpoint, Width};
use serde::Serialize;

use super::entry_filter::EntryFilter;
use super::readable_log::{LogCopy, ReadableLog};

/// How many files are read ahead.
const BUNDLES_AT_ONCE: usize = 4;
/// How many rows and large entries are read at once.
const ROWS_AT_ONCE: usize = 32;

/// An entry, as it is shown.
#[derive(Debug, Clone)]
pub struct ShownEntry {
    /// Its index, from 0.
    pub index: u64,
    /// The bytes in the log.
    pub bytes: Bytes,
    /// The bytes of the whole entry, if it is kept beside the log.
    pub beside: Option<Bytes>,
    /// What it says, or why that cannot be read.
    pub content: Result<LogEntry, String>,
    /// Who did it, if that is still known, and if it is the name that the entry has a commitment to.
    pub user: Option<String>,
}

/// An entry as one line of JSON.
#[derive(Debug, Serialize)]
struct JsonEntry<'a> {
    index: u64,
    account: &'a AccountId,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(rename = "userCommitment", skip_serializing_if = "Option::is_none")]
    user_commitment: Option<String>,
    event: &'a AuditEvent,
}

impl ShownEntry {
    /// One line of JSON: `index`, `account`, `user` if the name is known, `userCommitment`, and `event` as the log has it.
    ///
    /// # Errors
    /// The entry cannot be read.
    pub fn to_json(&self) -> Result<String> {
        let entry = self.read()?;
        Ok(serde_json::to_string(&JsonEntry {
            index: self.index,
            account: &entry.account,
            user: self.user.as_deref(),
            user_commitment: entry.user.as_ref().map(ToString::to_string),
            event: &entry.event,
        })?)
    }

    /// What it says.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<&LogEntry> {
        self.content
            .as_ref()
            .map_err(|why| anyhow::anyhow!("entry {} of the audit log cannot be read: {why}", self.index))
    }
}

/// Which entries of a log are read.
#[derive(Debug, Clone)]
pub enum WantedEntries {
    /// All from this index on.
    From(u64),
    /// These.
    These(BTreeSet<u64>),
}

impl WantedEntries {
    fn bundles(&self, size: u64) -> Vec<u64> {
        let width = u64::from(TILE_WIDTH);
        match self {
            Self::From(first) => (first / width..size.div_ceil(width)).collect(),
            Self::These(indexes) => {
                let bundles: BTreeSet<u64> =
                    indexes.iter().filter(|index| **index < size).map(|index| index / width).collect();
                bundles.into_iter().collect()
            }
        }
    }

    fn has(&self, index: u64) -> bool {
        match self {
            Self::From(first) => index >= *first,
            Self::These(indexes) => indexes.contains(&index),
        }
    }
}

/// Reads the entries of one state of a log. What it reads is not verified.
#[derive(Debug)]
pub struct EntryReader<'l> {
    log: &'l ReadableLog,
    copy: &'l LogCopy,
    /// The state.
    pub checkpoint: OpenedCheckpoint,
}

impl ReadableLog {
    /// Reads the state of the log in the first store that answers; `None` if nothing is published yet.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub async fn reader(&self) -> Result<Option<EntryReader<'_>>> {
        let current = self.current().await?;
        Ok(current.map(|(copy, checkpoint)| EntryReader { log: self, copy, checkpoint }))
    }
}

impl<'l> EntryReader<'l> {
    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.state().size
    }

    pub(super) fn state(&self) -> &Checkpoint {
        &self.checkpoint.checkpoint
    }

    pub(super) fn copy(&self) -> &'l LogCopy {
        self.copy
    }

    /// Which entries to read for a filter: those of one item by the table of places, else all from `first` on.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn wanted(&self, filter: &EntryFilter, first: u64) -> Result<WantedEntries> {
        let (Some(table), Some(account)) = (&self.log.table, &self.log.account) else {
            return Ok(WantedEntries::From(first));
        };
        let Some((store, space, item)) = filter.one_item() else { return Ok(WantedEntries::From(first)) };
        // A table that comes from a backup lacks places until the log is published the next time.
        let published = table.published(account).await?;
        if published.is_none_or(|(size, _)| size < self.size()) {
            return Ok(WantedEntries::From(first));
        }
        let places = table.places(account, (store, space, Some(item))).await?;
        Ok(WantedEntries::These(places.iter().map(|place| place.index).filter(|index| *index >= first).collect()))
    }

    /// Streams entries in order. Entries that cannot be read pass every filter.
    pub fn entries<'s>(&'s self, wanted: WantedEntries, filter: &'s EntryFilter) -> BoxStream<'s, Result<ShownEntry>> {
        let bundles = wanted.bundles(self.size());
        let read = stream::iter(bundles).map(|bundle| self.bundle(bundle)).buffered(BUNDLES_AT_ONCE);
        let entries = read.map_ok(|entries| stream::iter(entries.into_iter().map(Ok))).try_flatten();
        entries
            .try_filter(move |(index, _)| std::future::ready(wanted.has(*index)))
            .map_ok(move |(index, bytes)| self.shown(index, bytes))
            .try_buffered(ROWS_AT_ONCE)
            .try_filter(|entry| {
                let content = entry.content.as_ref();
                std::future::ready(content.map_or(true, |content| filter.admits(content, entry.user.as_deref())))
            })
            .boxed()
    }

    /// The bytes of the entries of a bundle, with their indexes.
    async fn bundle(&self, index: u64) -> Result<Vec<(u64, Bytes)>> {
        let first = index * u64::from(TILE_WIDTH);
        let count = (self.size() - first).min(u64::from(TILE_WIDTH));
        let width = u16::try_from(count).ok().and_then(Width::new).unwrap_or(Width::FULL);
        let path = LogPath::Entries { index, width };
        let files = self.copy.files.read_all(&[path]).await?;
        let bytes = files
            .into_values()
            .next()
            .with_context(|| format!("`{path}` of the audit log is absent in {}", self.copy.shown))?;
        let bytes = Bytes::from(bytes);
        let entries: Vec<Bytes> = entries_of(&bytes).take(usize::from(width.get())).collect();
        if entries.len() < usize::from(width.get()) {
            anyhow::bail!(
                "`{path}` of the audit log in {} has fewer entries than it must have; `mill audit verify` names what is wrong",
                self.copy.shown
            );
        }
        Ok((first..).zip(entries).collect())
    }

    async fn shown(&self, index: u64, bytes: Bytes) -> Result<ShownEntry> {
        let (content, beside) = match read_entry(&bytes) {
            Ok(ReadEntry::Whole(entry)) => (Ok(*entry), None),
            Ok(ReadEntry::Beside(large)) => match self.copy.files.read(&large.item_name()).await? {
                None => (Err(format!("`{}`, which has the whole entry, is absent", large.item_name())), None),
                Some(whole) => (large.read_whole(&whole).map_err(|why| why.to_string()), Some(whole)),
            },
            Err(why) => (Err(why.to_string()), None),
        };
        let user = match &content {
            Ok(entry) => self.user(entry).await?,
            Err(_) => None,
        };
        Ok(ShownEntry { index, bytes, beside, content, user })
    }

    async fn user(&self, entry: &LogEntry) -> Result<Option<String>> {
        let (Some(table), Some(commitment)) = (&self.log.table, &entry.user) else { return Ok(None) };
        let Some(place) = table.place(&entry.account, &entry.event).await? else { return Ok(None) };
        let known = place.user.zip(place.salt);
        Ok(known.filter(|(user, salt)| salt.commitment(user) == *commitment).map(|(user, _)| user))
    }
}

/// The entries of a bundle, as far as it can be read.
pub(super) fn entries_of(bundle: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = bundle.get(at..at + 2)?;
        let from = at + 2;
        let to = from + usize::from(u16::from_be_bytes([length[0], length[1]]));
        at = to;
        (to <= bundle.len()).then(|| bundle.slice(from..to))
    })
}
