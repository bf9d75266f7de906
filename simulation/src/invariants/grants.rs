//! Every deleted item is named by a granted delete list. A person's grant comes from a person, for that list. The grants of the
//! rule for a pair stay within the threshold in 24 hours, whichever producer made them, and never name a held item that is not
//! back. A hidden item is deleted only by a person's grant, unless a person accepted that its disk is gone.
//!
//! The rule grants a list at the moment in which the pair takes the list: one that a stale producer wrote is never sent. The list
//! of an event is never the pair's: it is of one item, counts from when its workman saved the pair before it, and together with all
//! others of 24 hours it stays within the rule's few.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{ItemAddress, Monotonic, StoreAddress, StoreId};
use mill_records::delete_lists::DeleteLists;
use serde_json::Value;

use super::Invariant;
use crate::event::{Event, OPERATOR, USERS};
use crate::model::{WorldModel, back};
use crate::users::DISK;

/// The lists of one pair, by its partition of the table.
#[derive(Default)]
struct PairLists {
    ids: BTreeMap<String, BTreeSet<String>>,
    granted: BTreeSet<String>,
    /// The lists that a person granted.
    by_person: BTreeSet<String>,
    /// The ids that were held and since then neither came back to the source nor were granted.
    held: BTreeSet<String>,
    /// The lists granted by the rule that the pair has not taken yet, and how many ids they have.
    to_take: BTreeMap<String, u64>,
    by_rule: Vec<(Monotonic, u64)>,
    /// When each process last saved the pair.
    saved: BTreeMap<String, Monotonic>,
    /// Whether a person accepted that the disk beneath the space is gone.
    disk: DiskKnowledge,
}

/// What a pair knows about the disk beneath its source.
#[derive(Debug, Default, PartialEq, Eq)]
enum DiskKnowledge {
    /// The pair knows the disk, or never saw one.
    #[default]
    Yes,
    /// A person granted a list that was made without the disk.
    Accepting,
    /// So the pair forgot the disk, and has not seen it since: its items count as gone like any others.
    No,
}

impl DiskKnowledge {
    /// Applies the places of a row.
    fn seen(&mut self, has_disk: bool, by_person: bool) {
        *self = match self {
            Self::Yes if by_person && !has_disk => Self::Accepting,
            Self::Accepting if !by_person && !has_disk => Self::No,
            Self::No if !by_person && has_disk => Self::Yes,
            _ => return,
        };
    }
}

impl PairLists {
    /// The pair takes this list. A grant by the rule counts from now on.
    fn taken(&mut self, list: &str, model: &WorldModel) -> Result<(), String> {
        let Some(count) = self.to_take.remove(list) else { return Ok(()) };
        if let Some(id) = self.ids.get(list).into_iter().flatten().find(|id| self.held.contains(*id)) {
            return Err(format!("{id} was let go, which is held and not back"));
        }
        let sum = self.granted(model.now, count);
        if sum > model.tolerances.unasked_max {
            return Err(format!("{sum} deletes were granted unasked within 24 hours"));
        }
        Ok(())
    }

    /// The deletes that the rule granted in the 24 hours before, with these.
    fn granted(&mut self, at: Monotonic, count: u64) -> u64 {
        self.by_rule.push((at, count));
        self.by_rule.retain(|(before, _)| at.since(*before) < Duration::from_hours(24));
        self.by_rule.iter().map(|(_, count)| count).sum()
    }

    /// A workman grants the delete of an event.
    fn granted_event(&mut self, by: &str, list: &str, model: &WorldModel) -> Result<(), String> {
        if let Some(id) = self.ids.get(list).into_iter().flatten().find(|id| self.held.contains(*id)) {
            return Err(format!("{id} was let go for an event, which is held and not back"));
        }
        let at = self.saved.get(by).copied().unwrap_or(model.now);
        let sum = self.granted(at, 1);
        if sum > model.tolerances.unasked_few {
            return Err(format!("{sum} deletes were granted unasked within 24 hours, the last for an event"));
        }
        Ok(())
    }
}

/// The ids in the name of a pair's partition.
fn parts(partition: &str) -> Option<[&str; 4]> {
    partition.splitn(4, '/').collect::<Vec<_>>().try_into().ok()
}

#[derive(Default)]
pub(super) struct GrantedDeletes {
    pairs: BTreeMap<String, PairLists>,
    /// The lists that the operator ever was about to confirm.
    confirming: BTreeSet<String>,
}

impl Invariant for GrantedDeletes {
    fn name(&self) -> &'static str {
        "deletes are granted"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        match event {
            Event::Row { by, table, partition, sort, value: Some(value) } if *table == DeleteLists::TABLE => {
                self.row(by, partition, sort, value, model)
            }
            Event::Confirming { list } => {
                self.confirming.insert(list.to_string());
                Ok(())
            }
            Event::Item { by, store, item, holds: None, called, .. } if *by != USERS => {
                self.deleted(by, store, item, model, *called)
            }
            Event::Item { store, item, holds: Some(_), .. } => {
                self.back(store, item);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl GrantedDeletes {
    fn row(&mut self, by: &str, partition: &str, sort: &str, value: &[u8], model: &WorldModel) -> Result<(), String> {
        let lists = self.pairs.entry(partition.to_owned()).or_default();
        let value: Value = serde_json::from_slice(value).unwrap_or_default();
        if sort == "pair" {
            lists.disk.seen(!value["places"][DISK].is_null(), false);
            lists.saved.insert(by.to_owned(), model.now);
        }
        if let Some(list) = value["list"].as_str().filter(|_| sort == "pair") {
            return lists.taken(list, model).map_err(|what| format!("{by}, {partition}: {what}"));
        }
        let Some((list, kind)) = sort.strip_prefix("list/").and_then(|rest| rest.split_once('/')) else {
            return Ok(());
        };
        if kind.starts_with("row/") {
            let ids = value.as_array().into_iter().flatten().filter_map(|pair| pair[0].as_str().map(str::to_owned));
            lists.ids.entry(list.to_owned()).or_default().extend(ids);
        }
        let ids = lists.ids.get(list).cloned().unwrap_or_default();
        if kind == "head" && !value["state"]["held"].is_null() {
            lists.held.extend(ids.iter().cloned());
        }
        let granted = &value["state"]["granted"];
        if kind != "head" || granted.is_null() || !lists.granted.insert(list.to_owned()) {
            return Ok(());
        }
        let count = value["count"].as_u64().unwrap_or(0);
        if granted["by"] != "rule" {
            let person = by.starts_with(OPERATOR) && self.confirming.contains(list);
            lists.by_person.insert(list.to_owned());
            let has_disk = value["places"].as_array().into_iter().flatten().any(|place| place[0] == DISK);
            lists.disk.seen(has_disk, true);
            lists.held.retain(|id| !ids.contains(id));
            return if person { Ok(()) } else { Err(format!("{by} granted {count} deletes in a person's name")) };
        }
        if by.starts_with("workman") && count == 1 {
            return lists.granted_event(by, list, model).map_err(|what| format!("{by}, {partition}: {what}"));
        }
        lists.to_take.insert(list.to_owned(), count);
        Ok(())
    }

    /// An item of a source is present, so it is not held any more.
    fn back(&mut self, source: &StoreAddress, item: &ItemAddress) {
        for (partition, lists) in &mut self.pairs {
            if parts(partition).is_some_and(|[account, store, _, space]| {
                [account, store, space] == [source.account.as_str(), source.store.as_str(), item.space.as_str()]
            }) {
                lists.held.remove(item.id.as_str());
            }
        }
    }

    fn deleted(
        &self,
        by: &str,
        destination: &StoreAddress,
        item: &ItemAddress,
        model: &WorldModel,
        called: Monotonic,
    ) -> Result<(), String> {
        let names =
            |lists: &PairLists, list: &String| lists.ids.get(list).is_some_and(|ids| ids.contains(item.id.as_str()));
        let mut why = "which no granted list names".to_owned();
        for (partition, lists) in &self.pairs {
            let Some([account, source, store, space]) = parts(partition) else { continue };
            if [account, store, space]
                != [destination.account.as_str(), destination.store.as_str(), item.space.as_str()]
            {
                continue;
            }
            let mut naming = lists.granted.iter().filter(|list| names(lists, list)).peekable();
            if naming.peek().is_none() {
                continue;
            }
            let source = StoreAddress { account: destination.account.clone(), store: StoreId::new(source).unwrap() };
            let hidden =
                model.out_of_sight(&source, item).filter(|since| *since < back(called, model.tolerances.tries_age));
            if hidden.is_none() || lists.disk == DiskKnowledge::No || naming.any(|list| lists.by_person.contains(list))
            {
                return Ok(());
            }
            why = format!("which is only out of sight in {source}");
        }
        Err(format!("{by} deleted {item} in {destination}, {why}"))
    }
}
