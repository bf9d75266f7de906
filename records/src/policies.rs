//! Today's policy files: read from a store's space, cached, and read again when they change.
//!
//! Promise: a caller gets the policy of an account, at most one refresh interval old. If today's files are unreadable
//! or broken, it gets the last good one (a warning says so, once). An unreadable file is never treated as an empty one:
//! an account is [`PolicyError::NotListed`] only if the list was read in full, and every other error means that nothing
//! is known. One account's files never delay or stop another's.
//!
//! Reading order: this file (requests and results), `cached_policy` (a file's last good version), `policy_watcher`
//! (reading), `policy_object` (one file).

mod cached_policy;
mod policy_object;
mod policy_watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{AccountId, SpaceId, Timestamp};
use mill_policy::{ACCOUNTS_FILE, AccountPolicy, Diagnostic, Severity};
use mill_ports::{Clock, SourceStore, StoreError};

pub use self::policy_object::read_policy_object;
use self::policy_watcher::PolicyWatcher;

/// Why there is no policy to return.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PolicyError {
    /// The account is certainly not in the accounts list: no policy covers anything of it.
    #[error("account `{account}` is not in the accounts list `{ACCOUNTS_FILE}`")]
    NotListed {
        /// The account.
        account: AccountId,
    },
    /// A required file is certainly absent. Its content is unknown.
    #[error("the policy file `{file}` is missing")]
    MissingFile {
        /// Its name.
        file: String,
    },
    /// A file was read and is broken. What it means is unknown.
    #[error("the policy file `{file}` is broken: {}", first(faults))]
    Broken {
        /// Its name.
        file: String,
        /// All errors and warnings of the account's files.
        faults: Arc<[Diagnostic]>,
    },
    /// A file could not be read. Its content is unknown.
    #[error("the policy file `{file}` cannot be read")]
    Unreadable {
        /// Its name.
        file: String,
        /// The store's error.
        #[source]
        source: Arc<StoreError>,
    },
}

impl PolicyError {
    /// The errors and warnings of the file, if it is broken.
    pub fn faults(&self) -> &[Diagnostic] {
        match self {
            Self::Broken { faults, .. } => faults,
            Self::NotListed { .. } | Self::MissingFile { .. } | Self::Unreadable { .. } => &[],
        }
    }
}

/// The first error among the diagnostics, and how many others there are.
fn first(faults: &[Diagnostic]) -> String {
    let mut errors = faults.iter().filter(|fault| fault.severity == Severity::Error);
    match (errors.next(), errors.count()) {
        (None, _) => "of unknown fault".to_owned(),
        (Some(first), 0) => first.to_string(),
        (Some(first), more) => format!("{first} (and {more} more: `mill policy check` names all)"),
    }
}

/// Which version of an account's policy, or of the accounts list, is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFreshness {
    /// Today's files.
    Current,
    /// An older version, because today's files cannot be used.
    LastGood,
    /// None: no good version is known.
    Nothing,
}

/// The status of an account's policy files, or of the accounts list.
#[derive(Debug, Clone)]
pub struct PolicyStatus {
    /// The account; `None` for the accounts list.
    pub account: Option<AccountId>,
    /// The version in use.
    pub in_use: PolicyFreshness,
    /// Since when this is the status.
    pub since: Timestamp,
    /// Why today's files cannot be used.
    pub trouble: Option<PolicyError>,
    /// The errors and warnings of today's files, also of files that can be used.
    pub faults: Vec<Diagnostic>,
}

/// The policies of all accounts. Lookups are cheap enough for one per task.
pub struct PolicyRepository {
    source: PolicySource,
}

enum PolicySource {
    Fixed(BTreeMap<AccountId, Arc<AccountPolicy>>),
    Watched(Box<PolicyWatcher>),
}

/// Every account with its policy, or the reason why it has none.
pub type AccountPolicies = Vec<(AccountId, Result<Arc<AccountPolicy>, PolicyError>)>;

impl PolicyRepository {
    /// Policies that come from no file and never change. Of two for one account the last counts.
    pub fn fixed(policies: Vec<AccountPolicy>) -> Self {
        let policies = policies.into_iter().map(|policy| (policy.account().clone(), Arc::new(policy)));
        Self { source: PolicySource::Fixed(policies.collect()) }
    }

    /// Policies that are items in a space of a store. Nothing is read before the first lookup.
    ///
    /// A file is checked again `refresh` after its last check (sooner while something is wrong with it), and read again
    /// if its version differs. So a change takes effect after at most `refresh` and the time of reading.
    pub fn of_store(store: Arc<dyn SourceStore>, space: SpaceId, clock: Arc<dyn Clock>, refresh: Duration) -> Self {
        Self { source: PolicySource::Watched(Box::new(PolicyWatcher::new(store, space, clock, refresh))) }
    }

    /// Today's policy of one account, or the last good one.
    ///
    /// # Errors
    /// [`PolicyError::NotListed`] if the account certainly has none; any other error if that is unknown.
    pub async fn account(&self, account: &AccountId) -> Result<Arc<AccountPolicy>, PolicyError> {
        match &self.source {
            PolicySource::Fixed(policies) => {
                policies.get(account).cloned().ok_or_else(|| PolicyError::NotListed { account: account.clone() })
            }
            PolicySource::Watched(watched) => watched.account(account).await,
        }
    }

    /// The number of listed accounts. Reads only the list.
    ///
    /// # Errors
    /// The list cannot be used and no good version of it is known; never [`PolicyError::NotListed`].
    pub async fn account_count(&self) -> Result<usize, PolicyError> {
        match &self.source {
            PolicySource::Fixed(policies) => Ok(policies.len()),
            PolicySource::Watched(watched) => watched.count().await,
        }
    }

    /// The listed accounts, in order. Reads only the list.
    ///
    /// # Errors
    /// As [`Self::account_count`].
    pub async fn account_ids(&self) -> Result<BTreeSet<AccountId>, PolicyError> {
        match &self.source {
            PolicySource::Fixed(policies) => Ok(policies.keys().cloned().collect()),
            PolicySource::Watched(watched) => watched.ids().await,
        }
    }

    /// Every listed account, in order, with its policy or the reason why it has none.
    ///
    /// # Errors
    /// Only if the list itself cannot be used and no good version of it is known; never [`PolicyError::NotListed`].
    pub async fn accounts(&self) -> Result<AccountPolicies, PolicyError> {
        match &self.source {
            PolicySource::Fixed(policies) => {
                Ok(policies.iter().map(|(account, policy)| (account.clone(), Ok(Arc::clone(policy)))).collect())
            }
            PolicySource::Watched(watched) => watched.accounts().await,
        }
    }

    /// The status of the files that were used so far: the accounts list first, then the accounts in order. Reads
    /// nothing. Empty for policies that come from no file.
    pub fn states(&self) -> Vec<PolicyStatus> {
        match &self.source {
            PolicySource::Fixed(_) => Vec::new(),
            PolicySource::Watched(watched) => watched.states(),
        }
    }

    /// The errors and warnings of today's files, for the files used so far.
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
