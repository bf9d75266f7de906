//! A write of an item: the checks before it, the error of a failed one, and the check of its result.

use mill_model::{ItemAddress, Properties, Version};
use mill_ports::{Precondition, Presence, PutRequest, PutResult, RefusalReason, StoreError, StoreErrorKind};

use super::attachments::TagsToWrite;
use super::errors::CallPurpose;
use super::head::{FoundObject, ObjectState, etag_of, md5, unquoted};
use super::key_shapes::Shapes;
use super::keys::BucketPrefix;
use super::overlap::is_witness;
use super::properties::{KeptProperties, ObjectHeaders};
use super::{SpaceLayout, StoreInner};
use crate::sdk_error::CallError;

/// A write that passed its checks and can begin.
pub(super) struct PreparedPut<'a> {
    pub(super) item: &'a ItemAddress,
    pub(super) place: BucketPrefix,
    pub(super) key: String,
    pub(super) object_headers: ObjectHeaders,
    pub(super) size: u64,
    pub(super) tags: TagsToWrite,
    /// The key's shapes that the store is not known to keep, if no object is there yet.
    pub(super) unproven_shapes: Shapes,
    /// The conditions that the store enforces: `If-Match` and `If-None-Match`.
    pub(super) if_match: Option<String>,
    pub(super) if_none_match: Option<String>,
    /// Whether the write makes the object, or fails.
    pub(super) is_new: bool,
}

impl StoreInner {
    /// Prepares a write of an item, with all checks that are possible before it begins.
    pub(super) async fn prepare_put<'a>(
        &self,
        item: &'a ItemAddress,
        content: &PutRequest,
        when: &Precondition,
    ) -> Result<PreparedPut<'a>, StoreError> {
        const OP: &str = "writing";
        let (place, key) = self.item_key(OP, item)?;
        let refused = |refusal: RefusalReason| self.item_error(OP, item, StoreErrorKind::Refused(refusal));
        if is_witness(&key) {
            return Err(refused(RefusalReason::Reserved));
        }
        let object_headers = ObjectHeaders::encode(&content.properties).map_err(refused)?;
        if let SpaceLayout::InBucket(_) = self.settings.spaces {
            // Where a space has its own bucket, the store itself rejects a write to a missing one.
            self.confirm_space(OP, &item.space, &place).await?;
        }
        let native = self.settings.native_conditions;
        if !native {
            // Such a store may reject conditional requests, so it receives none.
            self.check_precondition(OP, item, when).await?;
        }
        let mut unproven_shapes = self.unproven_shapes(OP, item, &key)?;
        if !unproven_shapes.is_empty() && self.head_item(OP, item).await?.present().is_some() {
            // An object is there, under its own key.
            unproven_shapes = Shapes::default();
        }
        let tags = match &content.attachments.tags {
            Some(tags) => TagsToWrite::read(tags.read().await)?,
            None => TagsToWrite::default(),
        };
        let if_match =
            if let Precondition::VersionIs(version) = when { native.then(|| etag_of(version)) } else { None };
        // Where the store may confuse a key with another, the write must not replace anything.
        let only_new = *when == Precondition::Absent || (!unproven_shapes.is_empty() && if_match.is_none());
        let if_none_match = (native && only_new).then(|| "*".to_owned());
        Ok(PreparedPut {
            item,
            place,
            key,
            object_headers,
            size: content.size,
            tags,
            unproven_shapes,
            if_match,
            if_none_match,
            is_new: *when == Precondition::Absent,
        })
    }

    /// Checks a precondition by reading the present state.
    pub(super) async fn check_precondition(
        &self,
        op: &'static str,
        item: &ItemAddress,
        when: &Precondition,
    ) -> Result<(), StoreError> {
        if *when == Precondition::Always {
            return Ok(());
        }
        let found = self.head_item(op, item).await?.present();
        let holds = match (when, found) {
            (Precondition::Absent, None) | (Precondition::Always, _) => true,
            (Precondition::VersionIs(expected), Some(found)) => found.facts.version == *expected,
            (Precondition::Absent, Some(_)) | (Precondition::VersionIs(_), None) => false,
        };
        if holds { Ok(()) } else { Err(self.item_error(op, item, StoreErrorKind::Precondition)) }
    }

    /// Checks a precondition again, before the end of a long write. The store's own condition covers the bytes alone;
    /// without one, the object may have appeared since.
    pub(super) async fn recheck_precondition(
        &self,
        target: &PreparedPut<'_>,
        when: &Precondition,
    ) -> Result<(), StoreError> {
        if matches!(when, Precondition::VersionIs(_)) || !self.settings.native_conditions {
            self.check_precondition("writing", target.item, when).await?;
        }
        Ok(())
    }

    /// The error of a failed write. A missing object is not in the expected state, whether it is replaced or copied from.
    pub(super) async fn put_error(&self, target: &PreparedPut<'_>, failure: CallError) -> StoreError {
        if failure.has_code(&["NoSuchKey"]) {
            return self.item_error("writing", target.item, StoreErrorKind::Precondition);
        }
        if let Some(refused) = self.unsupported_key_error("writing", target.item, &target.key, &failure) {
            return refused;
        }
        if let Some(why) = unsupported_properties(&target.object_headers, &failure) {
            let refused = StoreErrorKind::Refused(RefusalReason::UnrepresentableProperties(why));
            return self.item_error("writing", target.item, refused);
        }
        self.scoped_item_error("writing", target.item, (&target.place, &target.key), CallPurpose::Write, failure).await
    }

    /// The result of one step of a write.
    pub(super) async fn step_result<T>(
        &self,
        target: &PreparedPut<'_>,
        outcome: Result<T, CallError>,
    ) -> Result<T, StoreError> {
        match outcome {
            Ok(done) => Ok(done),
            Err(failure) => Err(self.put_error(target, failure).await),
        }
    }

    /// Verifies what a write left. Only a HEAD returns its modification time, and proves that it is there: the response to
    /// the write may come from a proxy. Other properties than the written ones are those of another writer, so that state
    /// proves nothing.
    ///
    /// # Errors
    /// The object cannot be read, or is not what was written.
    pub(super) async fn verify_written(&self, target: &PreparedPut<'_>, etag: &str) -> Result<PutResult, StoreError> {
        const OP: &str = "looking at what was written";
        let found = self.head_key(OP, target.item).await?.present();
        let found =
            found.ok_or_else(|| self.unexpected(OP, target.item, "the store said it was, and it is not there"))?;
        if !target.unproven_shapes.is_empty() {
            if unquoted(&found.etag) == unquoted(etag) {
                self.verify_kept_name(target, &found).await?;
            } else {
                // An object that another writer put there since may be stored under another key too.
                self.verify_own_name(OP, target.item, (&target.place, &target.key), &found).await?;
            }
        }
        if unquoted(&found.etag) != unquoted(etag) {
            // Another writer replaced it since.
            let state = ObjectState { etag, size: target.size, modified: None };
            let version = Version::unsettled(state.version_as_written().token());
            return Ok(PutResult { version, checksums: Vec::new(), at: None, tags: target.tags.written() });
        }
        if found.facts.size != target.size {
            let why = format!("{} bytes are there of {} that were written", found.facts.size, target.size);
            return Err(self.unexpected(OP, target.item, why));
        }
        let written = target.object_headers.clone().decode();
        let kept = found.facts.properties.as_ref().map(|found| KeptProperties::of(&written, found));
        if let Some(KeptProperties::AllBut(name)) = kept {
            return Err(self.unkept_property_error(target, (&name, &written), &found).await);
        }
        let tags = self.tags_written(target, &found).await;
        let facts = found.facts;
        let token = facts.version.token();
        let ours = kept == Some(KeptProperties::All);
        let version = if ours { Version::settled_at(token) } else { Version::unsettled(token) };
        let checksums = facts
            .checksums
            .into_iter()
            .filter(|found| md5(etag).is_none_or(|md5| found.algorithm != md5.algorithm || *found == md5));
        Ok(PutResult { version, checksums: checksums.collect(), at: facts.modified, tags })
    }

    /// The error of a property that the store keeps otherwise. An object that this write made is removed, so that no copy
    /// stands there that is not as its original.
    async fn unkept_property_error(
        &self,
        target: &PreparedPut<'_>,
        (name, written): (&str, &Properties),
        found: &FoundObject,
    ) -> StoreError {
        let kept = found.facts.properties.as_ref().and_then(|kept| kept.get(name));
        let kept = kept.map_or_else(|| "drops it".to_owned(), |kept| format!("keeps it as {kept:?}"));
        let given = written.get(name).unwrap_or_default();
        let mut why = format!("`{name}` is {given:?}, and the store {kept}");
        if target.is_new
            && let Err(left) = self.remove_unchanged(target, found).await
        {
            why = format!("{why}; the copy was not removed: {left}");
        }
        let refused = StoreErrorKind::Refused(RefusalReason::UnrepresentableProperties(why));
        self.item_error("writing", target.item, refused)
    }

    /// Removes an object that a write left, if it is still in the state that was found after the write.
    ///
    /// # Errors
    /// Why it is not removed, in words.
    pub(super) async fn remove_unchanged(&self, target: &PreparedPut<'_>, found: &FoundObject) -> Result<(), String> {
        let Ok(Presence::Present(now)) = self.head_key("removing", target.item).await else {
            return Err("it cannot be looked at".to_owned());
        };
        let same_state = now.etag == found.etag && now.facts.version.token() == found.facts.version.token();
        if !same_state || now.facts.properties != found.facts.properties {
            return Err("it is not surely what was written".to_owned());
        }
        let guard = self.settings.native_conditions.then_some(now.etag);
        let delete = self.client.delete_object().bucket(&target.place.bucket).key(&target.key).set_if_match(guard);
        delete.send().await.map(|_| ()).map_err(|error| CallError::from_sdk(error).to_string())
    }
}

/// What a service says that takes no such properties, if it is not an answer that any object could get.
fn unsupported_properties(object_headers: &ObjectHeaders, failure: &CallError) -> Option<String> {
    let properties = object_headers.clone().decode();
    let is_refusal = if failure.has_code(&["InvalidArgument", "MalformedDate"]) {
        ObjectHeaders::has_unusual_property(&properties)
    } else if failure.has_code(&["SignatureDoesNotMatch"]) {
        // Services differ in what they sign of two blanks.
        properties.0.values().any(|value| value.contains("  "))
    } else {
        failure.has_code(&["MetadataTooLarge"])
    };
    is_refusal.then(|| format!("the store takes no such header: {failure}"))
}
