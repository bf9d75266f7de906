//! Which store policies apply to a space, by which rule, and where each of their settings comes from.

use std::fmt;

use mill_model::{AccountId, SpaceId, StoreId};

/// What a producer queues of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compare {
    /// Every item, also what listings and seals prove to be in sync: nothing is assumed.
    Everything,
    /// What listings and seals cannot prove to be in sync.
    Differences,
}

impl Compare {
    /// As it is written in a policy file.
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
    /// The store that is brought in sync with it.
    pub destination: StoreId,
    /// What is queued.
    pub compare: Compare,
    /// Whether what is gone from the source goes from the destination.
    pub remove_vanished: bool,
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingOrigin {
    /// The file does not say: Mill's default.
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

/// Where the settings of one store policy come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettingOrigins {
    /// Of `compare`.
    pub compare: SettingOrigin,
    /// Of `removeVanished`.
    pub remove_vanished: SettingOrigin,
}

/// Why those store policies apply, and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The space's id begins with `x-`: internal, never duplicated.
    Internal,
    /// The space is in `spacesToIgnore`.
    Ignored,
    /// The space has a list of its own.
    Own,
    /// It has none; the default policies apply.
    Default,
    /// It has none, and there are no default policies.
    None,
    /// What applies contradicts itself, so nothing is done for the space. It does not mean that no policy is wanted:
    /// tasks for the space are to wait, not to be discarded.
    Stopped {
        /// What contradicts what.
        reason: String,
    },
}

impl Rule {
    /// Whether it leaves a space out that is there, or that a policy names: a person is told of that.
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

/// What applies to one space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDecision {
    /// The store policies, in the order of the file; empty unless the rule is `Own` or `Default`.
    pub policies: Vec<StorePolicy>,
    /// Why these.
    pub rule: Rule,
    /// Where their settings come from, in the same order.
    pub origins: Vec<SettingOrigins>,
    /// The account.
    pub account: AccountId,
    /// The space.
    pub space: SpaceId,
}

impl fmt::Display for PolicyDecision {
    /// The explanation that a person reads: the rule on one line, then a line for each store policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "space `{}` of account `{}`: {}", self.space, self.account, self.rule)?;
        for (policy, origins) in self.policies.iter().zip(&self.origins) {
            let (source, destination, compare) = (&policy.source, &policy.destination, policy.compare.as_str());
            write!(f, "\n  {source} -> {destination}: compares {compare} ({}), ", origins.compare)?;
            let removes = if policy.remove_vanished { "removes" } else { "keeps" };
            write!(f, "{removes} what vanished from the source ({})", origins.remove_vanished)?;
        }
        Ok(())
    }
}

/// Whether today's policy asks for one pair of stores of one space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// It does, by this store policy.
    Covered(StorePolicy),
    /// It surely does not: a task for it may be discarded.
    NotCovered,
    /// The space is stopped by a contradiction: a task for it is to wait.
    Stopped,
}
