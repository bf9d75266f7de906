//! A model of a space: a map.

use std::collections::BTreeMap;

use mill_model::{Properties, Version};
use mill_ports::{Precondition, Presence, StoreError, StoreErrorKind};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::sample::select;

use super::{hold, pick};
use crate::store::{StoredContent, assert_kind, item, pattern, properties, space};
use crate::subject::{StoreSubject, run};

/// Ids that every store holds side by side: none lies beneath another.
const IDS: [&str; 9] = ["!", "a-b", "a.b/c", "a/b", "a/c/d", "a/c/d0", "a0", "b", "é"];

/// A condition, its version chosen from those there were.
#[derive(Debug, Clone, Copy)]
pub enum StoreCondition {
    /// `Precondition::Always`.
    Always,
    /// `Precondition::Absent`.
    Absent,
    /// The present version, or `Always` for an absent item.
    Present,
    /// Any version that any item ever bore.
    Ever(usize),
}

/// What may be wrong with a body.
#[derive(Debug, Clone, Copy)]
pub enum Flaw {
    /// Nothing.
    None,
    /// A byte is missing.
    Short,
    /// A byte is too many.
    Long,
}

/// One thing done to a space.
#[derive(Debug, Clone)]
pub enum StoreOp {
    /// Writes an item of about so many times 64 bytes.
    Put(&'static str, usize, StoreCondition, Flaw),
    /// Writes an item's properties.
    PutProperties(&'static str, u8, StoreCondition),
    /// Deletes an item.
    Delete(&'static str, StoreCondition),
    /// Reads an item.
    Read(&'static str),
    /// Lists what follows an id.
    List(Option<&'static str>),
}

fn ops() -> impl Strategy<Value = Vec<StoreOp>> {
    let id = || select(&IDS[..]);
    let condition = || {
        prop_oneof![
            3 => Just(StoreCondition::Always),
            2 => Just(StoreCondition::Absent),
            2 => Just(StoreCondition::Present),
            1 => (0..100usize).prop_map(StoreCondition::Ever),
        ]
    };
    let size = prop_oneof![4 => 0..100usize, 1 => 0..2000usize];
    let flaw = prop_oneof![6 => Just(Flaw::None), 1 => Just(Flaw::Short), 1 => Just(Flaw::Long)];
    let op = prop_oneof![
        6 => (id(), size, condition(), flaw).prop_map(|(id, size, when, flaw)| StoreOp::Put(id, size, when, flaw)),
        2 => (id(), 0..4u8, condition()).prop_map(|(id, value, when)| StoreOp::PutProperties(id, value, when)),
        3 => (id(), condition()).prop_map(|(id, when)| StoreOp::Delete(id, when)),
        2 => id().prop_map(StoreOp::Read),
        1 => proptest::option::of(id()).prop_map(StoreOp::List),
    ];
    vec(op, 1..40)
}

/// Tries random operations on fresh stores.
///
/// # Panics
/// When the store does what the model does not.
pub fn check<F: Future<Output = StoreSubject>>(open: impl Fn() -> F, cases: u32) {
    hold(&ops(), cases, "proptest-regressions/store.txt", |ops| {
        run(async {
            let subject = open().await.with_space().await;
            let mut checked = CheckedStore { subject, items: BTreeMap::new(), ever: Vec::new(), writes: 0 };
            for op in ops {
                checked.step(op).await;
            }
            checked.list(None).await;
            for id in IDS {
                checked.read(id).await;
            }
        });
    });
}

struct CheckedStore {
    subject: StoreSubject,
    /// The model.
    items: BTreeMap<&'static str, (StoredContent, Version)>,
    ever: Vec<Version>,
    /// Makes each write differ in size: young versions of a folder may need that to be told apart.
    writes: usize,
}

impl CheckedStore {
    async fn step(&mut self, op: StoreOp) {
        match op {
            StoreOp::Put(id, size, condition, flaw) => self.put(id, size, condition, flaw).await,
            StoreOp::PutProperties(id, value, condition) => {
                let noted = properties(&[("noted", &value.to_string())]);
                let (when, holds) = self.when(id, condition);
                let answer = self.subject.store.put_properties(&item(id), &noted, &when).await;
                match self.items.get_mut(id).filter(|_| holds && when != Precondition::Absent) {
                    None => assert_kind(answer, &StoreErrorKind::Precondition),
                    Some(((_, properties), version)) => {
                        (*properties, *version) = (noted, answer.unwrap().version);
                        self.ever.push(version.clone());
                    }
                }
            }
            StoreOp::Delete(id, condition) => {
                let (when, holds) = self.when(id, condition);
                let answer = self.subject.store.delete(&item(id), &when).await;
                match (self.items.contains_key(id), holds) {
                    (false, _) => assert_eq!(answer.unwrap(), Presence::Absent, "delete of {id}"),
                    (true, false) => assert_kind(answer, &StoreErrorKind::Precondition),
                    (true, true) => {
                        assert_eq!(answer.unwrap(), Presence::Present(()), "delete of {id}");
                        self.items.remove(id);
                    }
                }
            }
            StoreOp::Read(id) => self.read(id).await,
            StoreOp::List(after) => self.list(after).await,
        }
    }

    async fn put(&mut self, id: &'static str, size: usize, condition: StoreCondition, flaw: Flaw) {
        self.writes += 1;
        let size = size * 64 + self.writes;
        let read: StoredContent = (pattern(size, self.writes), properties(&[("write", &self.writes.to_string())]));
        let (when, holds) = self.when(id, condition);
        let announced = match flaw {
            Flaw::None => size,
            Flaw::Short => size + 1,
            Flaw::Long => size - 1,
        };
        let answer = self.subject.put_announced(&item(id), &read, announced as u64, &when).await;
        match (holds, flaw) {
            (true, Flaw::None) => {
                let version = answer.unwrap_or_else(|error| panic!("put of {id}: {error:?}")).version;
                self.ever.push(version.clone());
                self.items.insert(id, (read, version));
            }
            (false, Flaw::None) => assert_kind(answer, &StoreErrorKind::Precondition),
            (_, Flaw::Short | Flaw::Long) => drop::<StoreError>(answer.unwrap_err()),
        }
    }

    /// The condition as the port takes it, and whether it holds.
    fn when(&self, id: &str, condition: StoreCondition) -> (Precondition, bool) {
        let present = self.items.get(id).map(|(_, version)| version);
        let version = |version: &Version| (Precondition::VersionIs(version.clone()), present == Some(version));
        match condition {
            StoreCondition::Always => (Precondition::Always, true),
            StoreCondition::Absent => (Precondition::Absent, present.is_none()),
            StoreCondition::Present => present.map_or((Precondition::Always, true), version),
            StoreCondition::Ever(index) => {
                pick(&self.ever, index).map_or((Precondition::Absent, present.is_none()), version)
            }
        }
    }

    async fn read(&self, id: &str) {
        match self.items.get(id) {
            None => self.subject.assert_absent(&item(id)).await,
            Some((read, version)) => {
                self.subject.assert_reads(&item(id), read).await;
                assert_eq!(self.subject.facts(&item(id)).await.unwrap().version, *version, "of {id}");
            }
        }
    }

    async fn list(&self, after: Option<&str>) {
        let listed: Vec<(String, u64)> =
            self.subject.list(&space(), after).await.into_iter().map(|(id, facts)| (id, facts.size)).collect();
        let of = |(id, ((bytes, _), _)): (&&str, &((bytes::Bytes, Properties), Version))| {
            ((*id).to_owned(), bytes.len() as u64)
        };
        let expected: Vec<(String, u64)> =
            self.items.iter().filter(|(id, _)| after.is_none_or(|after| **id > after)).map(of).collect();
        assert_eq!(listed, expected, "after {after:?}");
    }
}
