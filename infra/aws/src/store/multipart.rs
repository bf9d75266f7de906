//! Large items, in parts: several on their way at once, and nothing left of what was given up.
//!
//! What a killed process left is the business of the bucket's lifecycle rule (`AbortIncompleteMultipartUpload`): a store does
//! not tell whose an upload is, and those of other programs are not Mill's to abort.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, StorageClass};
use mill_ports::{CopyProgress, Precondition, StoreError, StoreErrorKind, error_chain};
use tokio::task::JoinSet;
use tracing::debug;

use super::StoreInner;
use super::body_chunks::{BodyChunk, BodyChunker, crc64, in_time, written};
use super::head::FoundObject;
use super::headers::with_headers;
use super::keys::copy_source;
use super::prepared_put::PreparedPut;
use crate::sdk_error::{CallError, CallErrorCause};

/// Most parts of one object. Source: Amazon S3 user guide, *Multipart upload limits*.
const PARTS_MAX: u64 = 10_000;
/// Parts of one item on their way at once.
const PARTS_AT_ONCE: usize = 4;

/// An upload that was begun. Dropped before it is complete, it is given up.
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
        storage_class: Option<StorageClass>,
        checked: bool,
    ) -> Result<Self, StoreError> {
        let request = inner.client.create_multipart_upload().bucket(&target.place.bucket).key(&target.key);
        let request = with_headers!(request, &target.borne).set_storage_class(storage_class);
        let request = match (checked, inner.settings.whole_checksum) {
            (false, _) => request,
            (true, false) => request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme),
            (true, true) => {
                request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject)
            }
        };
        let begun = inner.step(target, request.send().await.map_err(CallError::of)).await?;
        let id = begun.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| inner.unexpected("writing", target.item, "an upload without an id"))?;
        let (bucket, key) = (target.place.bucket.clone(), target.key.clone());
        Ok(Self { inner: inner.clone(), bucket, key, id, over: false })
    }

    /// Puts the parts together, if the condition holds.
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
        // A copy onto itself names its state when it reads; here the state is decided of what is written over.
        let native = self.inner.settings.native_conditions;
        let request = request
            .set_if_match(target.if_match.clone().filter(|_| native))
            .set_if_none_match(target.if_none_match.clone().filter(|_| native));
        let done = request.send().await.map_err(CallError::of)?;
        self.over = true;
        told_tag(done.e_tag)
    }

    /// Has the service copy all parts of an object of this size. What is under way when one fails is waited for: a part that
    /// ends after the upload was given up would stay.
    async fn copy(
        &self,
        size: u64,
        from: &CopyOrigin,
        going: CopyProgress<'_>,
    ) -> Result<Vec<CompletedPart>, CallError> {
        let mut under_way = PartTasks::new();
        let copied = self.copy_parts(size, from, going, &mut under_way).await;
        while under_way.join_next().await.is_some() {}
        copied
    }

    async fn copy_parts(
        &self,
        size: u64,
        from: &CopyOrigin,
        going: CopyProgress<'_>,
        under_way: &mut PartTasks,
    ) -> Result<Vec<CompletedPart>, CallError> {
        let inner = &self.inner;
        let part_bytes = inner.settings.copied_part_bytes.max(size.div_ceil(PARTS_MAX));
        let (mut done, mut told) = (Vec::new(), 0);
        let mut one_more = async |under_way: &mut PartTasks| {
            done.extend(joined(under_way).await?);
            let copied = size.min(done.len() as u64 * part_bytes);
            if going(copied - told) {
                told = copied;
                return Ok(());
            }
            Err(CallError::plain(CallErrorCause::Malformed, "it was given up"))
        };
        for number in 1..=size.div_ceil(part_bytes) {
            while under_way.len() >= PARTS_AT_ONCE {
                one_more(under_way).await?;
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
                .config_override(in_time(usize::try_from(last - first).unwrap_or(usize::MAX)));
            under_way.spawn(async move {
                let answer = request.send().await.map_err(CallError::of)?;
                let etag = told_tag(answer.copy_part_result.and_then(|copied| copied.e_tag))?;
                Ok(CompletedPart::builder().part_number(part.number).e_tag(etag).build())
            });
        }
        while !under_way.is_empty() {
            one_more(under_way).await?;
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
        let give_up = async move {
            let gone = inner.client.abort_multipart_upload().bucket(bucket).key(&key).upload_id(id).send().await;
            if let Err(error) = gone {
                debug!(key, error = %CallError::of(error), "an upload was not given up; the bucket's own rule takes care of it");
            }
        };
        // Without a runtime the process is ending; then the bucket's own rule takes care of it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(give_up);
        }
    }
}

type PartTasks = JoinSet<Result<CompletedPart, CallError>>;

/// Writes an item in parts, and gives its entity tag.
///
/// The parts took their time, and the store's own condition knows the bytes alone: the state that a write may meet is
/// looked at once more before they are put together.
pub(super) async fn put_in_parts(
    inner: &Arc<StoreInner>,
    target: &PreparedPut<'_>,
    when: &Precondition,
    intake: &mut BodyChunker<'_>,
) -> Result<String, StoreError> {
    let part_bytes = inner.settings.part_bytes.max(target.size.div_ceil(PARTS_MAX));
    let upload = MultipartUpload::begin(inner, target, None, true).await?;
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    let (mut under_way, mut done) = (PartTasks::new(), Vec::new());
    for number in 1..=target.size.div_ceil(part_bytes) {
        while under_way.len() >= PARTS_AT_ONCE {
            done.extend(inner.step(target, joined(&mut under_way).await).await?);
        }
        let piece = intake.piece(part_bytes).await?;
        crc.update(&piece.bytes);
        under_way.spawn(send_part(inner.clone(), PartAddress::of(&upload, number), piece));
    }
    while !under_way.is_empty() {
        done.extend(inner.step(target, joined(&mut under_way).await).await?);
    }
    inner.check_again(target, when).await?;
    let crc = inner.settings.whole_checksum.then(|| written(crc.finalize()));
    inner.step(target, upload.complete(target, done, crc).await).await
}

/// A part's place.
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

async fn send_part(inner: Arc<StoreInner>, part: PartAddress, piece: BodyChunk) -> Result<CompletedPart, CallError> {
    let sum = crc64(&piece.bytes);
    let in_time = in_time(piece.bytes.len());
    let request = inner.client.upload_part().bucket(part.bucket).key(part.key).upload_id(part.id);
    let request = request.part_number(part.number).checksum_crc64_nvme(&sum).body(ByteStream::from(piece.bytes));
    let answer = request.customize().config_override(in_time).send().await.map_err(CallError::of)?;
    drop(piece.memory);
    let etag = told_tag(answer.e_tag)?;
    Ok(CompletedPart::builder().part_number(part.number).e_tag(etag).checksum_crc64_nvme(sum).build())
}

/// The entity tag of what was kept: an answer without one does not say that it was.
fn told_tag(told: Option<String>) -> Result<String, CallError> {
    told.filter(|tag| !tag.is_empty())
        .ok_or_else(|| CallError::plain(CallErrorCause::Malformed, "the answer tells no entity tag"))
}

async fn joined(under_way: &mut PartTasks) -> Result<Option<CompletedPart>, CallError> {
    match under_way.join_next().await {
        None => Ok(None),
        Some(Ok(part)) => part.map(Some),
        Some(Err(error)) => Err(CallError::plain(CallErrorCause::Malformed, error_chain(&error))),
    }
}

/// An object to copy from, and the state that it must be in.
pub(super) struct CopyOrigin {
    /// Its bucket and key, as a header has them.
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
    let upload = MultipartUpload::begin(inner, target, found.storage_class.clone(), false).await?;
    let from = CopyOrigin { place: copy_source(&target.place, &target.key), tag: found.etag.clone() };
    let parts = inner.step(target, upload.copy(target.size, &from, &|_| true).await).await?;
    // The parts took long, and the tag alone would not tell other properties of the same bytes.
    let now = inner.look("writing properties", target.item).await?.present();
    if now.is_none_or(|now| now.facts.version.token() != found.facts.version.token()) {
        return Err(inner.of_item("writing properties", target.item, StoreErrorKind::Precondition));
    }
    inner.step(target, upload.complete(target, parts, None).await).await
}

/// Copies another object of the same service in parts, if the whole has this CRC-64: the store judges it before the item is
/// there. `None` where the service will not copy, to whomever it gives the bytes.
pub(super) async fn copy_in_parts(
    inner: &Arc<StoreInner>,
    target: &PreparedPut<'_>,
    when: &Precondition,
    (from, crc): (&CopyOrigin, &str),
    going: CopyProgress<'_>,
) -> Result<Option<String>, StoreError> {
    let upload = MultipartUpload::begin(inner, target, None, true).await?;
    let parts = match upload.copy(target.size, from, going).await {
        Ok(parts) => parts,
        Err(trouble) if will_not(&trouble) => {
            debug!(item = %target.item, error = %trouble, "the service does not bring it; its bytes will be read");
            return Ok(None);
        }
        // What is gone is not in the state that was seen; only the other end's bucket is asked for here.
        Err(trouble) if trouble.is(&["NoSuchBucket"]) => {
            return Err(inner.of_item("writing", target.item, StoreErrorKind::Precondition));
        }
        Err(trouble) => return Err(inner.not_written(target, trouble).await),
    };
    inner.check_again(target, when).await?;
    if !going(0) {
        return Err(inner.unexpected("writing", target.item, "it was given up"));
    }
    match upload.complete(target, parts, Some(crc.to_owned())).await {
        Err(trouble) if trouble.is(&["BadDigest", "InvalidDigest"]) => {
            let error = inner.of_item("writing", target.item, StoreErrorKind::Damaged);
            Err(StoreError { source: Some(trouble.into()), ..error })
        }
        outcome => inner.step(target, outcome).await.map(Some),
    }
}

/// Whether the service refuses to copy, rather than to copy this now: there is no such call, it is not allowed, or it is not
/// as this service would have it. Whoever may read and write the bytes can bring them all the same.
fn will_not(trouble: &CallError) -> bool {
    const NOT_NOW: [&str; 7] = [
        "PreconditionFailed",
        "NoSuchKey",
        "NoSuchBucket",
        "NoSuchUpload",
        "ConditionalRequestConflict",
        "OperationAborted",
        "RequestTimeout",
    ];
    match trouble.cause {
        CallErrorCause::Denied => true,
        CallErrorCause::OtherResponse => trouble.status != Some(412) && !trouble.is(&NOT_NOW),
        _ => trouble.status == Some(501),
    }
}
