//! A cached file (or the two files of an account): the last good version, and what is wrong with today's.

use std::sync::Arc;
use std::time::Duration;

use mill_model::{AccountId, Monotonic, Timestamp, Version};
use mill_policy::Diagnostic;
use mill_ports::error_chain;
use parking_lot::{Mutex, MutexGuard};
use tracing::{info, warn};

use super::{PolicyError, PolicyFreshness, PolicyStatus};

/// How soon a file is checked again while something is wrong with it.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time between two warnings about one account.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// The result of a lookup.
#[derive(Debug)]
pub(super) enum PolicyAnswer<T> {
    /// Today's version.
    Current(Arc<T>),
    /// The last good version, and why it is not today's.
    LastGood(Arc<T>, PolicyError),
    /// No good version is known.
    Nothing(PolicyError),
}

impl<T> Clone for PolicyAnswer<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Current(value) => Self::Current(Arc::clone(value)),
            Self::LastGood(value, error) => Self::LastGood(Arc::clone(value), error.clone()),
            Self::Nothing(error) => Self::Nothing(error.clone()),
        }
    }
}

/// The result of checking the files.
#[derive(Debug)]
pub(super) enum LookResult<T> {
    /// They are unchanged since they were last read.
    Same,
    /// They were read and are good, though some spaces may be stopped or have warnings.
    Good { value: T, faults: Vec<Diagnostic>, versions: Vec<Version> },
    /// They were read and are broken.
    Broken { error: PolicyError, versions: Vec<Version> },
    /// They could not be read, are missing, or are too large to read.
    Failed(PolicyError),
}

/// The cached policy of one account, or the accounts list.
#[derive(Debug)]
pub(super) struct CachedPolicy<T> {
    /// For messages; `None` for the accounts list.
    account: Option<AccountId>,
    /// Held while the files are checked, so that one caller does it for all.
    pub(super) check_lock: tokio::sync::Mutex<()>,
    /// Never held across an await.
    state: Mutex<CacheState<T>>,
}

#[derive(Debug)]
struct CacheState<T> {
    answer: Option<PolicyAnswer<T>>,
    since: Timestamp,
    faults: Vec<Diagnostic>,
    /// The versions of the files that were last read; empty if they must be read again in any case.
    versions: Vec<Version>,
    due: Monotonic,
    logged: Option<String>,
    logged_at: Option<Monotonic>,
}

/// When the files were checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct LookTime {
    pub(super) now: Timestamp,
    pub(super) monotonic: Monotonic,
    pub(super) refresh: Duration,
}

impl<T> CachedPolicy<T> {
    pub(super) fn new(account: Option<AccountId>) -> Self {
        let state = CacheState {
            answer: None,
            since: Timestamp::default(),
            faults: Vec::new(),
            versions: Vec::new(),
            due: Monotonic::default(),
            logged: None,
            logged_at: None,
        };
        Self { account, check_lock: tokio::sync::Mutex::new(()), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, CacheState<T>> {
        // The state is replaced as a whole, so that it is valid even if a holder of the lock panicked.
        self.state.lock()
    }

    /// The cached result, unless it is time to check again.
    pub(super) fn fresh(&self, monotonic: Monotonic) -> Option<PolicyAnswer<T>> {
        let state = self.state();
        (monotonic < state.due).then(|| state.answer.clone()).flatten()
    }

    /// The cached result, however old.
    pub(super) fn newest(&self) -> Option<PolicyAnswer<T>> {
        self.state().answer.clone()
    }

    /// The versions that were last read.
    pub(super) fn versions(&self) -> Vec<Version> {
        self.state().versions.clone()
    }

    /// Stores the result of a check, logs what changed, and returns the result. `None` only for `Same` before anything
    /// was read.
    pub(super) fn update(&self, looked: LookResult<T>, at: LookTime) -> Option<PolicyAnswer<T>> {
        let mut state = self.state();
        match looked {
            LookResult::Same => {}
            LookResult::Good { value, faults, versions } => {
                state.set(PolicyAnswer::Current(Arc::new(value)), at.now);
                (state.faults, state.versions) = (faults, versions);
            }
            LookResult::Broken { error, versions } => {
                state.faults = error.faults().to_vec();
                state.versions = versions;
                state.fail(error, at.now);
            }
            LookResult::Failed(error) => {
                // The content of today's files is unknown now: they must be read again.
                (state.faults, state.versions) = (error.faults().to_vec(), Vec::new());
                state.fail(error, at.now);
            }
        }
        let well = matches!(state.answer, Some(PolicyAnswer::Current(_)));
        state.due = at.monotonic.plus(if well { at.refresh } else { at.refresh.min(RETRY_INTERVAL) });
        self.log_change(&mut state, at.monotonic);
        state.answer.clone()
    }

    /// Logs what changed: each problem once, however often it occurs again, and its end.
    fn log_change(&self, state: &mut CacheState<T>, monotonic: Monotonic) {
        let trouble = state.problem();
        if trouble == state.logged {
            return;
        }
        let account = self.account.as_ref().map_or("(all)", AccountId::as_str);
        let Some(text) = trouble else {
            info!(account, "policy files are in order again");
            state.logged = None;
            return;
        };
        if state.logged_at.is_some_and(|last| monotonic.since(last) < WARNING_INTERVAL) {
            return; // Logged later, if it is still so.
        }
        match &state.answer {
            Some(PolicyAnswer::LastGood(_, error)) => {
                warn!(account, error = %error_chain(error), "policy files cannot be used; the last good version stays in use");
            }
            Some(PolicyAnswer::Nothing(error)) => {
                warn!(account, error = %error_chain(error), "policy files cannot be used, and no good version is known; its tasks wait");
            }
            Some(PolicyAnswer::Current(_)) | None => {
                let faults: Vec<String> = state.faults.iter().take(5).map(ToString::to_string).collect();
                let (count, faults) = (state.faults.len(), faults.join("; "));
                warn!(account, count, faults, "policy files are used, but have faults");
            }
        }
        (state.logged, state.logged_at) = (Some(text), Some(monotonic));
    }

    /// The status; `None` before anything was read.
    pub(super) fn report(&self) -> Option<PolicyStatus> {
        let state = self.state();
        let (in_use, trouble) = match state.answer.as_ref()? {
            PolicyAnswer::Current(_) => (PolicyFreshness::Current, None),
            PolicyAnswer::LastGood(_, error) => (PolicyFreshness::LastGood, Some(error.clone())),
            PolicyAnswer::Nothing(error) => (PolicyFreshness::Nothing, Some(error.clone())),
        };
        let faults = state.faults.clone();
        Some(PolicyStatus { account: self.account.clone(), in_use, since: state.since, trouble, faults })
    }
}

impl<T> CacheState<T> {
    fn fail(&mut self, error: PolicyError, now: Timestamp) {
        let good = match &self.answer {
            Some(PolicyAnswer::Current(good) | PolicyAnswer::LastGood(good, _)) => Some(Arc::clone(good)),
            Some(PolicyAnswer::Nothing(_)) | None => None,
        };
        self.set(good.map_or(PolicyAnswer::Nothing(error.clone()), |good| PolicyAnswer::LastGood(good, error)), now);
    }

    fn set(&mut self, answer: PolicyAnswer<T>, now: Timestamp) {
        let kind = self.answer.as_ref().map(std::mem::discriminant);
        if kind != Some(std::mem::discriminant(&answer)) {
            self.since = now;
        }
        self.answer = Some(answer);
    }

    /// What is wrong, as a text that stays the same while the problem is the same (a store's own message may differ
    /// each time).
    fn problem(&self) -> Option<String> {
        match self.answer.as_ref()? {
            PolicyAnswer::Current(_) if self.faults.is_empty() => None,
            PolicyAnswer::LastGood(_, PolicyError::Unreadable { file, source })
            | PolicyAnswer::Nothing(PolicyError::Unreadable { file, source }) => {
                Some(format!("{file}: {}", source.kind))
            }
            PolicyAnswer::LastGood(_, error) | PolicyAnswer::Nothing(error) if error.faults().is_empty() => {
                Some(error.to_string())
            }
            _ => Some(self.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }
}
