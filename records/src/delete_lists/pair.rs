//! What is remembered of a pair between surveys: deletes made unasked, places of the source, the list in hand.

use std::collections::BTreeMap;
use std::time::Duration;

use mill_model::DeleteListId;
use mill_ports::{Clock, Place};
use serde::{Deserialize, Serialize};

use crate::elapsed::ElapsedTime;

/// What is remembered of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletePairState {
    /// Time, as two clocks agree on it.
    elapsed: ElapsedTime,
    /// Lists that the rule granted: when (in agreed milliseconds) and how many ids.
    #[serde(default)]
    unasked: Vec<(u64, u64)>,
    /// The places of the source, by path: what a person accepted, or what was seen while nothing had vanished beneath.
    #[serde(default)]
    places: BTreeMap<String, String>,
    /// The list that is held, granted or being carried out.
    #[serde(default)]
    list: Option<String>,
    /// A list that is being written: it takes the other's place as soon as its head is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl DeletePairState {
    pub(super) const SORT: &str = "pair";
    /// How long a delete made unasked counts.
    pub const UNASKED_FOR: Duration = Duration::from_hours(24);

    /// How many deletes were granted by rule in the last 24 hours. Reads both clocks.
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

    /// The list that is held, granted or being carried out.
    pub fn list(&self) -> Option<DeleteListId> {
        self.list.as_deref().and_then(|list| DeleteListId::parse(list).ok())
    }

    /// Sets it. No other is being written from then on.
    pub fn set_list(&mut self, list: Option<DeleteListId>) {
        self.list = list.map(|list| list.to_string());
        self.next = None;
    }

    /// The list that is being written to take the place of [`Self::list`].
    pub fn next(&self) -> Option<DeleteListId> {
        self.next.as_deref().and_then(|list| DeleteListId::parse(list).ok())
    }

    /// Notes it before anything of it is written, so that it is found wherever its writer dies.
    pub fn set_next(&mut self, list: DeleteListId) {
        self.next = Some(list.to_string());
    }

    /// The paths at which the source's places are not those remembered: gone, others, or new ones that may cover what was
    /// there before. Of a pair never seen before there are none.
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

    /// Adds places that were never seen before; says whether there was one. Those known stay as they are: whether
    /// something vanished beneath them is for a survey to find.
    pub fn add_places(&mut self, now: &[Place]) -> bool {
        let before = self.places.len();
        for Place { path, identity } in now {
            self.places.entry(path.clone()).or_insert_with(|| identity.clone());
        }
        self.places.len() > before
    }

    /// Takes the places of the source as they are now, but for those in `except`.
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
