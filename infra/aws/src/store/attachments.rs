//! What belongs to an object beside its bytes and properties.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::{ObjectLockLegalHoldStatus, StorageClass};
use mill_model::Uncarried;
use mill_ports::Attachments;

/// What the answer to a GET tells of an object beside its properties.
pub(super) fn of(answer: &GetObjectOutput) -> Attachments {
    let held = answer.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On);
    let uncarried = [
        (Uncarried::StorageClass, answer.storage_class().is_some_and(|class| *class != StorageClass::Standard)),
        (Uncarried::EncryptionKey, answer.ssekms_key_id().is_some()),
        (Uncarried::ObjectLock, answer.object_lock_mode().is_some() || held),
    ];
    Attachments {
        // Only a user who may read the tags is told that there are some.
        tag_count: answer.tag_count().and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        uncarried: uncarried.into_iter().filter_map(|(what, there)| there.then_some(what)).collect(),
        ..Attachments::default()
    }
}
