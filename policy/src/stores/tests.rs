use super::*;

fn overlap(a: &str, b: &str) -> bool {
    let folder = |root: &str| StoreKind::Folder { root: root.into() };
    let (a, b) = (folder(a), folder(b));
    assert_eq!(a.overlaps(&b), b.overlaps(&a));
    a.overlaps(&b)
}

#[test]
fn one_folder_inside_another_overlaps_and_a_like_name_does_not() {
    assert!(overlap("/a", "/a"));
    assert!(overlap("/a", "/a/b/"));
    assert!(overlap("/a/./x/..", "/a/b"));
    assert!(overlap("a", "./a/b"));
    assert!(overlap(".", "a"));
    assert!(overlap("/", "/a"));
    assert!(!overlap("/a", "/ab"));
    assert!(!overlap("/a/b", "/a/c"));
    assert!(!overlap(".", "/a"));
    assert!(!overlap("../a", "a"));
    assert!(overlap("/../a", "/a"));
}

#[test]
fn an_only_store_is_the_primary() {
    let (stores, faults) = read("f", br#"{"stores": [{"id": "1", "type": "folder", "root": "r"}]}"#);
    assert_eq!(faults, []);
    assert!(stores.specs[0].primary);
}

#[test]
fn a_store_of_s3_names_its_secrets_and_nothing_more() {
    let (stores, faults) = read("f", include_bytes!("../../testdata/good/dora-stores.json"));
    assert_eq!(faults, []);
    assert_eq!(stores.specs[0].transfers_max, Some(8));
    let StoreKind::S3(s3) = &stores.specs[1].kind else { panic!() };
    assert_eq!(s3.buckets, Buckets::Prefix("dora-".into()));
    let credentials = s3.credentials.as_ref().unwrap();
    assert_eq!(credentials.access_key_id, Reference::Env("DORA_KEY_ID".into()));
    assert_eq!(credentials.secret_access_key, Reference::File("/run/secrets/dora".into()));
    let StoreKind::S3(s3) = &stores.specs[2].kind else { panic!() };
    assert!(s3.path_style && s3.credentials.is_none());
}

#[test]
fn what_looks_like_a_secret_is_one() {
    for name in
        ["secretAccessKey", "secret_access_key", "password", "accessKeyId", "apiKey", "sessionToken", "AWS-SECRET"]
    {
        assert!(file::is_secret(name), "{name}");
    }
    for name in ["secretAccessKeyEnv", "secretAccessKeyFile", "root", "bucket"] {
        assert!(!file::is_secret(name), "{name}");
    }
}
