//! Spaces: whether they are there, and all of them.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration, EncodingType};
use mill_model::SpaceId;
use mill_ports::{LeftOut, Presence, Refusal, SpaceFacts, SpaceList, StoreError, StoreErrorKind};

use super::faults::{During, fit};
use super::listing::decoded;
use super::places::Place;
use super::{Inner, Spaces};
use crate::trouble::Trouble;

/// How long a space that was seen to be there is taken to be there. A bucket goes only once it holds nothing, so what
/// is absent from a bucket that went meanwhile is absent all the same.
const SEEN_FOR: Duration = Duration::from_secs(5);

impl Inner {
    pub(super) async fn space_facts(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        let Some(place) = self.place(space) else { return Ok(Presence::Absent) };
        if !self.is_there("looking for a space", space, &place).await? {
            return Ok(Presence::Absent);
        }
        // Without an identity of its own: a bucket made anew is known by no more than its name.
        let Place { bucket, prefix } = place;
        Ok(Presence::Here(SpaceFacts { identity: format!("s3://{bucket}/{prefix}") }))
    }

    /// Where the keys of a space stand. A service tells no more of a bucket than its name.
    pub(super) fn places_of(&self, space: &SpaceId) -> Vec<mill_ports::Place> {
        let identity = self.place(space).map(|Place { bucket, prefix }| format!("s3://{bucket}/{prefix}"));
        vec![mill_ports::Place { path: String::new(), identity: identity.unwrap_or_default() }]
    }

    /// Asks whether a space is there. One in a bucket is there as long as any key, be it its own mark, begins with it.
    async fn is_there(&self, op: &'static str, space: &SpaceId, place: &Place) -> Result<bool, StoreError> {
        let looked = self.client.list_objects_v2().bucket(&place.bucket).prefix(&place.prefix).max_keys(1).send().await;
        let there = match looked {
            Ok(answer) => self.bucket_is_space() || !answer.contents().is_empty(),
            Err(error) => {
                let error = self.meant(op, space.to_string(), During::Reach, Trouble::of(error));
                if error.kind != StoreErrorKind::SpaceAbsent {
                    return Err(error);
                }
                false
            }
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if there {
            seen.insert(space.clone(), self.settings.clock.monotonic());
        } else {
            seen.remove(space);
        }
        Ok(there)
    }

    /// Insists that a space is there, as far as it was seen lately or else answers now.
    ///
    /// # Errors
    /// [`StoreErrorKind::SpaceAbsent`] when it is not.
    pub(super) async fn confirm(&self, op: &'static str, space: &SpaceId, place: &Place) -> Result<(), StoreError> {
        let lately = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.get(space).is_some_and(|at| self.settings.clock.monotonic().since(*at) < SEEN_FOR)
        };
        if lately || self.is_there(op, space, place).await? {
            return Ok(());
        }
        Err(self.of_space(op, space, StoreErrorKind::SpaceAbsent))
    }

    pub(super) async fn all_spaces(&self) -> Result<SpaceList, StoreError> {
        let (found, left_out) = match &self.settings.spaces {
            Spaces::InBucket(bucket) => self.prefixes(bucket).await?,
            Spaces::Buckets { prefix } => (self.buckets(prefix).await?, LeftOut::default()),
            Spaces::Single { space, .. } => {
                let here = self.space_facts(space).await?.here();
                (here.map(|_| space.clone()).into_iter().collect(), LeftOut::default())
            }
        };
        Ok(SpaceList { spaces: found.into_iter().collect(), left_out })
    }

    /// The spaces of a bucket: whatever stands before the first slash of any key. A key without one is in no space.
    async fn prefixes(&self, bucket: &str) -> Result<(BTreeSet<SpaceId>, LeftOut), StoreError> {
        const OP: &str = "listing spaces";
        let mut found = BTreeSet::new();
        let mut left_out = LeftOut::default();
        let mut token = None;
        loop {
            let request = self.client.list_objects_v2().bucket(bucket).delimiter("/").encoding_type(EncodingType::Url);
            let answer = request.set_continuation_token(token).send().await;
            let answer = answer.map_err(|error| self.meant(OP, fit(bucket), During::Reach, Trouble::of(error)))?;
            for key in answer.contents().iter().filter_map(|object| object.key()) {
                left_out.add(|| fit(key), Refusal::InNoSpace);
            }
            let encoded = answer.encoding_type() == Some(&EncodingType::Url);
            for prefix in answer.common_prefixes().iter().filter_map(|prefix| prefix.prefix()) {
                let name = if encoded { decoded(prefix) } else { Ok(prefix.to_owned()) };
                let id = name.ok().and_then(|name| SpaceId::new(name.strip_suffix('/')?).ok());
                match id {
                    Some(id) => drop(found.insert(id)),
                    None => left_out.add(|| fit(prefix), Refusal::NoSpaceName("it breaks the rules of space ids")),
                }
            }
            token = self.next_page(OP, bucket, answer.is_truncated(), answer.next_continuation_token)?;
            if token.is_none() {
                return Ok((found, left_out));
            }
        }
    }

    /// The mark of the next page, where there is one. An answer that says both or neither is none.
    fn next_page(
        &self,
        op: &'static str,
        bucket: &str,
        more: Option<bool>,
        token: Option<String>,
    ) -> Result<Option<String>, StoreError> {
        match (more.unwrap_or(false), token.filter(|token| !token.is_empty())) {
            (false, _) => Ok(None),
            (true, Some(token)) => Ok(Some(token)),
            (true, None) => Err(StoreError {
                source: Some("there is more, but the answer does not tell where".into()),
                ..self.error(op, fit(bucket), StoreErrorKind::Unexpected)
            }),
        }
    }

    async fn buckets(&self, prefix: &str) -> Result<BTreeSet<SpaceId>, StoreError> {
        const OP: &str = "listing spaces";
        let mut found = BTreeSet::new();
        let mut token = None;
        loop {
            let answer = self.client.list_buckets().prefix(prefix).set_continuation_token(token).send().await;
            let answer = answer.map_err(|error| self.meant(OP, fit(prefix), During::Reach, Trouble::of(error)))?;
            // A server that does not know of prefixes names all its buckets.
            let names = answer.buckets().iter().filter_map(|bucket| bucket.name()?.strip_prefix(prefix));
            found.extend(names.filter_map(|name| SpaceId::new(name).ok()));
            token = answer.continuation_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    pub(super) async fn make_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        const OP: &str = "making a space";
        let Some(place) = self.place(space) else {
            let why = StoreErrorKind::Refused(Refusal::Unholdable("no bucket can bear its name".into()));
            return Err(self.of_space(OP, space, why));
        };
        if let Spaces::InBucket(_) = self.settings.spaces {
            // No item has an empty id, so nothing else ever has this key.
            let mark = self.client.put_object().bucket(&place.bucket).key(&place.prefix).send().await;
            mark.map_err(|error| self.meant(OP, space.to_string(), During::Write, Trouble::of(error)))?;
            return Ok(());
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
                let why = StoreErrorKind::Refused(Refusal::Taken("a bucket of somebody else's".into()));
                Err(self.of_space(OP, space, why))
            }
            Err(error) => Err(self.meant(OP, space.to_string(), During::Write, Trouble::of(error))),
        }
    }

    pub(super) async fn remove_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        const OP: &str = "removing a space";
        let Some(place) = self.place(space) else { return Ok(()) };
        let failed = |trouble| self.meant(OP, space.to_string(), During::Write, trouble);
        let looked = self.client.list_objects_v2().bucket(&place.bucket).prefix(&place.prefix).max_keys(2).send().await;
        let looked = match looked.map_err(|error| failed(Trouble::of(error))) {
            Ok(answer) => answer,
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => return Ok(()),
            Err(error) => return Err(error),
        };
        let mark = |key: Option<&str>| !self.bucket_is_space() && key == Some(place.prefix.as_str());
        if looked.contents().iter().any(|object| !mark(object.key())) {
            return Err(self.of_space(OP, space, StoreErrorKind::Precondition));
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(space);
        match &self.settings.spaces {
            Spaces::InBucket(_) => {
                let gone = self.client.delete_object().bucket(&place.bucket).key(&place.prefix).send().await;
                gone.map(|_| ()).map_err(|error| failed(Trouble::of(error)))
            }
            // What lies beside the prefix is not the space's.
            Spaces::Single { prefix, .. } if !prefix.is_empty() => Ok(()),
            Spaces::Single { .. } | Spaces::Buckets { .. } => {
                match self.client.delete_bucket().bucket(&place.bucket).send().await {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        let trouble = Trouble::of(error);
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
