use proptest::prelude::*;

use super::*;

const STORES: &[u8] = br#"{"stores": [
    {"id": "1", "type": "folder", "root": "/a", "primary": true},
    {"id": "2", "type": "folder", "root": "/b"}, {"id": "3", "type": "folder", "root": "/c"}]}"#;

fn account() -> AccountId {
    AccountId::new("alice").unwrap()
}

fn store(id: &str) -> StoreId {
    StoreId::new(id).unwrap()
}

fn space(id: &str) -> SpaceId {
    SpaceId::new(id).unwrap()
}

fn pair(of: &str, source: &str, destination: &str) -> SpacePair {
    SpacePair { account: account(), source: store(source), destination: store(destination), space: space(of) }
}

fn policy(text: &str) -> AccountPolicy {
    AccountPolicy::parse(account(), text.as_bytes(), STORES).unwrap()
}

fn pairs(policy: &AccountPolicy, id: &str) -> Vec<String> {
    policy.for_space(&space(id)).policies.iter().map(|p| format!("{}{}", p.source, p.destination)).collect()
}

#[test]
fn the_sample_of_duracloud_s_wiki_means_what_it_meant() {
    let policy = policy(include_str!("../../testdata/duracloud/alice-duplication-policy.json"));
    assert_eq!(pairs(&policy, "spaceA"), ["12"]);
    assert_eq!(pairs(&policy, "spaceB"), ["12", "13"]);
    assert_eq!(policy.for_space(&space("spaceC")).rule, Rule::None);
    assert_eq!(policy.named_spaces(), [&space("spaceA"), &space("spaceB")]);
    let covering = policy.covering(&pair("spaceA", "1", "2")).unwrap();
    assert_eq!((covering.compare, covering.remove_vanished), (Compare::Everything, true));
    assert_eq!(policy.coverage(&pair("spaceA", "1", "3")), Coverage::NotCovered);
    assert_eq!((policy.primary(), policy.workers()), (Some(&store("1")), None));
}

#[test]
fn the_look_up_is_duracloud_s() {
    let policy = policy(
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}, {"srcStoreId": "1", "destStoreId": "3"}],
            "spacesToIgnore": ["never", "both"],
            "spaceDuplicationStorePolicies": {
                "own": [{"srcStoreId": "2", "destStoreId": "3"}], "empty": [],
                "both": [{"srcStoreId": "1", "destStoreId": "2"}], "x-own": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#,
    );
    for (id, expected, rule) in [
        ("own", &["23"][..], Rule::Own),
        ("empty", &["12", "13"], Rule::Default),
        ("another", &["12", "13"], Rule::Default),
        ("never", &[], Rule::Ignored),
        ("both", &[], Rule::Ignored),
        ("x-own", &[], Rule::Internal),
        ("x-", &[], Rule::Internal),
    ] {
        assert_eq!(pairs(&policy, id), expected, "{id}");
        assert_eq!(policy.for_space(&space(id)).rule, rule, "{id}");
    }
    assert_eq!(policy.default_sources(), [&store("1")]);
    assert_eq!(policy.default_destinations(), [&store("2"), &store("3")]);
}

#[test]
fn a_contradiction_stops_its_space_only() {
    let policy = policy(
        r#"{"spaceDuplicationStorePolicies": {
            "round": [{"srcStoreId": "1", "destStoreId": "2"}, {"srcStoreId": "2", "destStoreId": "1"}],
            "two": [{"srcStoreId": "1", "destStoreId": "3"}, {"srcStoreId": "2", "destStoreId": "3"}],
            "fine": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#,
    );
    for stopped in ["round", "two"] {
        let decision = policy.for_space(&space(stopped));
        assert!(matches!(decision.rule, Rule::Stopped { .. }) && decision.policies.is_empty(), "{decision}");
        assert_eq!(policy.covering(&pair(stopped, "1", "2")), None);
        assert_eq!(policy.coverage(&pair(stopped, "1", "2")), Coverage::Stopped);
    }
    assert_eq!(pairs(&policy, "fine"), ["12"]);
}

#[test]
fn a_contradiction_of_the_defaults_leaves_spaces_with_their_own_list_alone() {
    let policy = policy(
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}, {"srcStoreId": "2", "destStoreId": "1"}],
            "spaceDuplicationStorePolicies": {"own": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#,
    );
    assert_eq!(pairs(&policy, "own"), ["12"]);
    assert!(matches!(policy.for_space(&space("other")).rule, Rule::Stopped { .. }));
}

#[test]
fn a_setting_of_a_store_policy_goes_before_the_file_s() {
    let text = include_bytes!("../../testdata/good/dora-duplication-policy.json");
    let stores = include_bytes!("../../testdata/good/dora-stores.json");
    let policy = AccountPolicy::parse(AccountId::new("dora").unwrap(), text, stores).unwrap();
    assert_eq!(policy.workers(), Some(16));
    assert_eq!(
        policy.for_space(&space("photos")).to_string(),
        "space `photos` of account `dora`: by `defaultPolicies`, since it has no list of its own\n  \
         1 -> 2: compares differences (set at the top of the file), keeps what vanished from the source (set at the top \
         of the file)\n  \
         1 -> 3: compares everything (set on this store policy), removes what vanished from the source (set on this \
         store policy)"
    );
}

#[test]
fn an_empty_policy_asks_for_nothing() {
    let policy = policy("\u{feff}{}");
    assert_eq!(policy.for_space(&space("photos")).rule, Rule::None);
    assert!(policy.named_spaces().is_empty() && policy.default_destinations().is_empty());
}

#[test]
fn no_workers_is_no_limit() {
    assert_eq!(policy("{\"workers\": 0}").workers(), None);
    assert_eq!(policy("{\"workers\": 1024}").workers(), Some(1024));
    assert!(AccountPolicy::parse(account(), b"{\"workers\": 1025}", STORES).is_err());
}

#[test]
fn faults_of_both_files_are_told_together() {
    let faults = AccountPolicy::parse(account(), b"{", b"{").unwrap_err();
    assert_eq!(faults.len(), 2);
    // While the stores are unknown, an unknown store id is no error of its own.
    let text = br#"{"defaultPolicies": [{"srcStoreId": "8", "destStoreId": "9"}]}"#;
    let faults = AccountPolicy::parse(account(), text, b"{").unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn a_mirror_covers_its_space_alone() {
    let mirror = |to: &str| {
        let (from, to) = (store("source"), store(to));
        AccountPolicy::mirror(account(), space("content"), from, to, Compare::Differences, false)
    };
    let policy = mirror("destination");
    let covering = policy.covering(&pair("content", "source", "destination")).unwrap();
    assert_eq!((covering.compare, covering.remove_vanished), (Compare::Differences, false));
    assert_eq!(policy.coverage(&pair("other", "source", "destination")), Coverage::NotCovered);
    assert_eq!(mirror("source").coverage(&pair("content", "source", "source")), Coverage::Stopped);
}

/// A valid policy file and a valid stores file, each with a random set of members.
fn files() -> impl Strategy<Value = (serde_json::Value, serde_json::Value)> {
    let settings = || {
        let compare = prop::option::of(prop_oneof![Just("everything"), Just("differences")]);
        (compare, prop::option::of(any::<bool>()))
    };
    let pair = prop::sample::select(vec![("1", "2"), ("1", "3"), ("2", "3"), ("2", "1"), ("3", "1")]);
    let list = prop::collection::vec((pair, settings()), 0..4).prop_map(|entries| {
        let mut seen = BTreeSet::new();
        let entries = entries.into_iter().filter(|(pair, _)| seen.insert(*pair));
        let entries = entries.map(|((source, destination), settings)| {
            let mut out = serde_json::json!({"srcStoreId": source, "destStoreId": destination});
            set(&mut out, settings);
            out
        });
        serde_json::Value::Array(entries.collect())
    });
    let id = "[^/\\x00-\\x1f\\x7f-\\x9f.]{1,6}";
    let own = prop::collection::btree_map(id, list.clone(), 0..5);
    let top = (own, list, prop::collection::vec(id, 0..3), settings(), prop::option::of(0..=1024u32));
    (top, s3_stores()).prop_map(|((own, defaults, ignored, settings, workers), stores)| {
        let mut out = serde_json::json!({
            "spaceDuplicationStorePolicies": own, "defaultPolicies": defaults, "spacesToIgnore": ignored});
        set(&mut out, settings);
        if let Some(workers) = workers {
            out["workers"] = workers.into();
        }
        (out, stores)
    })
}

fn set(out: &mut serde_json::Value, (compare, remove_vanished): (Option<&str>, Option<bool>)) {
    if let Some(compare) = compare {
        out["compare"] = compare.into();
    }
    if let Some(remove_vanished) = remove_vanished {
        out["removeVanished"] = remove_vanished.into();
    }
}

fn s3_stores() -> impl Strategy<Value = serde_json::Value> {
    let credentials = prop::option::of(("[A-Z_]{1,5}", "/[a-z\"\\\\]{1,5}", prop::option::of("[A-Z]{1,3}")));
    (0..3usize, any::<bool>(), prop::option::of(1..=1024u32), credentials, prop::option::of("[a-z-]{1,9}")).prop_map(
        |(primary, prefix, transfers, credentials, region)| {
            let mut stores = serde_json::json!([
                {"id": "1", "type": "folder", "root": "/a \"quoted\" ä"}, {"id": "2", "type": "s3", "bucket": "b"},
                {"id": "3", "type": "s3", "endpoint": "https://e", "pathStyle": prefix, "sha256": prefix,
                 "conditionalWrites": !prefix, "wholeChecksums": prefix,
                 "md5Tags": !prefix, "serverSideCopies": prefix}]);
            stores[2][if prefix { "bucketPrefix" } else { "bucket" }] = "c".into();
            stores[primary]["primary"] = true.into();
            if let Some(transfers) = transfers {
                stores[0]["transfersMax"] = transfers.into();
            }
            if let Some(region) = region {
                stores[1]["region"] = region.into();
            }
            if let Some((id, secret, token)) = credentials {
                stores[1]["credentials"] = serde_json::json!({"accessKeyIdEnv": id, "secretAccessKeyFile": secret});
                if let Some(token) = token {
                    stores[1]["credentials"]["sessionTokenEnv"] = token.into();
                }
            }
            serde_json::json!({ "stores": stores })
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_it_was((policy, stores) in files()) {
        let parsed = AccountPolicy::parse(account(), policy.to_string().as_bytes(), stores.to_string().as_bytes());
        let parsed = parsed.map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
        let (policy, stores) = (parsed.print_policy(), parsed.print_stores());
        let again = AccountPolicy::parse(account(), policy.as_bytes(), stores.as_bytes());
        prop_assert_eq!(again, Ok(parsed), "{} {}", policy, stores);
    }

    #[test]
    fn a_decision_and_what_covers_a_task_agree((policy, stores) in files()) {
        let parsed = AccountPolicy::parse(account(), policy.to_string().as_bytes(), stores.to_string().as_bytes()).unwrap();
        for id in parsed.named_spaces().into_iter().chain([&space("any")]) {
            let decision = parsed.for_space(id);
            for (source, destination) in [("1", "2"), ("1", "3"), ("2", "3"), ("2", "1"), ("3", "1"), ("3", "2")] {
                let pair = pair(id.as_str(), source, destination);
                let is_asked = |p: &&StorePolicy| p.source == pair.source && p.destination == pair.destination;
                let decided = decision.policies.iter().find(is_asked);
                prop_assert_eq!(parsed.covering(&pair), decided.cloned());
            }
            // No destination has two sources, and none can be reached from itself.
            let destinations: BTreeSet<_> = decision.policies.iter().map(|policy| &policy.destination).collect();
            prop_assert_eq!(destinations.len(), decision.policies.len());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(a in prop::collection::vec(any::<u8>(), 0..200), b in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = AccountPolicy::parse(account(), &a, &b);
        let _ = crate::accounts_list(&a);
    }

    /// Files that are almost right: each gives a policy or an error, and every diagnostic has a position within its
    /// file.
    #[test]
    fn a_file_is_read_or_its_fault_is_told(
        (policy, stores) in files(),
        at in any::<prop::sample::Index>(),
        with in "[\\[\\]{}:,\"1-3a /*]{0,3}",
        in_stores in any::<bool>(),
    ) {
        let mut texts = [policy.to_string(), stores.to_string()];
        let text = &mut texts[usize::from(in_stores)];
        let mut cut = at.index(text.len() + 1);
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        let end = text[cut..].chars().next().map_or(cut, |c| cut + c.len_utf8());
        text.replace_range(cut..end, &with);
        let (parsed, faults) = AccountPolicy::examine(account(), texts[0].as_bytes(), texts[1].as_bytes());
        prop_assert!(parsed.is_some() || faults.iter().any(|fault| fault.severity == Severity::Error));
        for fault in faults {
            let text = &texts[usize::from(fault.file.ends_with("-stores.json"))];
            prop_assert!(fault.line == 1 && fault.column as usize <= text.chars().count() + 1, "{}", fault);
        }
    }
}
