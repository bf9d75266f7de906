//! `mill audit log`, `export`, `index` and `erase-user`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use futures::TryStreamExt as _;
use mill_records::content_index::{IndexRow, IndexedSpace};
use serde_json::Value;

use crate::audit_world::{AuditWorld, BEGAN, account, event, hard_names, vkey};
use crate::world::{Ran, World};

fn lines(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn log(audit: &AuditWorld, more: &[&str]) -> Vec<Value> {
    lines(&audit.world.mill(&[&["audit", "log", "--json"], more].concat()).expect(0))
}

type Keeps<'a> = Box<dyn Fn(&Value) -> bool + 'a>;

#[test]
fn the_log_shows_every_entry_once_and_each_filter_those_that_it_names() {
    let audit = AuditWorld::with(300);
    let all = log(&audit, &[]);
    assert_eq!(all.len(), 300);
    assert!(all.iter().enumerate().all(|(index, entry)| entry["index"] == index));
    let mut sent: Vec<Value> = (0..300)
        .map(|number| {
            let mut event = event(number, "log");
            event.user = None;
            serde_json::to_value(event).unwrap()
        })
        .collect();
    let mut found: Vec<Value> = all.iter().map(|entry| entry["event"].clone()).collect();
    sent.sort_by_key(|event| event["at"].as_u64());
    found.sort_by_key(|event| event["at"].as_u64());
    assert_eq!(found, sent, "each event is read back exactly");
    let time = |number: u64| humantime_of(BEGAN + number * 1000);
    let (since, until) = (time(100), time(200));
    let hard = &hard_names()[0];
    let at = |entry: &Value| entry["event"]["at"].as_u64().unwrap();
    let filters: Vec<(Vec<&str>, Keeps<'_>)> = vec![
        (vec!["--store", "2"], Box::new(|entry| entry["event"]["store"] == "2")),
        (vec!["--space", "books"], Box::new(|entry| entry["event"]["space"] == "books")),
        (vec!["--item", hard], Box::new(|entry| entry["event"]["item"] == **hard)),
        (
            vec!["--store", "1", "--space", "photos", "--item", hard],
            Box::new(|entry| {
                entry["event"]["item"] == **hard
                    && entry["event"]["store"] == "1"
                    && entry["event"]["space"] == "photos"
            }),
        ),
        (vec!["--action", "delete-content"], Box::new(|entry| entry["event"]["action"] == "delete-content")),
        (vec!["--user", "Zoë"], Box::new(|entry| entry["user"] == "Zoë")),
        (vec!["--since", &since], Box::new(|entry| at(entry) >= BEGAN + 100_000)),
        (
            vec!["--until", &until, "--since", &since],
            Box::new(|entry| (BEGAN + 100_000..BEGAN + 200_000).contains(&at(entry))),
        ),
    ];
    for (args, keeps) in filters {
        let expected: Vec<&Value> = all.iter().filter(|entry| keeps(entry)).collect();
        let found = log(&audit, &args);
        assert!(!expected.is_empty() && expected.len() < 300, "{args:?}");
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{args:?}");
        let last = log(&audit, &[&args[..], &["--last", "2"]].concat());
        assert_eq!(last.iter().collect::<Vec<_>>(), expected[expected.len() - 2..], "{args:?}");
    }
    assert_eq!(log(&audit, &["--last", "3"]), all[297..]);
    assert_eq!(all.iter().filter(|entry| entry["user"] == "Zoë").count(), 38);
    audit.world.mill(&["audit", "log", "--since", "yesterday"]).expect(200);
    audit.world.mill(&["audit", "log", "--action", "add"]).expect(200);
}

fn humantime_of(millis: u64) -> String {
    mill_model::Timestamp::from_millis(millis).to_string()
}

#[test]
fn names_are_escaped_for_people_and_those_who_wait_are_said() {
    let audit = AuditWorld::with(60);
    audit.add(60..67);
    let shown = audit.world.mill(&["audit", "log"]).expect(0);
    assert_eq!(shown.out.lines().count(), 60, "one line each: {}", shown.out);
    assert!(shown.out.contains("/tab\\tand\\nnewline  "), "{}", shown.out);
    assert!(!shown.out.contains('\u{1b}') && shown.out.contains("  -  "), "{}", shown.out);
    assert!(shown.err.contains("7 events still wait for their places"), "{}", shown.err);
    let key = audit.world.mill(&["audit", "public-key", "library"]).expect(0);
    assert_eq!(key.out.trim(), vkey());
    audit.world.mill(&["audit", "public-key", "museum"]).expect(100);
}

#[test]
fn who_follows_the_log_sees_what_is_published_later() {
    use std::io::{BufRead as _, BufReader};
    let audit = AuditWorld::with(2);
    let mut command = audit.world.command();
    command.args(["audit", "log", "--follow", "--json", "--last", "1"]).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&shown.next().unwrap().unwrap()).unwrap()["index"].clone();
    assert_eq!(next(), 1);
    audit.publish(2..4);
    assert_eq!([next(), next()], [2, 3]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn exports_are_read_back_exactly_by_other_programs() {
    let audit = AuditWorld::with(300);
    let world = &audit.world;
    let all = log(&audit, &[]);
    world.write("all.json", serde_json::to_string(&all).unwrap());
    for format in ["tsv", "json", "premis"] {
        world.mill(&["audit", "export", "library", "--format", format, "--out", &format!("out.{format}")]).expect(0);
        let there = world.mill(&["audit", "export", "library", "--format", format, "--out", &format!("out.{format}")]);
        assert_eq!(there.code, 200, "{}", there.err);
        let printed = world.mill(&["audit", "export", "library", "--format", format]).expect(0);
        assert_eq!(printed.out, fs::read_to_string(world.path(&format!("out.{format}"))).unwrap());
    }
    let said = world.python(
        r"
import json, re, xml.etree.ElementTree as xml
every = json.load(open('all.json'))
assert [json.loads(line) for line in open('out.json', newline='\n')] == every
header, *lines = open('out.tsv', newline='\n').read().split('\n')[:-1]
columns = header.split('\t')
assert len(columns) == 14 and columns[3] == 'content-id' and columns[13] == 'username', columns
plain = {'t': '\t', 'n': '\n', 'r': '\r', '\\': '\\'}
back = lambda field: re.sub(r'\\(.)', lambda found: plain[found[1]], field)
assert len(lines) == len(every)
for line, entry in zip(lines, every):
    row, event = dict(zip(columns, map(back, line.split('\t')))), entry['event']
    assert len(line.split('\t')) == 14
    assert row['account'] == 'library' and row['store-id'] == event['store'] and row['space-id'] == event['space']
    assert row['content-id'] == event.get('item', ''), row
    assert row['username'] == entry.get('user', '')
    if 'properties' in event:
        assert json.loads(row['content-properties']) == event['properties']
    if event['action'] == 'add-content' and 'p99' not in event['properties']:
        assert row['content-md5'] == '25f9e794323b453885f5181f1b624d0b' and row['content-mimetype'] == 'image/jpeg'
        assert row['content-size'] == str(event['size']) and row['action'] == 'ADD_CONTENT'
    if event['action'] == 'copy-content':
        assert (row['source-space-id'], row['source-content-id']) == ('old', 'from\there')
    assert row['timestamp'].startswith('2026-11-21T08:3')
v3 = '{http://www.loc.gov/premis/v3}'
root = xml.parse('out.premis').getroot()
# The schema's order: an object, then events; and so within an event.
assert [child.tag for child in root] == [v3 + 'object'] + [v3 + 'event'] * len(every)
order = ['eventIdentifier', 'eventType', 'eventDateTime', 'eventDetailInformation', 'eventOutcomeInformation',
         'linkingAgentIdentifier', 'linkingObjectIdentifier']
events = root.findall(v3 + 'event')
for found in events:
    ranks = [order.index(child.tag[len(v3):]) for child in found]
    assert ranks == sorted(ranks), ranks
assert len(events) == len(every)
unescape = lambda text: re.sub(r'\\u\{([0-9a-f]+)\}', lambda found: chr(int(found[1], 16)), text)
for found, entry in zip(events, every):
    event = entry['event']
    subject = ['library', event['store'], event['space']] + ([event['item']] if 'item' in event else [])
    assert unescape(found.find(f'.//{v3}linkingObjectIdentifierValue').text) == '/'.join(subject)
    assert found.find(f'.//{v3}eventIdentifierValue').text == event['id']
    assert json.loads(found.find(f'.//{v3}eventDetail').text) == entry
    unknown = event.get('certainty') == 'superseded'
    assert found.find(f'.//{v3}eventOutcome').text == ('unknown' if unknown else 'success')
    agent = found.find(f'.//{v3}linkingAgentIdentifierValue')
    assert (None if agent is None else unescape(agent.text)) == entry.get('user')
print('read back')
",
    );
    assert_eq!(said, "read back\n");
    let part =
        lines(&world.mill(&["audit", "export", "library", "books", "--store", "2", "--format", "json"]).expect(0));
    assert!(!part.is_empty() && part.iter().all(|it| it["event"]["space"] == "books" && it["event"]["store"] == "2"));
    world.mill(&["audit", "export", "library", "--format", "csv"]).expect(200);
}

#[test]
fn the_index_is_compared_rebuilt_exported_and_rid_of_tombstones() {
    let audit = AuditWorld::with(0);
    let world = &audit.world;
    world.write("one/photos/summer/01.jpg", "a");
    world.write("one/photos/100%\nodd\ttab", "bb");
    world.write("one/photos/third", "ccc");
    world.age("one/photos");
    let index = |args: &[&str]| world.mill(&[&["audit", "index", "library", "1", "photos"], args].concat());
    let before = index(&["compare"]).expect(2);
    assert!(before.out.contains("missing: summer/01.jpg") && before.out.contains("3 missing"), "{}", before.out);
    let made = index(&["rebuild"]).expect(0);
    assert!(made.out.contains("3 items: 3 written anew, 0 gone"), "{}", made.out);
    index(&["compare"]).expect(0);
    assert!(index(&["rebuild"]).expect(0).out.contains("0 written anew"));
    fs::remove_file(world.path("one/photos/third")).unwrap();
    world.write("one/photos/summer/01.jpg", "longer");
    world.write("one/photos/new", "n");
    let differences = lines(&index(&["compare", "--json"]).expect(2));
    let said: Vec<(&str, &str)> =
        differences.iter().map(|it| (it["difference"].as_str().unwrap(), it["item"].as_str().unwrap())).collect();
    assert_eq!(said, [("missing", "new"), ("different", "summer/01.jpg"), ("extra", "third")]);
    let again = index(&["rebuild"]).expect(0);
    assert!(again.out.contains("3 items: 2 written anew, 1 gone"), "{}", again.out);
    index(&["compare"]).expect(0);
    let space = IndexedSpace { account: account(), store: "1".parse().unwrap(), space: "photos".parse().unwrap() };
    // Checksums come with events.
    audit.index(async |index| {
        let rows: Vec<_> = index.items(&space).try_collect().await.unwrap();
        assert_eq!(rows.iter().filter(|(_, row)| row.deleted).count(), 1, "what is gone stays known");
        for (id, row) in rows.into_iter().filter(|(id, row)| !row.deleted && id.as_str() != "new") {
            let checksums = vec!["md5:25f9e794323b453885f5181f1b624d0b".parse().unwrap()];
            let with_sum = IndexRow { checksums, ..row.clone() };
            assert!(index.replace(&space, &id, (Some(&row), &with_sum)).await.unwrap());
        }
    });
    let tsv = index(&["export", "--format", "tsv"]).expect(2);
    assert_eq!(
        tsv.out,
        "space-id\tcontent-id\tMD5\nphotos\t100%\\nodd\\ttab\t25f9e794323b453885f5181f1b624d0b\nphotos\tnew\t\n\
         photos\tsummer/01.jpg\t25f9e794323b453885f5181f1b624d0b\n"
    );
    let bagit = index(&["export", "--format", "bagit"]).expect(2);
    assert_eq!(
        bagit.out,
        "25f9e794323b453885f5181f1b624d0b  data/100%25%0Aodd\ttab\n25f9e794323b453885f5181f1b624d0b  data/summer/01.jpg\n"
    );
    assert!(bagit.err.contains("no md5 of 1 item"), "{}", bagit.err);
    assert!(index(&["expire", "--older-than", "1d"]).expect(0).out.contains("0 items"));
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(index(&["expire", "--older-than", "1ms"]).expect(0).out.contains("1 item "));
    index(&["compare"]).expect(0);
}

#[test]
fn an_erased_name_is_gone_and_the_log_is_as_whole_as_before() {
    let audit = AuditWorld::with(100);
    let named = log(&audit, &["--user", "Zoë"]).len();
    let erased = audit.world.mill(&["audit", "erase-user", "library", "Zoë"]).expect(0);
    assert!(erased.out.contains(&format!("erased from {named} rows")), "{}", erased.out);
    let after = log(&audit, &[]);
    assert!(after.iter().all(|entry| entry["user"] != "Zoë"));
    assert!(after.iter().any(|entry| entry["user"] == "Bob\t"));
    assert_eq!(after.iter().filter(|entry| entry["userCommitment"].is_string()).count(), 25);
    audit.world.mill(&["audit", "verify", "library"]).expect(0);
}

#[test]
fn every_audit_command_explains_itself_with_examples() {
    let world = World::new();
    for command in ["new-key", "public-key", "log", "verify", "prove", "export", "index", "erase-user"] {
        let help = world.mill(&["audit", command, "--help"]).expect(0);
        assert!(help.out.contains(&format!("  mill audit {command}")), "{}", help.out);
    }
}

/// A library whose copy is audited, with its log beside the copy.
fn audited_library() -> World {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    world.write(
        "policies/library-stores.json",
        r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true},
                       {"id": "2", "type": "folder", "root": "two", "audited": true}],
            "auditLog": {"stores": ["2"], "origin": "example.org/library", "signingKeyFile": "key"}}"#,
    );
    world.mill(&["audit", "new-key", "example.org/library", "--out", "key"]).expect(0);
    world
}

#[test]
fn a_program_is_called_for_each_new_space_and_one_that_fails_is_named() {
    let world = audited_library();
    world.write("mill.toml", "[policies]\nfolder = \"policies\"\n[workman]\nnew-space-command = \"announce\"\n");
    let announces = |script: &str| {
        world.write("announce", script);
        fs::set_permissions(world.path("announce"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    announces(&format!("#!/bin/sh\nprintf '%s|' \"$@\" >> '{}'\n", world.path("called").display()));
    world.write("one/a space/item", "x");
    world.mill(&["run"]).expect(0);
    assert_eq!(fs::read_to_string(world.path("called")).unwrap(), "library|2|a space|");
    world.mill(&["run"]).expect(0);
    assert_eq!(fs::read_to_string(world.path("called")).unwrap(), "library|2|a space|", "it is not new any more");

    announces("#!/bin/sh\nexit 3\n");
    world.write("one/another/item", "x");
    let ran = world.mill(&["run"]).expect(0);
    assert!(ran.err.contains("new-space-command") && ran.err.contains("exit status: 3"), "{}", ran.err);
    let made = lines(&world.mill(&["audit", "log", "--json", "--action", "create-space"]).expect(0));
    let mut spaces: Vec<&str> = made.iter().map(|entry| entry["event"]["space"].as_str().unwrap()).collect();
    spaces.sort_unstable();
    assert_eq!(spaces, ["a space", "another"]);
}

#[test]
fn what_a_missing_key_kept_waiting_is_published_by_the_next_run_that_has_it() {
    let world = audited_library();
    world.write("one/s/first", "1");
    world.mill(&["run"]).expect(0);
    let items = || {
        let log = lines(&world.mill(&["audit", "log", "--json", "--action", "add-content"]).expect(0));
        log.iter().map(|entry| entry["event"]["item"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    fs::rename(world.path("key"), world.path("away")).unwrap();
    world.write("one/s/second", "2");
    world.mill(&["run"]).expect(50);
    fs::rename(world.path("away"), world.path("key")).unwrap();
    // Nothing changed meanwhile; the dead letter of the failed publication is not retried.
    world.mill(&["run"]);
    assert_eq!(items(), ["first", "second"]);
}
