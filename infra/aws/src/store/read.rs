//! Looking at items and reading them.

use std::sync::Arc;

use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use mill_model::{ItemAddress, Version};
use mill_ports::{Body, ByteRange, OpenItem, Presence, StoreError, StoreErrorKind, error_chain};

use super::StoreInner;
use super::errors::{CallPurpose, fit};
use super::head::{FoundObject, NO_LENGTH, bare, tag_of};
use super::keys::BucketPrefix;
use crate::many_headers;
use crate::sdk_error::{CallError, CallErrorCause};

/// How often a body that broke off is taken up again without having moved on.
const RESUMES_MAX: u32 = 3;

/// Why an item cannot be looked at, in the service's own words.
enum GetOutcome {
    Absent,
    Error(StoreError),
}

impl StoreInner {
    /// What is at an item's place, under its own name. `Absent` only where its space answers.
    pub(super) async fn look(&self, op: &'static str, item: &ItemAddress) -> Result<Presence<FoundObject>, StoreError> {
        let asked = self.settings.clock.monotonic();
        let found = self.found_at(op, item).await?;
        if let Presence::Present(found) = &found {
            let (place, key) = self.place_of(op, item)?;
            self.is_its_own(op, item, (&place, &key), found).await?;
            // What holds an item is there.
            self.seen.note(&item.space, asked);
        }
        Ok(found)
    }

    /// What the store answers with at an item's place, be it under another name.
    pub(super) async fn found_at(
        &self,
        op: &'static str,
        item: &ItemAddress,
    ) -> Result<Presence<FoundObject>, StoreError> {
        let (place, key) = self.place_of(op, item)?;
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
        let trouble = CallError::of(error);
        // An answer to HEAD has no body and so no code. Where it is not surely the service's own, or leaves open what it
        // means, the same is asked in a way that is answered with one.
        match trouble.status {
            Some(404) if trouble.own_answer => self.absent(op, item, &place).await,
            Some(404) => match self.why_not(op, item, &place, &key).await {
                GetOutcome::Absent => self.absent(op, item, &place).await,
                GetOutcome::Error(error) => Err(error),
            },
            Some(400 | 401 | 403) if trouble.cause == CallErrorCause::OtherResponse || trouble.code.is_none() => {
                match self.why_not(op, item, &place, &key).await {
                    GetOutcome::Absent => Err(self.unexpected(op, item, format!("it answers in two ways: {trouble}"))),
                    GetOutcome::Error(error) => Err(error),
                }
            }
            _ => Err(self.of_one(op, item, (&place, &key), CallPurpose::Read, trouble).await),
        }
    }

    /// That an item is not there, if its space is.
    async fn absent<T>(
        &self,
        op: &'static str,
        item: &ItemAddress,
        place: &BucketPrefix,
    ) -> Result<Presence<T>, StoreError> {
        self.confirm(op, &item.space, place).await?;
        Ok(Presence::Absent)
    }

    async fn why_not(&self, op: &'static str, item: &ItemAddress, place: &BucketPrefix, key: &str) -> GetOutcome {
        match self.client.get_object().bucket(&place.bucket).key(key).range("bytes=0-0").send().await {
            Ok(_) => GetOutcome::Error(self.unexpected(op, item, "it can be read, but not be looked at")),
            Err(error) => {
                let trouble = CallError::of(error);
                match () {
                    () if trouble.is(&["NoSuchKey"]) => GetOutcome::Absent,
                    // It is there, and empty.
                    () if trouble.is(&["InvalidRange"]) => {
                        GetOutcome::Error(self.unexpected(op, item, format!("it answers in two ways: {trouble}")))
                    }
                    () => GetOutcome::Error(match self.takes_no_such_key(op, item, key, &trouble) {
                        Some(refused) => refused,
                        None => self.of_one(op, item, (place, key), CallPurpose::Read, trouble).await,
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

    /// Of an answer that was not read for its many headers.
    fn reading_all_headers(&self) -> aws_sdk_s3::config::Builder {
        aws_sdk_s3::Config::builder().http_client(self.wide.clone())
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
    let (place, key) = inner.place_of(OP, item)?;
    if range.is_some_and(|range| range.length == 0) {
        let found = inner.look(OP, item).await?.present();
        return Ok(found.map_or(Presence::Absent, |found| {
            Presence::Present(OpenItem { facts: found.facts, body: stream::empty().boxed() })
        }));
    }
    let answer = match inner.get((&place, &key), range, if_version.map(tag_of)).await {
        Ok(answer) => answer,
        Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
            return inner.absent(OP, item, &place).await;
        }
        Err(error) => {
            let trouble = CallError::of(error);
            if trouble.status == Some(404) && !trouble.is(&["NoSuchBucket"]) {
                // It does not say of what: looking finds out.
                return match inner.look(OP, item).await? {
                    Presence::Absent => Ok(Presence::Absent),
                    Presence::Present(_) => Err(inner.unexpected(OP, item, "it can be looked at, but not be read")),
                };
            }
            return Err(inner.of_one(OP, item, (&place, &key), CallPurpose::Read, trouble).await);
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
    inner.is_its_own(OP, item, (&place, &key), &found).await?;
    let FoundObject { facts, etag, .. } = found;
    if if_version.is_some_and(|expected| *expected != facts.version) {
        return Err(inner.of_item(OP, item, StoreErrorKind::Changed));
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
    Ok(Presence::Present(OpenItem { facts, body: flow.into_body() }))
}

/// The size of the whole, by what an answer says of the part that it brings (`bytes 0-9/200`): it must be the part that was
/// asked for, or what of it there is.
fn size_of_whole(asked: ByteRange, part: Option<&str>) -> Result<u64, String> {
    let part = part.ok_or("a part was asked for, and the answer does not say which it brings")?;
    let other = || format!("the answer brings `{}`, which was not asked", fit(part));
    let (part, size) = part.strip_prefix("bytes ").and_then(|part| part.split_once('/')).ok_or_else(other)?;
    let (first, last) = part.split_once('-').ok_or_else(other)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| other());
    let (first, last, size) = (number(first)?, number(last)?, number(size)?);
    let expected = asked.offset.saturating_add(asked.length).min(size);
    if first == asked.offset && last.checked_add(1) == Some(expected) { Ok(size) } else { Err(other()) }
}

/// The bytes of an item on their way, taken up again where they break off, always in the one state.
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
                    // The library compares what came with the checksum that the store keeps.
                    if why.to_ascii_lowercase().contains("checksum") {
                        let kind = StoreErrorKind::Damaged;
                        let error = self.inner.of_item("reading", &self.item, kind);
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
                if bare(answer.e_tag().unwrap_or_default()) != bare(&self.tag) {
                    // Not every server minds the condition.
                    return Err(self.inner.of_item("reading", &self.item, StoreErrorKind::Changed));
                }
                self.bytes = answer.body;
            }
            // What was read of is not there any more.
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
                return Err(self.inner.of_item("reading", &self.item, StoreErrorKind::Changed));
            }
            Err(error) => {
                let at = (&self.place, &*self.key);
                return Err(self
                    .inner
                    .of_one("reading", &self.item, at, CallPurpose::Read, CallError::of(error))
                    .await);
            }
        }
        Ok(())
    }

    fn wrong(&self, why: impl Into<mill_ports::BoxError>) -> StoreError {
        self.inner.unexpected("reading", &self.item, why)
    }
}
