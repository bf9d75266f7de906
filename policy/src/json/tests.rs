use proptest::prelude::*;

use super::*;

fn faults(text: &str) -> Vec<(usize, &'static str)> {
    parse(text).faults.into_iter().map(|fault| (fault.at, fault.message)).collect()
}

fn same(ours: &JsonValue, theirs: &serde_json::Value) -> bool {
    match (ours, theirs) {
        (JsonValue::Null, serde_json::Value::Null) => true,
        (JsonValue::Bool(a), serde_json::Value::Bool(b)) => a == b,
        (JsonValue::Number(a), serde_json::Value::Number(b)) => {
            serde_json::from_str::<serde_json::Number>(a).is_ok_and(|a| a == *b)
        }
        (JsonValue::Text(a), serde_json::Value::String(b)) => a == b,
        (JsonValue::Array(a), serde_json::Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.value, b))
        }
        (JsonValue::Object(a), serde_json::Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|m| b.get(&m.name).is_some_and(|b| same(&m.value.value, b)))
        }
        _ => false,
    }
}

/// Whether a member name occurs twice. Such texts are not compared, because serde_json keeps the last member.
fn has_doubled_name(text: &str) -> bool {
    faults(text).iter().any(|(_, message)| message.contains("stands here already"))
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1e9..1e9f64).prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read_alike(value in json()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let document = parse(&text);
            prop_assert!(document.faults.is_empty() && document.whole, "{:?}", document.faults);
            prop_assert!(same(&document.root.value, &value));
        }
    }

    /// Both parsers accept the same texts, also after random changes of bytes.
    #[test]
    fn what_is_not_json_is_told(value in json(), changes in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}:,\"\\\\0-9eu.tn /*-]"), 1..3)) {
        let mut chars: Vec<char> = value.to_string().chars().collect();
        for (index, with) in changes {
            let index = index.index(chars.len());
            chars[index] = with.chars().next().unwrap();
        }
        let text: String = chars.into_iter().collect();
        prop_assume!(!has_doubled_name(&text));
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        // A number too large for a float is JSON, though serde_json rejects it.
        prop_assume!(!theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range")));
        prop_assert_eq!(theirs.is_ok(), faults(&text).is_empty(), "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", marks in "[\\[\\]{}:,\"\\\\a0 /*\n-]{0,200}") {
        for text in [text, marks] {
            let document = parse(&text);
            prop_assert!(document.faults.len() <= FAULTS_MAX + 1);
            prop_assert!(document.whole || !document.faults.is_empty());
            prop_assert!(document.faults.iter().all(|fault| text.is_char_boundary(fault.at)));
        }
    }
}

#[test]
fn small_faults_do_not_hide_one_another() {
    let text = "{ // why\n  a: 1,\n  \"b\": [1 2,],\n  \"c\": TRUE\n  \"b\": 01,\n}";
    let found: Vec<_> = faults(text).into_iter().map(|(at, _)| &text[at..=at]).collect();
    assert_eq!(found, ["/", "a", "2", ",", "T", "\"", "0", "\"", ","]);
    assert!(parse(text).whole);
}

#[test]
fn what_was_read_before_the_end_is_kept() {
    let document = parse("{\"a\": [1, {\"b\": \"never");
    assert!(!document.whole);
    assert_eq!(document.faults.len(), 1);
    let JsonValue::Object(members) = &document.root.value else { panic!() };
    assert!(matches!(&members[0].value.value, JsonValue::Array(items) if items.len() == 2));
}

#[test]
fn depth_has_a_limit_and_no_text_overflows_the_stack() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(faults(&nested(64)).is_empty());
    assert_eq!(faults(&nested(65)).len(), 1);
    assert_eq!(faults(&"[".repeat(1_000_000)).len(), 1);
    assert_eq!(faults(&"{\"a\":".repeat(200_000)).len(), 1);
}

#[test]
fn a_fault_never_repeats_the_text() {
    for text in
        ["{\"k\": s3cr3t}", "{\"k\": \"s3cr3t", "{\"k\": 's3cr3t'}", "{s3cr3t}", "{\"k\": \"\\xs3cr3t\"} s3cr3t"]
    {
        let document = parse(text);
        assert!(!document.faults.is_empty(), "{text}");
        assert!(document.faults.iter().all(|fault| !format!("{fault:?}").contains("s3cr3t")));
    }
}

#[test]
fn surrogate_pairs_are_one_character() {
    assert_eq!(parse(r#""\ud83d\ude00""#).root.value, JsonValue::Text("\u{1F600}".into()));
    for lone in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\u0041""#, r#""\u00g0""#] {
        assert_eq!(faults(lone).len(), 1, "{lone}");
    }
}
