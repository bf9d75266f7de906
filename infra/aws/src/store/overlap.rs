//! Finds out whether two stores share keys: by their names, and where names are not enough, by a witness object.
//!
//! Buckets of the same name in one service are the same bucket. But two addresses may lead to one service: by a local host
//! name, a proxy, or a gateway with other bucket names. So Mill writes an object with a unique key where the one store would
//! write, and looks for it through the other.

use std::fmt;
use std::sync::Arc;

use mill_model::SpaceId;
use mill_ports::{Rng, StoreError, StoreErrorKind};
use tracing::warn;

use super::errors::{CallPurpose, displayable};
use super::keys::BucketPrefix;
use super::page::{PageError, PageRequest, PageStart};
use super::{S3Store, SpaceLayout, StoreInner};
use crate::sdk_error::{CallError, CallErrorCause};
use crate::service::S3Service;

/// The beginning of the last part of a witness's key.
const WITNESS: &str = ".mill-witness-";
/// The number of hexadecimal digits after it.
const WITNESS_DIGITS: usize = 32;

/// Whether a key is that of a witness, which is never content.
pub(super) fn is_witness(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or_default();
    name.strip_prefix(WITNESS)
        .is_some_and(|digits| digits.len() == WITNESS_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// A fixed key under a prefix that is never content, for probes.
pub(super) fn probe_key(prefix: &str) -> String {
    format!("{prefix}{WITNESS}{}", "0".repeat(WITNESS_DIGITS))
}

/// All keys that a store may ever hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Extent {
    service: S3Service,
    keys: KeySet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeySet {
    /// The keys of one bucket with this prefix.
    Of { bucket: String, prefix: String },
    /// All keys of each bucket whose name has this prefix.
    OfBuckets { prefix: String },
}

/// Two stores that share keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{one}` and `{other}` hold the same objects")]
pub struct S3Overlap {
    one: String,
    other: String,
}

/// The result of a comparison of two stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlapResult {
    /// They share no keys.
    Apart,
    /// They share keys.
    Overlap(S3Overlap),
    /// The destination has no bucket yet, so nothing is known.
    NoBucketYet,
}

impl S3Extent {
    /// The extent of a store with these spaces.
    pub fn new(service: S3Service, spaces: &SpaceLayout) -> Self {
        let keys = match spaces.clone() {
            SpaceLayout::InBucket(bucket) => KeySet::Of { bucket, prefix: String::new() },
            SpaceLayout::Single { bucket, prefix, .. } => KeySet::Of { bucket, prefix },
            SpaceLayout::Buckets { prefix } => KeySet::OfBuckets { prefix },
        };
        Self { service, keys }
    }

    /// The overlap of two extents, as far as names tell.
    pub fn overlap(&self, other: &Self) -> Option<S3Overlap> {
        (self.service == other.service && self.keys.intersects(&other.keys)).then(|| self.with(other))
    }

    /// The service that holds the keys.
    pub(super) fn service(&self) -> &S3Service {
        &self.service
    }

    /// Whether names decide: they do within one service, for buckets' own names.
    fn names_decide(&self, other: &Self) -> bool {
        let amazons = |service: &S3Service| matches!(service, S3Service::Amazon { .. });
        let same = self.service == other.service || (amazons(&self.service) && amazons(&other.service));
        same && self.keys.uses_bucket_names() && other.keys.uses_bucket_names()
    }

    fn with(&self, other: &Self) -> S3Overlap {
        S3Overlap { one: self.to_string(), other: other.to_string() }
    }
}

impl fmt::Display for S3Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keys {
            KeySet::Of { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}")?,
            KeySet::OfBuckets { prefix } => write!(f, "s3://{prefix}…")?,
        }
        match &self.service {
            S3Service::Amazon { .. } => Ok(()),
            S3Service::Other(address) => write!(f, " at {address}"),
        }
    }
}

impl KeySet {
    fn intersects(&self, other: &Self) -> bool {
        let nested = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
        match (self, other) {
            (Self::Of { bucket, prefix }, Self::Of { bucket: other, prefix: others }) => {
                bucket == other && nested(prefix, others)
            }
            (Self::OfBuckets { prefix }, Self::OfBuckets { prefix: other }) => nested(prefix, other),
            // The bucket is a space of the other.
            (Self::Of { bucket, .. }, Self::OfBuckets { prefix })
            | (Self::OfBuckets { prefix }, Self::Of { bucket, .. }) => {
                bucket.strip_prefix(prefix.as_str()).is_some_and(|space| SpaceId::new(space).is_ok())
            }
        }
    }

    /// Whether a bucket is addressed by its own name, rather than by an access point.
    fn uses_bucket_names(&self) -> bool {
        match self {
            Self::Of { bucket: name, .. } | Self::OfBuckets { prefix: name } => {
                !name.contains(':') && !name.ends_with("-s3alias")
            }
        }
    }
}

impl S3Store {
    /// All keys that it may ever hold.
    pub fn extent(&self) -> &S3Extent {
        &self.0.extent
    }

    /// Finds out whether this store, a destination, shares keys with `source`. Where names do not decide, it costs some
    /// requests to both.
    ///
    /// # Errors
    /// One of them does not respond, or this one cannot be written.
    pub async fn witness(&self, source: &Self, rng: &dyn Rng) -> Result<OverlapResult, StoreError> {
        let (to, from) = (&self.0, &source.0);
        if let Some(overlap) = to.extent.overlap(&from.extent) {
            return Ok(OverlapResult::Overlap(overlap));
        }
        if to.extent.names_decide(&from.extent) {
            return Ok(OverlapResult::Apart);
        }
        let Some(place) = to.writable_place().await? else { return Ok(OverlapResult::NoBucketYet) };
        let name = format!("{WITNESS}{:016x}{:016x}", rng.next_u64(), rng.next_u64());
        let witness = WitnessObject::put(to, place, &name).await?;
        let seen = witness.seen_through(from, &name).await;
        witness.remove().await;
        Ok(if seen? { OverlapResult::Overlap(to.extent.with(&from.extent)) } else { OverlapResult::Apart })
    }
}

const OP: &str = "telling two stores apart";

impl StoreInner {
    /// A prefix to which this store would write, if its bucket exists.
    async fn writable_place(&self) -> Result<Option<BucketPrefix>, StoreError> {
        let place = match &self.settings.spaces {
            SpaceLayout::InBucket(bucket) => BucketPrefix { bucket: bucket.clone(), prefix: String::new() },
            SpaceLayout::Single { bucket, prefix, .. } => {
                BucketPrefix { bucket: bucket.clone(), prefix: prefix.clone() }
            }
            SpaceLayout::Buckets { .. } => {
                let first = self.all_spaces().await?.spaces.into_iter().next();
                return Ok(first.and_then(|space| self.bucket_prefix(&space)));
            }
        };
        let one = PageRequest { place: &place, from: PageStart::Beginning, with_delimiter: false, max: Some(1) };
        match self.page(one).await {
            Ok(_) => Ok(Some(place)),
            Err(PageError::Failed(failure)) if failure.has_code(&["NoSuchBucket"]) => Ok(None),
            Err(why) => Err(self.page_error(OP, displayable(&place.bucket), why)),
        }
    }

    /// Whether a key is listed. It is not if listing is denied, or the bucket is missing.
    async fn lists(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        let place = BucketPrefix { bucket: bucket.to_owned(), prefix: key.to_owned() };
        let one = PageRequest { place: &place, from: PageStart::Beginning, with_delimiter: false, max: Some(1) };
        match self.page(one).await {
            Ok(page) => Ok(page.objects.iter().any(|(listed, _)| listed.bytes == key.as_bytes())),
            Err(PageError::Failed(CallError {
                cause: CallErrorCause::Denied | CallErrorCause::OtherResponse, ..
            })) => Ok(false),
            Err(why) => Err(self.page_error(OP, displayable(bucket), why)),
        }
    }
}

/// An object with a unique key. If it is dropped before its removal, a task removes it.
struct WitnessObject {
    at: Arc<StoreInner>,
    place: BucketPrefix,
    key: String,
    /// Its version, where the bucket keeps versions.
    version: Option<String>,
    removed: bool,
}

impl WitnessObject {
    async fn put(at: &Arc<StoreInner>, place: BucketPrefix, name: &str) -> Result<Self, StoreError> {
        let key = format!("{}{name}", place.prefix);
        let only_new = at.settings.native_conditions.then(|| "*".to_owned());
        let mut witness = Self { at: at.clone(), place, key, version: None, removed: false };
        let put = at.client.put_object().bucket(&witness.place.bucket).key(&witness.key).set_if_none_match(only_new);
        let put = put
            .send()
            .await
            .map_err(|error| at.store_error(OP, witness.key.clone(), CallPurpose::Write, CallError::from_sdk(error)))?;
        witness.version = put.version_id;
        if !at.lists(&witness.place.bucket, &witness.key).await? {
            let why = "an object was put there, and is not listed under its name";
            let error = at.error(OP, witness.key.clone(), StoreErrorKind::Unexpected);
            return Err(StoreError { source: Some(why.into()), ..error });
        }
        Ok(witness)
    }

    /// Whether it is among the keys of another store.
    async fn seen_through(&self, other: &StoreInner, name: &str) -> Result<bool, StoreError> {
        // Look for it in the bucket of its own name: if it is there, the two are one service, and names decide.
        let by_its_name = other.lists(&self.place.bucket, &self.key).await;
        if let (Ok(true), true) = (&by_its_name, self.at.extent.keys.intersects(&other.extent.keys)) {
            return Ok(true);
        }
        let KeySet::Of { bucket, prefix } = &other.extent.keys else { return by_its_name.map(|_| false) };
        // Look for it where it would be if the other store had another name for the bucket (then prefixes decide), or for
        // the prefix.
        let nested = prefix.starts_with(&self.place.prefix) || self.place.prefix.starts_with(prefix.as_str());
        let in_its_bucket = nested && other.lists(bucket, &self.key).await?;
        let seen = in_its_bucket || other.lists(bucket, &format!("{prefix}{name}")).await?;
        match by_its_name {
            // The other store's own bucket responds: unreachable is only the host that is named after the witness's bucket.
            Err(error) if seen || matches!(error.kind, StoreErrorKind::Unavailable | StoreErrorKind::Unreachable) => {
                Ok(seen)
            }
            by_its_name => by_its_name.map(|_| seen),
        }
    }

    async fn remove(mut self) {
        self.removed = true;
        self.removal().await;
    }

    /// Removes it, with all its versions where that is allowed.
    fn removal(&self) -> impl Future<Output = ()> + Send + 'static {
        let (at, bucket, key, version) =
            (self.at.clone(), self.place.bucket.clone(), self.key.clone(), self.version.clone());
        async move {
            let delete = || at.client.delete_object().bucket(&bucket).key(&key);
            if version.is_some() && delete().set_version_id(version).send().await.is_ok() {
                return;
            }
            if let Err(error) = delete().send().await {
                warn!(bucket, key, error = %CallError::from_sdk(error), "an empty object of mill's own could not be removed; please remove it");
            }
        }
    }
}

impl Drop for WitnessObject {
    fn drop(&mut self) {
        // Without a runtime the process is ending; then the object stays. No listing treats it as content.
        if let (false, Ok(runtime)) = (self.removed, tokio::runtime::Handle::try_current()) {
            runtime.spawn(self.removal());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(endpoint: Option<&str>, text: &str) -> S3Extent {
        let service = S3Service::at(endpoint, Some("eu-central-1")).unwrap();
        let spaces = match text.split_once('/') {
            Some((bucket, prefix)) => {
                SpaceLayout::Single { space: SpaceId::new("s").unwrap(), bucket: bucket.into(), prefix: prefix.into() }
            }
            None if text.ends_with('*') => SpaceLayout::Buckets { prefix: text.trim_end_matches('*').into() },
            None => SpaceLayout::InBucket(text.into()),
        };
        S3Extent::new(service, &spaces)
    }

    #[test]
    fn what_two_stores_hold_in_common_is_told_by_buckets_and_prefixes() {
        for (one, other, overlap) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "ab", false),
            ("a", "a/x/", true),
            ("a/x/", "a/x/y/", true),
            ("a/x/", "a/xy/", false),
            ("a/x/", "b/x/", false),
            ("ovl-*", "ovl-copy", true),
            ("ovl-*", "ovl-copy/x/", true),
            ("ovl-*", "ovl-", false),
            ("ovl-*", "other", false),
            ("ovl-*", "ovl-copy-*", true),
            ("ovl-*", "ovlcopy-*", false),
        ] {
            let (a, b) = (extent(None, one), extent(Some("https://s3.amazonaws.com"), other));
            assert_eq!(a.overlap(&b).is_some(), overlap, "{one} {other}");
            assert_eq!(b.overlap(&a).is_some(), overlap, "{other} {one}");
            let elsewhere = extent(Some("https://s3.example.org"), other);
            assert!(a.overlap(&elsewhere).is_none(), "{one} {other}");
        }
    }

    #[test]
    fn names_tell_all_within_one_service_and_nothing_between_two() {
        let at = |endpoint, text| extent(Some(endpoint), text);
        assert!(extent(None, "a").names_decide(&at("https://s3.eu-central-1.amazonaws.com", "b")));
        assert!(extent(None, "a").names_decide(&at("https://s3.cn-north-1.amazonaws.com.cn", "a")));
        assert!(at("http://nas:9000", "a").names_decide(&at("https://NAS:9000/", "b")));
        assert!(!at("http://nas:9000", "a").names_decide(&at("http://10.0.0.7:9000", "b")));
        assert!(!extent(None, "a-s3alias").names_decide(&extent(None, "b")));
        assert!(!extent(None, "arn:aws:s3:eu-central-1:1:accesspoint/p").names_decide(&extent(None, "b")));
    }

    #[test]
    fn only_mills_own_names_are_witnesses() {
        let name = format!("{WITNESS}{}", "0f".repeat(16));
        for (key, is) in [
            (name.clone(), true),
            (format!("a/b/{name}"), true),
            (format!("{name}/a"), false),
            (format!("{name}0"), false),
            (name.replace('f', "g"), false),
            (WITNESS.to_owned(), false),
        ] {
            assert_eq!(is_witness(&key), is, "{key}");
        }
    }
}
