//! How far the failure of a call on one item reaches: found out by asking for something else of the same place.
//!
//! A service that denies one key, or fails at one, may do all else. So before a store is said to be of no use, another call is
//! made that must fail too: of reading, a listing and the first bytes of another item; of writing, an upload of Mill's own
//! that is begun, given one byte and given up. Nothing of it is ever there, not even a version or a mark of a deletion. It
//! costs requests only in trouble, and what was found counts for a short time.

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
use super::overlap::nobodys;
use super::page::{PageError, PageRequest, PageStart};
use super::{SpaceLayout, StoreInner};
use crate::sdk_error::{CallError, CallErrorCause};

/// How long what was found out counts.
const FOUND_FOR: Duration = Duration::from_secs(5);

/// Other spaces that are asked before a store is said not to be writable.
const OTHERS_MAX: usize = 2;

/// What was found out of the places of a store. The lock is held while one is asked, so that of many that fail at one moment
/// a single one asks.
#[derive(Debug, Default)]
pub(super) struct ProbeCache(tokio::sync::Mutex<BTreeMap<ProbeKey, (Monotonic, ProbeResult)>>);

type ProbeKey = (CallPurpose, String, String);

/// Whether a place can be used.
#[derive(Debug, Clone)]
enum ProbeResult {
    Yes,
    /// Not so, for what was asked in its stead failed too; a person must act.
    No(Arc<str>),
    /// The same, and it may pass by itself.
    NotNow(Arc<str>),
}

impl StoreInner {
    /// The failure of a call on one item, with its reach.
    pub(super) async fn of_one(
        &self,
        op: &'static str,
        item: &ItemAddress,
        (place, key): (&BucketPrefix, &str),
        during: CallPurpose,
        trouble: CallError,
    ) -> StoreError {
        self.reaching(op, item.to_string(), (place, key), during, trouble).await
    }

    /// The same of whatever is called `subject`.
    pub(super) async fn reaching(
        &self,
        op: &'static str,
        subject: String,
        (place, key): (&BucketPrefix, &str),
        during: CallPurpose,
        trouble: CallError,
    ) -> StoreError {
        let trouble = self.whereabouts.judged(trouble);
        let in_question = match trouble.cause {
            // To whom one item is denied to be read, others may be granted: it is refused by itself.
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
            | CallErrorCause::OtherResponse
            | CallErrorCause::Malformed => false,
        };
        if !in_question {
            return self.meant(op, subject, during, trouble);
        }
        let kind_of_all = kind(during, &trouble);
        match self.usable(place, key, during, trouble.cause).await {
            ProbeResult::Yes => {
                debug!(subject, error = %trouble, "others can be had; this one alone is meant");
                let kind = of_item_alone(during, &trouble);
                StoreError { source: Some(trouble.into()), ..self.error(op, subject, kind) }
            }
            ProbeResult::No(why) => self.all_meant(op, subject, StoreErrorKind::Unavailable, &trouble, &why),
            ProbeResult::NotNow(why) => self.all_meant(op, subject, kind_of_all, &trouble, &why),
        }
    }

    /// Why a space could not be listed: for itself alone, or for the store. Where it is alone, its store has others.
    pub(super) async fn of_listing(
        &self,
        op: &'static str,
        space: &SpaceId,
        place: &BucketPrefix,
        why: PageError,
    ) -> StoreError {
        let trouble = match why {
            PageError::Failed(trouble) => self.whereabouts.judged(trouble),
            contradiction @ PageError::Contradiction(_) => return self.no_page(op, space.to_string(), contradiction),
        };
        let kind = match kind(CallPurpose::Reach, &trouble) {
            StoreErrorKind::Unavailable | StoreErrorKind::NotConfigured => {
                StoreErrorKind::Refused(RefusalReason::Unreadable)
            }
            // Where no answer comes at all, none comes of other spaces either.
            StoreErrorKind::Unreachable if trouble.cause == CallErrorCause::ServerError => StoreErrorKind::Unexpected,
            _ => return self.meant(op, space.to_string(), CallPurpose::Reach, trouble),
        };
        match self.usable(place, "", CallPurpose::Reach, trouble.cause).await {
            ProbeResult::Yes => {
                debug!(%space, error = %trouble, "other spaces can be listed; this one alone is meant");
                let words = self.whereabouts.told(&StoreErrorKind::Unavailable, &trouble, trouble.to_string());
                StoreError { source: Some(words.into()), ..self.of_space(op, space, kind) }
            }
            ProbeResult::No(_) | ProbeResult::NotNow(_) => {
                self.meant(op, space.to_string(), CallPurpose::Reach, trouble)
            }
        }
    }

    fn all_meant(
        &self,
        op: &'static str,
        subject: String,
        kind: StoreErrorKind,
        trouble: &CallError,
        why: &str,
    ) -> StoreError {
        let words =
            if *why == trouble.to_string() { why.to_owned() } else { format!("{trouble}; and not of others: {why}") };
        let words = self.whereabouts.told(&kind, trouble, words);
        StoreError { source: Some(words.into()), ..self.error(op, subject, kind) }
    }

    /// Whether anything but this key can be read, or written, there.
    async fn usable(&self, place: &BucketPrefix, key: &str, during: CallPurpose, cause: CallErrorCause) -> ProbeResult {
        let now = || self.settings.clock.monotonic();
        let asked = (during, place.bucket.clone(), place.prefix.clone());
        let mut found_out = self.found_out.0.lock().await;
        if let Some((at, answers)) = found_out.get(&asked)
            && now().since(*at) < FOUND_FOR
        {
            return answers.clone();
        }
        let outcome = match during {
            CallPurpose::Write => self.writable(place, cause).await,
            CallPurpose::Read => self.readable(place, key).await,
            CallPurpose::Reach => self.others_listed(place).await,
        };
        let answers = match outcome {
            Ok(()) => ProbeResult::Yes,
            Err(why) => {
                let why = self.whereabouts.judged(why);
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
        found_out.retain(|_, (at, _)| now().since(*at) < FOUND_FOR);
        found_out.insert(asked, (now(), answers.clone()));
        answers
    }

    /// Asks for a listing, and for another item that it names.
    async fn readable(&self, place: &BucketPrefix, key: &str) -> Result<(), CallError> {
        let two = PageRequest { place, from: PageStart::Beginning, by_folder: false, max: Some(2) };
        let page = match self.page(two).await {
            Ok(page) => page,
            Err(PageError::Failed(trouble))
                if matches!(trouble.cause, CallErrorCause::Denied | CallErrorCause::OtherResponse) =>
            {
                return Ok(());
            }
            Err(why) => {
                let why = as_trouble(why);
                // Perhaps of its space alone, unless no answer comes at all.
                let alone = why.cause != CallErrorCause::Unreachable && self.others_listed(place).await.is_ok();
                return if alone { Ok(()) } else { Err(why) };
            }
        };
        let others = page.objects.iter().filter(|(_, object)| object.size > 0);
        let Some(other) = others.filter_map(|(other, _)| other.text()).find(|other| *other != key) else {
            return Ok(());
        };
        let read = self.client.get_object().bucket(&place.bucket).key(other).range("bytes=0-0").customize();
        match read.config_override(twice()).send().await.map_err(CallError::of) {
            Err(trouble) if matches!(trouble.cause, CallErrorCause::Denied | CallErrorCause::OtherResponse) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Writes something that is never there, beside the item; and where that is denied, or has no room, in other spaces that
    /// were seen.
    async fn writable(&self, place: &BucketPrefix, cause: CallErrorCause) -> Result<(), CallError> {
        let Err(why) = self.takes_bytes(place).await else { return Ok(()) };
        if !matches!(cause, CallErrorCause::Denied | CallErrorCause::StorageFull) {
            return Err(why);
        }
        for other in self.other_places(place) {
            if self.takes_bytes(&other).await.is_ok() {
                return Ok(());
            }
        }
        Err(why)
    }

    /// Lists another space: one that was seen, or else one that the store names.
    async fn others_listed(&self, place: &BucketPrefix) -> Result<(), CallError> {
        let nothing =
            || CallError::plain(CallErrorCause::OtherResponse, "the store has no other space that could be listed");
        let mut seen = self.other_places(place);
        match &self.settings.spaces {
            SpaceLayout::Single { .. } => return Err(nothing()),
            // What lists the bucket itself can be used, whatever its prefixes forbid.
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
            let by_folder = other.prefix.is_empty();
            match self.page(PageRequest { place: &other, from: PageStart::Beginning, by_folder, max: Some(1) }).await {
                Ok(_) => return Ok(()),
                Err(failed) => why = as_trouble(failed),
            }
        }
        Err(why)
    }

    /// Other spaces that were seen.
    fn other_places(&self, place: &BucketPrefix) -> Vec<BucketPrefix> {
        if matches!(self.settings.spaces, SpaceLayout::Single { .. }) {
            return Vec::new();
        }
        let others = self.seen.spaces().into_iter().filter_map(|space| self.place(&space));
        others.filter(|other| other != place).take(OTHERS_MAX).collect()
    }

    async fn takes_bytes(&self, place: &BucketPrefix) -> Result<(), CallError> {
        let key = nobodys(&place.prefix);
        let asked = self.client.create_multipart_upload().bucket(&place.bucket).key(&key).customize();
        let begun = asked.config_override(twice()).send().await.map_err(CallError::of)?;
        let id = begun.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| CallError::plain(CallErrorCause::Malformed, "an upload without an id"))?;
        let part = self.client.upload_part().bucket(&place.bucket).key(&key).upload_id(&id).part_number(1);
        let part = part.body(ByteStream::from_static(b"0")).customize().config_override(twice());
        let sent = part.send().await.map_err(CallError::of);
        let gone = self.client.abort_multipart_upload().bucket(&place.bucket).key(&key).upload_id(id).send().await;
        if let Err(error) = gone {
            debug!(key, error = %CallError::of(error), "an upload was not given up; the bucket's own rule takes care of it");
        }
        sent.map(drop)
    }
}

/// What a failure means of one item where others can be had.
fn of_item_alone(during: CallPurpose, trouble: &CallError) -> StoreErrorKind {
    let refused = StoreErrorKind::Refused;
    match (trouble.cause, during) {
        (CallErrorCause::StorageFull, CallPurpose::Write) => {
            let why = format!("there is no room for it, while others are taken: {trouble}");
            refused(RefusalReason::Unwritable(why))
        }
        (CallErrorCause::Denied | CallErrorCause::Unsupported, CallPurpose::Write) => {
            refused(RefusalReason::Unwritable(trouble.to_string()))
        }
        (CallErrorCause::Unsupported, _) => refused(RefusalReason::Unreadable),
        // Filters that stand before a service let some names through, and others not.
        (CallErrorCause::HtmlPage, CallPurpose::Write) if trouble.status == Some(403) => {
            refused(RefusalReason::Unwritable(trouble.to_string()))
        }
        (CallErrorCause::HtmlPage, _) if trouble.status == Some(403) => refused(RefusalReason::Unreadable),
        _ => StoreErrorKind::Unexpected,
    }
}

fn as_trouble(why: PageError) -> CallError {
    match why {
        PageError::Failed(trouble) => trouble,
        PageError::Contradiction(why) => CallError::plain(CallErrorCause::Malformed, why),
    }
}

/// Tried once more, and no oftener: what it is asked about failed often enough.
fn twice() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().retry_config(RetryConfig::standard().with_max_attempts(2))
}
