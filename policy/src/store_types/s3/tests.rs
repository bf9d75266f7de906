use super::*;
use crate::StoreKind;
use crate::stores_file::read;

#[test]
fn a_store_of_s3_names_its_secrets_and_nothing_more() {
    let (stores, faults) = read("f", include_bytes!("../../../testdata/good/dora-stores.json"));
    assert_eq!(faults, []);
    assert_eq!(stores.specs[0].transfers_max, Some(8));
    let StoreKind::S3(s3) = &stores.specs[1].kind else { panic!() };
    assert_eq!(s3.buckets, Buckets::Prefix("dora-".into()));
    let credentials = s3.credentials.as_ref().unwrap();
    assert_eq!(credentials.access_key_id, SecretReference::Env("DORA_KEY_ID".into()));
    assert_eq!(credentials.secret_access_key, SecretReference::File("/run/secrets/dora".into()));
    let StoreKind::S3(s3) = &stores.specs[2].kind else { panic!() };
    assert!(s3.path_style && s3.credentials.is_none());
}

#[test]
fn a_store_of_s3_says_what_its_server_lacks() {
    let read = |members: &str| {
        let text = format!(r#"{{"stores": [{{"id": "1", "type": "s3", "bucket": "b"{members}}}]}}"#);
        let (stores, faults) = read("f", text.as_bytes());
        (stores.specs.into_iter().next().map(|spec| spec.kind), faults)
    };
    let dialect = |members: &str| match read(members) {
        (Some(StoreKind::S3(s3)), faults) if faults.is_empty() => s3.dialect,
        other => panic!("{other:?}"),
    };
    let usual = Dialect::usual(true);
    assert_eq!(dialect(""), usual);
    let elsewhere = Dialect { server_side_copies: false, ..usual };
    assert_eq!(dialect(r#", "endpoint": "https://e""#), elsewhere);
    assert_eq!(dialect(r#", "endpoint": "https://e", "serverSideCopies": true"#), usual);
    for (member, other) in [
        (r#", "conditionalWrites": false"#, Dialect { conditional_writes: false, ..usual }),
        (r#", "wholeChecksums": false"#, Dialect { whole_checksums: false, ..usual }),
        (r#", "sha256": true"#, Dialect { sha256: true, ..usual }),
        (r#", "md5Tags": false"#, Dialect { md5_tags: false, ..usual }),
        (r#", "serverSideCopies": false"#, elsewhere),
    ] {
        assert_eq!(dialect(member), other, "{member}");
    }
    let (kind, faults) = read(r#", "conditionalWrites": "no""#);
    assert!(kind.is_none() && faults.len() == 1, "{faults:?}");
}

#[test]
fn a_store_of_s3_may_have_a_profile_and_take_on_a_role() {
    let read = |members: &str| {
        let text = format!(r#"{{"stores": [{{"id": "1", "type": "s3", "bucket": "b"{members}}}]}}"#);
        read("f", text.as_bytes())
    };
    let (stores, faults) = read(r#", "profile": "archive", "roleArn": "arn:aws:iam::1:role/r", "externalId": "x""#);
    assert_eq!(faults, []);
    let StoreKind::S3(s3) = &stores.specs[0].kind else { panic!() };
    assert_eq!(s3.profile.as_deref(), Some("archive"));
    let role = RoleSpec { arn: "arn:aws:iam::1:role/r".into(), external_id: Some("x".into()) };
    assert_eq!(s3.role, Some(role));
    let (_, faults) = read(r#", "externalId": "x""#);
    assert_eq!(faults.len(), 1, "{faults:?}");
    let credentials = r#"{"accessKeyIdEnv": "A", "secretAccessKeyEnv": "B"}"#;
    let (_, faults) = read(&format!(r#", "profile": "p", "credentials": {credentials}"#));
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn buckets_that_two_stores_share_are_found_whatever_they_are_called_by() {
    let kind = |members: &str| {
        let text = format!(r#"{{"stores": [{{"id": "1", "type": "s3", {members}}}]}}"#);
        let (stores, faults) = read("f", text.as_bytes());
        assert_eq!(faults, [], "{members}");
        stores.specs.into_iter().next().unwrap().kind
    };
    for (one, other, expected) in [
        (r#""bucket": "a""#, r#""bucket": "a", "region": "eu-west-1""#, true),
        (r#""bucket": "a""#, r#""bucket": "b""#, false),
        (r#""bucketPrefix": "ovl-""#, r#""bucket": "ovl-copy""#, true),
        (r#""bucketPrefix": "ovl-""#, r#""bucket": "ovl-""#, false),
        (r#""bucketPrefix": "ovl-""#, r#""bucketPrefix": "ovl-copy-""#, true),
        (r#""bucketPrefix": "ovl-""#, r#""bucketPrefix": "other-""#, false),
        (r#""bucket": "a", "endpoint": "http://h""#, r#""bucket": "a", "endpoint": "https://H:443/""#, true),
        (r#""bucket": "a", "endpoint": "http://localhost:9""#, r#""bucket": "a", "endpoint": "http://[::1]:9""#, true),
        (r#""bucket": "a", "endpoint": "http://h""#, r#""bucket": "a""#, false),
        (r#""bucket": "a", "endpoint": "http://h:1""#, r#""bucket": "a", "endpoint": "http://h:2""#, false),
    ] {
        let (a, b) = (kind(one), kind(other));
        assert_eq!((a.overlaps(&b), b.overlaps(&a)), (expected, expected), "{one} {other}");
    }
}
