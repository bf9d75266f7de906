//! Writing items: whole or not at all, under the condition that was given.

use std::sync::Arc;

use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CopyObjectResult, MetadataDirective};
use mill_model::{ItemAddress, Properties};
use mill_ports::{Body, Precondition, Presence, PutRequest, PutResult, RefusalReason, StoreError, StoreErrorKind};

use super::body_chunks::{BodyChunker, crc64, in_time, sha256};
use super::errors::CallPurpose;
use super::head::{FoundObject, ObjectState, bare};
use super::headers::with_headers;
use super::key_shapes::Shapes;
use super::keys::{BucketPrefix, copy_source};
use super::prepared_put::PreparedPut;
use super::properties::ObjectHeaders;
use super::{StoreInner, multipart};
use crate::sdk_error::CallError;

/// Largest object that one copy takes. Source: Amazon S3 API reference, *CopyObject*.
const COPY_BYTES_MAX: u64 = 5 << 30;

/// Writes an item.
pub(super) async fn put(
    inner: &Arc<StoreInner>,
    item: &ItemAddress,
    content: &PutRequest,
    when: &Precondition,
    body: Body,
) -> Result<PutResult, StoreError> {
    let target = inner.target(item, content, when).await?;
    let mut intake = BodyChunker::new(inner, item, body, content.size);
    let etag = if content.size <= inner.settings.part_bytes {
        inner.put_whole(&target, &mut intake).await?
    } else {
        multipart::put_in_parts(inner, &target, when, &mut intake).await?
    };
    inner.as_written(&target, &etag).await
}

impl StoreInner {
    /// Writes an item in one request, and gives its entity tag.
    async fn put_whole(&self, target: &PreparedPut<'_>, intake: &mut BodyChunker<'_>) -> Result<String, StoreError> {
        let piece = intake.piece(target.size).await?;
        let request = self.client.put_object().bucket(&target.place.bucket).key(&target.key);
        let request = with_headers!(request, &target.borne);
        let request = if self.settings.sha256 {
            request.checksum_sha256(sha256(&piece.bytes))
        } else {
            request.checksum_crc64_nvme(crc64(&piece.bytes))
        };
        let in_time = in_time(piece.bytes.len());
        let request = request
            .set_if_match(target.if_match.clone())
            .set_if_none_match(target.if_none_match.clone())
            .body(ByteStream::from(piece.bytes))
            .customize()
            .config_override(in_time);
        let answer = request.send().await.map_err(CallError::of);
        drop(piece.memory);
        let answer = self.step(target, answer).await?;
        let tag = answer.e_tag.filter(|tag| !bare(tag).is_empty());
        tag.ok_or_else(|| self.unexpected("writing", target.item, "the answer tells no entity tag"))
    }

    /// A copy of an object onto itself.
    pub(super) fn onto_itself(&self, place: &BucketPrefix, key: &str) -> CopyObjectFluentBuilder {
        self.client.copy_object().bucket(&place.bucket).key(key).copy_source(copy_source(place, key))
    }
}

/// Replaces an item's properties, and keeps its bytes: the store copies the object onto itself.
pub(super) async fn put_properties(
    inner: &Arc<StoreInner>,
    item: &ItemAddress,
    properties: &Properties,
    when: &Precondition,
) -> Result<PutResult, StoreError> {
    const OP: &str = "writing properties";
    let (place, key) = inner.place_of(OP, item)?;
    let refused = |refusal: RefusalReason| inner.of_item(OP, item, StoreErrorKind::Refused(refusal));
    let borne = ObjectHeaders::of(properties).map_err(refused)?;
    let found = inner.look(OP, item).await?.present();
    let Some(found) = found.filter(|found| holds(when, found)) else {
        return Err(inner.of_item(OP, item, StoreErrorKind::Precondition));
    };
    let target = PreparedPut {
        item,
        place,
        key,
        borne,
        size: found.facts.size,
        unproven: Shapes::default(),
        if_match: Some(found.etag.clone()),
        if_none_match: None,
    };
    if found.facts.size > COPY_BYTES_MAX {
        let etag = multipart::copy_onto_itself(inner, &target, &found).await?;
        return inner.as_written(&target, &etag).await;
    }
    let copy = with_headers!(inner.onto_itself(&target.place, &target.key), &target.borne)
        .metadata_directive(MetadataDirective::Replace)
        .set_storage_class(found.storage_class)
        .set_copy_source_if_match(target.if_match.clone())
        // That is judged when the source is read. Of what is written over, only this is.
        .set_if_match(target.if_match.clone().filter(|_| inner.settings.native_conditions));
    let answer = match copy.send().await {
        Ok(answer) => answer,
        Err(error) => {
            let trouble = CallError::of(error);
            if trouble.is(&["NoSuchKey"]) {
                return Err(inner.of_item(OP, item, StoreErrorKind::Precondition));
            }
            return Err(inner.of_one(OP, item, (&target.place, &target.key), CallPurpose::Write, trouble).await);
        }
    };
    let result = answer.copy_object_result.unwrap_or_else(|| CopyObjectResult::builder().build());
    let etag = result.e_tag().filter(|tag| !bare(tag).is_empty());
    let etag = etag.ok_or_else(|| inner.unexpected(OP, item, "the answer tells no entity tag"))?;
    let Some(modified) = result.last_modified() else {
        return inner.as_written(&target, etag).await;
    };
    if !inner.settings.native_conditions {
        // Somebody may have come between: the state is known only by another look.
        return inner.as_written(&target, etag).await;
    }
    let state = ObjectState { etag, size: target.size, modified: Some(modified) };
    Ok(PutResult { version: state.version_as_written(), checksums: Vec::new(), at: state.modified_at() })
}

/// Whether what was found is what a write may meet.
fn holds(when: &Precondition, found: &FoundObject) -> bool {
    match when {
        Precondition::Always => true,
        Precondition::Absent => false,
        Precondition::VersionIs(expected) => found.facts.version == *expected,
    }
}

/// Deletes an item. Only looking tells whether there is one.
pub(super) async fn delete(
    inner: &Arc<StoreInner>,
    item: &ItemAddress,
    when: &Precondition,
) -> Result<Presence<()>, StoreError> {
    const OP: &str = "deleting";
    let (place, key) = inner.place_of(OP, item)?;
    let Presence::Present(found) = inner.look(OP, item).await? else { return Ok(Presence::Absent) };
    if !holds(when, &found) {
        return Err(inner.of_item(OP, item, StoreErrorKind::Precondition));
    }
    let request = inner.client.delete_object().bucket(&place.bucket).key(&key);
    // In the state that was looked at, where the store can tell; one that cannot does not mind being asked.
    let guard = (inner.settings.native_conditions && *when != Precondition::Always).then_some(found.etag);
    match request.set_if_match(guard).send().await {
        Ok(_) => Ok(Presence::Present(())),
        Err(error) => {
            let trouble = CallError::of(error);
            if trouble.is(&["NoSuchKey"]) {
                return Ok(Presence::Absent);
            }
            Err(inner.of_one(OP, item, (&place, &key), CallPurpose::Write, trouble).await)
        }
    }
}
