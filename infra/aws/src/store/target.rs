//! A write of an item: what is settled before it begins, why it was not done, and what it left.

use aws_sdk_s3::types::ChecksumMode;
use mill_model::{ItemAddress, Version};
use mill_ports::{Content, Refusal, StoreError, StoreErrorKind, When, Written};

use super::facts::{State, bare, md5, tag_of};
use super::faults::During;
use super::places::Place;
use super::properties::Borne;
use super::{Inner, Spaces};
use crate::trouble::Trouble;

/// A write that was checked and can begin.
pub(super) struct Target<'a> {
    pub(super) item: &'a ItemAddress,
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) borne: Borne,
    pub(super) size: u64,
    /// The conditions that the store decides: `If-Match` and `If-None-Match`.
    pub(super) if_match: Option<String>,
    pub(super) if_none_match: Option<String>,
}

impl Inner {
    /// A write of an item, checked as far as it can be before it begins.
    pub(super) async fn target<'a>(
        &self,
        item: &'a ItemAddress,
        content: &Content,
        when: &When,
    ) -> Result<Target<'a>, StoreError> {
        const OP: &str = "writing";
        let (place, key) = self.place_of(OP, item)?;
        let refused = |refusal: Refusal| self.of_item(OP, item, StoreErrorKind::Refused(refusal));
        let borne = Borne::of(&content.properties).map_err(refused)?;
        if let Spaces::InBucket(_) = self.settings.spaces {
            // Where a bucket is a space, the store itself takes nothing for one that is not there.
            self.confirm(OP, &item.space, &place).await?;
        }
        let native = self.settings.native_conditions;
        if !native {
            // Such a store may refuse what it is told of conditions, so it is told of none.
            self.check(OP, item, when).await?;
        }
        let if_match = if let When::VersionIs(version) = when { native.then(|| tag_of(version)) } else { None };
        let if_none_match = (native && *when == When::Absent).then(|| "*".to_owned());
        Ok(Target { item, place, key, borne, size: content.size, if_match, if_none_match })
    }

    /// Whether a write may meet what is there, decided here.
    pub(super) async fn check(&self, op: &'static str, item: &ItemAddress, when: &When) -> Result<(), StoreError> {
        if *when == When::Always {
            return Ok(());
        }
        let found = self.look(op, item).await?.here();
        let holds = match (when, found) {
            (When::Absent, None) | (When::Always, _) => true,
            (When::VersionIs(expected), Some(found)) => found.facts.version == *expected,
            (When::Absent, Some(_)) | (When::VersionIs(_), None) => false,
        };
        if holds { Ok(()) } else { Err(self.of_item(op, item, StoreErrorKind::Precondition)) }
    }

    /// The same once more, after a write that took long. The store's own condition knows the bytes alone; where it decides
    /// nothing itself, absence too may have ended since.
    pub(super) async fn check_again(&self, target: &Target<'_>, when: &When) -> Result<(), StoreError> {
        if matches!(when, When::VersionIs(_)) || !self.settings.native_conditions {
            self.check("writing", target.item, when).await?;
        }
        Ok(())
    }

    /// Why a write was not done. A state of what is absent is not the present one, be it written over or copied from.
    pub(super) fn not_written(&self, target: &Target<'_>, trouble: Trouble) -> StoreError {
        if trouble.is(&["NoSuchKey"]) {
            return self.of_item("writing", target.item, StoreErrorKind::Precondition);
        }
        self.meant("writing", target.item.to_string(), During::Write, trouble)
    }

    /// What a write left. Only looking tells the time that the store gave it. Properties other than were written are
    /// another writer's, who came between: of that state nothing is proven.
    pub(super) async fn as_written(&self, target: &Target<'_>, etag: &str) -> Result<Written, StoreError> {
        let look = self.client.head_object().bucket(&target.place.bucket).key(&target.key);
        let looked = look.checksum_mode(ChecksumMode::Enabled).send().await;
        let state = State { etag, size: target.size, modified: None };
        let unknown = Version::unsettled(state.version_as_written().token());
        let (version, at, plain) = match &looked {
            Ok(found) if bare(found.e_tag().unwrap_or_default()) == bare(etag) => {
                let state = State { modified: found.last_modified(), ..state };
                let told = self.found_by_head(found).facts;
                let ours = told.properties.is_some_and(|properties| properties == target.borne.clone().properties());
                let version = state.version_as_written();
                let version = if ours { version } else { Version::unsettled(version.token()) };
                (version, state.modified_at(), told.checksums)
            }
            // It was written; somebody else came since, or what came of it cannot be seen.
            _ => (unknown, None, Vec::new()),
        };
        let checksums = plain
            .into_iter()
            .filter(|told| md5(etag).is_none_or(|md5| told.algorithm != md5.algorithm || *told == md5));
        Ok(Written { version, checksums: checksums.collect(), at })
    }
}
