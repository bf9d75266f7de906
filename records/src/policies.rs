//! The policy files, as they stand today: read from a store's space, kept, and read again when they change.
//!
//! Promise: whoever asks gets the policy of an account as of at most the refreshing time ago, or, where today's files
//! cannot be read or are broken, the last good one (a warning says so, once). A file that cannot be read is never taken
//! for one that asks for nothing: an account is [`PolicyError::NotListed`] only by a list that was read in full, and
//! every other error means that nothing is known. One account's files never hold up or stop another's.
//!
//! Reading order: this file (what is asked and answered), `cached_policy` (a file's last good version), `policy_watcher` (reading).

mod cached_policy;
mod policy_watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{AccountId, SpaceId, Timestamp};
use mill_policy::{ACCOUNTS_FILE, AccountPolicy, Diagnostic, Severity};
use mill_ports::{Clock, SourceStore, StoreError};

use self::policy_watcher::PolicyWatcher;

/// Why no policy can be given.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PolicyError {
    /// The account surely is not in the accounts list: no policy covers anything of it.
    #[error("account `{account}` is not in the accounts list `{ACCOUNTS_FILE}`")]
    NotListed {
        /// The account that was asked for.
        account: AccountId,
    },
    /// A file that must be there surely is not. It is not known what it would say.
    #[error("the policy file `{file}` is missing")]
    MissingSpace {
        /// Its name.
        file: String,
    },
    /// A file was read and is broken. It is not known what was meant.
    #[error("the policy file `{file}` is broken: {}", first(faults))]
    Broken {
        /// Its name.
        file: String,
        /// All faults and warnings of the account's files.
        faults: Arc<[Diagnostic]>,
    },
    /// A file could not be read. It is not known what it says.
    #[error("the policy file `{file}` cannot be read")]
    Unreadable {
        /// Its name.
        file: String,
        /// What the store said.
        #[source]
        source: Arc<StoreError>,
    },
}

impl PolicyError {
    /// The faults of the file, where it is broken.
    pub fn faults(&self) -> &[Diagnostic] {
        match self {
            Self::Broken { faults, .. } => faults,
            Self::NotListed { .. } | Self::MissingSpace { .. } | Self::Unreadable { .. } => &[],
        }
    }
}

/// The first error among faults, and how many others there are.
fn first(faults: &[Diagnostic]) -> String {
    let mut errors = faults.iter().filter(|fault| fault.severity == Severity::Error);
    match (errors.next(), errors.count()) {
        (None, _) => "of unknown fault".to_owned(),
        (Some(first), 0) => first.to_string(),
        (Some(first), more) => format!("{first} (and {more} more)"),
    }
}

/// What is in use of an account's policy, or of the accounts list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFreshness {
    /// Today's files.
    Current,
    /// An older version, since today's files cannot be used.
    LastGood,
    /// Nothing: no good version is known.
    Nothing,
}

/// How it stands with an account's policy files, or with the accounts list.
#[derive(Debug, Clone)]
pub struct PolicyStatus {
    /// The account; `None` for the accounts list.
    pub account: Option<AccountId>,
    /// What is in use.
    pub in_use: PolicyFreshness,
    /// Since when the state is this one.
    pub since: Timestamp,
    /// Why today's files cannot be used.
    pub trouble: Option<PolicyError>,
    /// The faults and warnings of today's files, also of those that can be used.
    pub faults: Vec<Diagnostic>,
}

/// The policies of all accounts. Cheap to ask: once for each task.
pub struct PolicyRepository {
    source: PolicySource,
}

enum PolicySource {
    Fixed(BTreeMap<AccountId, Arc<AccountPolicy>>),
    Watched(Box<PolicyWatcher>),
}

/// Every account with its policy, or why it has none.
pub type AccountPolicies = Vec<(AccountId, Result<Arc<AccountPolicy>, PolicyError>)>;

impl PolicyRepository {
    /// Policies that no file describes and that never change. Of two for one account the last counts.
    pub fn fixed(policies: Vec<AccountPolicy>) -> Self {
        let policies = policies.into_iter().map(|policy| (policy.account().clone(), Arc::new(policy)));
        Self { source: PolicySource::Fixed(policies.collect()) }
    }

    /// Policies that stand as items in a space of a store. Nothing is read before the first question.
    ///
    /// A file is looked at again `refresh` after it was last looked at (sooner while something is wrong with it), and
    /// read again when its version differs. So a change is obeyed at most `refresh`, and the time that reading takes,
    /// after it was made.
    pub fn of_store(store: Arc<dyn SourceStore>, space: SpaceId, clock: Arc<dyn Clock>, refresh: Duration) -> Self {
        Self { source: PolicySource::Watched(Box::new(PolicyWatcher::new(store, space, clock, refresh))) }
    }

    /// The policy of one account as of today, or the last good one.
    ///
    /// # Errors
    /// [`PolicyError::NotListed`] where the account surely has none; any other where that is not known.
    pub async fn account(&self, account: &AccountId) -> Result<Arc<AccountPolicy>, PolicyError> {
        match &self.source {
            PolicySource::Fixed(policies) => {
                policies.get(account).cloned().ok_or_else(|| PolicyError::NotListed { account: account.clone() })
            }
            PolicySource::Watched(watched) => watched.account(account).await,
        }
    }

    /// How many accounts are listed. Of the files only the list is read.
    ///
    /// # Errors
    /// When the list cannot be used and no good version of it is known; never [`PolicyError::NotListed`].
    pub async fn account_count(&self) -> Result<usize, PolicyError> {
        match &self.source {
            PolicySource::Fixed(policies) => Ok(policies.len()),
            PolicySource::Watched(watched) => watched.count().await,
        }
    }

    /// The listed accounts, in order. Of the files only the list is read.
    ///
    /// # Errors
    /// As [`Self::account_count`].
    pub async fn account_ids(&self) -> Result<BTreeSet<AccountId>, PolicyError> {
        match &self.source {
            PolicySource::Fixed(policies) => Ok(policies.keys().cloned().collect()),
            PolicySource::Watched(watched) => watched.ids().await,
        }
    }

    /// Every listed account, in order, with its policy or why it has none.
    ///
    /// # Errors
    /// Only when the list itself cannot be used and no good version of it is known; never [`PolicyError::NotListed`].
    pub async fn accounts(&self) -> Result<AccountPolicies, PolicyError> {
        match &self.source {
            PolicySource::Fixed(policies) => {
                Ok(policies.iter().map(|(account, policy)| (account.clone(), Ok(Arc::clone(policy)))).collect())
            }
            PolicySource::Watched(watched) => watched.accounts().await,
        }
    }

    /// How it stands with the files that were asked for so far: the accounts list first, then the accounts in order.
    /// Reads nothing. Empty for policies that no file describes.
    pub fn states(&self) -> Vec<PolicyStatus> {
        match &self.source {
            PolicySource::Fixed(_) => Vec::new(),
            PolicySource::Watched(watched) => watched.states(),
        }
    }

    /// The faults and warnings of today's files, of those that were asked for so far.
    pub fn faults(&self) -> Vec<Diagnostic> {
        self.states().into_iter().flat_map(|state| state.faults).collect()
    }
}

impl fmt::Debug for PolicyRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            PolicySource::Fixed(policies) => f.debug_tuple("PolicyRepository::Fixed").field(&policies.keys()).finish(),
            PolicySource::Watched(watched) => f.debug_tuple("PolicyRepository::Watched").field(watched).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
