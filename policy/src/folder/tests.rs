use std::path::PathBuf;

use super::*;

fn testdata(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

fn lines(faults: &[Diagnostic]) -> String {
    faults.iter().map(ToString::to_string).fold(String::new(), |all, line| all + &line + "\n")
}

/// To accept a changed listing, run the test with `MILL_BLESS=1` and read the difference.
#[test]
fn every_fault_of_every_file_is_told_at_once() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/faulty/faults.txt");
    let told = lines(&check(&testdata("faulty")));
    if std::env::var_os("MILL_BLESS").is_some() {
        std::fs::write(&golden, &told).unwrap();
    }
    assert_eq!(told, std::fs::read_to_string(golden).unwrap());
    assert!(!told.contains("hunter"), "a secret is repeated");
}

#[test]
fn duracloud_s_own_files_have_no_fault() {
    assert_eq!(lines(&check(&testdata("duracloud"))), "");
}

#[test]
fn a_broken_accounts_list_hides_no_fault_of_the_accounts() {
    let files = [("duplication-accounts.json", "[\"a\","), ("a-duplication-policy.json", "{\"x\": 1}")];
    let told = lines(&check(&files));
    assert!(told.contains("duplication-accounts.json:1:1: error"), "{told}");
    assert!(told.contains("a-duplication-policy.json:1:2: error: x: unknown member"), "{told}");
    assert!(told.contains("a-stores.json: error: the file is missing"), "{told}");
    assert!(!told.contains("no effect"), "{told}");
}

#[test]
fn a_folder_without_a_list_says_so() {
    let none: [(&str, &[u8]); 0] = [];
    assert!(lines(&check(&none)).contains("duplication-accounts.json: error: the list of accounts is missing"));
}

#[test]
fn an_unlisted_file_is_a_warning_whatever_is_in_it() {
    let files = [("duplication-accounts.json", "[]"), ("a-duplication-policy.json", "nonsense")];
    let faults = check(&files);
    assert_eq!(faults.len(), 2, "{}", lines(&faults));
    assert!(faults.iter().all(|fault| fault.severity == Severity::Warning));
    assert!(lines(&faults).contains("does not list account `a`, so this file has no effect"));
}

#[test]
fn the_list_is_all_or_nothing() {
    let id = |text: &str| AccountId::new(text).unwrap();
    assert_eq!(accounts_list(b"\xef\xbb\xbf[\"b\", \"a\", \"b\"]").unwrap(), [id("b"), id("a")]);
    assert!(accounts_list(b"[]").unwrap().is_empty());
    for broken in [&b""[..], b"{}", b"null", b"[\"a\", \"../b\"]", b"[\"a\", 7]", b"[\"a\"", b"[\"a\"] x", b"\xff"] {
        assert!(accounts_list(broken).is_err(), "{broken:?}");
    }
}

#[test]
fn a_file_too_large_is_refused_with_its_size() {
    let mut text = b"[]".to_vec();
    text.resize(FILE_BYTES_MAX, b' ');
    assert!(accounts_list(&text).is_ok());
    text.push(b' ');
    let faults = accounts_list(&text).unwrap_err();
    assert!(faults[0].message.contains("1048577 bytes"), "{}", lines(&faults));
}

#[test]
fn stores_of_two_accounts_in_one_place_are_warned_of() {
    let stores =
        |root: &str| format!("{{\"stores\": [{{\"id\": \"1\", \"type\": \"folder\", \"root\": \"{root}\"}}]}}");
    let files = [
        ("duplication-accounts.json".to_owned(), "[\"a\", \"b\"]".to_owned()),
        ("a-duplication-policy.json".to_owned(), "{}".to_owned()),
        ("b-duplication-policy.json".to_owned(), "{}".to_owned()),
        ("a-stores.json".to_owned(), stores("/srv/all")),
        ("b-stores.json".to_owned(), stores("/srv/all/b")),
    ];
    let faults = check(&files);
    assert_eq!(faults.len(), 1, "{}", lines(&faults));
    assert_eq!((faults[0].file.as_str(), faults[0].severity), ("b-stores.json", Severity::Warning));
}

#[test]
fn file_names_go_both_ways() {
    let alice = AccountId::new("alice").unwrap();
    for file in [PolicyFile::Accounts, PolicyFile::Duplication(alice.clone()), PolicyFile::Stores(alice.clone())] {
        assert_eq!(PolicyFile::named(&file.name()), Some(file));
    }
    assert_eq!(AccountPolicy::policy_file_name(&alice), "alice-duplication-policy.json");
    for other in ["README.md", "-stores.json", "a/b-stores.json", "alice-stores.json.bak"] {
        assert_eq!(PolicyFile::named(other), None, "{other}");
    }
}
