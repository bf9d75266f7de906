//! What an event says.

use mill_model::Timestamp;

use super::Sequencer;

/// What a service says that happened to an object. The address of the sender is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEvent {
    /// What happened.
    pub kind: EventKind,
    /// The service as it names itself: `aws:s3`, `minio:s3`, `ceph:s3`. Events by EventBridge are of `aws:s3`.
    pub service: String,
    /// The bucket.
    pub bucket: String,
    /// The key of the object, decoded, to the byte. Empty only for an [`EventKind::Ignored`] of a whole bucket. It may be
    /// longer than an id of Mill.
    pub key: String,
    /// The place in the order of events of this key, if the service promises one. See [`Sequencer`].
    pub sequencer: Option<Sequencer>,
    /// When it happened, by the clock of the service; by EventBridge in whole seconds. Never order events by it.
    pub at: Timestamp,
    /// The size in bytes. `None` if unknown, and always for a removal.
    pub size: Option<u64>,
    /// The entity tag without quotes. `None` if unknown, and always for a removal.
    pub etag: Option<String>,
    /// The version, in a bucket that has versions. It may be `null`, which is the id of a version too.
    pub version_id: Option<String>,
    /// Who did it, as the service names him. For a rule of the bucket it is the service itself.
    pub principal: Option<String>,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It was written: new, replaced, or as a further version.
    Created(ObjectCreation),
    /// It, a version of it, or its delete marker was removed. See [`ObjectEvent::may_concern_another_version`].
    Removed(ObjectRemoval),
    /// Its tags were set or removed.
    TagsChanged,
    /// Its permissions were changed.
    AclChanged,
    /// Nothing that Mill copies has changed: the name of the event. Here are moves between storage classes, restores
    /// from an archive, replication, access, locks, and losses (a loss at the source must not spread to its copies).
    Ignored(String),
    /// This Mill does not know what it means: the name of the event. A reason to look.
    Unknown(String),
}

/// How an object was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectCreation {
    /// By an upload in one request.
    Put,
    /// By a form in a browser.
    Post,
    /// By a copy within the service. So are properties changed.
    Copy,
    /// By an upload in parts.
    CompleteMultipartUpload,
    /// In another way, by the name of the service.
    Other(String),
}

/// How an object was removed. Rules of the bucket (lifecycle) do it in the same two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectRemoval {
    /// For good: the only state of the object, or one version of it.
    Deleted,
    /// A delete marker was put before its versions.
    DeleteMarkerCreated,
}

impl ObjectEvent {
    /// Whether something may have changed that Mill copies.
    pub fn is_reason_to_look(&self) -> bool {
        !matches!(self.kind, EventKind::Ignored(_))
    }

    /// Whether a removal may have left the object as it was, or even brought it back.
    ///
    /// If a version is deleted by its id, S3 sends `ObjectRemoved:Delete` with that id, and does not say whether it was the
    /// current one. It may have been an old one; then the object is unchanged. It may have been the delete marker; then
    /// the object is there again. So even a removal is only a hint. Source: Amazon S3 user guide, *Managing delete markers*.
    pub fn may_concern_another_version(&self) -> bool {
        self.kind == EventKind::Removed(ObjectRemoval::Deleted) && self.version_id.is_some()
    }

    /// Whether `other` is of the same object and surely happened later. `false` if that is not known, and for repeats.
    pub fn is_superseded_by(&self, other: &Self) -> bool {
        let same_object = (&self.service, &self.bucket, &self.key) == (&other.service, &other.bucket, &other.key);
        let orders = (self.sequencer.as_ref(), other.sequencer.as_ref());
        same_object && matches!(orders, (Some(own), Some(other)) if own < other)
    }
}
