//! Guards the two folders that a policy keeps in sync: they must never contain the same files.

use std::io;
use std::sync::Arc;

use mill_ports::{StoreError, StoreErrorKind};
use parking_lot::Mutex;

use super::error::{FileOperation, FolderError};
use super::mounts::MountWatch;
use super::overlap::{Extent, Overlap};
use super::{FolderInner, FolderStore};

/// Watches the source and the destination of a policy.
///
/// Mounts may change at any time, so each task asks first. The kernel reports whether the mounts have changed since the
/// last check, so that a check mostly costs one system call.
#[derive(Debug)]
pub(super) struct PairGuard {
    source: FolderStore,
    destination: FolderStore,
    watch: MountWatch,
    state: Mutex<PairGuardState>,
}

#[derive(Debug, Default)]
struct PairGuardState {
    /// How often the mounts were seen to have changed.
    changes: u64,
    /// At which number of changes the two were last found not to overlap.
    apart_at: Option<u64>,
}

impl PairGuard {
    /// Begins to watch a pair.
    ///
    /// # Errors
    /// When the table of mounts cannot be opened.
    pub(super) fn begin(source: &FolderStore, destination: &FolderStore) -> io::Result<Self> {
        source.0.add_destination(&destination.0);
        let (source, destination) = (source.clone(), destination.clone());
        Ok(Self { source, destination, watch: MountWatch::open()?, state: Mutex::default() })
    }

    /// Whether it watches these two.
    pub(super) fn watches(&self, source: &FolderStore, destination: &FolderStore) -> bool {
        Arc::ptr_eq(&self.source.0, &source.0) && Arc::ptr_eq(&self.destination.0, &destination.0)
    }

    /// The message of a listing of the source that met the destination, if one did.
    pub(super) fn met_in_listing(&self) -> Option<String> {
        self.source.0.met_destination.get().cloned()
    }

    /// Checks that the two contain no common files now.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotConfigured`] with an [`Overlap`] when they do; the folder's own error when one is missing.
    pub(super) async fn check_mounts(&self) -> Result<(), StoreError> {
        let changes = {
            let mut state = self.state.lock();
            if self.watch.changed() {
                state.changes += 1;
            }
            if state.apart_at == Some(state.changes) {
                return Ok(());
            }
            state.changes
        };
        let source = self.source.extent().await?;
        let destination = self.destination.extent().await?;
        if let Some(overlap) = source.overlap(&destination) {
            return Err(self.destination.0.overlapping(overlap));
        }
        self.state.lock().apart_at = Some(changes);
        Ok(())
    }
}

impl FolderStore {
    async fn extent(&self) -> Result<Extent, StoreError> {
        let extent = self.on_root(|folder, root| {
            Extent::of_opened(root, None, folder.root.path()).map_err(|error| {
                let errno = rustix::io::Errno::from_io_error(&error);
                errno.map_or_else(
                    || FolderError::unavailable(error),
                    |errno| FolderError::of(FileOperation::Reach, errno),
                )
            })
        });
        extent.await.map_err(|error| self.0.error("look", "", error))
    }
}

impl FolderInner {
    fn overlapping(&self, overlap: Overlap) -> StoreError {
        let kind = StoreErrorKind::NotConfigured;
        self.error("use as a copy", "", FolderError { source: Some(overlap.into()), ..kind.into() })
    }
}
