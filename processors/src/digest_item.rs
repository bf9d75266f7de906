//! The checksums of an item's bytes, computed from the bytes themselves.

use futures::StreamExt as _;
use mill_model::digest::Digester;
use mill_model::{Algorithm, Checksum, ItemAddress, ItemFacts};
use mill_ports::{Body, Presence, SourceStore, StoreError, StoreErrorKind};
use tracing::warn;

/// Reads a whole body. Returns the checksums of its bytes, in the order of `algorithms`, and how many bytes came.
pub(crate) async fn digest_body(mut body: Body, algorithms: &[Algorithm]) -> Result<(Vec<Checksum>, u64), StoreError> {
    let mut digester = Digester::new(algorithms);
    while let Some(chunk) = body.next().await {
        digester.update(&chunk?);
    }
    let bytes = digester.bytes();
    Ok((digester.finish(), bytes))
}

/// Reads a whole item, past the cache where that is possible. Returns the checksums of its bytes, in the order of `algorithms`.
pub(crate) async fn digest_item(
    store: &dyn SourceStore,
    item: &ItemAddress,
    algorithms: &[Algorithm],
) -> Result<Presence<(Vec<Checksum>, ItemFacts)>, StoreError> {
    let opened = match store.open_uncached(item, None).await {
        Err(error) if error.kind == StoreErrorKind::OnlyCached => {
            warn!(space = %item.space, item = %item.id, "its bytes can be read only through the cache of this host");
            store.open(item, None, None).await
        }
        other => other,
    };
    let Presence::Present(reading) = opened? else { return Ok(Presence::Absent) };
    let (checksums, _) = digest_body(reading.body, algorithms).await?;
    Ok(Presence::Present((checksums, reading.facts)))
}
