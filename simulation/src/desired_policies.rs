//! The policies that users want, as the world knows them. Mill reads them from policy files, like any others.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use serde_json::{Map, Value, json};

/// One store kept in sync with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DesiredCopy {
    pub(crate) source: StoreId,
    pub(crate) destination: StoreId,
    pub(crate) remove: bool,
    pub(crate) differences: bool,
}

/// The desired policy of one account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DesiredPolicy {
    pub(crate) defaults: Vec<DesiredCopy>,
    /// Spaces with lists of their own.
    pub(crate) own: BTreeMap<SpaceId, Vec<DesiredCopy>>,
    pub(crate) ignored: BTreeSet<SpaceId>,
    /// The most concurrent tasks at each store of the account.
    pub(crate) workers: Option<u32>,
}

impl DesiredPolicy {
    /// The copies that apply to a space.
    pub(crate) fn of_space(&self, space: &SpaceId) -> &[DesiredCopy] {
        if self.ignored.contains(space) {
            return &[];
        }
        self.own.get(space).unwrap_or(&self.defaults)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &DesiredCopy> {
        self.defaults.iter().chain(self.own.values().flatten())
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut DesiredCopy> {
        self.defaults.iter_mut().chain(self.own.values_mut().flatten())
    }

    /// The text of the policy file.
    pub(crate) fn file(&self) -> String {
        let list = |list: &[DesiredCopy]| -> Value {
            let policy = |desired_copy: &DesiredCopy| {
                json!({
                    "srcStoreId": desired_copy.source.as_str(), "destStoreId": desired_copy.destination.as_str(),
                    "removeVanished": desired_copy.remove,
                    "compare": if desired_copy.differences { "differences" } else { "everything" },
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

/// The desired policies of all accounts.
#[derive(Debug, Clone, Default)]
pub(crate) struct DesiredPolicies(pub(crate) BTreeMap<AccountId, DesiredPolicy>);

impl DesiredPolicies {
    /// The copies whose destination is this space of this store.
    pub(crate) fn copies_into<'w>(
        &'w self,
        store: &'w StoreAddress,
        space: &'w SpaceId,
    ) -> impl Iterator<Item = &'w DesiredCopy> + 'w {
        let desired_policy = self.0.get(&store.account);
        let desired_copies = desired_policy.map_or(&[][..], |desired_policy| desired_policy.of_space(space));
        desired_copies.iter().filter(move |desired_copy| desired_copy.destination == store.store)
    }

    pub(crate) fn destinations(&self) -> BTreeSet<StoreAddress> {
        let of = |(account, desired_policy): (&AccountId, &DesiredPolicy)| {
            let account = account.clone();
            let all: Vec<_> = desired_policy
                .all()
                .map(|desired_copy| StoreAddress::of(&account, &desired_copy.destination))
                .collect();
            all
        };
        self.0.iter().flat_map(of).collect()
    }
}
