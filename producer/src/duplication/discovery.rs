//! Which morsels an account has: the spaces that a policy names, and those that the stores of default policies hold, on either
//! side.

use std::collections::BTreeSet;

use mill_hooks::{PlantedBug, is_planted};
use mill_model::{SpaceId, SpacePair, StoreId};
use mill_policy::{AccountPolicy, Rule, StorePolicy};
use mill_ports::LeftOutEntries;
use tracing::warn;

use super::plan::DuplicationSession;
use super::report::LeftOutEntry;
use crate::looping::{OpenAs, SpacesByStore, StoreSpaces};

impl DuplicationSession<'_> {
    /// Reports the entries that lie in no space, in stores that default policies read, and each space that a rule leaves out: in
    /// these stores, and, unless `again`, among the spaces that the policy names.
    pub(super) fn report_left_out(&mut self, policy: &AccountPolicy, spaces: &SpacesByStore, again: bool) {
        let before = self.report.findings.left_out.count;
        let named = policy.named_spaces().into_iter().filter(|_| !again);
        let mut named: BTreeSet<&SpaceId> = named.collect();
        let mut found: Vec<(Option<&StoreId>, &SpaceId)> = Vec::new();
        for (store, listed) in spaces {
            let StoreSpaces { spaces, beside: Some(LeftOutEntries { first, count }) } = listed else { continue };
            for (shown, reason) in first {
                let (account, store, shown) = (policy.account().clone(), Some(store.clone()), shown.clone());
                self.left_out(LeftOutEntry { account, store, shown, is_space: false, rule: reason.to_string() });
            }
            let more = count - first.len() as u64;
            if more > 0 {
                warn!(account = %policy.account(), %store, more, "more entries of the store lie in no space than are named");
                self.report.findings.left_out.count += more;
            }
            found.extend(spaces.iter().map(|space| (Some(store), space)));
            named.retain(|space| !spaces.contains(*space));
        }
        found.extend(named.into_iter().map(|space| (None, space)));
        for (store, space) in found {
            let rule = policy.for_space(space).rule;
            if rule.leaves_out() && !is_planted(PlantedBug::LeftOutUnnamed) {
                let (account, store) = (policy.account().clone(), store.cloned());
                let (shown, rule) = (space.to_string(), rule.to_string());
                self.left_out(LeftOutEntry { account, store, shown, is_space: true, rule });
            }
        }
        let more = self.report.findings.left_out.count - before;
        *self.plan.left_out.entry(policy.account().clone()).or_default() += more;
        self.deps.statistics.count(|work| work.left_out += more);
    }

    fn left_out(&mut self, entry: LeftOutEntry) {
        let LeftOutEntry { account, store, shown, rule, .. } = &entry;
        if self.report.findings.left_out.first.contains(&entry) {
            return;
        }
        let store = store.as_ref().map(tracing::field::display);
        warn!(target: mill_ports::REPORTED, %account, store, name = shown, rule, "left out, and not copied");
        self.report.findings.left_out.add(entry);
    }
}

/// The stores that default policies name. Those that are sources are asked for what lies in no space, too.
pub(super) fn default_stores(policy: &AccountPolicy) -> Vec<(StoreId, OpenAs)> {
    let sources: BTreeSet<&StoreId> = policy.default_sources().into_iter().collect();
    let destinations = policy.default_destinations().into_iter().collect();
    let open_as = |store: &StoreId| if sources.contains(store) { OpenAs::Source } else { OpenAs::Destination };
    sources.union(&destinations).map(|store| ((*store).clone(), open_as(store))).collect()
}

/// All morsels of an account; if `unanswered` is not empty, only those that involve one of these stores.
pub(super) fn covered_pairs(
    policy: &AccountPolicy,
    spaces: &SpacesByStore,
    unanswered: &[StoreId],
) -> BTreeSet<SpacePair> {
    let named: BTreeSet<&SpaceId> = policy.named_spaces().into_iter().collect();
    let listed = spaces.values().flat_map(|store| &store.spaces);
    let all: BTreeSet<&SpaceId> = named.iter().copied().chain(listed).collect();
    let is_at = |store: &StoreId, space| spaces.get(store).is_some_and(|at| at.spaces.contains(space));
    let mut morsels = BTreeSet::new();
    for space in all {
        let decision = policy.for_space(space);
        for StorePolicy { source, destination, .. } in decision.policies {
            let asked = unanswered.is_empty() || [&source, &destination].iter().any(|store| unanswered.contains(store));
            // A default policy applies to spaces that exist on one side; a space's own list also to a space that does not exist.
            let own = decision.rule == Rule::Own;
            if asked && (own || is_at(&source, space) || is_at(&destination, space)) {
                let (account, space) = (policy.account().clone(), space.clone());
                morsels.insert(SpacePair { account, source, destination, space });
            }
        }
    }
    morsels
}
