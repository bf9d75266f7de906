//! The store policies that apply to a space, the rule that selects them, and the origin of each setting.

use std::fmt;

use mill_model::{AccountId, SpaceId, StoreId};

/// Which items of a space a producer queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compare {
    /// Every item, even those that listings and sync proofs prove to be in sync.
    Everything,
    /// The items that listings and sync proofs cannot prove to be in sync.
    Differences,
}

impl Compare {
    /// Its name in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Differences => "differences",
        }
    }
}

/// One store policy as it applies to one space today.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePolicy {
    /// The store that is read.
    pub source: StoreId,
    /// The store that is kept in sync with the source.
    pub destination: StoreId,
    /// What is queued.
    pub compare: Compare,
    /// Whether items that are gone from the source are deleted at the destination.
    pub remove_vanished: bool,
}

/// The origin of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingOrigin {
    /// Mill's default, because the file does not set it.
    Default,
    /// The top of the policy file.
    File,
    /// The store policy itself.
    Policy,
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "the default",
            Self::File => "set at the top of the file",
            Self::Policy => "set on this store policy",
        })
    }
}

/// The origins of the settings of one store policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettingOrigins {
    /// Of `compare`.
    pub compare: SettingOrigin,
    /// Of `removeVanished`.
    pub remove_vanished: SettingOrigin,
}

/// The rule that selects the store policies of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The space's id begins with `x-`: internal, never duplicated.
    Internal,
    /// The space is in `spacesToIgnore`.
    Ignored,
    /// The space has its own list.
    Own,
    /// It has no list; the default policies apply.
    Default,
    /// It has no list, and there are no default policies.
    None,
    /// The policies that apply contradict each other, so nothing is done for the space. That does not mean that no
    /// policy is wanted: tasks for the space must wait, and must not be discarded.
    Stopped {
        /// The contradiction.
        reason: String,
    },
}

impl Rule {
    /// Whether it excludes a space that exists or that a policy names. Such spaces are reported.
    pub fn leaves_out(&self) -> bool {
        match self {
            Self::Internal | Self::Ignored | Self::Stopped { .. } => true,
            Self::Own | Self::Default | Self::None => false,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal => {
                f.write_str("never duplicated, since by DuraCloud's rule ids that begin with `x-` are internal")
            }
            Self::Ignored => f.write_str("never duplicated, since `spacesToIgnore` names it"),
            Self::Own => f.write_str("by its own list in `spaceDuplicationStorePolicies`"),
            Self::Default => f.write_str("by `defaultPolicies`, since it has no list of its own"),
            Self::None => {
                f.write_str("not duplicated, since it has no list of its own and there are no `defaultPolicies`")
            }
            Self::Stopped { reason } => write!(f, "stopped: {reason}"),
        }
    }
}

/// The store policies that apply to one space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDecision {
    /// The store policies, in the order of the file; empty unless the rule is `Own` or `Default`.
    pub policies: Vec<StorePolicy>,
    /// The rule that selects them.
    pub rule: Rule,
    /// The origins of their settings, in the same order.
    pub origins: Vec<SettingOrigins>,
    /// The account.
    pub account: AccountId,
    /// The space; `None` for any that no list names.
    pub space: Option<SpaceId>,
}

impl fmt::Display for PolicyDecision {
    /// The explanation for people: the rule on one line, then a line for each store policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.space {
            Some(space) => write!(f, "space `{space}` of account `{}`: {}", self.account, self.rule)?,
            None => write!(f, "any other space of account `{}`: {}", self.account, self.rule)?,
        }
        for (policy, origins) in self.policies.iter().zip(&self.origins) {
            let (source, destination, compare) = (&policy.source, &policy.destination, policy.compare.as_str());
            write!(f, "\n  {source} -> {destination}: compares {compare} ({}), ", origins.compare)?;
            let removes = if policy.remove_vanished { "removes" } else { "keeps" };
            write!(f, "{removes} what vanished from the source ({})", origins.remove_vanished)?;
        }
        Ok(())
    }
}

/// Whether today's policy covers one space and a pair of stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// It does, with this store policy.
    Covered(StorePolicy),
    /// It certainly does not: a task for it may be discarded.
    NotCovered,
    /// The space is stopped by a contradiction: a task for it must wait.
    Stopped,
}
