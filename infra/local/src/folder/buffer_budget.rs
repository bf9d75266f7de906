//! How many bytes transfers may hold at once: full chunks for some, small ones for the others.
//!
//! Nobody waits here, so nobody can wait for one who waits for him: a transfer that finds no room for a full chunk goes
//! on with small ones. With 256 transfers that is 32 × 256 KiB + 224 × 32 KiB, or 15 MiB.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest chunk.
pub(super) const CHUNK_BYTES: u64 = 256 * 1024;
/// What every transfer may hold.
const SMALL_BYTES: u64 = 32 * 1024;
/// How many transfers may hold a full chunk at once.
const FULL_CHUNKS: usize = 32;

/// The room of a store for one direction of transfers.
#[derive(Debug, Clone)]
pub(super) struct BufferBudget(Arc<Semaphore>);

/// Leave to hold a full chunk.
#[derive(Debug)]
pub(super) struct ChunkPermit(OwnedSemaphorePermit);

impl Default for BufferBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FULL_CHUNKS)))
    }
}

impl BufferBudget {
    /// How many bytes may be held of `bytes` to come, and the leave to be kept with them.
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
    /// The bytes for which it was given; it comes back when the last of them is dropped.
    pub(super) fn with(self, bytes: Vec<u8>) -> Bytes {
        struct Held(Vec<u8>, #[allow(dead_code)] OwnedSemaphorePermit);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        Bytes::from_owner(Held(bytes, self.0))
    }
}
