//! All policy files of a folder together: the accounts list, and two files for each account.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mill_model::AccountId;

use crate::account::AccountPolicy;
use crate::diagnostic::{Diagnostic, MemberPath, Severity};
use crate::file_content::FileContent;
use crate::json_schema::{self, quoted};
use crate::policy_file;
use crate::store_types::lexically_normalized;
use crate::stores_file::{self, ParsedStores};

/// The file that lists the accounts: a JSON list of account ids.
pub const ACCOUNTS_FILE: &str = "duplication-accounts.json";

const DUPLICATION_SUFFIX: &str = "-duplication-policy.json";
const STORES_SUFFIX: &str = "-stores.json";

/// A file that Mill reads, identified by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyFile {
    /// `duplication-accounts.json`.
    Accounts,
    /// `<account>-duplication-policy.json`.
    Duplication(AccountId),
    /// `<account>-stores.json`.
    Stores(AccountId),
}

impl PolicyFile {
    /// The file's name.
    pub fn name(&self) -> String {
        match self {
            Self::Accounts => ACCOUNTS_FILE.to_owned(),
            Self::Duplication(account) => format!("{}{DUPLICATION_SUFFIX}", account.as_str()),
            Self::Stores(account) => format!("{}{STORES_SUFFIX}", account.as_str()),
        }
    }

    /// The file of this name; `None` for one that Mill does not read.
    pub fn named(name: &str) -> Option<Self> {
        if name == ACCOUNTS_FILE {
            return Some(Self::Accounts);
        }
        if let Some(account) = name.strip_suffix(DUPLICATION_SUFFIX) {
            return AccountId::new(account).ok().map(Self::Duplication);
        }
        name.strip_suffix(STORES_SUFFIX).and_then(|account| AccountId::new(account).ok()).map(Self::Stores)
    }
}

impl AccountPolicy {
    /// The name of an account's policy file.
    pub fn policy_file_name(account: &AccountId) -> String {
        PolicyFile::Duplication(account.clone()).name()
    }

    /// The name of an account's stores file.
    pub fn stores_file_name(account: &AccountId) -> String {
        PolicyFile::Stores(account.clone()).name()
    }
}

/// Reads the accounts list: each account once, in the order of the file.
///
/// # Errors
/// Every diagnostic, if one is an error. A list with one unreadable entry is rejected as a whole: otherwise an account
/// in the unreadable part would seem to have no policies.
pub fn accounts_list(bytes: &[u8]) -> Result<Vec<AccountId>, Vec<Diagnostic>> {
    let (accounts, faults) = examine_accounts(bytes.into());
    accounts.ok_or(faults)
}

/// Reads the accounts list and reports every diagnostic. Returns no list if one is an error.
fn examine_accounts(content: FileContent<&[u8]>) -> (Option<Vec<AccountId>>, Vec<Diagnostic>) {
    let (mut faults, document) = json_schema::open(ACCOUNTS_FILE, content);
    let mut accounts = Vec::new();
    let mut seen = BTreeSet::new();
    let root = MemberPath::Root;
    let items = document.as_ref().and_then(|document| faults.list(&document.root, &root, "a list of account ids"));
    for (index, item) in items.into_iter().flatten().enumerate() {
        let path = root.index(index);
        let Some(account) = faults.id(item, &path, "an account id in double quotes (\")", AccountId::new) else {
            continue;
        };
        if seen.insert(account.clone()) {
            accounts.push(account);
        } else {
            faults.warn(item.at, &path, format!("account `{account}` stands in the list already; remove one"));
        }
    }
    let usable = document.is_some() && !faults.broken();
    (usable.then_some(accounts), faults.into_diagnostics())
}

/// All diagnostics of a policy folder, in the order of file names and positions. Other files are ignored.
pub fn check<N: AsRef<str>, B: AsRef<[u8]>>(files: &[(N, FileContent<B>)]) -> Vec<Diagnostic> {
    let mut folder = PolicyFolder { files: BTreeMap::new(), listed: None, faults: Vec::new(), roots: Vec::new() };
    for (name, content) in files {
        folder.add(name.as_ref(), content.as_ref());
    }
    folder.list();
    folder.accounts();
    folder.warn_of_nested_roots();
    folder.faults.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    folder.faults
}

/// The policies of all accounts of a policy folder that have a valid one. [`check`] reports what is wrong with the
/// others.
pub fn policies<N: AsRef<str>, B: AsRef<[u8]>>(files: &[(N, FileContent<B>)]) -> Vec<AccountPolicy> {
    let file = |name: &str| match files.iter().find(|(file, _)| file.as_ref() == name)?.1.as_ref() {
        FileContent::Whole(bytes) => Some(bytes),
        FileContent::TooLarge { .. } => None,
    };
    let accounts = file(ACCOUNTS_FILE).and_then(|bytes| accounts_list(bytes).ok()).unwrap_or_default();
    let policy = |account: AccountId| {
        let policy = file(&AccountPolicy::policy_file_name(&account))?;
        let stores = file(&AccountPolicy::stores_file_name(&account))?;
        AccountPolicy::parse(account, policy, stores).ok()
    };
    accounts.into_iter().filter_map(policy).collect()
}

struct PolicyFolder<'b> {
    files: BTreeMap<PolicyFile, FileContent<&'b [u8]>>,
    /// The accounts, if the list can be read.
    listed: Option<BTreeSet<AccountId>>,
    faults: Vec<Diagnostic>,
    /// The root of each store of a listed account.
    roots: Vec<(PathBuf, AccountId, String)>,
}

impl<'b> PolicyFolder<'b> {
    fn add(&mut self, name: &str, content: FileContent<&'b [u8]>) {
        match PolicyFile::named(name) {
            Some(file) => _ = self.files.insert(file, content),
            None if Path::new(name).extension().is_some_and(|end| end == "json") && !name.contains('/') => {
                let message = format!(
                    "mill reads no file of this name, so it has no effect; read are {ACCOUNTS_FILE}, \
                     ACCOUNT{DUPLICATION_SUFFIX} and ACCOUNT{STORES_SUFFIX}"
                );
                self.faults.push(warning(name, message));
            }
            None => {}
        }
    }

    fn list(&mut self) {
        let Some(content) = self.files.get(&PolicyFile::Accounts) else {
            let message = "the list of accounts is missing, so no account is served; write it, such as [\"alice\"]";
            self.faults.push(Diagnostic::of_file(ACCOUNTS_FILE, message));
            return;
        };
        let (accounts, faults) = examine_accounts(*content);
        self.faults.extend(faults);
        self.listed = accounts.map(|accounts| accounts.into_iter().collect());
    }

    fn accounts(&mut self) {
        let mut all: BTreeSet<AccountId> = self.listed.clone().unwrap_or_default();
        for file in self.files.keys() {
            match file {
                PolicyFile::Accounts => {}
                PolicyFile::Duplication(account) | PolicyFile::Stores(account) => _ = all.insert(account.clone()),
            }
        }
        for account in &all {
            let unlisted = self.listed.as_ref().is_some_and(|listed| !listed.contains(account));
            self.account(account, unlisted);
        }
    }

    fn account(&mut self, account: &AccountId, unlisted: bool) {
        let (policy, stores) = (PolicyFile::Duplication(account.clone()), PolicyFile::Stores(account.clone()));
        let mut found = Vec::new();
        let read_stores = match self.files.get(&stores) {
            Some(content) => {
                let (read, faults) = stores_file::read(&stores.name(), *content);
                found.extend(faults);
                Some(read)
            }
            None if unlisted => None,
            None => {
                found.push(Diagnostic::of_file(stores.name(), missing(account, "say what its stores are")));
                None
            }
        };
        match self.files.get(&policy) {
            Some(content) => found.extend(policy_file::read(&policy.name(), *content, read_stores.as_ref()).1),
            None if unlisted => {}
            None => found.push(Diagnostic::of_file(policy.name(), missing(account, "an empty policy is {}"))),
        }
        if unlisted {
            for file in [policy, stores].iter().filter(|file| self.files.contains_key(file)) {
                let message = format!("{ACCOUNTS_FILE} does not list account `{account}`, so this file has no effect");
                self.faults.push(warning(&file.name(), message));
            }
            // A file without effect stops nothing.
            for fault in &mut found {
                fault.severity = Severity::Warning;
            }
        } else if let Some(read) = &read_stores {
            self.keep_roots(account, read);
        }
        self.faults.extend(found);
    }

    fn keep_roots(&mut self, account: &AccountId, read: &ParsedStores) {
        for spec in &read.specs {
            if let Some(root) = spec.kind.folder_root() {
                let shown = format!("store `{}` ({})", spec.id, quoted(&root.to_string_lossy()));
                self.roots.push((lexically_normalized(root), account.clone(), shown));
            }
        }
    }

    /// Warns if the folders of two accounts' stores are nested: each would see the other's content.
    fn warn_of_nested_roots(&mut self) {
        let by_root: BTreeMap<&Path, &(PathBuf, AccountId, String)> =
            self.roots.iter().rev().map(|entry| (entry.0.as_path(), entry)).collect();
        let mut faults = Vec::new();
        for (root, account, shown) in &self.roots {
            let outer = root.ancestors().find_map(|outer| by_root.get(outer).filter(|(_, owner, _)| owner != account));
            if let Some((place, owner, outer)) = outer {
                let relation = if place == root { "has the folder of" } else { "lies in" };
                let message =
                    format!("{shown} {relation} {outer} of account `{owner}`; give each account its own place");
                faults.push(warning(&AccountPolicy::stores_file_name(account), message));
            }
        }
        self.faults.extend(faults);
    }
}

fn warning(file: &str, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, ..Diagnostic::of_file(file, message) }
}

fn missing(account: &AccountId, how: &str) -> String {
    format!(
        "the file is missing, though {ACCOUNTS_FILE} lists account `{account}`; write it ({how}), or remove the account from the list"
    )
}

#[cfg(test)]
mod tests;
