use std::path::PathBuf;

use super::*;
use crate::file_content::FILE_BYTES_MAX;

use FileContent::Whole;

fn testdata(folder: &str) -> Vec<(String, FileContent)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let content = Whole(std::fs::read(&path).unwrap());
            (path.file_name().unwrap().to_str().unwrap().to_owned(), content)
        })
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
    let files = [("duplication-accounts.json", Whole("[\"a\",")), ("a-duplication-policy.json", Whole("{\"x\": 1}"))];
    let told = lines(&check(&files));
    assert!(told.contains("duplication-accounts.json:1:1: error"), "{told}");
    assert!(told.contains("a-duplication-policy.json:1:2: error: x: unknown member"), "{told}");
    assert!(told.contains("a-stores.json: error: the file is missing"), "{told}");
    assert!(!told.contains("no effect"), "{told}");
}

#[test]
fn a_folder_without_a_list_says_so() {
    let none: [(&str, FileContent); 0] = [];
    assert!(lines(&check(&none)).contains("duplication-accounts.json: error: the list of accounts is missing"));
}

#[test]
fn an_unlisted_file_is_a_warning_whatever_is_in_it() {
    let files = [("duplication-accounts.json", Whole("[]")), ("a-duplication-policy.json", Whole("nonsense"))];
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
fn a_file_too_large_to_be_read_is_refused_by_name_and_not_missing() {
    let large = FileContent::TooLarge { bytes: 7_000_000 };
    let files = [
        ("duplication-accounts.json", Whole("[\"a\"]")),
        ("a-duplication-policy.json", large),
        ("a-stores.json", large),
    ];
    let faults = check(&files);
    assert_eq!(faults.len(), 2, "{}", lines(&faults));
    for (fault, file) in faults.iter().zip(["a-duplication-policy.json", "a-stores.json"]) {
        assert!(fault.file == file && fault.message.contains("7000000 bytes"), "{fault}");
    }
}

#[test]
fn stores_of_two_accounts_in_one_place_are_warned_of() {
    let stores =
        |root: &str| format!("{{\"stores\": [{{\"id\": \"1\", \"type\": \"folder\", \"root\": \"{root}\"}}]}}");
    let files = [
        ("duplication-accounts.json", Whole("[\"a\", \"b\"]".to_owned())),
        ("a-duplication-policy.json", Whole("{}".to_owned())),
        ("b-duplication-policy.json", Whole("{}".to_owned())),
        ("a-stores.json", Whole(stores("/srv/all"))),
        ("b-stores.json", Whole(stores("/srv/all/b"))),
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
