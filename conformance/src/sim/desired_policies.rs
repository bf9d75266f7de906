//! What people want, in the world's own words; the rooms read it from policy files like any other.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use serde_json::{Map, Value, json};

/// One store kept in sync with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copying {
    pub(crate) source: StoreId,
    pub(crate) destination: StoreId,
    pub(crate) remove: bool,
    pub(crate) differences: bool,
}

/// What one account wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) defaults: Vec<Copying>,
    /// Spaces with lists of their own.
    pub(crate) own: BTreeMap<SpaceId, Vec<Copying>>,
    pub(crate) ignored: BTreeSet<SpaceId>,
    /// Most tasks at once at each store of the account.
    pub(crate) workers: Option<u32>,
}

impl Wish {
    /// What applies to a space.
    pub(crate) fn of_space(&self, space: &SpaceId) -> &[Copying] {
        if self.ignored.contains(space) {
            return &[];
        }
        self.own.get(space).unwrap_or(&self.defaults)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Copying> {
        self.defaults.iter().chain(self.own.values().flatten())
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Copying> {
        self.defaults.iter_mut().chain(self.own.values_mut().flatten())
    }

    /// The policy file that says so.
    pub(crate) fn file(&self) -> String {
        let list = |list: &[Copying]| -> Value {
            let policy = |copying: &Copying| {
                json!({
                    "srcStoreId": copying.source.as_str(), "destStoreId": copying.destination.as_str(),
                    "removeVanished": copying.remove,
                    "compare": if copying.differences { "differences" } else { "everything" },
                })
            };
            list.iter().map(policy).collect()
        };
        let mut file = Map::new();
        if !self.defaults.is_empty() {
            file.insert("defaultPolicies".into(), list(&self.defaults));
        }
        if !self.own.is_empty() {
            let own = self.own.iter().map(|(space, own)| (space.as_str().to_owned(), list(own)));
            file.insert("spaceDuplicationStorePolicies".into(), own.collect::<Map<_, _>>().into());
        }
        if !self.ignored.is_empty() {
            file.insert("spacesToIgnore".into(), self.ignored.iter().map(SpaceId::as_str).collect());
        }
        if let Some(workers) = self.workers {
            file.insert("workers".into(), workers.into());
        }
        Value::from(file).to_string()
    }
}

/// What all accounts want.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes(pub(crate) BTreeMap<AccountId, Wish>);

impl Wishes {
    /// All that brings something into a space of a store.
    pub(crate) fn arriving_in<'w>(
        &'w self,
        store: &'w StoreAddress,
        space: &'w SpaceId,
    ) -> impl Iterator<Item = &'w Copying> + 'w {
        let wish = self.0.get(&store.account);
        let copyings = wish.map_or(&[][..], |wish| wish.of_space(space));
        copyings.iter().filter(move |copying| copying.destination == store.store)
    }

    pub(crate) fn destinations(&self) -> BTreeSet<StoreAddress> {
        let of = |(account, wish): (&AccountId, &Wish)| {
            let account = account.clone();
            let all: Vec<_> = wish
                .all()
                .map(|copying| StoreAddress { account: account.clone(), store: copying.destination.clone() })
                .collect();
            all
        };
        self.0.iter().flat_map(of).collect()
    }
}
