//! What other readers of notifications got wrong, by the reports of their users.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn sequencer(written: &str) -> Sequencer {
    Sequencer::parse(written).unwrap()
}

/// airbnb/binaryalert#4, aws/aws-lambda-go#82, aws/aws-sdk-net#1417: the key was taken as it was written, or only `+` was read.
#[test]
fn a_key_of_a_record_is_decoded_once_and_whole() {
    for (written, key) in [
        ("red+flower.jpg", "red flower.jpg"),
        ("space+plus%2Btest.txt", "space plus+test.txt"),
        ("dt%3D2018-05-04/_SUCCESS", "dt=2018-05-04/_SUCCESS"),
        ("10%3A47%3a07.bz2", "10:47:07.bz2"),
        ("100%2525+%2B%2F", "100%25 +/"),
        ("%00%0A%09", "\0\n\t"),
        ("Zoe%CC%88", "Zoe\u{308}"),
        ("//a/../b/.", "//a/../b/."),
    ] {
        assert_eq!(only_event(&aws("ObjectCreated:Put", &json!({ "key": written }))).key, key, "{written}");
    }
}

/// aws-solutions-library-samples/guidance-for-medialake-on-aws#21: keys by EventBridge were decoded too, and `video+data.mp4` was not
/// found.
#[test]
fn a_key_by_event_bridge_is_taken_as_it_is() {
    for key in ["video+data.mp4", "%2B%20%%%.png", "%2B++ %20.mp3", "ARTISTS K to O.png"] {
        assert_eq!(only_event(&by_event_bridge("Object Created", &json!({ "key": key }))).key, key);
    }
}

/// localstack/localstack#2741, getmoto/moto#9054: a server that says it is Amazon did not encode keys.
#[test]
fn a_key_that_cannot_be_an_encoded_one_is_not_guessed() {
    for (written, why) in [
        ("100%.txt", "has a `%` without two hexadecimal digits"),
        ("a%2", "has a `%` without two hexadecimal digits"),
        ("a%+1", "has a `%` without two hexadecimal digits"),
        ("caf%E9", "is not UTF-8 after decoding"),
        ("%F0%9F%98", "is not UTF-8 after decoding"),
        ("%ED%A0%80", "is not UTF-8 after decoding"),
    ] {
        let found = why_not(&aws("ObjectCreated:Put", &json!({ "key": written })));
        assert!(found.contains(why) && found.contains(written), "{found}");
    }
}

/// minio/minio#11665, minio/minio#7665, suitenumerique/meet#1455: `/` is encoded by one service and plain at the other.
#[test]
fn a_slash_is_read_however_it_is_written() {
    let key = |service: &str, written: &str| {
        only_event(&records(&[record(service, "s3:ObjectCreated:Put", &json!({ "key": written }))])).key
    };
    assert_eq!(key("minio:s3", "users%2FABC"), "users/ABC");
    assert_eq!(key("aws:s3", "users/ABC"), "users/ABC");
    assert_eq!(key("ceph:s3", "users/ABC"), "users/ABC");
    assert_eq!(key("ceph:s3", "users%2FABC+D"), "users%2FABC+D");
}

/// raster-foundry/raster-foundry#242, elastic/elastic-serverless-forwarder#308, quiltdata/quilt#5162: the test event stopped the reader.
#[test]
fn the_test_event_is_no_fault_and_no_event() {
    let test = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "archive" }).to_string();
    assert_eq!(decode_text(&test).unwrap(), Notification::Test);
    assert_eq!(decode_text(&in_sns(&test)).unwrap(), Notification::Test);
    let other = json!({ "Service": "Amazon S3", "Event": "s3:OtherEvent" }).to_string();
    assert!(why_not(&other).contains("its members are `Event`, `Service`"));
}

/// vectordotdev/vector#8185, opensearch-project/data-prepper#2604: records by way of SNS were not seen. divviup/prio-server#328: they
/// were seen by way of SNS alone.
#[test]
fn an_envelope_of_sns_changes_nothing() {
    for name in ["aws-sqs-put-2.1", "aws-eventbridge-created", "ministack-marker-2.6", "minio-put"] {
        let body = recorded(name);
        assert_eq!(decode_text(&in_sns(&body)), decode_text(&body), "{name}");
    }
    let twice = in_sns(&in_sns(&recorded("aws-sqs-put-2.1")));
    assert!(why_not(&twice).starts_with("in an envelope of SNS: the body is no notification"), "{}", why_not(&twice));
    assert!(why_not(&in_sns("hello")).starts_with("in an envelope of SNS: the body is not JSON"));
}

/// aws-powertools/powertools-lambda-python#4156 and #5129, brefphp/bref#996: removals without size and tag were refused.
#[test]
fn a_removal_needs_neither_size_nor_tag_and_has_neither() {
    for name in ["ObjectRemoved:Delete", "LifecycleExpiration:Delete", "LifecycleExpiration:DeleteMarkerCreated"] {
        for object in [
            json!({ "key": "a" }),
            json!({ "key": "a", "size": 0, "eTag": "" }),
            json!({ "key": "a", "size": null, "eTag": "x" }),
        ] {
            let event = only_event(&aws(name, &object));
            assert_eq!((event.size, event.etag), (None, None), "{name}");
        }
    }
}

/// awsdocs/amazon-s3-userguide#44: nothing says which version a delete was of. eleven41/aws-lambda-copy-s3-objects#8: a copy was
/// deleted for it.
#[test]
fn a_delete_of_a_version_is_known_for_one() {
    let event = |name: &str, object: &Value| only_event(&aws(name, object));
    let old = event("ObjectRemoved:Delete", &json!({ "key": "a", "versionId": "v1" }));
    assert!(old.may_concern_another_version() && old.is_reason_to_look());
    assert!(event("ObjectRemoved:Delete", &json!({ "key": "a", "versionId": "null" })).may_concern_another_version());
    for object in
        [json!({ "key": "a" }), json!({ "key": "a", "versionId": null }), json!({ "key": "a", "versionId": "" })]
    {
        assert!(!event("ObjectRemoved:Delete", &object).may_concern_another_version());
    }
    let marker = event("ObjectRemoved:DeleteMarkerCreated", &json!({ "key": "a", "versionId": "m1" }));
    assert!(!marker.may_concern_another_version());
}

/// aws/aws-sdk-net#1119: the sequencer was not read. Lengths differ, and the shorter one is padded at its right.
#[test]
fn sequencers_are_compared_as_amazon_says() {
    for (earlier, later) in [
        ("0055AED6DCD90281E5", "0055AED6DCD90281E6"),
        ("0055aed6dcd90281e5", "0055AED6DCD90281E6"),
        ("0055AED6DCD90281", "0055AED6DCD90281E5"),
        ("00F", "01"),
        ("FF", "FF0001"),
        ("09", "1"),
    ] {
        assert!(sequencer(earlier) < sequencer(later), "{earlier} {later}");
        assert!(sequencer(earlier).as_str() < sequencer(later).as_str());
    }
    assert_eq!(sequencer("0055aed6"), sequencer("0055AED600"));
    for none in ["", "0", "000000", "Happy Sequencer", "0x12", "-1", " 12", "１２", &"1".repeat(129)] {
        assert_eq!(Sequencer::parse(none), None, "{none}");
    }
    let happy = aws("ObjectCreated:Put", &json!({ "key": "a", "sequencer": "Happy Sequencer" }));
    assert_eq!(only_event(&happy).sequencer, None);
}

/// minio/minio#18272 and discussion 18220: their sequencers are times of clocks that differ; Ceph's bytes are in reverse order.
#[test]
fn the_order_of_another_service_is_not_relied_on() {
    let of = |service: &str, written: &str| {
        let object = json!({ "key": "a", "sequencer": written });
        only_event(&records(&[record(service, "ObjectCreated:Put", &object)]))
    };
    for service in ["minio:s3", "ceph:s3", "rustfs:s3"] {
        assert!(!of(service, "F7E6D75DC742D108").is_superseded_by(&of(service, "F8E6D75DC742D108")));
    }
    assert!(of("aws:s3", "01").is_superseded_by(&of("aws:s3", "02")));
    assert!(!of("aws:s3", "02").is_superseded_by(&of("aws:s3", "01")));
    assert!(!of("aws:s3", "02").is_superseded_by(&of("aws:s3", "020")));
}

/// apache/camel-kamelets#1931, localstack/localstack#7523: an event that came twice was taken for two.
#[test]
fn an_event_that_comes_twice_is_equal_to_itself() {
    let events = [recorded("aws-sqs-put-2.1"), recorded("aws-sns-put")].map(|body| only_event(&body));
    assert_eq!(events[0], events[1]);
    assert!(!events[0].is_superseded_by(&events[1]));
}

#[test]
fn one_malformed_record_is_named_and_nothing_else_is_taken() {
    let good = || record("aws:s3", "ObjectCreated:Put", &json!({ "key": "a" }));
    let with = |pointer: &str, value: Value| {
        let mut bad = good();
        *bad.pointer_mut(pointer).unwrap() = value;
        why_not(&records(&[good(), bad, good()]))
    };
    for (pointer, value, why) in [
        ("/eventVersion", json!("3.0"), "`eventVersion` is `3.0`; this mill reads versions 2.0 to 2.6"),
        ("/eventVersion", json!("20.1"), "`eventVersion` is `20.1`"),
        ("/eventVersion", Value::Null, "`eventVersion` is missing"),
        ("/eventVersion", json!(2.1), "`eventVersion` is a number and should be a text"),
        ("/eventSource", json!("aws:dynamodb"), "it is an event of `aws:dynamodb`, not of S3"),
        ("/eventTime", json!("12 March"), "`eventTime` is no time: `12 March`"),
        ("/eventTime", json!("1969-12-31T23:59:59Z"), "`eventTime` is no time"),
        ("/eventName", json!(""), "`eventName` is missing"),
        ("/s3", json!([]), "is a list and should be within an object"),
        ("/s3/bucket", Value::Null, "`s3.bucket.name` is missing"),
        ("/s3/object/key", json!(""), "`s3.object.key` is missing"),
        ("/s3/object/key", json!(5), "`s3.object.key` is a number and should be a text"),
        (
            "/s3/object",
            json!({ "key": "a", "size": -1 }),
            "`s3.object.size` is another number and should be a whole number",
        ),
        ("/s3/object", json!({ "key": "a", "size": "5 B" }), "`s3.object.size` is another text"),
        ("/s3/object", json!({ "key": "a", "size": true }), "`s3.object.size` is true or false"),
    ] {
        let found = with(pointer, value);
        assert!(found.starts_with("record 2 of 3: ") && found.contains(why), "{found}");
    }
    assert!(why_not(r#"{"Records":[5]}"#).contains("record 1 of 1: `Records` is a number"));
    assert!(why_not(r#"{"Records":{}}"#).contains("`Records` is an object and should be a list"));
}

#[test]
fn a_member_that_occurs_twice_is_refused_only_if_it_is_read() {
    let body = aws("ObjectCreated:Put", &json!({ "key": "a" }));
    let twice = |once: &str, more: &str| body.replace(once, &format!("{once},{more}"));
    let key = twice(r#""key":"a""#, r#""key":"b""#);
    assert!(why_not(&key).contains("`s3.object.key` occurs twice"), "{}", why_not(&key));
    assert!(why_not(&format!("{},\"Records\":[]}}", &body[..body.len() - 1])).contains("`Records` occurs twice"));
    assert_eq!(events(&twice(r#""key":"a""#, r#""other":1,"other":2"#)), events(&body));
}

#[test]
fn numbers_may_be_texts_and_unknown_members_are_passed_over() {
    let size = |size: Value| only_event(&aws("ObjectCreated:Put", &json!({ "key": "a", "size": size }))).size;
    assert_eq!(size(json!("5497558138880")), Some(5_497_558_138_880));
    assert_eq!(size(json!(5_497_558_138_880_u64)), Some(5_497_558_138_880));
    assert_eq!((size(Value::Null), size(json!(""))), (None, None));
    let tag =
        json!({ "key": "a", "eTag": "\"5d41\"", "hasObjectAnnotation": false, "x": { "y": [null, 1.5e300, {}] } });
    assert_eq!(only_event(&aws("ObjectCreated:Put", &tag)).etag.as_deref(), Some("5d41"));
}

#[test]
fn a_body_that_is_none_says_why() {
    assert!(decode(b"{\"Records\":[\xff]}").unwrap_err().to_string().starts_with("the body is no text: "));
    for (body, why) in [
        ("", "the body is not JSON"),
        ("type=DUP\naccount=a\n", "the body is not JSON"),
        ("null", "it is null"),
        ("[]", "it is a list"),
        ("{}", "it has no members"),
        (r#"{"Records":null}"#, "its members are `Records`"),
        (r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1}"#, "`h`, …"),
        (r#"{"source":"com.example","detail-type":"Object Created","detail":{}}"#, "an event of `com.example`"),
        (
            r#"{"source":"aws.s3","detail-type":"Object Created","time":"2026-03-12T10:15:30Z","detail":{}}"#,
            "`detail.bucket.name` is missing",
        ),
        (r#"{"source":"aws.s3","detail-type":"Object Created","version":"1","detail":{}}"#, "`version` is `1`"),
        (
            r#"{"source":"aws.s3","detail-type":"Object Created","detail":{"event-version":"2.0"}}"#,
            "`detail.event-version` is `2.0`",
        ),
        (r#"{"Type":"Notification","TopicArn":"t"}"#, "in an envelope of SNS: `Message` is missing"),
    ] {
        let found = why_not(body);
        assert!(found.contains(why), "{body}: {found}");
    }
    assert_eq!(decode_text(r#"{"Records":[]}"#).unwrap(), Notification::Events(Vec::new()));
}

#[test]
fn a_body_of_the_greatest_size_is_read_and_a_greater_one_is_not() {
    let object = json!({ "key": "a", "x": "y".repeat(256 * 1024) });
    assert_eq!(only_event(&aws("ObjectCreated:Put", &object)).key, "a");
    let many: Vec<Value> =
        (0..1000).map(|at| record("aws:s3", "ObjectCreated:Put", &json!({ "key": at.to_string() }))).collect();
    assert_eq!(events(&records(&many)).len(), 1000);
    assert_eq!(decode(&vec![b'['; BYTES_MAX + 1]), Err(NotificationError::TooLarge(BYTES_MAX + 1)));
    assert!(why_not(&"[".repeat(BYTES_MAX)).contains("not JSON"));
}

/// Repeats and any order lead to the same last event of each key.
#[test]
fn the_newest_event_of_each_key_is_found_in_any_order() {
    let events: Vec<ObjectEvent> = (0..60)
        .map(|at| {
            let name = if at % 3 == 0 { "ObjectRemoved:Delete" } else { "ObjectCreated:Put" };
            let key = (at % 7).to_string();
            // Some are cut short at their end, as zeros there may be.
            let order = format!("0062E99A{at:04X}");
            only_event(&aws(name, &json!({ "key": key, "sequencer": order.trim_end_matches('0') })))
        })
        .collect();
    let mut state: u64 = 7;
    for _ in 0..50 {
        let mut newest: BTreeMap<String, ObjectEvent> = BTreeMap::new();
        for _ in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let event = &events[usize::try_from(state >> 33).unwrap() % events.len()];
            let known = newest.entry(event.key.clone()).or_insert_with(|| event.clone());
            if known.is_superseded_by(event) {
                *known = event.clone();
            }
        }
        let last: Vec<&ObjectEvent> = newest.values().collect();
        let mut expected: Vec<&ObjectEvent> = events[53..].iter().collect();
        expected.sort_by(|one, other| one.key.cmp(&other.key));
        assert_eq!(last, expected);
    }
}
