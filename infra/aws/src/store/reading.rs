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
use mill_ports::{Body, ByteRange, Presence, Reading, StoreError, StoreErrorKind, chain};

use super::Inner;
use super::facts::{Found, tag_of};
use super::faults::During;
use super::places::Place;
use crate::trouble::{Cause, Trouble};

/// How often a body that broke off is taken up again without having moved on.
const RESUMES_MAX: u32 = 3;

impl Inner {
    /// What is at an item's place. `Absent` only where its space answers.
    pub(super) async fn look(&self, op: &'static str, item: &ItemAddress) -> Result<Presence<Found>, StoreError> {
        let (place, key) = self.place_of(op, item)?;
        let request = self.client.head_object().bucket(&place.bucket).key(&key).checksum_mode(ChecksumMode::Enabled);
        let error = match request.send().await {
            Ok(answer) => return Ok(Presence::Here(self.found_by_head(&answer))),
            Err(error) => error,
        };
        let trouble = Trouble::of(error);
        match trouble.status {
            Some(404) if !trouble.is(&["NoSuchBucket"]) => {
                self.confirm(op, &item.space, &place).await?;
                Ok(Presence::Absent)
            }
            // An answer to HEAD has no body and so no code: the same is asked in a way that is answered with one.
            Some(400 | 401 | 403) if trouble.cause == Cause::Answer || trouble.code.is_none() => {
                Err(self.why_not(op, item, &place, &key).await)
            }
            _ => Err(self.meant(op, item.to_string(), During::Read, trouble)),
        }
    }

    async fn why_not(&self, op: &'static str, item: &ItemAddress, place: &Place, key: &str) -> StoreError {
        match self.client.get_object().bucket(&place.bucket).key(key).range("bytes=0-0").send().await {
            Ok(_) => self.unexpected(op, item, "it can be read, but not be looked at"),
            Err(error) => {
                let trouble = Trouble::of(error);
                if trouble.is(&["NoSuchKey", "InvalidRange"]) {
                    return self.unexpected(op, item, format!("it answers in two ways: {trouble}"));
                }
                self.meant(op, item.to_string(), During::Read, trouble)
            }
        }
    }

    async fn get(
        &self,
        (place, key): (&Place, &str),
        range: Option<ByteRange>,
        tag: Option<String>,
    ) -> Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>> {
        let range = range.map(|range| format!("bytes={}-{}", range.offset, range.offset + range.length - 1));
        let request = self.client.get_object().bucket(&place.bucket).key(key);
        request.set_range(range).set_if_match(tag).send().await
    }
}

/// Opens an item.
pub(super) async fn open(
    inner: &Arc<Inner>,
    item: &ItemAddress,
    range: Option<ByteRange>,
    if_version: Option<&Version>,
) -> Result<Presence<Reading>, StoreError> {
    const OP: &str = "reading";
    let (place, key) = inner.place_of(OP, item)?;
    if range.is_some_and(|range| range.length == 0) {
        let found = inner.look(OP, item).await?.here();
        return Ok(found.map_or(Presence::Absent, |found| {
            Presence::Here(Reading { facts: found.facts, body: stream::empty().boxed() })
        }));
    }
    let answer = match inner.get((&place, &key), range, if_version.map(tag_of)).await {
        Ok(answer) => answer,
        Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
            inner.confirm(OP, &item.space, &place).await?;
            return Ok(Presence::Absent);
        }
        Err(error) => return Err(inner.failed(OP, item, During::Read, error)),
    };
    let length = u64::try_from(answer.content_length().unwrap_or(-1));
    let length = length.map_err(|_| inner.unexpected(OP, item, "the answer tells no length"))?;
    let size = match range {
        None => length,
        Some(_) => whole_size(answer.content_range())
            .ok_or_else(|| inner.unexpected(OP, item, "the answer to a range tells no size of the whole"))?,
    };
    let asked = range.map_or(size, |range| range.length.min(size.saturating_sub(range.offset)));
    if length != asked {
        return Err(inner.unexpected(OP, item, format!("{length} bytes of {asked} are announced")));
    }
    let Found { facts, etag, .. } = inner.found_by_get(&answer, size);
    if if_version.is_some_and(|expected| *expected != facts.version) {
        return Err(inner.of_item(OP, item, StoreErrorKind::Changed));
    }
    let flow = Flow {
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
    Ok(Presence::Here(Reading { facts, body: flow.into_body() }))
}

/// The size in `bytes 0-9/200`.
fn whole_size(range: Option<&str>) -> Option<u64> {
    range?.rsplit('/').next()?.parse().ok()
}

/// The bytes of an item on their way, taken up again where they break off, always in the one state.
struct Flow {
    inner: Arc<Inner>,
    item: ItemAddress,
    place: Place,
    key: String,
    tag: String,
    at: u64,
    left: u64,
    bytes: ByteStream,
    resumes: u32,
}

impl Flow {
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
                    let why = chain(&error);
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
            Ok(answer) => self.bytes = answer.body,
            // What was read of is not there any more.
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
                return Err(self.inner.of_item("reading", &self.item, StoreErrorKind::Changed));
            }
            Err(error) => return Err(self.inner.failed("reading", &self.item, During::Read, error)),
        }
        Ok(())
    }

    fn wrong(&self, why: impl Into<mill_ports::BoxError>) -> StoreError {
        self.inner.unexpected("reading", &self.item, why)
    }
}
