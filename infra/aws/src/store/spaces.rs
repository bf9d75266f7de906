//! Spaces: whether they are there, and all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use mill_model::{Monotonic, SpaceId};
use mill_ports::{LeftOutEntries, Presence, RefusalReason, SpaceFacts, SpaceList, StoreError, StoreErrorKind};

use super::errors::{CallPurpose, fit};
use super::key_encoding;
use super::keys::BucketPrefix;
use super::overlap::is_witness;
use super::page::{ListedKey, PageError, PageRequest, PageStart, shown};
use super::{SpaceLayout, StoreInner};
use crate::sdk_error::CallError;

/// How long a space that was seen to be there is taken to be there. A bucket goes only once it holds nothing, so what
/// is absent from a bucket that went meanwhile is absent all the same.
const SEEN_FOR: Duration = Duration::from_secs(5);

/// When each space was last seen to be there.
#[derive(Debug, Default)]
pub(super) struct SpaceSightings(Mutex<BTreeMap<SpaceId, SpaceSighting>>);

#[derive(Debug, Default)]
struct SpaceSighting {
    at: Option<Monotonic>,
    /// Held by who asks.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl SpaceSightings {
    fn of<T>(&self, space: &SpaceId, on: impl FnOnce(&mut SpaceSighting) -> T) -> T {
        let mut spaces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match spaces.get_mut(space) {
            Some(seen) => on(seen),
            None => on(spaces.entry(space.clone()).or_default()),
        }
    }

    /// Notes that the service showed something of a space.
    pub(super) fn note(&self, space: &SpaceId, now: Monotonic) {
        self.of(space, |seen| seen.at = seen.at.max(Some(now)));
    }

    pub(super) fn forget(&self, space: &SpaceId) {
        self.of(space, |seen| seen.at = None);
    }

    /// Those that were there when they were last looked for.
    pub(super) fn spaces(&self) -> Vec<SpaceId> {
        let spaces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spaces.iter().filter(|(_, seen)| seen.at.is_some()).map(|(space, _)| space.clone()).collect()
    }

    fn lately(&self, space: &SpaceId, now: Monotonic) -> bool {
        self.of(space, |seen| seen.at.is_some_and(|at| now.since(at) < SEEN_FOR))
    }

    fn asking(&self, space: &SpaceId) -> Arc<tokio::sync::Mutex<()>> {
        self.of(space, |seen| seen.asking.clone())
    }
}

const LISTING_SPACES: &str = "listing spaces";

impl StoreInner {
    pub(super) async fn space_facts(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        let Some(place) = self.place(space) else { return Ok(Presence::Absent) };
        if !self.is_there("looking for a space", space, &place).await? {
            return Ok(Presence::Absent);
        }
        // Without an identity of its own: a bucket made anew is known by no more than its name.
        let BucketPrefix { bucket, prefix } = place;
        Ok(Presence::Present(SpaceFacts { identity: format!("s3://{bucket}/{prefix}") }))
    }

    /// Where the keys of a space stand. A service tells no more of a bucket than its name.
    pub(super) fn places_of(&self, space: &SpaceId) -> Vec<mill_ports::Place> {
        let identity = self.place(space).map(|BucketPrefix { bucket, prefix }| format!("s3://{bucket}/{prefix}"));
        vec![mill_ports::Place { path: String::new(), identity: identity.unwrap_or_default() }]
    }

    /// Asks whether a space is there. One in a bucket is there as long as any key, be it its own mark, begins with it.
    async fn is_there(&self, op: &'static str, space: &SpaceId, place: &BucketPrefix) -> Result<bool, StoreError> {
        let one = PageRequest { place, from: PageStart::Beginning, by_folder: false, max: Some(1) };
        let there = match self.page(one).await {
            Ok(page) => self.bucket_is_space() || !page.objects.is_empty(),
            Err(why) => {
                let error = self.of_listing(op, space, place, why).await;
                if error.kind != StoreErrorKind::SpaceAbsent {
                    return Err(error);
                }
                false
            }
        };
        if there {
            self.seen.note(space, self.settings.clock.monotonic());
        } else {
            self.seen.forget(space);
        }
        Ok(there)
    }

    /// Insists that a space is there, as far as it was seen lately or else answers now.
    ///
    /// # Errors
    /// [`StoreErrorKind::SpaceAbsent`] when it is not.
    pub(super) async fn confirm(
        &self,
        op: &'static str,
        space: &SpaceId,
        place: &BucketPrefix,
    ) -> Result<(), StoreError> {
        let lately = || self.seen.lately(space, self.settings.clock.monotonic());
        if lately() {
            return Ok(());
        }
        // One asks, the others wait for its answer: else all that are under way would ask in the same moment.
        let asking = self.seen.asking(space);
        let _ours = asking.lock().await;
        if lately() || self.is_there(op, space, place).await? {
            return Ok(());
        }
        Err(self.of_space(op, space, StoreErrorKind::SpaceAbsent))
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

    /// The spaces of a bucket: whatever stands before the first slash of any key. A key without one is in no space.
    async fn prefixes(&self, bucket: &str) -> Result<(BTreeSet<SpaceId>, LeftOutEntries), StoreError> {
        let place = BucketPrefix { bucket: bucket.to_owned(), prefix: String::new() };
        let failed = |why| self.no_page(LISTING_SPACES, fit(bucket), why);
        let mut found = BTreeSet::new();
        let mut left_out = LeftOutEntries::default();
        let mut tokens = BTreeSet::new();
        let mut next: Option<String> = None;
        loop {
            let from = next.as_deref().map_or(PageStart::Beginning, PageStart::Token);
            let asked = PageRequest { place: &place, from, by_folder: true, max: None };
            let page = self.page(asked).await.map_err(failed)?;
            let folders: Vec<&ListedKey> = page.folders.iter().collect();
            self.prove_reading(&place, &folders, key_encoding::ListedKind::Folders).await.map_err(failed)?;
            let of_others = |key: &&ListedKey| !key.text().is_some_and(is_witness);
            for key in page.objects.iter().map(|(key, _)| key).filter(of_others) {
                left_out.add(|| shown(key), RefusalReason::InNoSpace);
            }
            for folder in &page.folders {
                let id = folder.text().and_then(|name| SpaceId::new(name.strip_suffix('/')?).ok());
                let Some(id) = id else {
                    left_out.add(|| shown(folder), RefusalReason::NoSpaceName("it breaks the rules of space ids"));
                    continue;
                };
                if !found.insert(id) {
                    return Err(failed(PageError::Contradiction(format!("`{}` is named twice", shown(folder)))));
                }
            }
            let Some(token) = page.next else { return Ok((found, left_out)) };
            if !tokens.insert(token.clone()) {
                return Err(failed(PageError::Contradiction("the listing goes round".to_owned())));
            }
            next = Some(token);
        }
    }

    /// The spaces that are buckets whose names begin so.
    async fn buckets(&self, prefix: &str) -> Result<BTreeSet<SpaceId>, StoreError> {
        let names = self.bucket_names(prefix).await?;
        // A server that does not know of prefixes names all its buckets.
        Ok(names.iter().filter_map(|name| SpaceId::new(name.strip_prefix(prefix)?).ok()).collect())
    }

    /// The account's buckets, those whose names begin so at least. The service says that the list goes on, and nothing of its
    /// end: a list that is not there at all is none that is empty.
    pub(super) async fn bucket_names(&self, prefix: &str) -> Result<BTreeSet<String>, StoreError> {
        let all = || format!("{}*", fit(prefix));
        let contradiction = |why: String| self.no_page(LISTING_SPACES, all(), PageError::Contradiction(why));
        let mut names = BTreeSet::new();
        let mut tokens = BTreeSet::new();
        let mut next = None;
        loop {
            let answer = self.client.list_buckets().prefix(prefix).set_continuation_token(next).send().await;
            let answer =
                answer.map_err(|error| self.no_page(LISTING_SPACES, all(), PageError::Failed(CallError::of(error))))?;
            if let Some(other) = answer.prefix().filter(|echo| !echo.is_empty() && *echo != prefix) {
                return Err(contradiction(format!("it answers for the prefix `{}`, which was not asked", fit(other))));
            }
            for bucket in answer.buckets.ok_or_else(|| contradiction("it holds no list of buckets".to_owned()))? {
                let name = bucket.name.filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| contradiction("a bucket without a name".to_owned()))?;
                if names.contains(&name) {
                    return Err(contradiction(format!("bucket `{}` is named twice", fit(&name))));
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

    pub(super) async fn make_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        const OP: &str = "making a space";
        let Some(place) = self.place(space) else {
            let why = StoreErrorKind::Refused(RefusalReason::UnrepresentableId("no bucket can bear its name".into()));
            return Err(self.of_space(OP, space, why));
        };
        if let SpaceLayout::InBucket(_) = self.settings.spaces {
            // No item has an empty id, so nothing else ever has this key.
            let mark = self.client.put_object().bucket(&place.bucket).key(&place.prefix).send().await;
            let Err(error) = mark else { return Ok(()) };
            let (trouble, at) = (CallError::of(error), (&place, &*place.prefix));
            return Err(self.reaching(OP, space.to_string(), at, CallPurpose::Write, trouble).await);
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
                // Some servers say so of one's own too, which another worker made in the same moment.
                if self.bucket_names(&place.bucket).await.is_ok_and(|names| names.contains(&place.bucket)) {
                    return Ok(());
                }
                let why = StoreErrorKind::Refused(RefusalReason::PathConflict("a bucket of somebody else's".into()));
                Err(self.of_space(OP, space, why))
            }
            Err(error) => Err(self.meant(OP, space.to_string(), CallPurpose::Write, CallError::of(error))),
        }
    }

    pub(super) async fn remove_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        const OP: &str = "removing a space";
        let Some(place) = self.place(space) else { return Ok(()) };
        let failed = |trouble| self.meant(OP, space.to_string(), CallPurpose::Write, trouble);
        let two = PageRequest { place: &place, from: PageStart::Beginning, by_folder: false, max: Some(2) };
        let page = match self.page(two).await {
            Ok(page) => page,
            Err(why) => {
                let error = self.of_listing(OP, space, &place, why).await;
                return if error.kind == StoreErrorKind::SpaceAbsent { Ok(()) } else { Err(error) };
            }
        };
        let mark = |key: &ListedKey| !self.bucket_is_space() && key.bytes == place.prefix.as_bytes();
        if page.next.is_some() || page.objects.iter().any(|(key, _)| !mark(key)) {
            return Err(self.of_space(OP, space, StoreErrorKind::Precondition));
        }
        self.seen.forget(space);
        match &self.settings.spaces {
            SpaceLayout::InBucket(_) => {
                let gone = self.client.delete_object().bucket(&place.bucket).key(&place.prefix).send().await;
                gone.map(|_| ()).map_err(|error| failed(CallError::of(error)))
            }
            // What lies beside the prefix is not the space's.
            SpaceLayout::Single { prefix, .. } if !prefix.is_empty() => Ok(()),
            SpaceLayout::Single { .. } | SpaceLayout::Buckets { .. } => {
                match self.client.delete_bucket().bucket(&place.bucket).send().await {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        let trouble = CallError::of(error);
                        if trouble.is(&["BucketNotEmpty"]) {
                            return Err(self.of_space(OP, space, StoreErrorKind::Precondition));
                        }
                        if trouble.is(&["NoSuchBucket"]) {
                            return Ok(());
                        }
                        Err(failed(trouble))
                    }
                }
            }
        }
    }
}
