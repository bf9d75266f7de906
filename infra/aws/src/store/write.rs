//! Writes items: whole or not at all, under a precondition.

use std::sync::Arc;

use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CopyObjectResult, MetadataDirective};
use bytes::Bytes;
use mill_model::{ItemAddress, Properties};
use mill_ports::{Body, Precondition, Presence, PutRequest, PutResult, RefusalReason, StoreError, StoreErrorKind};

use super::attachments::TagsToWrite;
use super::body_chunks::{BodyChunker, crc64, sha256, upload_timeouts};
use super::errors::CallPurpose;
use super::head::{FoundObject, unquoted};
use super::headers::with_headers;
use super::key_shapes::Shapes;
use super::keys::{BucketPrefix, copy_source_header};
use super::prepared_put::PreparedPut;
use super::properties::ObjectHeaders;
use super::stored_as::stored_as;
use super::{StoreInner, multipart};
use crate::sdk_error::CallError;

/// Largest object that one copy request can copy. Source: Amazon S3 API reference, *CopyObject*.
const COPY_BYTES_MAX: u64 = 5 << 30;

/// Writes an item.
pub(super) async fn put(
    inner: &Arc<StoreInner>,
    item: &ItemAddress,
    content: &PutRequest,
    when: &Precondition,
    body: Body,
) -> Result<PutResult, StoreError> {
    let target = inner.prepare_put(item, content, when).await?;
    let mut chunker = BodyChunker::new(inner, item, body, content.size);
    let etag = if content.size <= inner.settings.part_bytes {
        inner.put_whole(&target, &mut chunker).await?
    } else {
        multipart::put_in_parts(inner, &target, when, &mut chunker).await?
    };
    inner.verify_written(&target, &etag).await
}

impl StoreInner {
    /// Writes an item in one request, and returns its entity tag.
    async fn put_whole(&self, target: &PreparedPut<'_>, chunker: &mut BodyChunker<'_>) -> Result<String, StoreError> {
        let chunk = chunker.next_chunk(target.size).await?;
        let answer = match self.put_bytes(target, &chunk.bytes).await {
            Err(failure) if target.tags.may_be_refused(&failure) => self.put_bytes(target, &chunk.bytes).await,
            answer => answer,
        };
        drop(chunk.memory);
        let answer = self.step_result(target, answer).await?;
        let tag = answer.e_tag.filter(|tag| !unquoted(tag).is_empty());
        tag.ok_or_else(|| self.unexpected("writing", target.item, "the answer tells no entity tag"))
    }

    async fn put_bytes(&self, target: &PreparedPut<'_>, bytes: &Bytes) -> Result<PutObjectOutput, CallError> {
        let request = self.client.put_object().bucket(&target.place.bucket).key(&target.key);
        let request = if self.settings.sha256 {
            request.checksum_sha256(sha256(bytes))
        } else {
            request.checksum_crc64_nvme(crc64(bytes))
        };
        let request = request
            .set_if_match(target.if_match.clone())
            .set_if_none_match(target.if_none_match.clone())
            .set_tagging(target.tags.header())
            .body(ByteStream::from(bytes.clone()));
        let request = with_headers!(request, &target.object_headers).config_override(upload_timeouts(bytes.len()));
        request.send().await.map_err(CallError::from_sdk)
    }

    /// A copy of an object onto itself.
    pub(super) fn onto_itself(&self, place: &BucketPrefix, key: &str) -> CopyObjectFluentBuilder {
        self.client.copy_object().bucket(&place.bucket).key(key).copy_source(copy_source_header(place, key))
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
    let (place, key) = inner.item_key(OP, item)?;
    let refused = |refusal: RefusalReason| inner.item_error(OP, item, StoreErrorKind::Refused(refusal));
    let object_headers = ObjectHeaders::encode(properties).map_err(refused)?;
    let found = inner.head_item(OP, item).await?.present();
    let Some(found) = found.filter(|found| holds(when, found)) else {
        return Err(inner.item_error(OP, item, StoreErrorKind::Precondition));
    };
    let mut target = PreparedPut {
        item,
        place,
        key,
        object_headers,
        size: found.facts.size,
        tags: TagsToWrite::default(),
        unproven_shapes: Shapes::default(),
        if_match: Some(found.etag.clone()),
        if_none_match: None,
        is_new: false,
    };
    if found.facts.size > COPY_BYTES_MAX {
        // A copy in parts has only the tags that it names.
        target.tags = TagsToWrite::read(inner.tags(item).await)?;
        let etag = multipart::copy_onto_itself(inner, &target, &found).await?;
        return inner.verify_written(&target, &etag).await;
    }
    let copy = stored_as!(inner.onto_itself(&target.place, &target.key), &found.stored_as)
        .metadata_directive(MetadataDirective::Replace)
        .set_copy_source_if_match(target.if_match.clone())
        // The condition above is on the source. This one is on the object that is replaced.
        .set_if_match(target.if_match.clone().filter(|_| inner.settings.native_conditions));
    let answer = with_headers!(copy, &target.object_headers).send().await.map_err(CallError::from_sdk);
    let answer = inner.step_result(&target, answer).await?;
    let result = answer.copy_object_result.unwrap_or_else(|| CopyObjectResult::builder().build());
    let etag = result.e_tag().filter(|tag| !unquoted(tag).is_empty());
    let etag = etag.ok_or_else(|| inner.unexpected(OP, item, "the answer tells no entity tag"))?;
    // Only a HEAD shows which properties the store has kept, and whether another writer has come between.
    inner.verify_written(&target, etag).await
}

/// Whether a found object meets a precondition.
fn holds(when: &Precondition, found: &FoundObject) -> bool {
    match when {
        Precondition::Always => true,
        Precondition::Absent => false,
        Precondition::VersionIs(expected) => found.facts.version == *expected,
    }
}

/// Deletes an item. Only a HEAD shows whether there is one.
pub(super) async fn delete(
    inner: &Arc<StoreInner>,
    item: &ItemAddress,
    when: &Precondition,
) -> Result<Presence<()>, StoreError> {
    const OP: &str = "deleting";
    let (place, key) = inner.item_key(OP, item)?;
    let Presence::Present(found) = inner.head_item(OP, item).await? else { return Ok(Presence::Absent) };
    if !holds(when, &found) {
        return Err(inner.item_error(OP, item, StoreErrorKind::Precondition));
    }
    let request = inner.client.delete_object().bucket(&place.bucket).key(&key);
    // Only in the state that the HEAD saw, if the store enforces conditions.
    let guard = (inner.settings.native_conditions && *when != Precondition::Always).then_some(found.etag);
    match request.set_if_match(guard).send().await {
        Ok(_) => Ok(Presence::Present(())),
        Err(error) => {
            let failure = CallError::from_sdk(error);
            if failure.has_code(&["NoSuchKey"]) {
                return Ok(Presence::Absent);
            }
            Err(inner.scoped_item_error(OP, item, (&place, &key), CallPurpose::Write, failure).await)
        }
    }
}
