//! Finds, lists, makes and removes spaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use mill_model::{Monotonic, SpaceId};
use mill_ports::{LeftOutEntries, Presence, RefusalReason, SpaceFacts, SpaceList, StoreError, StoreErrorKind};
use parking_lot::Mutex;

use super::errors::{CallPurpose, displayable};
use super::key_encoding;
use super::keys::BucketPrefix;
use super::overlap::is_witness;
use super::page::{ListedKey, PageError, PageRequest, PageStart, display_key};
use super::{SpaceLayout, StoreInner};
use crate::sdk_error::CallError;

/// How long a space counts as existing after it was seen. A bucket can only be removed when it is empty, so an item that is
/// absent from it stays absent.
const SIGHTING_VALID_FOR: Duration = Duration::from_secs(5);

/// When each space was last seen.
#[derive(Debug, Default)]
pub(super) struct SpaceSightings(Mutex<BTreeMap<SpaceId, SpaceSighting>>);

#[derive(Debug, Default)]
struct SpaceSighting {
    at: Option<Monotonic>,
    /// Held during a request for the space.
    probe_lock: Arc<tokio::sync::Mutex<()>>,
}

impl SpaceSightings {
    fn with_entry<T>(&self, space: &SpaceId, on: impl FnOnce(&mut SpaceSighting) -> T) -> T {
        let mut spaces = self.0.lock();
        match spaces.get_mut(space) {
            Some(seen) => on(seen),
            None => on(spaces.entry(space.clone()).or_default()),
        }
    }

    /// Notes that a response proved a space to exist.
    pub(super) fn note(&self, space: &SpaceId, now: Monotonic) {
        self.with_entry(space, |seen| seen.at = seen.at.max(Some(now)));
    }

    pub(super) fn forget(&self, space: &SpaceId) {
        self.with_entry(space, |seen| seen.at = None);
    }

    /// The spaces that existed at the last request for them.
    pub(super) fn spaces(&self) -> Vec<SpaceId> {
        let spaces = self.0.lock();
        spaces.iter().filter(|(_, seen)| seen.at.is_some()).map(|(space, _)| space.clone()).collect()
    }

    fn seen_recently(&self, space: &SpaceId, now: Monotonic) -> bool {
        self.with_entry(space, |seen| seen.at.is_some_and(|at| now.since(at) < SIGHTING_VALID_FOR))
    }

    fn probe_lock(&self, space: &SpaceId) -> Arc<tokio::sync::Mutex<()>> {
        self.with_entry(space, |seen| seen.probe_lock.clone())
    }
}

const LISTING_SPACES: &str = "listing spaces";

impl StoreInner {
    pub(super) async fn space_facts(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        let Some(place) = self.bucket_prefix(space) else { return Ok(Presence::Absent) };
        if !self.space_exists("looking for a space", space, &place).await? {
            return Ok(Presence::Absent);
        }
        // A bucket has no identity but its name: a bucket that was made anew looks the same.
        let BucketPrefix { bucket, prefix } = place;
        Ok(Presence::Present(SpaceFacts { identity: format!("s3://{bucket}/{prefix}") }))
    }

    /// The place of a space's keys. A service reports no more of a bucket than its name.
    pub(super) fn places_of(&self, space: &SpaceId) -> Vec<mill_ports::Place> {
        let identity =
            self.bucket_prefix(space).map(|BucketPrefix { bucket, prefix }| format!("s3://{bucket}/{prefix}"));
        vec![mill_ports::Place { path: String::new(), identity: identity.unwrap_or_default() }]
    }

    /// Requests whether a space exists. A space in a shared bucket exists as long as any key has its prefix, even if only
    /// its marker.
    async fn space_exists(&self, op: &'static str, space: &SpaceId, place: &BucketPrefix) -> Result<bool, StoreError> {
        let one = PageRequest { place, from: PageStart::Beginning, with_delimiter: false, max: Some(1) };
        let there = match self.page(one).await {
            Ok(page) => self.bucket_is_space() || !page.objects.is_empty(),
            Err(why) => {
                let error = self.listing_error(op, space, place, why).await;
                if error.kind != StoreErrorKind::SpaceAbsent {
                    return Err(error);
                }
                false
            }
        };
        if there {
            self.space_sightings.note(space, self.settings.clock.monotonic());
        } else {
            self.space_sightings.forget(space);
        }
        Ok(there)
    }

    /// Checks that a space exists: it was seen lately, or a request finds it.
    ///
    /// # Errors
    /// [`StoreErrorKind::SpaceAbsent`] when it does not exist.
    pub(super) async fn confirm_space(
        &self,
        op: &'static str,
        space: &SpaceId,
        place: &BucketPrefix,
    ) -> Result<(), StoreError> {
        let seen_recently = || self.space_sightings.seen_recently(space, self.settings.clock.monotonic());
        if seen_recently() {
            return Ok(());
        }
        // One caller requests, the others wait for the result: else all calls in flight would request at the same moment.
        let probe_lock = self.space_sightings.probe_lock(space);
        let _guard = probe_lock.lock().await;
        if seen_recently() || self.space_exists(op, space, place).await? {
            return Ok(());
        }
        Err(self.space_error(op, space, StoreErrorKind::SpaceAbsent))
    }

    pub(super) async fn all_spaces(&self) -> Result<SpaceList, StoreError> {
        let (found, left_out) = match &self.settings.spaces {
            SpaceLayout::InBucket(bucket) => self.prefixes(bucket).await?,
            SpaceLayout::Buckets { prefix } => (self.buckets(prefix).await?, LeftOutEntries::default()),
            SpaceLayout::Single { space, .. } => {
                let here = self.space_facts(space).await?.present();
                (here.map(|_| space.clone()).into_iter().collect(), LeftOutEntries::default())
            }
        };
        Ok(SpaceList { spaces: found.into_iter().collect(), left_out })
    }

    /// The spaces of a bucket: the parts of keys before the first slash. A key without a slash is in no space.
    async fn prefixes(&self, bucket: &str) -> Result<(BTreeSet<SpaceId>, LeftOutEntries), StoreError> {
        let place = BucketPrefix { bucket: bucket.to_owned(), prefix: String::new() };
        let failed = |why| self.page_error(LISTING_SPACES, displayable(bucket), why);
        let mut found = BTreeSet::new();
        let mut left_out = LeftOutEntries::default();
        let mut tokens = BTreeSet::new();
        let mut next: Option<String> = None;
        loop {
            let from = next.as_deref().map_or(PageStart::Beginning, PageStart::Token);
            let asked = PageRequest { place: &place, from, with_delimiter: true, max: None };
            let page = self.page(asked).await.map_err(failed)?;
            let common_prefixes: Vec<&ListedKey> = page.common_prefixes.iter().collect();
            self.prove_reading(&place, &common_prefixes, key_encoding::ListedKind::CommonPrefixes)
                .await
                .map_err(failed)?;
            let of_others = |key: &&ListedKey| !key.text().is_some_and(is_witness);
            for key in page.objects.iter().map(|(key, _)| key).filter(of_others) {
                left_out.add(|| display_key(key), RefusalReason::OutsideSpaces);
            }
            for common_prefix in &page.common_prefixes {
                let id = common_prefix.text().and_then(|name| SpaceId::new(name.strip_suffix('/')?).ok());
                let Some(id) = id else {
                    left_out.add(
                        || display_key(common_prefix),
                        RefusalReason::InvalidSpaceName("it breaks the rules of space ids"),
                    );
                    continue;
                };
                if !found.insert(id) {
                    return Err(failed(PageError::Contradiction(format!(
                        "`{}` is named twice",
                        display_key(common_prefix)
                    ))));
                }
            }
            let Some(token) = page.next else { return Ok((found, left_out)) };
            if !tokens.insert(token.clone()) {
                return Err(failed(PageError::Contradiction("the listing goes round".to_owned())));
            }
            next = Some(token);
        }
    }

    /// The spaces whose buckets have this name prefix.
    async fn buckets(&self, prefix: &str) -> Result<BTreeSet<SpaceId>, StoreError> {
        let names = self.bucket_names(prefix).await?;
        // A server without support for prefixes lists all its buckets.
        Ok(names.iter().filter_map(|name| SpaceId::new(name.strip_prefix(prefix)?).ok()).collect())
    }

    /// The account's buckets, at least those with this prefix. The service reports only that a list continues, not that it
    /// ends. So a response without a list is not an empty list.
    pub(super) async fn bucket_names(&self, prefix: &str) -> Result<BTreeSet<String>, StoreError> {
        let all = || format!("{}*", displayable(prefix));
        let contradiction = |why: String| self.page_error(LISTING_SPACES, all(), PageError::Contradiction(why));
        let mut names = BTreeSet::new();
        let mut tokens = BTreeSet::new();
        let mut next = None;
        loop {
            let answer = self.client.list_buckets().prefix(prefix).set_continuation_token(next).send().await;
            let answer = answer.map_err(|error| {
                self.page_error(LISTING_SPACES, all(), PageError::Failed(CallError::from_sdk(error)))
            })?;
            if let Some(other) = answer.prefix().filter(|echo| !echo.is_empty() && *echo != prefix) {
                return Err(contradiction(format!(
                    "it answers for the prefix `{}`, which was not asked",
                    displayable(other)
                )));
            }
            for bucket in answer.buckets.ok_or_else(|| contradiction("it holds no list of buckets".to_owned()))? {
                let name = bucket.name.filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| contradiction("a bucket without a name".to_owned()))?;
                if names.contains(&name) {
                    return Err(contradiction(format!("bucket `{}` is named twice", displayable(&name))));
                }
                names.insert(name);
            }
            next = answer.continuation_token.filter(|token| !token.is_empty());
            match &next {
                None => return Ok(names),
                Some(token) if !tokens.insert(token.clone()) => {
                    return Err(contradiction("the list goes round".to_owned()));
                }
                Some(_) => {}
            }
        }
    }

    pub(super) async fn create_bucket_or_marker(&self, space: &SpaceId) -> Result<(), StoreError> {
        const OP: &str = "making a space";
        let Some(place) = self.bucket_prefix(space) else {
            let why = StoreErrorKind::Refused(RefusalReason::UnrepresentableId("no bucket can bear its name".into()));
            return Err(self.space_error(OP, space, why));
        };
        if let SpaceLayout::InBucket(_) = self.settings.spaces {
            // No item has an empty id, so no other object has this key.
            let marker = self.client.put_object().bucket(&place.bucket).key(&place.prefix).send().await;
            let Err(error) = marker else { return Ok(()) };
            let (failure, at) = (CallError::from_sdk(error), (&place, &*place.prefix));
            return Err(self.scoped_error(OP, space.to_string(), at, CallPurpose::Write, failure).await);
        }
        let region = self.region.as_deref().filter(|region| *region != "us-east-1");
        let there = region.map(|region| {
            CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::from(region)).build()
        });
        let made =
            self.client.create_bucket().bucket(&place.bucket).set_create_bucket_configuration(there).send().await;
        match made {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(CreateBucketError::is_bucket_already_owned_by_you) => {
                Ok(())
            }
            Err(error) if error.as_service_error().is_some_and(CreateBucketError::is_bucket_already_exists) => {
                // Some servers report this for one's own bucket too, which another worker made at the same moment.
                if self.bucket_names(&place.bucket).await.is_ok_and(|names| names.contains(&place.bucket)) {
                    return Ok(());
                }
                let why = StoreErrorKind::Refused(RefusalReason::PathConflict("a bucket of somebody else's".into()));
                Err(self.space_error(OP, space, why))
            }
            Err(error) => Err(self.store_error(OP, space.to_string(), CallPurpose::Write, CallError::from_sdk(error))),
        }
    }

    pub(super) async fn remove_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        const OP: &str = "removing a space";
        let Some(place) = self.bucket_prefix(space) else { return Ok(()) };
        let failed = |failure| self.store_error(OP, space.to_string(), CallPurpose::Write, failure);
        let two = PageRequest { place: &place, from: PageStart::Beginning, with_delimiter: false, max: Some(2) };
        let page = match self.page(two).await {
            Ok(page) => page,
            Err(why) => {
                let error = self.listing_error(OP, space, &place, why).await;
                return if error.kind == StoreErrorKind::SpaceAbsent { Ok(()) } else { Err(error) };
            }
        };
        let marker = |key: &ListedKey| !self.bucket_is_space() && key.bytes == place.prefix.as_bytes();
        if page.next.is_some() || page.objects.iter().any(|(key, _)| !marker(key)) {
            return Err(self.space_error(OP, space, StoreErrorKind::Precondition));
        }
        self.space_sightings.forget(space);
        match &self.settings.spaces {
            SpaceLayout::InBucket(_) => {
                let gone = self.client.delete_object().bucket(&place.bucket).key(&place.prefix).send().await;
                gone.map(|_| ()).map_err(|error| failed(CallError::from_sdk(error)))
            }
            // Objects outside the prefix do not belong to the space.
            SpaceLayout::Single { prefix, .. } if !prefix.is_empty() => Ok(()),
            SpaceLayout::Single { .. } | SpaceLayout::Buckets { .. } => {
                match self.client.delete_bucket().bucket(&place.bucket).send().await {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        let failure = CallError::from_sdk(error);
                        if failure.has_code(&["BucketNotEmpty"]) {
                            return Err(self.space_error(OP, space, StoreErrorKind::Precondition));
                        }
                        if failure.has_code(&["NoSuchBucket"]) {
                            return Ok(());
                        }
                        Err(failed(failure))
                    }
                }
            }
        }
    }
}
