//! Multipart uploads: several parts in flight at once, and no parts left of an aborted upload.
//!
//! The bucket's lifecycle rule (`AbortIncompleteMultipartUpload`) removes what a killed process left: a store does not
//! report the owner of an upload, and Mill must not abort those of other programs.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use mill_ports::{CopyProgress, Precondition, StoreError, StoreErrorKind, error_chain};
use tokio::task::JoinSet;
use tracing::debug;

use super::StoreInner;
use super::body_chunks::{BodyChunk, BodyChunker, crc64, crc64_header, upload_timeouts};
use super::head::FoundObject;
use super::headers::with_headers;
use super::keys::copy_source_header;
use super::prepared_put::PreparedPut;
use super::stored_as::{StoredAs, stored_as};
use crate::sdk_error::{CallError, CallErrorCause};

/// Most parts of one object. Source: Amazon S3 user guide, *Multipart upload limits*.
const PARTS_MAX: u64 = 10_000;
/// Parts of one item in flight at once.
const PARTS_AT_ONCE: usize = 4;

/// A multipart upload in progress. Dropping it before it is complete aborts it.
struct MultipartUpload {
    inner: Arc<StoreInner>,
    bucket: String,
    key: String,
    id: String,
    over: bool,
}

impl MultipartUpload {
    async fn begin(
        inner: &Arc<StoreInner>,
        target: &PreparedPut<'_>,
        stored_as: &StoredAs,
        checked: bool,
    ) -> Result<Self, StoreError> {
        let request = inner.client.create_multipart_upload().bucket(&target.place.bucket).key(&target.key);
        let request = stored_as!(request, stored_as);
        let request = match (checked, inner.settings.whole_checksum) {
            (false, _) => request,
            (true, false) => request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme),
            (true, true) => {
                request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject)
            }
        };
        let send = async || {
            let request = request.clone().set_tagging(target.tags.header());
            with_headers!(request, &target.object_headers).send().await.map_err(CallError::from_sdk)
        };
        let begun = match send().await {
            Err(failure) if target.tags.may_be_refused(&failure) => send().await,
            begun => begun,
        };
        let begun = inner.step_result(target, begun).await?;
        let id = begun.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| inner.unexpected("writing", target.item, "an upload without an id"))?;
        let (bucket, key) = (target.place.bucket.clone(), target.key.clone());
        Ok(Self { inner: inner.clone(), bucket, key, id, over: false })
    }

    /// Completes the upload, if the condition holds.
    async fn complete(
        mut self,
        target: &PreparedPut<'_>,
        mut parts: Vec<CompletedPart>,
        crc: Option<String>,
    ) -> Result<String, CallError> {
        parts.sort_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let mut request = self
            .inner
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(parts);
        if let Some(crc) = crc {
            request = request
                .checksum_crc64_nvme(crc)
                .checksum_type(ChecksumType::FullObject)
                .mpu_object_size(target.size.cast_signed());
        }
        // A copy onto itself has its condition on the source when it reads. This condition is on the object that is
        // replaced.
        let native = self.inner.settings.native_conditions;
        let request = request
            .set_if_match(target.if_match.clone().filter(|_| native))
            .set_if_none_match(target.if_none_match.clone().filter(|_| native));
        let done = request.send().await.map_err(CallError::from_sdk)?;
        self.over = true;
        required_etag(done.e_tag)
    }

    /// Makes the service copy all parts of an object of this size. If one fails, the others in flight are awaited: a part
    /// that ends after the abort would stay.
    async fn copy(
        &self,
        size: u64,
        from: &CopyOrigin,
        progress: CopyProgress<'_>,
    ) -> Result<Vec<CompletedPart>, CallError> {
        let mut in_flight = PartTasks::new();
        let copied = self.copy_parts(size, from, progress, &mut in_flight).await;
        while in_flight.join_next().await.is_some() {}
        copied
    }

    async fn copy_parts(
        &self,
        size: u64,
        from: &CopyOrigin,
        progress: CopyProgress<'_>,
        in_flight: &mut PartTasks,
    ) -> Result<Vec<CompletedPart>, CallError> {
        let inner = &self.inner;
        let part_bytes = inner.settings.copied_part_bytes.max(size.div_ceil(PARTS_MAX));
        let (mut done, mut reported) = (Vec::new(), 0);
        let mut one_more = async |in_flight: &mut PartTasks| {
            done.extend(join_part(in_flight).await?);
            let copied = size.min(done.len() as u64 * part_bytes);
            if progress(copied - reported) {
                reported = copied;
                return Ok(());
            }
            Err(CallError::new(CallErrorCause::Malformed, "it was given up"))
        };
        for number in 1..=size.div_ceil(part_bytes) {
            while in_flight.len() >= PARTS_AT_ONCE {
                one_more(in_flight).await?;
            }
            let first = (number - 1) * part_bytes;
            let last = (first + part_bytes).min(size) - 1;
            let part = PartAddress::of(self, number);
            let request = inner
                .client
                .upload_part_copy()
                .bucket(part.bucket)
                .key(part.key)
                .upload_id(part.id)
                .part_number(part.number)
                .copy_source(&from.place)
                .copy_source_range(format!("bytes={first}-{last}"))
                .copy_source_if_match(&from.tag)
                .customize()
                .config_override(upload_timeouts(usize::try_from(last - first).unwrap_or(usize::MAX)));
            in_flight.spawn(async move {
                let answer = request.send().await.map_err(CallError::from_sdk)?;
                let etag = required_etag(answer.copy_part_result.and_then(|copied| copied.e_tag))?;
                Ok(CompletedPart::builder().part_number(part.number).e_tag(etag).build())
            });
        }
        while !in_flight.is_empty() {
            one_more(in_flight).await?;
        }
        Ok(done)
    }
}

impl Drop for MultipartUpload {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (inner, bucket, key, id) = (self.inner.clone(), self.bucket.clone(), self.key.clone(), self.id.clone());
        let abort = async move {
            let gone = inner.client.abort_multipart_upload().bucket(bucket).key(&key).upload_id(id).send().await;
            if let Err(error) = gone {
                debug!(key, error = %CallError::from_sdk(error), "an upload was not given up; the bucket's own rule takes care of it");
            }
        };
        // Without a runtime the process is ending; then the bucket's lifecycle rule removes the parts.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(abort);
        }
    }
}

type PartTasks = JoinSet<Result<CompletedPart, CallError>>;

/// Writes an item in parts, and returns its entity tag.
///
/// The parts take time, and the store's own condition covers the bytes alone: so the precondition is checked once more
/// before the upload is completed.
pub(super) async fn put_in_parts(
    inner: &Arc<StoreInner>,
    target: &PreparedPut<'_>,
    when: &Precondition,
    chunker: &mut BodyChunker<'_>,
) -> Result<String, StoreError> {
    let part_bytes = inner.settings.part_bytes.max(target.size.div_ceil(PARTS_MAX));
    let upload = MultipartUpload::begin(inner, target, &StoredAs::default(), true).await?;
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    let (mut in_flight, mut done) = (PartTasks::new(), Vec::new());
    for number in 1..=target.size.div_ceil(part_bytes) {
        while in_flight.len() >= PARTS_AT_ONCE {
            done.extend(inner.step_result(target, join_part(&mut in_flight).await).await?);
        }
        let chunk = chunker.next_chunk(part_bytes).await?;
        crc.update(&chunk.bytes);
        in_flight.spawn(send_part(inner.clone(), PartAddress::of(&upload, number), chunk));
    }
    while !in_flight.is_empty() {
        done.extend(inner.step_result(target, join_part(&mut in_flight).await).await?);
    }
    inner.recheck_precondition(target, when).await?;
    let crc = inner.settings.whole_checksum.then(|| crc64_header(crc.finalize()));
    inner.step_result(target, upload.complete(target, done, crc).await).await
}

/// The address of a part.
struct PartAddress {
    bucket: String,
    key: String,
    id: String,
    number: i32,
}

impl PartAddress {
    fn of(upload: &MultipartUpload, number: u64) -> Self {
        let MultipartUpload { bucket, key, id, .. } = upload;
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        Self { bucket: bucket.clone(), key: key.clone(), id: id.clone(), number }
    }
}

async fn send_part(inner: Arc<StoreInner>, part: PartAddress, chunk: BodyChunk) -> Result<CompletedPart, CallError> {
    let sum = crc64(&chunk.bytes);
    let upload_timeouts = upload_timeouts(chunk.bytes.len());
    let request = inner.client.upload_part().bucket(part.bucket).key(part.key).upload_id(part.id);
    let request = request.part_number(part.number).checksum_crc64_nvme(&sum).body(ByteStream::from(chunk.bytes));
    let answer = request.customize().config_override(upload_timeouts).send().await.map_err(CallError::from_sdk)?;
    drop(chunk.memory);
    let etag = required_etag(answer.e_tag)?;
    Ok(CompletedPart::builder().part_number(part.number).e_tag(etag).checksum_crc64_nvme(sum).build())
}

/// The entity tag of a stored object or part. A response without one does not prove that it was stored.
fn required_etag(etag: Option<String>) -> Result<String, CallError> {
    etag.filter(|tag| !tag.is_empty())
        .ok_or_else(|| CallError::new(CallErrorCause::Malformed, "the answer tells no entity tag"))
}

async fn join_part(in_flight: &mut PartTasks) -> Result<Option<CompletedPart>, CallError> {
    match in_flight.join_next().await {
        None => Ok(None),
        Some(Ok(part)) => part.map(Some),
        Some(Err(error)) => Err(CallError::new(CallErrorCause::Malformed, error_chain(&error))),
    }
}

/// The source object of a copy, and its required state.
pub(super) struct CopyOrigin {
    /// Its bucket and key, in the form of a header.
    pub(super) place: String,
    /// Its entity tag.
    pub(super) tag: String,
}

/// Copies an object onto itself in parts, for those too large for one copy.
pub(super) async fn copy_onto_itself(
    inner: &Arc<StoreInner>,
    target: &PreparedPut<'_>,
    found: &FoundObject,
) -> Result<String, StoreError> {
    let upload = MultipartUpload::begin(inner, target, &found.stored_as, false).await?;
    let from = CopyOrigin { place: copy_source_header(&target.place, &target.key), tag: found.etag.clone() };
    let parts = inner.step_result(target, upload.copy(target.size, &from, &|_| true).await).await?;
    // The parts take long, and the entity tag does not change with the properties.
    let now = inner.head_item("writing properties", target.item).await?.present();
    if now.is_none_or(|now| now.facts.version.token() != found.facts.version.token()) {
        return Err(inner.item_error("writing properties", target.item, StoreErrorKind::Precondition));
    }
    inner.step_result(target, upload.complete(target, parts, None).await).await
}

/// Copies another object of the same service in parts, if the whole has this CRC-64: the store verifies it before the object
/// appears. `None` if the service refuses to copy; the bytes may still be readable.
pub(super) async fn copy_in_parts(
    inner: &Arc<StoreInner>,
    target: &PreparedPut<'_>,
    when: &Precondition,
    (from, crc): (&CopyOrigin, &str),
    progress: CopyProgress<'_>,
) -> Result<Option<String>, StoreError> {
    let upload = MultipartUpload::begin(inner, target, &StoredAs::default(), true).await?;
    let parts = match upload.copy(target.size, from, progress).await {
        Ok(parts) => parts,
        Err(failure) if is_copy_refusal(&failure) => {
            debug!(item = %target.item, error = %failure, "the service does not bring it; its bytes will be read");
            return Ok(None);
        }
        // Only the source's bucket is named in these requests: if it is gone, the source is not in the expected state.
        Err(failure) if failure.has_code(&["NoSuchBucket"]) => {
            return Err(inner.item_error("writing", target.item, StoreErrorKind::Precondition));
        }
        Err(failure) => return Err(inner.put_error(target, failure).await),
    };
    inner.recheck_precondition(target, when).await?;
    if !progress(0) {
        return Err(inner.unexpected("writing", target.item, "it was given up"));
    }
    match upload.complete(target, parts, Some(crc.to_owned())).await {
        Err(failure) if failure.has_code(&["BadDigest", "InvalidDigest"]) => {
            let error = inner.item_error("writing", target.item, StoreErrorKind::Damaged);
            Err(StoreError { source: Some(failure.into()), ..error })
        }
        outcome => inner.step_result(target, outcome).await.map(Some),
    }
}

/// Whether the service refuses to copy at all: it has no such call, does not permit it, or rejects its form. Mill can still
/// read and write the bytes. A failure that may pass is no refusal.
fn is_copy_refusal(failure: &CallError) -> bool {
    const NOT_NOW: [&str; 7] = [
        "PreconditionFailed",
        "NoSuchKey",
        "NoSuchBucket",
        "NoSuchUpload",
        "ConditionalRequestConflict",
        "OperationAborted",
        "RequestTimeout",
    ];
    match failure.cause {
        CallErrorCause::Denied => true,
        CallErrorCause::OtherResponse => failure.status != Some(412) && !failure.has_code(&NOT_NOW),
        _ => failure.status == Some(501),
    }
}
