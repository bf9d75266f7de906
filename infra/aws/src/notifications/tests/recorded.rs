//! Every recorded body, and what is read from it.

use super::*;

/// What an event says, on one line.
fn line(event: &ObjectEvent) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let size = event.size.map_or_else(|| "-".to_owned(), |size| size.to_string());
    let sequencer = event.sequencer.as_ref().map_or("-", Sequencer::as_str);
    let (kind, service, key) = (&event.kind, &event.service, &event.key);
    format!(
        "{kind:?} {service} {key:?} size {size} etag {} version {} order {sequencer} by {}",
        text(&event.etag),
        text(&event.version_id),
        text(&event.principal)
    )
}

/// The bodies that are notifications, and the lines of their events.
const READ: [(&str, &[&str]); 33] = [
    (
        "aws-sqs-put-2.1",
        &[
            r#"Created(Put) aws:s3 "red flower/café (1)+2.jpg" size 104681 etag 2e3ad1e983318bbd8e73b080e2997980 version yd3d4HaWOT2zguDLvIQLU6ptDTwKBnQV order 00643717F9F8B85354 by AWS:AIDAEXAMPLE"#,
        ],
    ),
    (
        "aws-sns-put",
        &[
            r#"Created(Put) aws:s3 "red flower/café (1)+2.jpg" size 104681 etag 2e3ad1e983318bbd8e73b080e2997980 version yd3d4HaWOT2zguDLvIQLU6ptDTwKBnQV order 00643717F9F8B85354 by AWS:AIDAEXAMPLE"#,
        ],
    ),
    (
        "aws-sqs-delete-2.1",
        &[r#"Removed(Deleted) aws:s3 "old.txt" size - etag - version - order 0C0F6F405D6ED209E1 by AWS:AIDAEXAMPLE"#],
    ),
    (
        "aws-sqs-delete-of-version-2.1",
        &[r#"Removed(Deleted) aws:s3 "old.txt" size - etag - version null order 0062E99A88DC40746 by AWS:AIDAEXAMPLE"#],
    ),
    (
        "aws-sqs-lifecycle-2.3",
        &[
            r#"Removed(Deleted) aws:s3 "expired" size - etag - version - order 0062E99A88DC407461 by s3.amazonaws.com"#,
            r#"Removed(DeleteMarkerCreated) aws:s3 "hidden" size - etag - version m1 order 0062E99A88DC407462 by s3.amazonaws.com"#,
            r#"Ignored("LifecycleTransition") aws:s3 "cold" size 7 etag d41d8cd98f00b204e9800998ecf8427e version v1 order - by s3.amazonaws.com"#,
        ],
    ),
    (
        "aws-sqs-tagging-and-acl-2.3",
        &[
            r#"TagsChanged aws:s3 "a" size - etag d41d8cd98f00b204e9800998ecf8427e version v1 order - by AWS:AIDAEXAMPLE"#,
            r#"TagsChanged aws:s3 "a" size - etag d41d8cd98f00b204e9800998ecf8427e version v1 order - by AWS:AIDAEXAMPLE"#,
            r#"AclChanged aws:s3 "a" size - etag d41d8cd98f00b204e9800998ecf8427e version v1 order - by AWS:AIDAEXAMPLE"#,
        ],
    ),
    (
        "aws-sqs-restore-2.1",
        &[
            r#"Ignored("ObjectRestore:Completed") aws:s3 "cold" size 7 etag d41d8cd98f00b204e9800998ecf8427e version - order - by AWS:AIDAEXAMPLE"#,
        ],
    ),
    (
        "aws-sqs-replication-2.2",
        &[
            r#"Ignored("Replication:OperationFailedReplication") aws:s3 "a" size 7 etag d41d8cd98f00b204e9800998ecf8427e version v1 order - by AWS:AIDAEXAMPLE"#,
        ],
    ),
    (
        "aws-eventbridge-created",
        &[
            r#"Created(Put) aws:s3 "red flower/café (1)+2 100%25.jpg" size 5 etag b1946ac92492d2347c6235b4d2611184 version IYV3p45BT0ac8hjHg1houSdS1a.Mro8e order 617F08299329D189 by 123456789012"#,
        ],
    ),
    (
        "aws-eventbridge-via-sns",
        &[
            r#"Created(Put) aws:s3 "red flower/café (1)+2 100%25.jpg" size 5 etag b1946ac92492d2347c6235b4d2611184 version IYV3p45BT0ac8hjHg1houSdS1a.Mro8e order 617F08299329D189 by 123456789012"#,
        ],
    ),
    (
        "aws-eventbridge-created-1.1",
        &[
            r#"Created(CompleteMultipartUpload) aws:s3 "a" size 5 etag b1946ac92492d2347c6235b4d2611184 version - order 006408CAD69598B05E by 123456789012"#,
        ],
    ),
    (
        "aws-eventbridge-deleted",
        &[r#"Removed(Deleted) aws:s3 "a" size - etag - version - order 006408CAD69598B05F by 123456789012"#],
    ),
    (
        "aws-eventbridge-marker-by-lifecycle",
        &[
            r#"Removed(DeleteMarkerCreated) aws:s3 "a" size - etag - version mtB0cV.jejK63XkRNceanNMC.qXPWLeK order 617B398 by s3.amazonaws.com"#,
        ],
    ),
    (
        "aws-eventbridge-tags",
        &[r#"TagsChanged aws:s3 "a" size - etag b1946ac92492d2347c6235b4d2611184 version v1 order - by 123456789012"#],
    ),
    (
        "aws-eventbridge-tier-changed",
        &[
            r#"Ignored("Object Access Tier Changed") aws:s3 "a" size 5 etag b1946ac92492d2347c6235b4d2611184 version - order - by 123456789012"#,
        ],
    ),
    (
        "minio-put",
        &[
            r#"Created(Put) minio:s3 "a b/c+d.jpg" size 629648 etag b7ce786cd89b182bfd5ae765557bbc37 version 1 order - by minio"#,
        ],
    ),
    ("minio-delete", &[r#"Removed(Deleted) minio:s3 "test.pdf" size - etag - version - order - by minio"#]),
    (
        "minio-accessed",
        &[
            r#"Ignored("ObjectAccessed:Get") minio:s3 "test.pdf" size 5 etag b7ce786cd89b182bfd5ae765557bbc37 version - order - by minio"#,
        ],
    ),
    ("minio-bucket-created", &[r#"Ignored("BucketCreated:*") minio:s3 "" size - etag - version - order - by minio"#]),
    (
        "ceph-put",
        &[
            r#"Created(Put) ceph:s3 "a+b %41/c d.jpg" size 1024 etag 37b51d194a7513e45b56f6524f2d51f2 version - order - by tester"#,
        ],
    ),
    (
        "ceph-put-size-as-text",
        &[
            r#"Created(Put) ceph:s3 "myimage1.jpg" size 1024 etag 37b51d194a7513e45b56f6524f2d51f2 version - order - by tester"#,
        ],
    ),
    (
        "ceph-expired",
        &[
            r#"Removed(Deleted) ceph:s3 "a" size - etag - version v2 order - by tester"#,
            r#"Ignored("ObjectLifecycle:Expiration:NonCurrent") ceph:s3 "a" size 0 etag - version v1 order - by tester"#,
            r#"Ignored("ObjectLifecycle:Expiration:DeleteMarker") ceph:s3 "a" size 0 etag - version m1 order - by tester"#,
        ],
    ),
    (
        "storagegrid-put",
        &[
            r#"Created(Put) sgws:s3 "a b" size 5 etag b1946ac92492d2347c6235b4d2611184 version - order - by AWS:AIDAEXAMPLE"#,
        ],
    ),
    (
        "rustfs-put",
        &[
            r#"Created(Put) rustfs:s3 "a b" size 5 etag b1946ac92492d2347c6235b4d2611184 version - order - by AWS:AIDAEXAMPLE"#,
        ],
    ),
    (
        "ministack-put-2.6",
        &[
            r#"Created(Put) aws:s3 "a+b c/100% é😀\t.txt" size 5 etag 5d41402abc4b2a76b9719d911017c592 version af98cdc9-692c-4e6d-813e-b49b4c494e19 order 000006618033F0B91E by EXAMPLE"#,
        ],
    ),
    (
        "ministack-marker-2.6",
        &[
            r#"Removed(DeleteMarkerCreated) aws:s3 "a+b c/100% é😀\t.txt" size - etag - version 581005c8-f63d-4e11-9cc2-b1223b02094e order 000006618033F0B921 by EXAMPLE"#,
        ],
    ),
    (
        "ministack-delete-of-version-2.6",
        &[
            r#"Removed(Deleted) aws:s3 "a+b c/100% é😀\t.txt" size - etag - version af98cdc9-692c-4e6d-813e-b49b4c494e19 order 000006618033F0B922 by EXAMPLE"#,
        ],
    ),
    (
        "ministack-sns-put",
        &[
            r#"Created(Put) aws:s3 "a+b c/100% é😀\t.txt" size 5 etag 5d41402abc4b2a76b9719d911017c592 version - order 000006618033F0B923 by EXAMPLE"#,
        ],
    ),
    (
        "ministack-eventbridge-created",
        &[
            r#"Created(Put) aws:s3 "a+b c/100% é😀\t.txt" size 5 etag 5d41402abc4b2a76b9719d911017c592 version - order 000006618033F0B91E by 000000000000"#,
        ],
    ),
    (
        "ministack-eventbridge-via-sns",
        &[
            r#"Created(Put) aws:s3 "a+b c/100% é😀\t.txt" size 5 etag 5d41402abc4b2a76b9719d911017c592 version - order 000006618033F0B91E by 000000000000"#,
        ],
    ),
    (
        "ministack-eventbridge-deleted",
        &[
            r#"Removed(Deleted) aws:s3 "a+b c/100% é😀\t.txt" size - etag - version - order 000006618033F0B922 by 000000000000"#,
        ],
    ),
    (
        "moto-put",
        &[
            r#"Created(Put) aws:s3 "a+b c/100% é\t.txt" size 5 etag 5d41402abc4b2a76b9719d911017c592 version - order - by -"#,
        ],
    ),
    ("moto-delete", &[r#"Removed(Deleted) aws:s3 "a+b c/100% é\t.txt" size - etag - version - order - by -"#]),
];

/// The bodies that are sent when notifications are set up.
const TESTS: [&str; 4] = ["aws-test-event", "aws-sns-test-event", "ministack-test-event", "moto-test-event"];

/// The bodies that are no notifications, and what is said of them.
const REFUSED: [(&str, &str); 4] = [
    ("aws-sns-subscription-confirmation", "a message of SNS of type `SubscriptionConfirmation`"),
    ("aws-eventbridge-cloudtrail", "a record of CloudTrail (`AWS API Call via CloudTrail`)"),
    ("aws-lambda-of-sqs", "record 1 of 1: it is an event of `aws:sqs`, not of S3"),
    ("seaweedfs-webhook-create", "its members are `event_type`, `key`, `message`"),
];

#[test]
fn every_recorded_body_is_read_as_it_was_meant() {
    for (name, expected) in READ {
        let lines: Vec<String> = events(&recorded(name)).iter().map(line).collect();
        assert_eq!(lines, expected, "{name}");
    }
    for name in TESTS {
        assert_eq!(decode_text(&recorded(name)).unwrap(), Notification::Test, "{name}");
    }
    for (name, why) in REFUSED {
        let found = why_not(&recorded(name));
        assert!(found.contains(why), "{name}: {found}");
    }
}

#[test]
fn no_recorded_body_is_left_out() {
    let folder = format!("{}/testdata/notifications", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), READ.len() + TESTS.len() + REFUSED.len());
}

#[test]
fn the_bucket_and_the_time_are_read() {
    for (name, at) in [
        ("aws-sqs-put-2.1", "2026-03-12T10:15:30.123Z"),
        ("aws-eventbridge-created", "2026-03-12T10:15:30.000Z"),
        ("ceph-put", "2026-03-12T10:15:30.124Z"),
        ("minio-put", "2026-03-12T10:15:30.000Z"),
    ] {
        let event = only_event(&recorded(name));
        assert_eq!((event.bucket.as_str(), event.at.to_string().as_str()), ("archive", at), "{name}");
    }
    assert_eq!(only_event(&recorded("moto-put")).at.to_string(), "2026-11-30T15:43:04.555Z");
}

#[test]
fn names_of_events_are_told_apart() {
    let kind = |name: &str| only_event(&aws(name, &serde_json::json!({ "key": "a" }))).kind;
    let ignored = |name: &str| EventKind::Ignored(name.to_owned());
    for (name, expected) in [
        ("ObjectCreated:Post", EventKind::Created(ObjectCreation::Post)),
        ("s3:ObjectCreated:Copy", EventKind::Created(ObjectCreation::Copy)),
        ("ObjectCreated:Magic", EventKind::Created(ObjectCreation::Other("Magic".to_owned()))),
        ("s3:ObjectCreated:PutTagging", EventKind::TagsChanged),
        ("s3:ObjectCreated:PutLegalHold", ignored("ObjectCreated:PutLegalHold")),
        ("s3:ObjectRemoved:NoOP", ignored("ObjectRemoved:NoOP")),
        ("s3:ObjectRemoved:DeleteAllVersions", EventKind::Removed(ObjectRemoval::Deleted)),
        ("s3:ObjectSynced:DeletionMarkerCreated", EventKind::Removed(ObjectRemoval::DeleteMarkerCreated)),
        ("ReducedRedundancyLostObject", ignored("ReducedRedundancyLostObject")),
        ("IntelligentTiering", ignored("IntelligentTiering")),
        ("ObjectAnnotation:Put", ignored("ObjectAnnotation:Put")),
        ("ObjectFolded:Twice", EventKind::Unknown("ObjectFolded:Twice".to_owned())),
    ] {
        assert_eq!(kind(name), expected, "{name}");
    }
    let bridged = only_event(&by_event_bridge("Object Folded", &serde_json::json!({ "key": "a" })));
    assert_eq!(bridged.kind, EventKind::Unknown("Object Folded".to_owned()));
    assert!(bridged.is_reason_to_look());
}
