//! Limits how many bytes transfers hold at once: some hold full chunks, the others small ones.
//!
//! No transfer waits here, so there are no deadlocks: a transfer without a permit for a full chunk goes on with small
//! ones. 256 transfers hold at most 32 × 256 KiB + 224 × 32 KiB, or 15 MiB.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest chunk.
pub(super) const CHUNK_BYTES: u64 = 256 * 1024;
/// The chunk that every transfer may hold.
const SMALL_BYTES: u64 = 32 * 1024;
/// How many transfers may hold a full chunk at once.
const FULL_CHUNKS: usize = 32;

/// The budget of a store for one direction of transfers.
#[derive(Debug, Clone)]
pub(super) struct BufferBudget(Arc<Semaphore>);

/// The permit to hold a full chunk.
#[derive(Debug)]
pub(super) struct ChunkPermit(OwnedSemaphorePermit);

impl Default for BufferBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FULL_CHUNKS)))
    }
}

impl BufferBudget {
    /// The size of the next chunk of the remaining `bytes`, and the permit to keep with it.
    pub(super) fn for_chunk(&self, bytes: u64) -> (u64, Option<ChunkPermit>) {
        if bytes <= SMALL_BYTES {
            return (bytes, None);
        }
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(permit) => (CHUNK_BYTES.min(bytes), Some(ChunkPermit(permit))),
            Err(_) => (SMALL_BYTES, None),
        }
    }
}

impl ChunkPermit {
    /// Attaches the permit to its bytes; it is returned when the last of them is dropped.
    pub(super) fn with(self, bytes: Vec<u8>) -> Bytes {
        struct PermittedBytes(Vec<u8>, #[allow(dead_code)] OwnedSemaphorePermit);
        impl AsRef<[u8]> for PermittedBytes {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        Bytes::from_owner(PermittedBytes(bytes, self.0))
    }
}
