//! One account: its stores and its duplication policy, validated.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::{AccountId, SpaceId, SpacePair, StoreId};

use crate::audit_log::AuditLogSpec;
use crate::decision::{Compare, Coverage, PolicyDecision, Rule, SettingOrigin, SettingOrigins, StorePolicy};
use crate::diagnostic::{Diagnostic, Severity};
use crate::folder::PolicyFile;
use crate::policy_file::{self, GivenSettings, SpaceRules};
use crate::stores::StoreSpec;
use crate::stores_file;

/// One account's stores and duplication policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPolicy {
    account: AccountId,
    stores: Vec<StoreSpec>,
    audit_log: Option<AuditLogSpec>,
    pub(crate) file_settings: GivenSettings,
    workers: Option<u32>,
    pub(crate) per_space: BTreeMap<SpaceId, SpaceRules>,
    pub(crate) defaults: SpaceRules,
    pub(crate) ignored: BTreeSet<SpaceId>,
}

impl AccountPolicy {
    /// Reads an account's two files, `<account>-duplication-policy.json` and `<account>-stores.json`.
    ///
    /// Returns a policy even if some of its spaces are stopped; [`AccountPolicy::examine`] reports these errors too.
    ///
    /// # Errors
    /// Every error and warning of both files, if one of them is an error that is not confined to a space.
    pub fn parse(account: AccountId, policy_file: &[u8], stores_file: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        let (policy, faults) = Self::examine(account, policy_file, stores_file);
        policy.ok_or(faults)
    }

    /// Reads an account's two files and reports every error and warning. Returns no policy if there is an error that is
    /// not confined to a space.
    pub fn examine(account: AccountId, policy_file: &[u8], stores_file: &[u8]) -> (Option<Self>, Vec<Diagnostic>) {
        let (stores, mut faults) = stores_file::read(&PolicyFile::Stores(account.clone()).name(), stores_file);
        let file = PolicyFile::Duplication(account.clone()).name();
        let (read, more) = policy_file::read(&file, policy_file, Some(&stores));
        faults.extend(more);
        let policy = (!stores.broken && !read.broken).then_some(Self {
            account,
            stores: stores.specs,
            audit_log: stores.audit_log,
            file_settings: read.file_settings,
            workers: read.workers,
            per_space: read.per_space,
            defaults: read.defaults,
            ignored: read.ignored,
        });
        debug_assert!(policy.is_some() || faults.iter().any(|fault| fault.severity == Severity::Error));
        (policy, faults)
    }

    /// A policy for one space and two stores that comes from no file, for a mirror. A space whose id begins with `x-`
    /// is internal here too, and not covered.
    pub fn mirror(
        account: AccountId,
        space: SpaceId,
        source: StoreId,
        destination: StoreId,
        compare: Compare,
        remove_vanished: bool,
    ) -> Self {
        let stopped = (source == destination).then(|| format!("source and destination are the same store, `{source}`"));
        let rules = SpaceRules {
            policies: vec![StorePolicy { source, destination, compare, remove_vanished }],
            origins: vec![SettingOrigins { compare: SettingOrigin::Policy, remove_vanished: SettingOrigin::Policy }],
            stopped,
        };
        Self {
            account,
            stores: Vec::new(),
            audit_log: None,
            file_settings: GivenSettings::default(),
            workers: None,
            per_space: BTreeMap::from([(space, rules)]),
            defaults: SpaceRules::default(),
            ignored: BTreeSet::new(),
        }
    }

    /// The account.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Its stores, in the order of the file; none for a [mirror](Self::mirror).
    pub fn stores(&self) -> &[StoreSpec] {
        &self.stores
    }

    /// One of its stores.
    pub fn store(&self, id: &StoreId) -> Option<&StoreSpec> {
        self.stores.iter().find(|spec| spec.id == *id)
    }

    /// Where its audit log is, if it has one.
    pub fn audit_log(&self) -> Option<&AuditLogSpec> {
        self.audit_log.as_ref()
    }

    /// Its primary store; `None` only for a [mirror](Self::mirror).
    pub fn primary(&self) -> Option<&StoreId> {
        self.stores.iter().find(|spec| spec.primary).map(|spec| &spec.id)
    }

    /// The most concurrent workers for this account, at least 1; `None` if the file sets no limit.
    pub fn workers(&self) -> Option<u32> {
        self.workers
    }

    /// The spaces that have their own list in the policy file, in order, even if the list is empty or has no effect.
    /// [`AccountPolicy::for_space`] returns what applies to them.
    pub fn named_spaces(&self) -> Vec<&SpaceId> {
        self.per_space.keys().collect()
    }

    /// The stores that default policies read, in order, each once.
    pub fn default_sources(&self) -> Vec<&StoreId> {
        let unique: BTreeSet<_> = self.defaults.policies.iter().map(|policy| &policy.source).collect();
        unique.into_iter().collect()
    }

    /// The stores that default policies write, in order, each once.
    pub fn default_destinations(&self) -> Vec<&StoreId> {
        let unique: BTreeSet<_> = self.defaults.policies.iter().map(|policy| &policy.destination).collect();
        unique.into_iter().collect()
    }

    /// Every source and destination of its store policies, in order, each once.
    pub fn pairs(&self) -> BTreeSet<(&StoreId, &StoreId)> {
        let rules = self.per_space.values().chain([&self.defaults]);
        rules.flat_map(|rules| &rules.policies).map(|policy| (&policy.source, &policy.destination)).collect()
    }

    /// Every store that its store policies write, in order, each once.
    pub fn destinations(&self) -> BTreeSet<&StoreId> {
        self.pairs().into_iter().map(|(_, destination)| destination).collect()
    }

    /// The store policies that apply to a space today, and the rule that selects them.
    pub fn for_space(&self, space: &SpaceId) -> PolicyDecision {
        let (policies, origins, rule) = match self.applying(space) {
            ApplicableRules::Nothing(rule) => (Vec::new(), Vec::new(), rule),
            ApplicableRules::Rules(SpaceRules { stopped: Some(reason), .. }, _) => {
                (Vec::new(), Vec::new(), Rule::Stopped { reason: reason.clone() })
            }
            ApplicableRules::Rules(rules, rule) => (rules.policies.clone(), rules.origins.clone(), rule),
        };
        PolicyDecision { policies, rule, origins, account: self.account.clone(), space: Some(space.clone()) }
    }

    /// The store policies that apply today to a space that no list names.
    pub fn for_other_spaces(&self) -> PolicyDecision {
        let rule = self.default_rule();
        let SpaceRules { policies, origins, .. } = match rule {
            Rule::Default => self.defaults.clone(),
            _ => SpaceRules::default(),
        };
        PolicyDecision { policies, rule, origins, account: self.account.clone(), space: None }
    }

    /// What applies to a space that no list names.
    pub fn default_rule(&self) -> Rule {
        match &self.defaults {
            SpaceRules { stopped: Some(reason), .. } => Rule::Stopped { reason: reason.clone() },
            SpaceRules { policies, .. } if policies.is_empty() => Rule::None,
            _ => Rule::Default,
        }
    }

    /// Today's policy for a pair of this account, or whether it is certain that there is none.
    pub fn coverage(&self, pair: &SpacePair) -> Coverage {
        let rules = match self.applying(&pair.space) {
            ApplicableRules::Nothing(_) => return Coverage::NotCovered,
            ApplicableRules::Rules(rules, _) if rules.stopped.is_some() => return Coverage::Stopped,
            ApplicableRules::Rules(rules, _) => rules,
        };
        let asked = |policy: &&StorePolicy| policy.source == pair.source && policy.destination == pair.destination;
        rules.policies.iter().find(asked).cloned().map_or(Coverage::NotCovered, Coverage::Covered)
    }

    /// Today's policy for a pair. `None` also if the space is stopped. A caller that would discard something must use
    /// [`AccountPolicy::coverage`], which distinguishes the two.
    pub fn covering(&self, pair: &SpacePair) -> Option<StorePolicy> {
        match self.coverage(pair) {
            Coverage::Covered(policy) => Some(policy),
            Coverage::NotCovered | Coverage::Stopped => None,
        }
    }

    /// DuraCloud's lookup. Nothing applies to internal and ignored spaces. To others their own list applies, unless it
    /// is empty; then the default policies.
    fn applying(&self, space: &SpaceId) -> ApplicableRules<'_> {
        if policy_file::is_internal(space) {
            return ApplicableRules::Nothing(Rule::Internal);
        }
        if self.ignored.contains(space) {
            return ApplicableRules::Nothing(Rule::Ignored);
        }
        match self.per_space.get(space) {
            Some(own) if !own.policies.is_empty() => ApplicableRules::Rules(own, Rule::Own),
            _ if !self.defaults.policies.is_empty() => ApplicableRules::Rules(&self.defaults, Rule::Default),
            _ => ApplicableRules::Nothing(Rule::None),
        }
    }
}

enum ApplicableRules<'p> {
    Nothing(Rule),
    Rules(&'p SpaceRules, Rule),
}

#[cfg(test)]
mod tests;
