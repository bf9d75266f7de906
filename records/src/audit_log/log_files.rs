//! The files of an audit log in its stores: a space with the files that C2SP `tlog-tiles` names.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{ContentId, ItemAddress, Properties, SpaceId, StoreAddress, Version};
use mill_ports::{DestinationStore, Precondition, Presence, PutRequest, SourceStore, StoreError, StoreErrorKind};
use mill_transparency::{CheckpointOpenError, Files, LogPath, LogVerifier, OpenedCheckpoint};

/// The largest file of a log: a full bundle of the longest entries.
const FILE_BYTES_MAX: u64 = 17 * 1024 * 1024;

/// Why the files of a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file has other bytes than are to be written.
    #[error(
        "`{path}` of the audit log in store `{store}` has other bytes than this log has there: another log was written \
         there, or somebody changed it; nothing more is published"
    )]
    Differs {
        /// The store.
        store: StoreAddress,
        /// The file.
        path: String,
    },
    /// A file is larger than any of a log.
    #[error("`{path}` of the audit log in store `{store}` has {bytes} bytes; no file of a log is so large")]
    TooLarge {
        /// The store.
        store: StoreAddress,
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// The checkpoint is not of this log.
    #[error("the checkpoint of the audit log in store `{store}` is not believed; nothing more is published")]
    Checkpoint {
        /// The store.
        store: StoreAddress,
        /// Why.
        #[source]
        source: CheckpointOpenError,
    },
}

/// The files of a log in one store, for reading.
#[derive(Debug)]
pub struct LogFiles<S: ?Sized = dyn SourceStore> {
    /// The store.
    pub store: Arc<S>,
    /// Its address.
    pub address: StoreAddress,
    /// The space of the log.
    pub space: SpaceId,
}

impl<S: ?Sized> Clone for LogFiles<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), address: self.address.clone(), space: self.space.clone() }
    }
}

impl<S: SourceStore + ?Sized> LogFiles<S> {
    /// The bytes of a file; `None` if it is certainly absent.
    ///
    /// # Errors
    /// [`LogFileError::Store`], [`LogFileError::TooLarge`].
    pub async fn read(&self, path: &str) -> Result<Option<Bytes>, LogFileError> {
        Ok(self.read_versioned(path).await?.map(|(bytes, _)| bytes))
    }

    async fn read_versioned(&self, path: &str) -> Result<Option<(Bytes, Version)>, LogFileError> {
        let Some(item) = self.item(path) else { return Ok(None) };
        let opened = match self.store.open(&item, None, None).await {
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => return Ok(None),
            opened => opened?,
        };
        let Presence::Present(mut opened) = opened else { return Ok(None) };
        let bytes = opened.facts.size;
        if bytes > FILE_BYTES_MAX {
            return Err(LogFileError::TooLarge { store: self.address.clone(), path: path.to_owned(), bytes });
        }
        let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        while let Some(piece) = opened.body.next().await {
            content.extend_from_slice(&piece?);
        }
        if content.len() as u64 != bytes {
            return Err(self.cut_short(&item, content.len()).into());
        }
        Ok(Some((content.into(), opened.facts.version)))
    }

    /// A file that ended before its end: it may be whole the next time.
    fn cut_short(&self, item: &ItemAddress, bytes: usize) -> StoreError {
        StoreError {
            kind: StoreErrorKind::Unavailable,
            op: "reading the audit log",
            store: self.address.clone(),
            subject: item.to_string(),
            source: Some(format!("it ended after {bytes} bytes").into()),
        }
    }

    /// Those of these files that are there. In place of a partial file that is absent, the full one of its position.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_all(&self, paths: &[LogPath]) -> Result<Files, LogFileError> {
        let read = |path: LogPath| async move {
            for path in [path, path.full()] {
                if let Some(bytes) = self.read(&path.to_string()).await? {
                    return Ok(Some((path, bytes.to_vec())));
                }
            }
            Ok::<_, LogFileError>(None)
        };
        let found: Vec<_> = stream::iter(paths.iter().copied().map(read)).buffered(READS_AT_ONCE).collect().await;
        found.into_iter().filter_map(Result::transpose).collect()
    }

    /// The checkpoint, if there is one that `verifier` believes.
    ///
    /// # Errors
    /// [`LogFileError::Checkpoint`] for one that it does not; as [`read`](Self::read).
    pub async fn checkpoint(&self, verifier: &LogVerifier) -> Result<Option<OpenedCheckpoint>, LogFileError> {
        let read = self.read(&LogPath::Checkpoint.to_string()).await?;
        read.map(|note| self.opened(verifier, &note)).transpose()
    }

    fn opened(&self, verifier: &LogVerifier, note: &[u8]) -> Result<OpenedCheckpoint, LogFileError> {
        verifier.open(note).map_err(|source| LogFileError::Checkpoint { store: self.address.clone(), source })
    }

    fn item(&self, path: &str) -> Option<ItemAddress> {
        Some(ItemAddress { space: self.space.clone(), id: ContentId::new(path).ok()? })
    }
}

/// How many files are read or written at once.
const READS_AT_ONCE: usize = 16;

impl LogFiles<dyn DestinationStore> {
    /// Writes a file that never changes. If it is there, it must have these bytes.
    ///
    /// # Errors
    /// [`LogFileError::Differs`]; the store's.
    pub async fn write_once(&self, path: &str, bytes: &[u8]) -> Result<(), LogFileError> {
        match self.put(path, bytes, &Precondition::Absent).await {
            Err(LogFileError::Store(error)) if error.kind == StoreErrorKind::Precondition => {}
            Err(LogFileError::Store(error)) if error.kind == StoreErrorKind::SpaceAbsent => {
                self.store.create_space(&self.space).await?;
                return self.put(path, bytes, &Precondition::Absent).await;
            }
            written => return written,
        }
        match self.read(path).await? {
            Some(found) if found == bytes => Ok(()),
            _ => Err(LogFileError::Differs { store: self.address.clone(), path: path.to_owned() }),
        }
    }

    /// Writes several such files, in an order in which no file comes before those that it rests on.
    ///
    /// # Errors
    /// As [`write_once`](Self::write_once).
    pub async fn write_all(&self, files: &[(LogPath, Vec<u8>)]) -> Result<(), LogFileError> {
        // Until the checkpoint names them, nobody looks for them: their own order does not matter.
        let write = |(path, bytes): &(LogPath, Vec<u8>)| {
            let (path, bytes) = (path.to_string(), bytes.clone());
            async move { self.write_once(&path, &bytes).await }
        };
        let mut writes = stream::iter(files.iter().map(write)).buffer_unordered(READS_AT_ONCE);
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(())
    }

    /// Replaces the checkpoint by a larger one. One that is as large already, or larger, stays.
    ///
    /// # Errors
    /// [`LogFileError::Checkpoint`]; the store's, also if another process writes it at the same moment.
    pub async fn advance_checkpoint(&self, verifier: &LogVerifier, size: u64, note: &str) -> Result<(), LogFileError> {
        let path = LogPath::Checkpoint.to_string();
        let when = match self.read_versioned(&path).await? {
            None => Precondition::Absent,
            Some((known, _))
                if self.opened(verifier, &known)?.checkpoint.size >= size
                    && !is_planted(PlantedBug::CheckpointGoesBack) =>
            {
                return Ok(());
            }
            Some((_, version)) => Precondition::VersionIs(version),
        };
        self.put(&path, note.as_bytes(), &when).await
    }

    async fn put(&self, path: &str, bytes: &[u8], when: &Precondition) -> Result<(), LogFileError> {
        let Some(item) = self.item(path) else { return Ok(()) };
        let content = PutRequest::new(bytes.len() as u64, Properties::default());
        let body = Bytes::copy_from_slice(bytes);
        let body = stream::iter((!body.is_empty()).then_some(Ok(body))).boxed();
        self.store.put(&item, &content, when, body).await?;
        Ok(())
    }

    /// The same files, for reading.
    pub fn for_reading(&self) -> LogFiles {
        LogFiles { store: self.store.clone(), address: self.address.clone(), space: self.space.clone() }
    }
}
