//! A model of a table: a map.

use std::collections::BTreeMap;

use bytes::Bytes;
use mill_ports::{KeyRange, RowKey, RowPrecondition, RowVersion, TableErrorKind};
use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_oneof};
use proptest::sample::select;

use super::{hold, pick};
use crate::subject::{TableSubject, run};

/// Parts of keys: few, so that they meet, and among them some that sort or match in surprising ways.
const SORTS: [&str; 14] =
    ["a", "A", "a\0", "a%", "a_", "aa", "ab", "a/b", "b", "é", "e\u{301}", "\u{FFFF}", "\u{1F600}", "\u{10FFFF}"];
const PARTITIONS: [&str; 3] = ["p", "p\0", "q"];
const PREFIXES: [&str; 9] = ["", "a", "a%", "a_", "aa", "e", "\u{FFFF}", "\u{10FFFF}", "z"];

type ModelKey = (&'static str, &'static str);

/// A condition, its version chosen from those there were.
#[derive(Debug, Clone, Copy)]
pub enum TableCondition {
    /// `RowPrecondition::Always`.
    Always,
    /// `RowPrecondition::Absent`.
    Absent,
    /// The present version, or `Always` for an absent row.
    Present,
    /// Any version that any row ever bore.
    Ever(usize),
}

/// One thing done to a table.
#[derive(Debug, Clone)]
pub enum TableOp {
    /// Writes a row.
    Put(ModelKey, u8, TableCondition),
    /// Writes several.
    PutMany(Vec<(ModelKey, u8)>),
    /// Deletes a row.
    Delete(ModelKey, TableCondition),
    /// Reads a row.
    Get(ModelKey),
    /// Reads a range in pages: partition, prefix, after, limit.
    Query(&'static str, &'static str, Option<&'static str>, usize),
}

fn ops() -> impl Strategy<Value = Vec<TableOp>> {
    let key = || (select(&PARTITIONS[..]), select(&SORTS[..]));
    let condition = || {
        prop_oneof![
            3 => proptest::strategy::Just(TableCondition::Always),
            2 => proptest::strategy::Just(TableCondition::Absent),
            2 => proptest::strategy::Just(TableCondition::Present),
            2 => (0..100usize).prop_map(TableCondition::Ever),
        ]
    };
    let op = prop_oneof![
        5 => (key(), 0..=255u8, condition()).prop_map(|(key, value, when)| TableOp::Put(key, value, when)),
        1 => vec((key(), 0..=255u8), 0..5).prop_map(TableOp::PutMany),
        2 => (key(), condition()).prop_map(|(key, when)| TableOp::Delete(key, when)),
        2 => key().prop_map(TableOp::Get),
        3 => (select(&PARTITIONS[..]), select(&PREFIXES[..]), proptest::option::of(select(&SORTS[..])), 1..6usize)
            .prop_map(|(partition, prefix, after, limit)| TableOp::Query(partition, prefix, after, limit)),
    ];
    vec(op, 1..60)
}

/// Tries random operations on fresh tables.
///
/// # Panics
/// When the table does what the model does not.
pub fn check<F: Future<Output = TableSubject>>(open: impl Fn() -> F, cases: u32) {
    hold(&ops(), cases, "proptest-regressions/table.txt", |ops| {
        run(async {
            let mut checked = CheckedTable { subject: open().await, rows: BTreeMap::new(), ever: Vec::new() };
            for op in ops {
                checked.step(op).await;
            }
            for partition in PARTITIONS {
                checked.query(partition, "", None, 3).await;
            }
        });
    });
}

struct CheckedTable {
    subject: TableSubject,
    /// The model: what each row holds, and under which version if that is known.
    rows: BTreeMap<ModelKey, (Bytes, Option<RowVersion>)>,
    ever: Vec<RowVersion>,
}

impl CheckedTable {
    async fn step(&mut self, op: TableOp) {
        let table = self.subject.table.clone();
        match op {
            TableOp::Put(key, value, condition) => {
                let (when, holds) = self.when(key, condition);
                let value = Bytes::from(vec![value]);
                let answer = table.put(&row_key(key), value.clone(), when).await;
                assert_eq!(answer.is_ok(), holds, "put of {key:?}: {answer:?}");
                match answer {
                    Ok(version) => {
                        assert!(!self.ever.contains(&version), "the version {version:?} came back");
                        self.ever.push(version.clone());
                        self.rows.insert(key, (value, Some(version)));
                    }
                    Err(error) => assert_eq!(error.kind, TableErrorKind::Conflict),
                }
            }
            TableOp::PutMany(rows) => {
                let rows: Vec<(ModelKey, Bytes)> =
                    rows.into_iter().map(|(key, value)| (key, vec![value].into())).collect();
                let many: Vec<(RowKey, Bytes)> =
                    rows.iter().map(|(key, value)| (row_key(*key), value.clone())).collect();
                table.put_many(&many).await.unwrap();
                self.rows.extend(rows.into_iter().map(|(key, value)| (key, (value, None))));
            }
            TableOp::Delete(key, condition) => {
                let (when, holds) = self.when(key, condition);
                let answer = table.delete(&row_key(key), when).await;
                assert_eq!(answer.is_ok(), holds, "delete of {key:?}: {answer:?}");
                match answer {
                    Ok(()) => drop(self.rows.remove(&key)),
                    Err(error) => assert_eq!(error.kind, TableErrorKind::Conflict),
                }
            }
            TableOp::Get(key) => self.get(key).await,
            TableOp::Query(partition, prefix, after, limit) => self.query(partition, prefix, after, limit).await,
        }
    }

    /// The condition as the port takes it, and whether it holds.
    fn when(&self, key: ModelKey, condition: TableCondition) -> (RowPrecondition, bool) {
        let row = self.rows.get(&key);
        let version = |version: &RowVersion| {
            let holds = row.is_some_and(|(_, present)| present.as_ref() == Some(version));
            (RowPrecondition::VersionIs(version.clone()), holds)
        };
        match condition {
            TableCondition::Always => (RowPrecondition::Always, true),
            TableCondition::Absent => (RowPrecondition::Absent, row.is_none()),
            TableCondition::Present => match row.and_then(|(_, present)| present.as_ref()) {
                Some(present) => version(present),
                None => (RowPrecondition::Always, true),
            },
            TableCondition::Ever(index) => {
                pick(&self.ever, index).map_or((RowPrecondition::Absent, row.is_none()), version)
            }
        }
    }

    /// Reads a row, and learns its version where the model does not know it.
    async fn get(&mut self, key: ModelKey) {
        let read = self.subject.table.get(&row_key(key)).await.unwrap();
        assert_eq!(read.as_ref().map(|row| &row.value), self.rows.get(&key).map(|(value, _)| value), "{key:?}");
        if let (Some(read), Some((_, version))) = (read, self.rows.get_mut(&key)) {
            match version {
                Some(version) => assert_eq!(*version, read.version),
                None => *version = Some(read.version),
            }
        }
    }

    async fn query(&self, partition: &str, prefix: &str, after: Option<&str>, limit: usize) {
        let range = KeyRange { prefix: prefix.into(), after: after.map(Into::into) };
        let rows = self.subject.rows(partition, &range, limit).await;
        let read: Vec<(&str, &Bytes)> = rows.iter().map(|row| (row.sort.as_str(), &row.value)).collect();
        let expected: Vec<(&str, &Bytes)> = self
            .rows
            .iter()
            .filter(|((p, sort), _)| *p == partition && sort.starts_with(prefix) && after.is_none_or(|a| *sort > a))
            .map(|((_, sort), (value, _))| (*sort, value))
            .collect();
        assert_eq!(read, expected, "rows of {partition:?} in {range:?}");
    }
}

fn row_key((partition, sort): ModelKey) -> RowKey {
    RowKey::new(partition, sort)
}
