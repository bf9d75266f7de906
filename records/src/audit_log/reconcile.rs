//! Compares what the stores of a log have with what was committed, before anything more is signed.
//!
//! | a store's checkpoint | what is done |
//! |---|---|
//! | has the committed size and root | nothing |
//! | is larger, and the entries after the committed ones give its root | it is taken over: the state row came from a backup |
//! | is smaller or absent, and the log begins with it | what is missing there is copied from another store |
//! | anything else | an error: the log was forked, and nothing is signed |

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mill_model::{AccountId, AuditEvent};
use mill_ports::DestinationStore;
use mill_transparency::path::TILE_WIDTH;
use mill_transparency::{ConsistencyProof, LogPath, OpenedCheckpoint, RightEdge, Width, bundle};
use tracing::{info, warn};

use super::entry::{EntryError, ReadEntry, read_entry};
use super::log_files::{LogFileError, LogFiles};
use super::publisher::{LogPublisher, LogState, OpenedLog, PublishError, TreeHead, publish_checkpoint};
use super::rows::{self, EntryPlace};
use crate::stored_rows::json;
use crate::versioned::Versioned;

type StoreFiles = LogFiles<dyn DestinationStore>;

impl LogPublisher {
    /// Brings the stores of the log and the state row to the same size.
    pub(super) async fn reconcile_stores(
        &self,
        account: &AccountId,
        log: &OpenedLog,
        state: &mut Versioned<LogState>,
    ) -> Result<(), PublishError> {
        let checkpoints = log.stores.iter().map(|files| files.checkpoint(&log.verifier));
        let checkpoints: Vec<_> = futures::future::try_join_all(checkpoints).await?;
        let found: Vec<(&StoreFiles, Option<OpenedCheckpoint>)> = log.stores.iter().zip(checkpoints).collect();
        let size_of = |found: &Option<OpenedCheckpoint>| found.as_ref().map_or(0, |opened| opened.checkpoint.size);
        let largest = found.iter().max_by_key(|(_, found)| size_of(found));
        if let Some((files, Some(opened))) = largest
            && opened.checkpoint.size > state.record.head.size
        {
            self.take_over(account, log, files, opened, state).await?;
        }
        let TreeHead { size, root } = state.record.head;
        for (files, found) in &found {
            match found {
                Some(opened) if opened.checkpoint.size == size && opened.checkpoint.root != root => {
                    return Err(forked(files, opened, size));
                }
                _ if size_of(found) < size => {
                    let sources = log.stores.iter().filter(|other| other.address != files.address);
                    self.catch_up(log, (files, found.as_ref()), sources.collect(), &state.record).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes over the larger log of a store: the state row came from a backup, or was lost.
    async fn take_over(
        &self,
        account: &AccountId,
        log: &OpenedLog,
        files: &StoreFiles,
        opened: &OpenedCheckpoint,
        state: &mut Versioned<LogState>,
    ) -> Result<(), PublishError> {
        let checkpoint = &opened.checkpoint;
        warn!(
            %account, store = %files.address, known = state.record.head.size, found = checkpoint.size,
            "the audit log has more entries than this installation knows of; it goes on from there"
        );
        let from = state.record.head;
        let only = OpenedLog {
            origin: log.origin.clone(),
            signers: Vec::new(),
            verifier: log.verifier.clone(),
            stores: vec![files.clone()],
        };
        let placed = self.place_from_files(account, &only, from, TreeHead::of(checkpoint)).await;
        placed.map_err(|error| match error {
            PublishError::Edge { .. } | PublishError::Lost { .. } => forked(files, opened, from.size),
            other => other,
        })?;
        let next =
            LogState { head: TreeHead::of(checkpoint), note: opened.note.to_string(), base: None, pending: Vec::new() };
        self.save(account, state, next).await
    }

    /// Records the places of the entries between two sizes, from the files of a store that has them: proven by both roots.
    pub(super) async fn place_from_files(
        &self,
        account: &AccountId,
        log: &OpenedLog,
        from: TreeHead,
        to: TreeHead,
    ) -> Result<(), PublishError> {
        let edge = self.edge(account, log, from).await?;
        for files in &log.stores {
            if !gives_root(files, edge.clone(), to).await? {
                continue;
            }
            let mut next = from.size;
            while next < to.size {
                let entries = read_entries(files, next, to.size).await?.unwrap_or_default();
                if entries.is_empty() {
                    return Err(PublishError::Lost { size: to.size });
                }
                self.place_entries(account, files, next, &entries).await?;
                next += entries.len() as u64;
            }
            return Ok(());
        }
        Err(PublishError::Lost { size: to.size })
    }

    async fn place_entries(
        &self,
        account: &AccountId,
        files: &StoreFiles,
        first: u64,
        entries: &[Vec<u8>],
    ) -> Result<(), PublishError> {
        let event = |(entry, index): (&Vec<u8>, u64)| {
            let (entry, files) = (entry.clone(), files.clone());
            async move {
                let event = event_of(&files, &entry, index).await?;
                Ok::<_, PublishError>((event, index))
            }
        };
        let events: Vec<(AuditEvent, u64)> =
            stream::iter(entries.iter().zip(first..).map(event)).buffered(Self::ROWS_AT_ONCE).try_collect().await?;
        let mut places = Vec::with_capacity(events.len());
        for (event, index) in events {
            // A place that is known has the name of who did it.
            if self.log.place(account, &event).await?.is_none() {
                let place = EntryPlace { index, user: None, salt: None };
                places.push((rows::place_key(account, &event), json(&place)));
            }
        }
        Ok(self.log.table.put_many(&places).await?)
    }

    /// Copies what a store lacks of the log from another one.
    async fn catch_up(
        &self,
        log: &OpenedLog,
        (files, found): (&StoreFiles, Option<&OpenedCheckpoint>),
        sources: Vec<&StoreFiles>,
        state: &LogState,
    ) -> Result<(), PublishError> {
        let from = found.map_or(0, |opened| opened.checkpoint.size);
        for source in sources {
            let full = source.checkpoint(&log.verifier).await?;
            if full.is_none_or(|full| TreeHead::of(&full.checkpoint) != state.head) {
                continue;
            }
            if let Some(opened) = found
                && !is_prefix(source, opened, state).await?
            {
                return Err(forked(files, opened, state.head.size));
            }
            info!(store = %files.address, from, to = state.head.size, "a store of the audit log is behind; it gets the rest");
            copy_files(source, files, from, state.head.size).await?;
            return Ok(publish_checkpoint(files, log, state).await?);
        }
        Err(PublishError::Lost { size: state.head.size })
    }
}

fn forked(files: &StoreFiles, opened: &OpenedCheckpoint, ours: u64) -> PublishError {
    PublishError::Forked { store: files.address.clone(), size: opened.checkpoint.size, ours }
}

/// Whether the entries that a store has after this edge give the root.
async fn gives_root(
    files: &StoreFiles,
    mut edge: RightEdge,
    TreeHead { size, root }: TreeHead,
) -> Result<bool, PublishError> {
    while edge.size() < size {
        let entries = read_entries(files, edge.size(), size).await?.unwrap_or_default();
        if entries.is_empty() {
            return Ok(false);
        }
        edge = edge.append(&entries)?.edge;
    }
    Ok(edge.root() == root)
}

/// The entries from `first` to the end of its bundle, in a log of this size. `None` if the bundle is absent or damaged.
async fn read_entries(files: &StoreFiles, first: u64, size: u64) -> Result<Option<Vec<Vec<u8>>>, LogFileError> {
    let index = first / u64::from(TILE_WIDTH);
    let begin = index * u64::from(TILE_WIDTH);
    let count = (size - begin).min(u64::from(TILE_WIDTH)) as u16;
    let Some(width) = Width::new(count) else { return Ok(None) };
    let path = LogPath::Entries { index, width };
    let found = files.read_all(&[path]).await?;
    let Some((from, bytes)) = found.first_key_value() else { return Ok(None) };
    let held = if *from == path { count } else { TILE_WIDTH };
    let Ok(entries) = bundle::decode(bytes, held.into()) else { return Ok(None) };
    let skipped = (first - begin) as usize;
    Ok(Some(entries.into_iter().take(count.into()).skip(skipped).map(<[u8]>::to_vec).collect()))
}

/// The event of an entry.
async fn event_of(files: &StoreFiles, entry: &[u8], index: u64) -> Result<AuditEvent, PublishError> {
    let wrong = |source: EntryError| PublishError::Entry { index, source };
    match read_entry(entry).map_err(wrong)? {
        ReadEntry::Whole(entry) => Ok(entry.event),
        ReadEntry::Beside(large) => {
            let absent = || wrong(EntryError::Malformed(format!("`{}` is absent", large.item_name())));
            let whole = files.read(&large.item_name()).await?.ok_or_else(absent)?;
            Ok(large.read_whole(&whole).map_err(wrong)?.event)
        }
    }
}

/// Whether the log of this state begins with the log of a checkpoint.
async fn is_prefix(source: &StoreFiles, opened: &OpenedCheckpoint, state: &LogState) -> Result<bool, PublishError> {
    let old = &opened.checkpoint;
    if old.size == 0 {
        return Ok(true);
    }
    let found = source.read_all(&ConsistencyProof::needs(old.size, state.head.size)).await?;
    let proof = ConsistencyProof::make(old.size, state.head.size, &found);
    Ok(proof.is_ok_and(|proof| proof.check(&old.root, &state.head.root).is_ok()))
}

/// Copies the files by which a log of one size differs from the same log of a smaller one.
async fn copy_files(source: &StoreFiles, to: &StoreFiles, from: u64, size: u64) -> Result<(), PublishError> {
    for path in files_between(from, size) {
        let bytes = source.read(&path.to_string()).await?.ok_or(PublishError::Lost { size })?;
        if let LogPath::Entries { width, .. } = path {
            copy_large_entries(source, to, &bytes, width, size).await?;
        }
        to.write_once(&path.to_string(), &bytes).await?;
    }
    Ok(())
}

async fn copy_large_entries(
    source: &StoreFiles,
    to: &StoreFiles,
    bytes: &[u8],
    width: Width,
    size: u64,
) -> Result<(), PublishError> {
    for entry in bundle::decode(bytes, width.get().into()).map_err(|_| PublishError::Lost { size })? {
        if let Ok(ReadEntry::Beside(large)) = read_entry(entry) {
            let name = large.item_name();
            let whole = source.read(&name).await?.ok_or(PublishError::Lost { size })?;
            to.write_once(&name, &whole).await?;
        }
    }
    Ok(())
}

/// The files that a log of `size` entries has and one of `from` entries has not, those of entries first.
fn files_between(from: u64, size: u64) -> impl Iterator<Item = LogPath> {
    let row = move |at: u64| {
        let first = from.checked_shr(at as u32).unwrap_or(0) / u64::from(TILE_WIDTH);
        let count = size.checked_shr(at as u32).unwrap_or(0);
        let widths = (first..).map(move |index| (index, count.saturating_sub(index * u64::from(TILE_WIDTH))));
        let widths =
            widths.map_while(|(index, left)| Some((index, Width::new(left.min(u64::from(TILE_WIDTH)) as u16)?)));
        // What is unchanged is there already.
        widths.filter(move |(index, width)| {
            let before = from.checked_shr(at as u32).unwrap_or(0).saturating_sub(index * u64::from(TILE_WIDTH));
            before.min(u64::from(TILE_WIDTH)) != u64::from(width.get())
        })
    };
    let entries = row(0).map(|(index, width)| LogPath::Entries { index, width });
    let tiles = (0..8_u8).flat_map(move |level| {
        row(8 * u64::from(level)).map(move |(index, width)| LogPath::Tile { level, index, width })
    });
    entries.chain(tiles)
}
