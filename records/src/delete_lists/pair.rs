//! The state of a pair between surveys: deletes that the rule granted, places of the source, the current list.

use std::collections::BTreeMap;
use std::time::Duration;

use mill_model::DeleteListId;
use mill_ports::{Clock, Place};
use serde::{Deserialize, Serialize};

use crate::elapsed::ElapsedTime;

/// The state of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletePairState {
    /// The time that passed, as two clocks agree.
    elapsed: ElapsedTime,
    /// Lists that the rule granted: the time (in agreed milliseconds) and the number of ids.
    #[serde(default)]
    unasked: Vec<(u64, u64)>,
    /// The places of the source, by path: those that a person accepted, or that were seen while nothing had vanished
    /// beneath them.
    #[serde(default)]
    places: BTreeMap<String, String>,
    /// The list that is held, granted or being executed.
    #[serde(default)]
    list: Option<String>,
    /// A list that is being written. It replaces [`Self::list`] as soon as its head is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl DeletePairState {
    pub(super) const SORT: &str = "pair";
    /// How long a delete that the rule granted counts.
    pub const UNASKED_FOR: Duration = Duration::from_hours(24);

    /// The number of deletes that the rule granted in the last 24 hours. Reads both clocks.
    pub fn unasked_today(&mut self, clock: &dyn Clock) -> u64 {
        let now = millis(self.elapsed.read(clock));
        let from = now.saturating_sub(millis(Self::UNASKED_FOR));
        self.unasked.retain(|(at, _)| *at >= from);
        self.unasked.iter().map(|(_, count)| count).sum()
    }

    /// Counts deletes that the rule granted now.
    pub fn grant_unasked(&mut self, count: u64) {
        let now = millis(self.elapsed.agreed());
        match self.unasked.last_mut() {
            Some((at, counted)) if *at == now => *counted += count,
            _ => self.unasked.push((now, count)),
        }
    }

    /// The list that is held, granted or being executed.
    pub fn list(&self) -> Option<DeleteListId> {
        self.list.as_deref().and_then(|list| DeleteListId::parse(list).ok())
    }

    /// Sets the list. No other list is being written from then on.
    pub fn set_list(&mut self, list: Option<DeleteListId>) {
        self.list = list.map(|list| list.to_string());
        self.next = None;
    }

    /// The list that is being written to replace [`Self::list`].
    pub fn next(&self) -> Option<DeleteListId> {
        self.next.as_deref().and_then(|list| DeleteListId::parse(list).ok())
    }

    /// Records the list before anything of it is written, so that it is found wherever its writer crashes.
    pub fn set_next(&mut self, list: DeleteListId) {
        self.next = Some(list.to_string());
    }

    /// The paths at which the source's places differ from those remembered: they are gone, replaced, or new and may
    /// cover what was there before. Empty for a new pair.
    pub fn changed_places(&self, now: &[Place]) -> Vec<String> {
        if self.places.is_empty() {
            return Vec::new();
        }
        let found: BTreeMap<&str, &str> = now.iter().map(|place| (&*place.path, &*place.identity)).collect();
        let gone = self.places.iter().filter(|(path, identity)| found.get(path.as_str()) != Some(&identity.as_str()));
        let fresh = found.keys().filter(|path| !self.places.contains_key(**path));
        let mut paths: Vec<String> = gone.map(|(path, _)| path.clone()).collect();
        paths.extend(fresh.map(|path| (*path).to_owned()));
        paths.sort();
        paths
    }

    /// Whether the places of the source were ever seen.
    pub fn knows_places(&self) -> bool {
        !self.places.is_empty()
    }

    /// Adds places that were never seen before, and returns whether there were any. Known places stay as they are: a
    /// survey finds out whether something vanished beneath them.
    pub fn add_places(&mut self, now: &[Place]) -> bool {
        let before = self.places.len();
        for Place { path, identity } in now {
            self.places.entry(path.clone()).or_insert_with(|| identity.clone());
        }
        self.places.len() > before
    }

    /// Remembers the places of the source as they are now, except those in `except`.
    pub fn accept_places(&mut self, now: impl IntoIterator<Item = Place>, except: &[String]) {
        let kept = |path: &String| except.contains(path);
        self.places.retain(|path, _| kept(path));
        for Place { path, identity } in now {
            if !kept(&path) {
                self.places.insert(path, identity);
            }
        }
    }
}

fn millis(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}
