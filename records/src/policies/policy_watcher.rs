//! Reads policy files from a store's space.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use mill_model::{AccountId, ContentId, ItemAddress, SpaceId, Version};
use mill_policy::{ACCOUNTS_FILE, AccountPolicy, Diagnostic, FileContent, Severity, accounts_list};
use mill_ports::{Clock, Presence, SourceStore, StoreError};
use parking_lot::Mutex;

use super::cached_policy::{CachedPolicy, LookResult, LookTime, PolicyAnswer};
use super::policy_object::read_policy_object;
use super::{AccountPolicies, PolicyError, PolicyStatus};

/// How many accounts' files are read at once when all are needed.
const ACCOUNTS_AT_ONCE: usize = 8;

type AccountList = BTreeSet<AccountId>;
/// The parsed files and their warnings, or all diagnostics of files that cannot be used.
type JudgeResult<T> = Result<(T, Vec<Diagnostic>), Vec<Diagnostic>>;

pub(super) struct PolicyWatcher {
    store: Arc<dyn SourceStore>,
    space: SpaceId,
    clock: Arc<dyn Clock>,
    refresh: Duration,
    list: CachedPolicy<AccountList>,
    /// Only of listed accounts. The lock is never held across an await.
    accounts: Mutex<BTreeMap<AccountId, Arc<CachedPolicy<AccountPolicy>>>>,
}

impl PolicyWatcher {
    pub(super) fn new(store: Arc<dyn SourceStore>, space: SpaceId, clock: Arc<dyn Clock>, refresh: Duration) -> Self {
        Self { store, space, clock, refresh, list: CachedPolicy::new(None), accounts: Mutex::default() }
    }

    pub(super) async fn account(&self, account: &AccountId) -> Result<Arc<AccountPolicy>, PolicyError> {
        match self.list().await {
            PolicyAnswer::Nothing(error) => return Err(error),
            PolicyAnswer::Current(listed) if !listed.contains(account) => {
                return Err(PolicyError::NotListed { account: account.clone() });
            }
            // Today's list may contain it.
            PolicyAnswer::LastGood(listed, error) if !listed.contains(account) => return Err(error),
            PolicyAnswer::Current(_) | PolicyAnswer::LastGood(..) => {}
        }
        self.listed_account(account).await
    }

    pub(super) async fn count(&self) -> Result<usize, PolicyError> {
        Ok(self.usable_list().await?.len())
    }

    pub(super) async fn ids(&self) -> Result<BTreeSet<AccountId>, PolicyError> {
        Ok((*self.usable_list().await?).clone())
    }

    async fn usable_list(&self) -> Result<Arc<AccountList>, PolicyError> {
        match self.list().await {
            PolicyAnswer::Nothing(error) => Err(error),
            PolicyAnswer::Current(listed) | PolicyAnswer::LastGood(listed, _) => Ok(listed),
        }
    }

    pub(super) async fn accounts(&self) -> Result<AccountPolicies, PolicyError> {
        let listed = self.usable_list().await?;
        let each = listed.iter().map(|account| async move { (account.clone(), self.listed_account(account).await) });
        Ok(futures::stream::iter(each).buffered(ACCOUNTS_AT_ONCE).collect().await)
    }

    pub(super) fn states(&self) -> Vec<PolicyStatus> {
        let accounts: Vec<_> = self.with_accounts(|accounts| accounts.values().cloned().collect());
        self.list.report().into_iter().chain(accounts.iter().filter_map(|cached| cached.report())).collect()
    }

    async fn list(&self) -> PolicyAnswer<AccountList> {
        if let Some(answer) = self.list.fresh(self.clock.monotonic()) {
            return answer;
        }
        let files = vec![ACCOUNTS_FILE.to_owned()];
        let answer = self.answer(&self.list, files, |texts| {
            accounts_list(texts.first().map_or(&[][..], Vec::as_slice))
                .map(|accounts| (accounts.into_iter().collect(), Vec::new()))
        });
        let answer = answer.await;
        if let PolicyAnswer::Current(listed) = &answer {
            self.with_accounts(|accounts| accounts.retain(|account, _| listed.contains(account)));
        }
        answer
    }

    async fn listed_account(&self, account: &AccountId) -> Result<Arc<AccountPolicy>, PolicyError> {
        let known = self.with_accounts(|accounts| accounts.get(account).cloned());
        let cached = known.unwrap_or_else(|| {
            self.with_accounts(|accounts| {
                Arc::clone(
                    accounts
                        .entry(account.clone())
                        .or_insert_with(|| Arc::new(CachedPolicy::new(Some(account.clone())))),
                )
            })
        });
        let answer = if let Some(answer) = cached.fresh(self.clock.monotonic()) {
            answer
        } else {
            let files = vec![AccountPolicy::policy_file_name(account), AccountPolicy::stores_file_name(account)];
            self.answer(&cached, files, |texts| judge(account, texts)).await
        };
        match answer {
            PolicyAnswer::Current(policy) | PolicyAnswer::LastGood(policy, _) => Ok(policy),
            PolicyAnswer::Nothing(error) => Err(error),
        }
    }

    fn with_accounts<R>(&self, act: impl FnOnce(&mut BTreeMap<AccountId, Arc<CachedPolicy<AccountPolicy>>>) -> R) -> R {
        act(&mut self.accounts.lock())
    }

    /// Checks the files and returns the result. While another caller checks them, the cached result is good enough, if
    /// there is one.
    async fn answer<T>(
        &self,
        cached: &CachedPolicy<T>,
        files: Vec<String>,
        judge: impl FnOnce(&[Vec<u8>]) -> JudgeResult<T>,
    ) -> PolicyAnswer<T> {
        let _guard = match (cached.check_lock.try_lock(), cached.newest()) {
            (Ok(guard), _) => guard,
            (Err(_), Some(answer)) => return answer,
            (Err(_), None) => cached.check_lock.lock().await,
        };
        let monotonic = self.clock.monotonic();
        if let Some(answer) = cached.fresh(monotonic) {
            return answer;
        }
        let looked = self.look(&files, &cached.versions(), judge).await;
        let at = LookTime { now: self.clock.now(), monotonic, refresh: self.refresh };
        let missing = || PolicyAnswer::Nothing(PolicyError::MissingFile { file: files.join(", ") });
        cached.update(looked, at).unwrap_or_else(missing)
    }

    async fn look<T>(
        &self,
        files: &[String],
        judged: &[Version],
        judge: impl FnOnce(&[Vec<u8>]) -> JudgeResult<T>,
    ) -> LookResult<T> {
        if self.unchanged(files, judged).await {
            return LookResult::Same;
        }
        let mut texts = Vec::with_capacity(files.len());
        let mut versions = Vec::with_capacity(files.len());
        for file in files {
            match self.read(file).await {
                Ok((text, version)) => {
                    texts.push(text);
                    versions.push(version);
                }
                Err(error) => return LookResult::Failed(error),
            }
        }
        if !versions.iter().all(Version::settled) {
            // A further change could still get the same version.
            versions.clear();
        }
        match judge(&texts) {
            Ok((value, faults)) => LookResult::Good { value, faults, versions },
            Err(faults) => {
                let broken = faults.iter().find(|fault| fault.severity == Severity::Error);
                let file =
                    broken.map(|fault| fault.file.clone()).or_else(|| files.first().cloned()).unwrap_or_default();
                LookResult::Broken { error: PolicyError::Broken { file, faults: faults.into() }, versions }
            }
        }
    }

    /// Whether all files are certainly unchanged since they were read. If that is unknown they are read, and the read
    /// returns the reason.
    async fn unchanged(&self, files: &[String], judged: &[Version]) -> bool {
        if judged.len() != files.len() {
            return false;
        }
        for (file, judged) in files.iter().zip(judged) {
            let Ok(item) = self.item(file) else { return false };
            let Ok(Presence::Present(facts)) = self.store.head(&item).await else { return false };
            if !(facts.version.settled() && facts.version == *judged) {
                return false;
            }
        }
        true
    }

    /// A file's bytes and their version.
    async fn read(&self, file: &str) -> Result<(Vec<u8>, Version), PolicyError> {
        let item = self.item(file)?;
        let unreadable =
            |source: StoreError| PolicyError::Unreadable { file: file.to_owned(), source: Arc::new(source) };
        match read_policy_object(&*self.store, &item).await.map_err(unreadable)? {
            Presence::Absent => Err(PolicyError::MissingFile { file: file.to_owned() }),
            Presence::Present((FileContent::TooLarge { bytes }, _)) => Err(too_large(file, bytes)),
            Presence::Present((FileContent::Whole(bytes), version)) => Ok((bytes, version)),
        }
    }

    fn item(&self, file: &str) -> Result<ItemAddress, PolicyError> {
        match ContentId::new(file) {
            Ok(id) => Ok(ItemAddress { space: self.space.clone(), id }),
            // Cannot happen: file names are made of account ids, which are far shorter than the limit.
            Err(_) => Err(PolicyError::MissingFile { file: file.to_owned() }),
        }
    }
}

fn judge(account: &AccountId, texts: &[Vec<u8>]) -> JudgeResult<AccountPolicy> {
    let [policy, stores] = texts else { return Err(Vec::new()) };
    match AccountPolicy::examine(account.clone(), policy, stores) {
        (Some(policy), faults) => Ok((policy, faults)),
        (None, faults) => Err(faults),
    }
}

fn too_large(file: &str, bytes: u64) -> PolicyError {
    let faults = Arc::from([Diagnostic::of_large_file(file, bytes)]);
    PolicyError::Broken { file: file.to_owned(), faults }
}

impl fmt::Debug for PolicyWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyWatcher").field("store", &self.store).field("space", &self.space).finish_non_exhaustive()
    }
}
