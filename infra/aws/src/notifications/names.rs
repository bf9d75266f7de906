//! What the names of events mean.
//!
//! Sources: Amazon S3 user guide, *Event notification types and destinations* and *Using EventBridge*; MinIO,
//! *Bucket notifications*; Ceph, *S3 bucket notifications compatibility*.

use super::event::{EventKind, ObjectCreation, ObjectRemoval};

/// Names in records that say of nothing that Mill copies, by their first word.
const IGNORED_FAMILIES: [&str; 14] = [
    // Amazon's. A lost object of reduced redundancy is not a removal: its copies are all that is left.
    "ReducedRedundancyLostObject",
    "ObjectRestore",
    "Replication",
    "LifecycleTransition",
    "IntelligentTiering",
    "ObjectAnnotation",
    // MinIO's.
    "ObjectAccessed",
    "ObjectTransition",
    "ILM",
    "Scanner",
    "BucketCreated",
    "BucketRemoved",
    "ObjectManyVersions",
    // Ceph's, beside its expirations.
    "ObjectLifecycle",
];

/// The kind of an event of a record. Some services begin the name with `s3:`, some do not.
pub(super) fn record_kind(name: &str) -> EventKind {
    let name = name.strip_prefix("s3:").unwrap_or(name);
    let (family, action) = name.split_once(':').unwrap_or((name, ""));
    let ignored = || EventKind::Ignored(name.to_owned());
    match (family, action) {
        // MinIO counts changes beside the content as creations.
        ("ObjectCreated", "PutTagging" | "DeleteTagging") | ("ObjectTagging", _) => EventKind::TagsChanged,
        // It reports locks, and of deletes that found nothing.
        ("ObjectCreated", "PutRetention" | "PutLegalHold") | ("ObjectRemoved", "NoOP") => ignored(),
        ("ObjectCreated", how) => EventKind::Created(creation(how)),
        ("ObjectSynced", "Create") => EventKind::Created(ObjectCreation::Other("ObjectSynced".to_owned())),
        ("ObjectRemoved" | "LifecycleExpiration", "DeleteMarkerCreated")
        | ("ObjectSynced", "DeletionMarkerCreated") => EventKind::Removed(ObjectRemoval::DeleteMarkerCreated),
        ("ObjectRemoved" | "LifecycleExpiration", _)
        | ("ObjectSynced", "Delete")
        | ("ObjectLifecycle", "Expiration:Current") => EventKind::Removed(ObjectRemoval::Deleted),
        ("ObjectAcl", _) => EventKind::AclChanged,
        _ if IGNORED_FAMILIES.contains(&family) => ignored(),
        _ => EventKind::Unknown(name.to_owned()),
    }
}

fn creation(how: &str) -> ObjectCreation {
    match how {
        "Put" => ObjectCreation::Put,
        "Post" => ObjectCreation::Post,
        "Copy" => ObjectCreation::Copy,
        "CompleteMultipartUpload" => ObjectCreation::CompleteMultipartUpload,
        other => ObjectCreation::Other(other.to_owned()),
    }
}

/// The kind of an event by EventBridge: by its `detail-type`, and by `reason` or `deletion-type`.
pub(super) fn event_bridge_kind(detail_type: &str, reason: Option<&str>, deletion_type: Option<&str>) -> EventKind {
    match detail_type {
        "Object Created" => EventKind::Created(match reason.unwrap_or_default() {
            "PutObject" => ObjectCreation::Put,
            "POST Object" => ObjectCreation::Post,
            "CopyObject" => ObjectCreation::Copy,
            "CompleteMultipartUpload" => ObjectCreation::CompleteMultipartUpload,
            other => ObjectCreation::Other(other.to_owned()),
        }),
        "Object Deleted" if deletion_type == Some("Delete Marker Created") => {
            EventKind::Removed(ObjectRemoval::DeleteMarkerCreated)
        }
        "Object Deleted" => EventKind::Removed(ObjectRemoval::Deleted),
        "Object Tags Added" | "Object Tags Deleted" => EventKind::TagsChanged,
        "Object ACL Updated" => EventKind::AclChanged,
        "Object Restore Initiated"
        | "Object Restore Completed"
        | "Object Restore Expired"
        | "Object Storage Class Changed"
        | "Object Access Tier Changed" => EventKind::Ignored(detail_type.to_owned()),
        _ => EventKind::Unknown(detail_type.to_owned()),
    }
}
