//! A policy file read as an item of a store's space.

use futures::StreamExt as _;
use mill_model::{ItemAddress, Version};
use mill_policy::{FILE_BYTES_MAX, FileContent};
use mill_ports::{OpenItem, Presence, SourceStore, StoreError, StoreErrorKind};

/// How often a file is read again at once because it changed during the read.
const TRIES: u32 = 3;

/// Reads a policy file, and the version that its bytes are of. Of a file that is too large, only the size is looked at.
///
/// # Errors
/// Those of the store.
pub async fn read_policy_object(
    store: &dyn SourceStore,
    item: &ItemAddress,
) -> Result<Presence<(FileContent, Version)>, StoreError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match read_once(store, item).await {
            Err(error) if error.kind == StoreErrorKind::Changed && tries < TRIES => {}
            read => return read,
        }
    }
}

async fn read_once(
    store: &dyn SourceStore,
    item: &ItemAddress,
) -> Result<Presence<(FileContent, Version)>, StoreError> {
    let Presence::Present(OpenItem { facts, mut body, .. }) = store.open(item, None, None).await? else {
        return Ok(Presence::Absent);
    };
    if facts.size > FILE_BYTES_MAX as u64 {
        return Ok(Presence::Present((FileContent::TooLarge { bytes: facts.size }, facts.version)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(facts.size).unwrap_or(0));
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() > FILE_BYTES_MAX {
            return Ok(Presence::Present((FileContent::TooLarge { bytes: bytes.len() as u64 }, facts.version)));
        }
    }
    Ok(Presence::Present((FileContent::Whole(bytes), facts.version)))
}
