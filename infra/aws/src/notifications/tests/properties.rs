//! Any key, by any way; and any garbage.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Keys of S3: up to 1,024 bytes of any character, often of those that encodings treat in their own way.
fn key() -> impl Strategy<Value = String> {
    let odd =
        prop::sample::select(vec!['+', '%', ' ', '/', '&', '=', '?', '#', '"', '\\', '\0', '\n', '2', 'F', 'é', '😀']);
    prop::collection::vec(prop_oneof![odd, any::<char>()], 1..256).prop_map(String::from_iter)
}

fn read_key(body: &str) -> String {
    only_event(body).key
}

proptest! {
    #[test]
    fn a_key_comes_back_exactly_by_every_way(key in key()) {
        prop_assert!(key.len() <= 1024);
        for plain in ["-_.*/", "-_.~", "", "-_.~/!'()*"] {
            let written = json!({ "key": form_encoded(&key, plain) });
            let body = aws("ObjectCreated:Put", &written);
            prop_assert_eq!(&read_key(&body), &key);
            prop_assert_eq!(&read_key(&in_sns(&body)), &key);
            let minio = records(&[record("minio:s3", "s3:ObjectCreated:Put", &written)]);
            prop_assert_eq!(&read_key(&minio), &key);
        }
        let plain = json!({ "key": key });
        let bridged = by_event_bridge("Object Created", &plain);
        prop_assert_eq!(&read_key(&bridged), &key);
        prop_assert_eq!(&read_key(&in_sns(&bridged)), &key);
        let ceph = records(&[record("ceph:s3", "ObjectCreated:Put", &plain)]);
        prop_assert_eq!(&read_key(&ceph), &key);
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&body);
    }

    #[test]
    fn no_damage_of_a_body_makes_it_panic_or_empty(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        for name in ["aws-sqs-lifecycle-2.3", "aws-eventbridge-via-sns", "minio-put"] {
            let mut body = recorded(name).into_bytes();
            let at = at.index(body.len());
            body[at] = byte;
            if cut {
                body.truncate(at);
            }
            if let Ok(Notification::Events(events)) = decode(&body) {
                prop_assert!(!events.is_empty());
            }
        }
    }

    #[test]
    fn sequencers_have_the_order_of_padded_texts(one in "[0-9a-fA-F]{1,20}", other in "[0-9a-fA-F]{1,20}") {
        let padded = |text: &str| format!("{:0<20}", text.to_uppercase());
        if let (Some(a), Some(b)) = (Sequencer::parse(&one), Sequencer::parse(&other)) {
            prop_assert_eq!(a.cmp(&b), padded(&one).cmp(&padded(&other)));
            prop_assert_eq!(a.as_str().cmp(b.as_str()), a.cmp(&b));
        }
    }
}
