//! Server-side copies: the service copies large objects between its buckets, and the bytes do not pass through Mill.
//!
//! Only for objects with a stored checksum of the whole: with it the service itself verifies the copy before it appears. A
//! small item costs the same number of requests either way, so Mill reads it.

use std::sync::Arc;

use aws_smithy_types::base64;
use mill_model::{Algorithm, ItemAddress, ItemFacts};
use mill_ports::{CopyProgress, CopySource, Precondition, PutRequest, PutResult, StoreError};

use super::StoreInner;
use super::head::etag_of;
use super::keys::copy_source_header;
use super::multipart::{self, CopyOrigin};
use crate::connection::AccessIdentity;

/// An object's address, its state and its checksum.
struct S3CopySource {
    service: AccessIdentity,
    from: CopyOrigin,
    crc: String,
}

/// The address of an item, for a copy to another store of the same service.
pub(super) fn copy_source(inner: &StoreInner, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
    let crc = facts.checksums.iter().find(|checksum| checksum.algorithm == Algorithm::Crc64Nvme)?;
    let (place, key) = inner.item_key("reading", item).ok()?;
    let from = CopyOrigin { place: copy_source_header(&place, &key), tag: etag_of(&facts.version) };
    Some(CopySource::new(S3CopySource { service: inner.service.clone(), from, crc: base64::encode(&crc.value) }))
}

/// Makes the service copy an item.
pub(super) async fn copy_from(
    inner: &Arc<StoreInner>,
    (item, content, when): (&ItemAddress, &PutRequest, &Precondition),
    origin: &CopySource,
    progress: CopyProgress<'_>,
) -> Result<Option<PutResult>, StoreError> {
    let settings = &inner.settings;
    let Some(origin) = origin.place::<S3CopySource>().filter(|origin| origin.service == inner.service) else {
        return Ok(None);
    };
    if content.size <= settings.part_bytes || !settings.server_side_copies || !settings.whole_checksum {
        return Ok(None);
    }
    let target = inner.prepare_put(item, content, when).await?;
    match multipart::copy_in_parts(inner, &target, when, (&origin.from, &origin.crc), progress).await? {
        Some(etag) => inner.verify_written(&target, &etag).await.map(Some),
        None => Ok(None),
    }
}
