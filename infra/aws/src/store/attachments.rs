//! What belongs to an object beside its bytes and properties: its tags, which a copy gets, and what no copy gets.

use std::sync::{Arc, OnceLock};

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::{ObjectLockLegalHoldStatus, StorageClass};
use futures::FutureExt as _;
use mill_model::{ItemAddress, Uncarried};
use mill_ports::{Attachments, RefusalReason, StoreError, StoreErrorKind, TagReader, Tags, TagsWritten, error_chain};
use tracing::debug;

use super::StoreInner;
use super::errors::CallPurpose;
use super::head::FoundObject;
use super::keys::{BucketPrefix, percent_encoded};
use super::prepared_put::PreparedPut;
use crate::sdk_error::{CallError, CallErrorCause};

/// What the answer to a GET tells of an object beside its properties.
pub(super) fn of(inner: &Arc<StoreInner>, item: &ItemAddress, answer: &GetObjectOutput) -> Attachments {
    let held = answer.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On);
    let uncarried = [
        (Uncarried::StorageClass, answer.storage_class().is_some_and(|class| *class != StorageClass::Standard)),
        (Uncarried::EncryptionKey, answer.ssekms_key_id().is_some()),
        (Uncarried::ObjectLock, answer.object_lock_mode().is_some() || held),
    ];
    Attachments {
        // Only a user who may read the tags is told that there are some.
        tags: answer.tag_count().is_some_and(|count| count > 0).then(|| {
            let (inner, item) = (inner.clone(), item.clone());
            TagReader::new(move || {
                let (inner, item) = (inner.clone(), item.clone());
                async move { inner.tags(&item).await }.boxed()
            })
        }),
        uncarried: uncarried.into_iter().filter_map(|(what, there)| there.then_some(what)).collect(),
        ..Attachments::default()
    }
}

/// The tags that a write sets, and why it does not, if the store refuses them.
#[derive(Debug, Default)]
pub(super) struct TagsToWrite {
    /// The value of `x-amz-tagging`.
    header: Option<String>,
    /// How many there are.
    count: u32,
    refused: OnceLock<String>,
}

impl TagsToWrite {
    pub(super) fn of(tags: &Tags) -> Self {
        let encoded = tags.iter().map(|(key, value)| format!("{}={}", percent_encoded(key), percent_encoded(value)));
        let encoded = encoded.collect::<Vec<_>>().join("&");
        let count = u32::try_from(tags.len()).unwrap_or(u32::MAX);
        Self { header: (!encoded.is_empty()).then_some(encoded), count, refused: OnceLock::new() }
    }

    /// The value of `x-amz-tagging` for the next request.
    pub(super) fn header(&self) -> Option<String> {
        self.header.clone().filter(|_| self.refused.get().is_none())
    }

    /// Notes why the object has no tags.
    pub(super) fn note_refused(&self, why: String) {
        let _ = self.refused.set(why);
    }

    /// Whether the store may have refused a request for its tags: then it is sent once more without them.
    pub(super) fn may_be_refused(&self, failure: &CallError) -> bool {
        let refused = match failure.cause {
            CallErrorCause::Denied | CallErrorCause::Unsupported => true,
            CallErrorCause::OtherResponse => matches!(failure.status, Some(400 | 403 | 413 | 431)),
            _ => false,
        };
        if refused && self.header().is_some() {
            self.note_refused(format!("its tags could not be written: {failure}"));
            return true;
        }
        false
    }

    /// What became of the tags.
    pub(super) fn written(&self) -> TagsWritten {
        self.refused.get().map_or(TagsWritten::All, |why| TagsWritten::Refused(why.clone()))
    }

    /// Those that are read so. Without the right to read them an object is written without tags; any other error is that of the
    /// write.
    pub(super) fn read(found: Result<Tags, StoreError>) -> Result<Self, StoreError> {
        match found {
            Ok(tags) => Ok(Self::of(&tags)),
            Err(error) if matches!(error.kind, StoreErrorKind::Refused(_)) => {
                let unread = Self::default();
                let why = error.source.as_ref().map_or_else(|| error.to_string(), |source| error_chain(&**source));
                unread.note_refused(format!("its tags could not be read: {why}"));
                Ok(unread)
            }
            Err(error) => Err(error),
        }
    }
}

impl StoreInner {
    /// The tags of an object.
    ///
    /// # Errors
    /// [`RefusalReason::Unreadable`] if they cannot be read, though the object can be.
    pub(super) async fn tags(&self, item: &ItemAddress) -> Result<Tags, StoreError> {
        const OP: &str = "reading the tags";
        let (place, key) = self.item_key(OP, item)?;
        let failure = match self.read_tags(&place, &key).await {
            Ok(tags) => return Ok(tags),
            Err(failure) => failure,
        };
        match failure.cause {
            _ if failure.has_code(&["NoSuchKey"]) => Err(self.item_error(OP, item, StoreErrorKind::Changed)),
            // This says nothing of the object, nor of others.
            CallErrorCause::Denied | CallErrorCause::Unsupported => Err(self.unreadable_tags(item, failure)),
            CallErrorCause::OtherResponse if matches!(failure.status, Some(400 | 403 | 404 | 405)) => {
                Err(self.unreadable_tags(item, failure))
            }
            _ => Err(self.scoped_item_error(OP, item, (&place, &key), CallPurpose::Read, failure).await),
        }
    }

    async fn read_tags(&self, place: &BucketPrefix, key: &str) -> Result<Tags, CallError> {
        match self.client.get_object_tagging().bucket(&place.bucket).key(key).send().await {
            Ok(answer) => Ok(answer.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect()),
            Err(error) => {
                let failure = CallError::from_sdk(error);
                if failure.has_code(&["NoSuchTagSet"]) { Ok(Tags::new()) } else { Err(failure) }
            }
        }
    }

    fn unreadable_tags(&self, item: &ItemAddress, failure: CallError) -> StoreError {
        let kind = StoreErrorKind::Refused(RefusalReason::Unreadable);
        StoreError { source: Some(failure.into()), ..self.item_error("reading the tags", item, kind) }
    }

    /// What became of the tags of a write. Some services take the header and keep no tags: if the HEAD after the write does not tell,
    /// the first tags are read again.
    pub(super) async fn tags_written(&self, target: &PreparedPut<'_>, found: &FoundObject) -> TagsWritten {
        let Some(wanted) = target.tags.header() else { return target.tags.written() };
        let kept = match found.tag_count {
            Some(count) => count == target.tags.count,
            None => self.keeps_tags(target, &wanted).await,
        };
        if !kept {
            target.tags.note_refused("the store takes its tags and does not keep them".to_owned());
        }
        target.tags.written()
    }

    /// Whether this store keeps tags, by those of the first item that was written with some.
    async fn keeps_tags(&self, target: &PreparedPut<'_>, wanted: &str) -> bool {
        if let Some(known) = self.keeps_tags.get() {
            return *known;
        }
        let kept = match self.read_tags(&target.place, &target.key).await {
            Err(failure) if failure.cause == CallErrorCause::Unsupported => false,
            Ok(found) => TagsToWrite::of(&found).header().as_deref() == Some(wanted),
            // It took them, and does not say which there are.
            Err(failure) => {
                debug!(error = %failure, "the tags that were written cannot be read again");
                return true;
            }
        };
        *self.keeps_tags.get_or_init(|| kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_written_as_a_query() {
        let tags = [("a b", "é&=+"), ("c", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let written = TagsToWrite::of(&tags.into());
        assert_eq!(written.header().as_deref(), Some("a%20b=%C3%A9%26%3D%2B&c="));
        assert_eq!(TagsToWrite::of(&Tags::new()).header(), None);
    }

    #[test]
    fn a_refused_request_is_sent_once_more_without_tags() {
        let denied = CallError::new(CallErrorCause::Denied, "AccessDenied");
        let tags = TagsToWrite::of(&[("a".to_owned(), "b".to_owned())].into());
        assert!(!tags.may_be_refused(&CallError::new(CallErrorCause::Unreachable, "")));
        assert!(tags.may_be_refused(&denied) && !tags.may_be_refused(&denied));
        let why = "its tags could not be written: AccessDenied".to_owned();
        assert_eq!((tags.header(), tags.written()), (None, TagsWritten::Refused(why)));
        assert!(!TagsToWrite::default().may_be_refused(&denied));
    }
}
