//! Large items that the service brings from one of its buckets to another: their bytes never come here.
//!
//! Only with a checksum of the whole that the service has kept of them: by it the service itself judges what it brought,
//! before it is there. Small items cost the same requests either way, and are read.

use std::sync::Arc;

use aws_smithy_types::base64;
use mill_model::{Algorithm, ItemAddress, ItemFacts};
use mill_ports::{CopyProgress, CopySource, Precondition, PutRequest, PutResult, StoreError};

use super::StoreInner;
use super::head::tag_of;
use super::keys::copy_source;
use super::multipart::{self, CopyOrigin};
use crate::connection::AccessIdentity;

/// Where an object is, in which state, and what its bytes come to.
struct S3CopySource {
    service: AccessIdentity,
    from: CopyOrigin,
    crc: String,
}

/// Where an item is, for another store of the same service.
pub(super) fn origin(inner: &StoreInner, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
    let crc = facts.checksums.iter().find(|checksum| checksum.algorithm == Algorithm::Crc64Nvme)?;
    let (place, key) = inner.place_of("reading", item).ok()?;
    let from = CopyOrigin { place: copy_source(&place, &key), tag: tag_of(&facts.version) };
    Some(CopySource::new(S3CopySource { service: inner.service.clone(), from, crc: base64::encode(&crc.value) }))
}

/// Has the service bring an item.
pub(super) async fn take(
    inner: &Arc<StoreInner>,
    (item, content, when): (&ItemAddress, &PutRequest, &Precondition),
    origin: &CopySource,
    going: CopyProgress<'_>,
) -> Result<Option<PutResult>, StoreError> {
    let settings = &inner.settings;
    let Some(origin) = origin.place::<S3CopySource>().filter(|origin| origin.service == inner.service) else {
        return Ok(None);
    };
    if content.size <= settings.part_bytes || !settings.server_side_copies || !settings.whole_checksum {
        return Ok(None);
    }
    let target = inner.target(item, content, when).await?;
    match multipart::copy_in_parts(inner, &target, when, (&origin.from, &origin.crc), going).await? {
        Some(etag) => inner.as_written(&target, &etag).await.map(Some),
        None => Ok(None),
    }
}
