//! Bodies as `java.util.Properties` writes them, read back.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::wire::duracloud::properties;

/// A text as `Properties.store` writes it. Source: its documentation. `ascii` is the form for streams, else that for writers.
fn escaped(text: &str, is_key: bool, ascii: bool) -> String {
    let mut out = String::new();
    for (at, character) in text.chars().enumerate() {
        match character {
            ' ' if is_key || at == 0 => out.push_str("\\ "),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            '=' | ':' | '#' | '!' | '\\' => out.extend(['\\', character]),
            other if ascii && !(' '..='~').contains(&other) => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
            other => out.push(other),
        }
    }
    out
}

fn body(members: &[(&str, &str)], ascii: bool) -> String {
    let lines = members
        .iter()
        .map(|(name, value)| format!("{}={}\n", escaped(name, true, ascii), escaped(value, false, ascii)));
    format!("#Wed Mar 12 10:15:30 UTC 2025\n{}", lines.collect::<String>())
}

fn read(members: &[(&str, &str)]) -> Result<DuraCloudAudit, WireError> {
    let written = properties(&body(members, false));
    assert_eq!(written, properties(&body(members, true)));
    read_audit(&written)
}

fn read_write(members: &[(&str, &str)]) -> AuditedWrite {
    match read(members) {
        Ok(DuraCloudAudit::Write(write)) => *write,
        other => panic!("{other:?}"),
    }
}

const ADD: [(&str, &str); 12] = [
    ("type", "AUDIT"),
    ("action", "ADD_CONTENT"),
    ("account", "myarchive"),
    ("storeId", "417"),
    ("store-type", "AMAZON_S3"),
    ("spaceId", "photos"),
    ("contentId", "a dir/x:1 = #2!.txt"),
    ("user-id", "jane@example.org"),
    ("date-time", "1741774530123"),
    ("content-checksum", "5d41402abc4b2a76b9719d911017c592"),
    ("content-mimetype", "text/plain; charset=utf-8"),
    ("content-size", "5"),
];

/// The members of [`ADD`], some of them with other values. An empty value leaves the member out.
fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut members: Vec<(&str, &str)> = ADD.to_vec();
    members.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    members.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    members
}

#[test]
fn an_upload_is_read_with_all_it_says() {
    let json = "{\n  \"creator\" : \"jane\",\n  \"note\" : \"a\\tb\\u00e9\",\n  \"gone\" : null\n}";
    let write = read_write(&with(&[("content-properties", json)]));
    assert_eq!(write.action, AuditAction::AddContent);
    assert_eq!((write.account.as_str(), write.store.as_str(), write.space.as_str()), ("myarchive", "417", "photos"));
    assert_eq!(write.item.unwrap().as_str(), "a dir/x:1 = #2!.txt");
    assert_eq!(write.user.as_deref(), Some("jane@example.org"));
    assert_eq!(write.at, Timestamp::from_millis(1_741_774_530_123));
    assert_eq!(write.checksum.as_deref(), Some("5d41402abc4b2a76b9719d911017c592"));
    assert_eq!(write.mimetype.as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!((write.size, write.store_type.as_deref()), (Some(5), Some("AMAZON_S3")));
    let properties = write.properties.unwrap();
    assert_eq!((properties.get("creator"), properties.get("note")), (Some("jane"), Some("a\tbé")));
    assert_eq!(properties.0.len(), 2);
    assert_eq!((write.space_acls, write.source), (None, None));
}

#[test]
fn every_action_of_duracloud_is_known_by_its_name() {
    for action in AuditAction::ALL {
        assert_eq!(read_write(&with(&[("action", action.duracloud_name())])).action, action);
    }
    for action in READS {
        let members = [("type", "AUDIT"), ("action", action), ("account", "a"), ("storeId", "1")];
        assert_eq!(read(&members).unwrap(), DuraCloudAudit::Read(action));
    }
}

#[test]
fn a_space_has_no_item_and_its_permissions_are_kept_as_they_are() {
    let acls = "{curator=WRITE, group-a b=READ,\tx=null}";
    let members = with(&[("action", "SET_SPACE_ACLS"), ("space-acls", acls), ("contentId", ""), ("content-size", "")]);
    let write = read_write(&members);
    assert_eq!((write.item, write.space_acls.as_deref(), write.size), (None, Some(acls), None));
}

#[test]
fn a_copy_names_its_source_if_duracloud_says_it() {
    let copy = ("action", "COPY_CONTENT");
    assert_eq!(read_write(&with(&[copy])).source, None);
    let source = ("source-space-id", "old");
    let write = read_write(&with(&[copy, source, ("source-content-id", "old name\n.txt")]));
    let found = write.source.unwrap();
    assert_eq!((found.space.as_str(), found.id.as_str()), ("old", "old name\n.txt"));
    let half = read(&with(&[copy, source])).unwrap_err().to_string();
    assert!(half.contains("`source-content-id`"), "{half}");
}

#[test]
fn what_is_not_applicable_is_absent() {
    let na = NOT_APPLICABLE;
    let members = [("user-id", na), ("content-checksum", na), ("content-mimetype", na), ("content-size", na)];
    let write = read_write(&with(&members));
    assert_eq!((write.user, write.checksum, write.mimetype, write.size), (None, None, None, None));
    let create = [("action", "CREATE_SPACE"), ("contentId", na), ("source-space-id", na), ("source-content-id", na)];
    let write = read_write(&with(&create));
    assert_eq!((write.item, write.source), (None, None));
}

#[test]
fn what_is_wrong_is_named() {
    let cases: [(&[(&str, &str)], &str); 12] = [
        (&[("type", "DUP")], "type `DUP`"),
        (&[("type", "")], "it has no `type`"),
        (&[("action", "add_content")], "its `action` is no action of DuraCloud: `add_content`"),
        (&[("action", "")], "it has no `action`"),
        (&[("contentId", "")], "it has no `contentId`"),
        (&[("contentId", NOT_APPLICABLE)], "it has no `contentId`"),
        (&[("account", "../x")], "is no account id"),
        (&[("spaceId", "")], "it has no `spaceId`"),
        (&[("date-time", "yesterday")], "its `date-time` is no time in milliseconds: `yesterday`"),
        (&[("content-size", "5 bytes")], "its `content-size` is no size: `5 bytes`"),
        (&[("content-properties", "[1]")], "its `content-properties` is no JSON object of texts: `[1]`"),
        (&[("content-properties", "{\"a\":{}}")], "no JSON object of texts"),
    ];
    for (changes, why) in cases {
        let error = read(&with(changes)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_size_that_nobody_told_and_properties_of_other_kinds_are_no_fault() {
    assert_eq!(read_write(&with(&[("content-size", "-1")])).size, None);
    let write = read_write(&with(&[("content-properties", r#"{"n":1,"b":true,"t":""}"#)]));
    assert_eq!(write.properties.unwrap().0.into_values().collect::<Vec<_>>(), ["true", "1", ""]);
    assert_eq!(read_write(&with(&[("content-properties", " \n ")])).properties, None);
    assert_eq!(read_write(&with(&[("content-properties", "{}")])).properties, Some(Properties::default()));
}

#[test]
fn what_a_queue_leaves_in_a_message_is_passed_over() {
    let leaks = [("MSG_ID", "1-2"), ("RECEIPT_HANDLE", "AQEB+/="), ("attempts", "3"), ("error", "java.lang.X:\nno")];
    assert_eq!(read_write(&with(&leaks)), read_write(&ADD));
}

#[test]
fn the_longest_id_is_kept_and_a_longer_one_is_refused() {
    let longest = "\u{1F600}".repeat(256);
    assert_eq!(read_write(&with(&[("contentId", &longest)])).item.unwrap().as_str(), longest);
    let longer = format!("{longest}a");
    assert!(read(&with(&[("contentId", &longer)])).unwrap_err().to_string().contains("1,024 bytes"));
}

proptest! {
    #[test]
    fn every_text_is_kept_exactly(id in "\\PC{1,40}|(?s).{1,40}", user in "(?s).{1,40}", acls in "(?s).{1,40}") {
        prop_assume!([&id, &user, &acls].iter().all(|text| *text != NOT_APPLICABLE));
        let write = read_write(&with(&[("contentId", &id), ("user-id", &user), ("space-acls", &acls)]));
        prop_assert_eq!(String::from(write.item.unwrap()), id);
        prop_assert_eq!(write.user.unwrap(), user);
        prop_assert_eq!(write.space_acls.unwrap(), acls);
    }

    #[test]
    fn properties_of_an_item_come_back(given in proptest::collection::btree_map("(?s).{0,20}", "(?s).{0,20}", 0..6)) {
        let json = serde_json::to_string_pretty(&given).unwrap();
        let write = read_write(&with(&[("content-properties", &json)]));
        prop_assert_eq!(write.properties.unwrap().0, given);
    }

    #[test]
    fn no_message_makes_it_panic(members in proptest::collection::btree_map("type|action|[a-z-]{1,16}", "(?s)AUDIT|ADD_CONTENT|.{0,20}", 0..14)) {
        let _ = read_audit(&members);
    }
}
