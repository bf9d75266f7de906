//! Reads items and their headers.

use std::sync::Arc;

use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use mill_model::{ItemAddress, Version};
use mill_ports::{Attachments, Body, ByteRange, OpenItem, Presence, StoreError, StoreErrorKind, error_chain};

use super::StoreInner;
use super::attachments;
use super::errors::{CallPurpose, displayable};
use super::head::{FoundObject, NO_LENGTH, etag_of, unquoted};
use super::keys::BucketPrefix;
use crate::many_headers;
use crate::sdk_error::{CallError, CallErrorCause};

/// How often a broken body is resumed without any progress.
const RESUMES_MAX: u32 = 3;

/// Why a HEAD of an item failed, according to a GET.
enum GetOutcome {
    Absent,
    Error(StoreError),
}

impl StoreInner {
    /// Finds an item, under its own key. `Absent` only if its space exists.
    pub(super) async fn head_item(
        &self,
        op: &'static str,
        item: &ItemAddress,
    ) -> Result<Presence<FoundObject>, StoreError> {
        let asked = self.settings.clock.monotonic();
        let found = self.head_key(op, item).await?;
        if let Presence::Present(found) = &found {
            let (place, key) = self.item_key(op, item)?;
            self.verify_own_name(op, item, (&place, &key), found).await?;
            // A space that holds an item exists.
            self.space_sightings.note(&item.space, asked);
        }
        Ok(found)
    }

    /// Returns what the store has at an item's key, even if it is stored under another key.
    pub(super) async fn head_key(
        &self,
        op: &'static str,
        item: &ItemAddress,
    ) -> Result<Presence<FoundObject>, StoreError> {
        let (place, key) = self.item_key(op, item)?;
        let request = self.client.head_object().bucket(&place.bucket).key(&key).checksum_mode(ChecksumMode::Enabled);
        let mut answer = request.clone().send().await;
        if answer.as_ref().is_err_and(|error| many_headers::has_too_many_headers(error)) {
            answer = request.customize().config_override(self.reading_all_headers()).send().await;
        }
        let error = match answer {
            Ok(answer) => {
                let found = self.found_by_head(&answer).map_err(|why| self.unexpected(op, item, why))?;
                return Ok(Presence::Present(found));
            }
            Err(error) => error,
        };
        let failure = CallError::from_sdk(error);
        // A response to HEAD has no body and so no error code. If it may not be the service's own, or is ambiguous, a GET
        // finds out the code.
        match failure.status {
            Some(404) if failure.has_request_id => self.confirmed_absent(op, item, &place).await,
            Some(404) => match self.probe_by_get(op, item, &place, &key).await {
                GetOutcome::Absent => self.confirmed_absent(op, item, &place).await,
                GetOutcome::Error(error) => Err(error),
            },
            Some(400 | 401 | 403) if failure.cause == CallErrorCause::OtherResponse || failure.code.is_none() => {
                match self.probe_by_get(op, item, &place, &key).await {
                    GetOutcome::Absent => Err(self.unexpected(op, item, format!("it answers in two ways: {failure}"))),
                    GetOutcome::Error(error) => Err(error),
                }
            }
            _ => Err(self.scoped_item_error(op, item, (&place, &key), CallPurpose::Read, failure).await),
        }
    }

    /// Absent, if the item's space exists.
    async fn confirmed_absent<T>(
        &self,
        op: &'static str,
        item: &ItemAddress,
        place: &BucketPrefix,
    ) -> Result<Presence<T>, StoreError> {
        self.confirm_space(op, &item.space, place).await?;
        Ok(Presence::Absent)
    }

    async fn probe_by_get(&self, op: &'static str, item: &ItemAddress, place: &BucketPrefix, key: &str) -> GetOutcome {
        match self.client.get_object().bucket(&place.bucket).key(key).range("bytes=0-0").send().await {
            Ok(_) => GetOutcome::Error(self.unexpected(op, item, "it can be read, but not be looked at")),
            Err(error) => {
                let failure = CallError::from_sdk(error);
                match () {
                    () if failure.has_code(&["NoSuchKey"]) => GetOutcome::Absent,
                    // The object exists and is empty.
                    () if failure.has_code(&["InvalidRange"]) => {
                        GetOutcome::Error(self.unexpected(op, item, format!("it answers in two ways: {failure}")))
                    }
                    () => GetOutcome::Error(match self.unsupported_key_error(op, item, key, &failure) {
                        Some(refused) => refused,
                        None => self.scoped_item_error(op, item, (place, key), CallPurpose::Read, failure).await,
                    }),
                }
            }
        }
    }

    async fn get(
        &self,
        (place, key): (&BucketPrefix, &str),
        range: Option<ByteRange>,
        tag: Option<String>,
    ) -> Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>> {
        let range = range.map(|range| format!("bytes={}-{}", range.offset, range.offset + range.length - 1));
        let request = self.client.get_object().bucket(&place.bucket).key(key);
        let request = request.set_range(range).set_if_match(tag);
        match request.clone().send().await {
            Err(error) if many_headers::has_too_many_headers(&error) => {
                request.customize().config_override(self.reading_all_headers()).send().await
            }
            answer => answer,
        }
    }

    /// The configuration to repeat a request whose response had too many headers.
    fn reading_all_headers(&self) -> aws_sdk_s3::config::Builder {
        aws_sdk_s3::Config::builder().http_client(self.many_headers_client.clone())
    }
}

/// Opens an item.
pub(super) async fn open(
    inner: &Arc<StoreInner>,
    item: &ItemAddress,
    range: Option<ByteRange>,
    if_version: Option<&Version>,
) -> Result<Presence<OpenItem>, StoreError> {
    const OP: &str = "reading";
    let (place, key) = inner.item_key(OP, item)?;
    if range.is_some_and(|range| range.length == 0) {
        let found = inner.head_item(OP, item).await?.present();
        return Ok(found.map_or(Presence::Absent, |found| {
            let (body, attachments) = (stream::empty().boxed(), Attachments::default());
            Presence::Present(OpenItem { facts: found.facts, body, attachments })
        }));
    }
    let answer = match inner.get((&place, &key), range, if_version.map(etag_of)).await {
        Ok(answer) => answer,
        Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
            return inner.confirmed_absent(OP, item, &place).await;
        }
        Err(error) => {
            let failure = CallError::from_sdk(error);
            if failure.status == Some(404) && !failure.has_code(&["NoSuchBucket"]) {
                // The response does not say what is missing: a HEAD finds out.
                return match inner.head_item(OP, item).await? {
                    Presence::Absent => Ok(Presence::Absent),
                    Presence::Present(_) => Err(inner.unexpected(OP, item, "it can be looked at, but not be read")),
                };
            }
            return Err(inner.scoped_item_error(OP, item, (&place, &key), CallPurpose::Read, failure).await);
        }
    };
    let length = u64::try_from(answer.content_length().unwrap_or(-1));
    let length = length.map_err(|_| inner.unexpected(OP, item, NO_LENGTH))?;
    let size = match (range, answer.content_range()) {
        (None, None) => length,
        (None, Some(_)) => return Err(inner.unexpected(OP, item, "all of it was asked for, and a part comes")),
        (Some(asked), part) => size_of_whole(asked, part).map_err(|why| inner.unexpected(OP, item, why))?,
    };
    let asked = range.map_or(size, |range| range.length.min(size.saturating_sub(range.offset)));
    if length != asked {
        return Err(inner.unexpected(OP, item, format!("{length} bytes of {asked} are announced")));
    }
    let found = inner.found_by_get(&answer, size).map_err(|why| inner.unexpected(OP, item, why))?;
    inner.verify_own_name(OP, item, (&place, &key), &found).await?;
    let attachments = attachments::of(inner, item, &answer);
    let FoundObject { facts, etag, .. } = found;
    if if_version.is_some_and(|expected| *expected != facts.version) {
        return Err(inner.item_error(OP, item, StoreErrorKind::Changed));
    }
    let flow = ResumingBody {
        inner: inner.clone(),
        item: item.clone(),
        place,
        key,
        tag: etag,
        at: range.map_or(0, |range| range.offset),
        left: asked,
        bytes: answer.body,
        resumes: 0,
    };
    Ok(Presence::Present(OpenItem { facts, body: flow.into_body(), attachments }))
}

/// The size of the whole object, from the content range of a response (`bytes 0-9/200`). The range must be the requested
/// one, up to the end of the object.
fn size_of_whole(asked: ByteRange, part: Option<&str>) -> Result<u64, String> {
    let part = part.ok_or("a part was asked for, and the answer does not say which it brings")?;
    let other = || format!("the answer brings `{}`, which was not asked", displayable(part));
    let (part, size) = part.strip_prefix("bytes ").and_then(|part| part.split_once('/')).ok_or_else(other)?;
    let (first, last) = part.split_once('-').ok_or_else(other)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| other());
    let (first, last, size) = (number(first)?, number(last)?, number(size)?);
    let expected = asked.offset.saturating_add(asked.length).min(size);
    if first == asked.offset && last.checked_add(1) == Some(expected) { Ok(size) } else { Err(other()) }
}

/// The body of an item. If it breaks off, it is resumed there, with a condition on the object's state.
struct ResumingBody {
    inner: Arc<StoreInner>,
    item: ItemAddress,
    place: BucketPrefix,
    key: String,
    tag: String,
    at: u64,
    left: u64,
    bytes: ByteStream,
    resumes: u32,
}

impl ResumingBody {
    fn into_body(self) -> Body {
        stream::try_unfold(Some(self), async |flow| match flow {
            None => Ok(None),
            Some(flow) => flow.next().await,
        })
        .boxed()
    }

    async fn next(mut self) -> Result<Option<(Bytes, Option<Self>)>, StoreError> {
        loop {
            match self.bytes.next().await {
                Some(Ok(bytes)) if bytes.len() as u64 > self.left => {
                    return Err(self.wrong("more bytes came than announced"));
                }
                Some(Ok(bytes)) => {
                    if !bytes.is_empty() {
                        self.resumes = 0;
                    }
                    self.left -= bytes.len() as u64;
                    self.at += bytes.len() as u64;
                    return Ok(Some((bytes, Some(self))));
                }
                None if self.left == 0 => return Ok(None),
                None => self.resume("it broke off".to_owned()).await?,
                Some(Err(error)) => {
                    let why = error_chain(&error);
                    // The SDK verifies the body with the store's checksum.
                    if why.to_ascii_lowercase().contains("checksum") {
                        let kind = StoreErrorKind::Damaged;
                        let error = self.inner.item_error("reading", &self.item, kind);
                        return Err(StoreError { source: Some(why.into()), ..error });
                    }
                    if self.left == 0 {
                        return Err(self.wrong(why));
                    }
                    self.resume(why).await?;
                }
            }
        }
    }

    async fn resume(&mut self, why: String) -> Result<(), StoreError> {
        self.resumes += 1;
        if self.resumes > RESUMES_MAX {
            return Err(self.wrong(why));
        }
        let range = ByteRange { offset: self.at, length: self.left };
        let answer = self.inner.get((&self.place, &self.key), Some(range), Some(self.tag.clone())).await;
        match answer {
            Ok(answer) => {
                size_of_whole(range, answer.content_range()).map_err(|why| self.wrong(why))?;
                if unquoted(answer.e_tag().unwrap_or_default()) != unquoted(&self.tag) {
                    // Not every server respects the condition.
                    return Err(self.inner.item_error("reading", &self.item, StoreErrorKind::Changed));
                }
                self.bytes = answer.body;
            }
            // The object is gone.
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
                return Err(self.inner.item_error("reading", &self.item, StoreErrorKind::Changed));
            }
            Err(error) => {
                let at = (&self.place, &*self.key);
                return Err(self
                    .inner
                    .scoped_item_error("reading", &self.item, at, CallPurpose::Read, CallError::from_sdk(error))
                    .await);
            }
        }
        Ok(())
    }

    fn wrong(&self, why: impl Into<mill_ports::BoxError>) -> StoreError {
        self.inner.unexpected("reading", &self.item, why)
    }
}
