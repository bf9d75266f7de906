//! Finds out whether a failed call on one item concerns the item alone or the whole store, by another request to the same
//! place.
//!
//! A service that denies one key, or fails at one, may serve all others. So before a store counts as unavailable, a probe
//! must fail too. For reading, the probe is a listing and the first byte of another item. For writing, it is an upload of
//! one byte that is aborted: it leaves nothing, not even a version or a delete marker. Probes cost requests only after
//! failures, and a result is valid for a short time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::primitives::ByteStream;
use mill_model::{ItemAddress, Monotonic, SpaceId};
use mill_ports::{RefusalReason, StoreError, StoreErrorKind};
use tracing::debug;

use super::errors::{CallPurpose, kind};
use super::keys::BucketPrefix;
use super::overlap::probe_key;
use super::page::{PageError, PageRequest, PageStart};
use super::{SpaceLayout, StoreInner};
use crate::sdk_error::{CallError, CallErrorCause};

/// How long the result of a probe is valid.
const PROBE_VALID_FOR: Duration = Duration::from_secs(5);

/// Most other spaces that are probed before a store counts as not writable.
const OTHERS_MAX: usize = 2;

/// The results of probes. The lock is held during a probe, so that of many simultaneous failures only one probes.
#[derive(Debug, Default)]
pub(super) struct ProbeCache(tokio::sync::Mutex<BTreeMap<ProbeKey, (Monotonic, ProbeResult)>>);

type ProbeKey = (CallPurpose, String, String);

/// The result of a probe.
#[derive(Debug, Clone)]
enum ProbeResult {
    Yes,
    /// The probe failed too, for this reason; a person must act.
    No(Arc<str>),
    /// The probe failed too, for this reason, which may pass by itself.
    NotNow(Arc<str>),
}

impl StoreInner {
    /// The error of a failed call on one item, for that item or for the whole store.
    pub(super) async fn scoped_item_error(
        &self,
        op: &'static str,
        item: &ItemAddress,
        (place, key): (&BucketPrefix, &str),
        during: CallPurpose,
        failure: CallError,
    ) -> StoreError {
        self.scoped_error(op, item.to_string(), (place, key), during, failure).await
    }

    /// The same for another subject.
    pub(super) async fn scoped_error(
        &self,
        op: &'static str,
        subject: String,
        (place, key): (&BucketPrefix, &str),
        during: CallPurpose,
        failure: CallError,
    ) -> StoreError {
        let failure = self.error_context.reinterpret(failure);
        let needs_probe = match failure.cause {
            // A denied read concerns one item; others may be readable.
            CallErrorCause::Denied => during == CallPurpose::Write,
            CallErrorCause::Unreachable
            | CallErrorCause::ServerError
            | CallErrorCause::WrongAddress(_)
            | CallErrorCause::StorageFull
            | CallErrorCause::Unsupported
            | CallErrorCause::LoginRequired(_)
            | CallErrorCause::HtmlPage => during != CallPurpose::Reach,
            CallErrorCause::Throttled { .. }
            | CallErrorCause::Credentials
            | CallErrorCause::UnreadableHeader
            | CallErrorCause::OtherResponse
            | CallErrorCause::Malformed => false,
        };
        if !needs_probe {
            return self.store_error(op, subject, during, failure);
        }
        let kind_of_all = kind(during, &failure);
        match self.probe(place, key, during, failure.cause).await {
            ProbeResult::Yes => {
                debug!(subject, error = %failure, "others can be had; this one alone is meant");
                let kind = single_item_kind(during, &failure);
                StoreError { source: Some(failure.into()), ..self.error(op, subject, kind) }
            }
            ProbeResult::No(why) => self.whole_store_error(op, subject, StoreErrorKind::Unavailable, &failure, &why),
            ProbeResult::NotNow(why) => self.whole_store_error(op, subject, kind_of_all, &failure, &why),
        }
    }

    /// The error of a space that could not be listed, for that space or for the whole store.
    pub(super) async fn listing_error(
        &self,
        op: &'static str,
        space: &SpaceId,
        place: &BucketPrefix,
        why: PageError,
    ) -> StoreError {
        let failure = match why {
            PageError::Failed(failure) => self.error_context.reinterpret(failure),
            contradiction @ PageError::Contradiction(_) => {
                return self.page_error(op, space.to_string(), contradiction);
            }
        };
        let kind = match kind(CallPurpose::Reach, &failure) {
            StoreErrorKind::Unavailable | StoreErrorKind::NotConfigured => {
                StoreErrorKind::Refused(RefusalReason::Unreadable)
            }
            // Without any response, other spaces would have none either.
            StoreErrorKind::Unreachable if failure.cause == CallErrorCause::ServerError => StoreErrorKind::Unexpected,
            _ => return self.store_error(op, space.to_string(), CallPurpose::Reach, failure),
        };
        match self.probe(place, "", CallPurpose::Reach, failure.cause).await {
            ProbeResult::Yes => {
                debug!(%space, error = %failure, "other spaces can be listed; this one alone is meant");
                let words =
                    self.error_context.with_context(&StoreErrorKind::Unavailable, &failure, failure.to_string());
                StoreError { source: Some(words.into()), ..self.space_error(op, space, kind) }
            }
            ProbeResult::No(_) | ProbeResult::NotNow(_) => {
                self.store_error(op, space.to_string(), CallPurpose::Reach, failure)
            }
        }
    }

    fn whole_store_error(
        &self,
        op: &'static str,
        subject: String,
        kind: StoreErrorKind,
        failure: &CallError,
        why: &str,
    ) -> StoreError {
        let words =
            if *why == failure.to_string() { why.to_owned() } else { format!("{failure}; and not of others: {why}") };
        let words = self.error_context.with_context(&kind, failure, words);
        StoreError { source: Some(words.into()), ..self.error(op, subject, kind) }
    }

    /// Probes whether anything but this key can be read, or written, there.
    async fn probe(&self, place: &BucketPrefix, key: &str, during: CallPurpose, cause: CallErrorCause) -> ProbeResult {
        let now = || self.settings.clock.monotonic();
        let asked = (during, place.bucket.clone(), place.prefix.clone());
        let mut probe_cache = self.probe_cache.0.lock().await;
        if let Some((at, answers)) = probe_cache.get(&asked)
            && now().since(*at) < PROBE_VALID_FOR
        {
            return answers.clone();
        }
        let outcome = match during {
            CallPurpose::Write => self.probe_write(place, cause).await,
            CallPurpose::Read => self.probe_read(place, key).await,
            CallPurpose::Reach => self.probe_other_spaces(place).await,
        };
        let answers = match outcome {
            Ok(()) => ProbeResult::Yes,
            Err(why) => {
                let why = self.error_context.reinterpret(why);
                let words = why.to_string().into();
                match why.cause {
                    CallErrorCause::Credentials
                    | CallErrorCause::Denied
                    | CallErrorCause::WrongAddress(_)
                    | CallErrorCause::StorageFull
                    | CallErrorCause::Unsupported
                    | CallErrorCause::LoginRequired(_)
                    | CallErrorCause::HtmlPage => ProbeResult::No(words),
                    _ => ProbeResult::NotNow(words),
                }
            }
        };
        probe_cache.retain(|_, (at, _)| now().since(*at) < PROBE_VALID_FOR);
        probe_cache.insert(asked, (now(), answers.clone()));
        answers
    }

    /// Requests a listing, and the first byte of another item in it.
    async fn probe_read(&self, place: &BucketPrefix, key: &str) -> Result<(), CallError> {
        let two = PageRequest { place, from: PageStart::Beginning, with_delimiter: false, max: Some(2) };
        let page = match self.page(two).await {
            Ok(page) => page,
            Err(PageError::Failed(failure))
                if matches!(failure.cause, CallErrorCause::Denied | CallErrorCause::OtherResponse) =>
            {
                return Ok(());
            }
            Err(why) => {
                let why = into_call_error(why);
                // Perhaps this space alone cannot be listed, unless there is no response at all.
                let alone = why.cause != CallErrorCause::Unreachable && self.probe_other_spaces(place).await.is_ok();
                return if alone { Ok(()) } else { Err(why) };
            }
        };
        let others = page.objects.iter().filter(|(_, object)| object.size > 0);
        let Some(other) = others.filter_map(|(other, _)| other.text()).find(|other| *other != key) else {
            return Ok(());
        };
        let read = self.client.get_object().bucket(&place.bucket).key(other).range("bytes=0-0").customize();
        match read.config_override(one_retry()).send().await.map_err(CallError::from_sdk) {
            Err(failure) if matches!(failure.cause, CallErrorCause::Denied | CallErrorCause::OtherResponse) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Starts and aborts an upload beside the item; if that is denied, or the disk is full, in other known spaces too.
    async fn probe_write(&self, place: &BucketPrefix, cause: CallErrorCause) -> Result<(), CallError> {
        let Err(why) = self.probe_upload(place).await else { return Ok(()) };
        if !matches!(cause, CallErrorCause::Denied | CallErrorCause::StorageFull) {
            return Err(why);
        }
        for other in self.other_spaces(place) {
            if self.probe_upload(&other).await.is_ok() {
                return Ok(());
            }
        }
        Err(why)
    }

    /// Lists another space: a known one, or else one that the store lists.
    async fn probe_other_spaces(&self, place: &BucketPrefix) -> Result<(), CallError> {
        let nothing =
            || CallError::new(CallErrorCause::OtherResponse, "the store has no other space that could be listed");
        let mut seen = self.other_spaces(place);
        match &self.settings.spaces {
            SpaceLayout::Single { .. } => return Err(nothing()),
            // A store that lists its bucket is usable, even if prefixes in it are denied.
            SpaceLayout::InBucket(bucket) => seen.push(BucketPrefix { bucket: bucket.clone(), prefix: String::new() }),
            SpaceLayout::Buckets { prefix } if seen.is_empty() => {
                let names = self.bucket_names(prefix).await;
                let others =
                    names.into_iter().flatten().filter(|name| name.starts_with(prefix) && *name != place.bucket);
                seen.extend(others.take(OTHERS_MAX).map(|bucket| BucketPrefix { bucket, prefix: String::new() }));
            }
            SpaceLayout::Buckets { .. } => {}
        }
        let mut why = nothing();
        for other in seen {
            let with_delimiter = other.prefix.is_empty();
            match self
                .page(PageRequest { place: &other, from: PageStart::Beginning, with_delimiter, max: Some(1) })
                .await
            {
                Ok(_) => return Ok(()),
                Err(failed) => why = into_call_error(failed),
            }
        }
        Err(why)
    }

    /// Other spaces that were seen lately.
    fn other_spaces(&self, place: &BucketPrefix) -> Vec<BucketPrefix> {
        if matches!(self.settings.spaces, SpaceLayout::Single { .. }) {
            return Vec::new();
        }
        let others = self.space_sightings.spaces().into_iter().filter_map(|space| self.bucket_prefix(&space));
        others.filter(|other| other != place).take(OTHERS_MAX).collect()
    }

    async fn probe_upload(&self, place: &BucketPrefix) -> Result<(), CallError> {
        let key = probe_key(&place.prefix);
        let asked = self.client.create_multipart_upload().bucket(&place.bucket).key(&key).customize();
        let begun = asked.config_override(one_retry()).send().await.map_err(CallError::from_sdk)?;
        let id = begun.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| CallError::new(CallErrorCause::Malformed, "an upload without an id"))?;
        let part = self.client.upload_part().bucket(&place.bucket).key(&key).upload_id(&id).part_number(1);
        let part = part.body(ByteStream::from_static(b"0")).customize().config_override(one_retry());
        let sent = part.send().await.map_err(CallError::from_sdk);
        let gone = self.client.abort_multipart_upload().bucket(&place.bucket).key(&key).upload_id(id).send().await;
        if let Err(error) = gone {
            debug!(key, error = %CallError::from_sdk(error), "an upload was not given up; the bucket's own rule takes care of it");
        }
        sent.map(drop)
    }
}

/// The error kind of one item, where others are accessible.
fn single_item_kind(during: CallPurpose, failure: &CallError) -> StoreErrorKind {
    let refused = StoreErrorKind::Refused;
    match (failure.cause, during) {
        (CallErrorCause::StorageFull, CallPurpose::Write) => {
            let why = format!("there is no room for it, while others are taken: {failure}");
            refused(RefusalReason::Unwritable(why))
        }
        (CallErrorCause::Denied | CallErrorCause::Unsupported, CallPurpose::Write) => {
            refused(RefusalReason::Unwritable(failure.to_string()))
        }
        (CallErrorCause::Unsupported, _) => refused(RefusalReason::Unreadable),
        // A filter before a service blocks some names and not others.
        (CallErrorCause::HtmlPage, CallPurpose::Write) if failure.status == Some(403) => {
            refused(RefusalReason::Unwritable(failure.to_string()))
        }
        (CallErrorCause::HtmlPage, _) if failure.status == Some(403) => refused(RefusalReason::Unreadable),
        _ => StoreErrorKind::Unexpected,
    }
}

fn into_call_error(why: PageError) -> CallError {
    match why {
        PageError::Failed(failure) => failure,
        PageError::Contradiction(why) => CallError::new(CallErrorCause::Malformed, why),
    }
}

/// A single retry: the original call had all its retries already.
fn one_retry() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().retry_config(RetryConfig::standard().with_max_attempts(2))
}
