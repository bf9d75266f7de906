//! A write of an item: what is settled before it begins, why it was not done, and what it left.

use mill_model::{ItemAddress, Version};
use mill_ports::{Precondition, PutRequest, PutResult, RefusalReason, StoreError, StoreErrorKind};

use super::errors::CallPurpose;
use super::head::{ObjectState, bare, md5, tag_of};
use super::key_shapes::Shapes;
use super::keys::BucketPrefix;
use super::overlap::is_witness;
use super::properties::ObjectHeaders;
use super::{SpaceLayout, StoreInner};
use crate::sdk_error::CallError;

/// A write that was checked and can begin.
pub(super) struct PreparedPut<'a> {
    pub(super) item: &'a ItemAddress,
    pub(super) place: BucketPrefix,
    pub(super) key: String,
    pub(super) borne: ObjectHeaders,
    pub(super) size: u64,
    /// What of the key is unusual, where nothing is there yet and the store was not seen to keep such keys.
    pub(super) unproven: Shapes,
    /// The conditions that the store decides: `If-Match` and `If-None-Match`.
    pub(super) if_match: Option<String>,
    pub(super) if_none_match: Option<String>,
}

impl StoreInner {
    /// A write of an item, checked as far as it can be before it begins.
    pub(super) async fn target<'a>(
        &self,
        item: &'a ItemAddress,
        content: &PutRequest,
        when: &Precondition,
    ) -> Result<PreparedPut<'a>, StoreError> {
        const OP: &str = "writing";
        let (place, key) = self.place_of(OP, item)?;
        let refused = |refusal: RefusalReason| self.of_item(OP, item, StoreErrorKind::Refused(refusal));
        if is_witness(&key) {
            return Err(refused(RefusalReason::Reserved));
        }
        let borne = ObjectHeaders::of(&content.properties).map_err(refused)?;
        if let SpaceLayout::InBucket(_) = self.settings.spaces {
            // Where a bucket is a space, the store itself takes nothing for one that is not there.
            self.confirm(OP, &item.space, &place).await?;
        }
        let native = self.settings.native_conditions;
        if !native {
            // Such a store may refuse what it is told of conditions, so it is told of none.
            self.check(OP, item, when).await?;
        }
        let mut unproven = self.unproven(OP, item, &key)?;
        if !unproven.is_empty() && self.look(OP, item).await?.present().is_some() {
            // It stands there under its own name.
            unproven = Shapes::default();
        }
        let if_match = if let Precondition::VersionIs(version) = when { native.then(|| tag_of(version)) } else { None };
        // Where a key may be taken for another, it replaces nothing.
        let only_new = *when == Precondition::Absent || (!unproven.is_empty() && if_match.is_none());
        let if_none_match = (native && only_new).then(|| "*".to_owned());
        Ok(PreparedPut { item, place, key, borne, size: content.size, unproven, if_match, if_none_match })
    }

    /// Whether a write may meet what is there, decided here.
    pub(super) async fn check(
        &self,
        op: &'static str,
        item: &ItemAddress,
        when: &Precondition,
    ) -> Result<(), StoreError> {
        if *when == Precondition::Always {
            return Ok(());
        }
        let found = self.look(op, item).await?.present();
        let holds = match (when, found) {
            (Precondition::Absent, None) | (Precondition::Always, _) => true,
            (Precondition::VersionIs(expected), Some(found)) => found.facts.version == *expected,
            (Precondition::Absent, Some(_)) | (Precondition::VersionIs(_), None) => false,
        };
        if holds { Ok(()) } else { Err(self.of_item(op, item, StoreErrorKind::Precondition)) }
    }

    /// The same once more, after a write that took long. The store's own condition knows the bytes alone; where it decides
    /// nothing itself, absence too may have ended since.
    pub(super) async fn check_again(&self, target: &PreparedPut<'_>, when: &Precondition) -> Result<(), StoreError> {
        if matches!(when, Precondition::VersionIs(_)) || !self.settings.native_conditions {
            self.check("writing", target.item, when).await?;
        }
        Ok(())
    }

    /// Why a write was not done. A state of what is absent is not the present one, be it written over or copied from.
    pub(super) async fn not_written(&self, target: &PreparedPut<'_>, trouble: CallError) -> StoreError {
        if trouble.is(&["NoSuchKey"]) {
            return self.of_item("writing", target.item, StoreErrorKind::Precondition);
        }
        if let Some(refused) = self.takes_no_such_key("writing", target.item, &target.key, &trouble) {
            return refused;
        }
        self.of_one("writing", target.item, (&target.place, &target.key), CallPurpose::Write, trouble).await
    }

    /// The outcome of a step of a write.
    pub(super) async fn step<T>(
        &self,
        target: &PreparedPut<'_>,
        outcome: Result<T, CallError>,
    ) -> Result<T, StoreError> {
        match outcome {
            Ok(done) => Ok(done),
            Err(trouble) => Err(self.not_written(target, trouble).await),
        }
    }

    /// What a write left. Only looking tells the time that the store gave it, and that it is there: an answer alone may be
    /// that of something before the store. Properties other than were written are another writer's, who came between: of that
    /// state nothing is proven.
    ///
    /// # Errors
    /// It cannot be looked at, or is not what was written.
    pub(super) async fn as_written(&self, target: &PreparedPut<'_>, etag: &str) -> Result<PutResult, StoreError> {
        const OP: &str = "looking at what was written";
        let found = self.found_at(OP, target.item).await?.present();
        let found =
            found.ok_or_else(|| self.unexpected(OP, target.item, "the store said it was, and it is not there"))?;
        if !target.unproven.is_empty() {
            if bare(&found.etag) == bare(etag) {
                self.was_kept(target, &found).await?;
            } else {
                // What another wrote there since may stand under another name too.
                self.is_its_own(OP, target.item, (&target.place, &target.key), &found).await?;
            }
        }
        if bare(&found.etag) != bare(etag) {
            // Somebody else came since.
            let state = ObjectState { etag, size: target.size, modified: None };
            let version = Version::unsettled(state.version_as_written().token());
            return Ok(PutResult { version, checksums: Vec::new(), at: None });
        }
        let facts = found.facts;
        if facts.size != target.size {
            let why = format!("{} bytes are there of {} that were written", facts.size, target.size);
            return Err(self.unexpected(OP, target.item, why));
        }
        let ours = facts.properties.is_some_and(|properties| properties == target.borne.clone().properties());
        let token = facts.version.token();
        let version = if ours { Version::settled_at(token) } else { Version::unsettled(token) };
        let checksums = facts
            .checksums
            .into_iter()
            .filter(|told| md5(etag).is_none_or(|md5| told.algorithm != md5.algorithm || *told == md5));
        Ok(PutResult { version, checksums: checksums.collect(), at: facts.modified })
    }
}
