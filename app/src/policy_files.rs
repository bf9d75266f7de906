//! Policy files in a folder or a bucket: their errors, and the policies in them.

mod buckets;
mod named_spaces;
mod roots;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mill_model::{AccountId, ContentId, ItemAddress, SpaceId, StoreAddress, StoreId};
use mill_policy::{AccountPolicy, Diagnostic, FILE_BYTES_MAX, FileContent, Severity};
use mill_ports::{CompleteListing, DeletableStore, ListEntry, Presence};
use mill_records::policies::read_policy_object;
use serde::Serialize;

use crate::config::Config;
use crate::counted::counted;
use crate::store_choice;
use crate::wait_limit::WaitLimit;

/// One thing that is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyDiagnostic {
    /// The file's name.
    pub file: String,
    /// The line, from 1; 0 where it is about the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 where it is about the file as a whole.
    pub column: u32,
    /// The member of the file; empty where there is none.
    pub member: String,
    /// Whether the policy cannot be used so.
    pub is_error: bool,
    /// What is wrong, and what to do.
    pub message: String,
    /// All of it in one line.
    pub text: String,
}

impl From<Diagnostic> for PolicyDiagnostic {
    fn from(fault: Diagnostic) -> Self {
        let (text, is_error) = (fault.to_string(), fault.severity == Severity::Error);
        let Diagnostic { file, line, column, member, message, .. } = fault;
        Self { file, line, column, member, is_error, message, text }
    }
}

impl fmt::Display for PolicyDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a check of all policy files found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyCheck {
    /// Where the files are.
    pub place: String,
    /// How many there are.
    pub files: usize,
    /// What is wrong with them.
    pub diagnostics: Vec<PolicyDiagnostic>,
}

impl PolicyCheck {
    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error).count()
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }
}

/// The policy of an account cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the policy of account `{account}` cannot be used: {}", counted(diagnostics.len(), "fault"))]
pub struct PolicyUnreadable {
    /// The account.
    pub account: AccountId,
    /// What is wrong with its files.
    pub diagnostics: Vec<PolicyDiagnostic>,
}

/// The location of policy files.
#[derive(Debug)]
pub struct PolicyFiles {
    place: PolicyLocation,
    /// The folder that relative roots of stores are relative to.
    base: PathBuf,
}

#[derive(Debug)]
enum PolicyLocation {
    Folder(PathBuf),
    Bucket { shown: String, store: std::sync::Arc<dyn DeletableStore>, space: SpaceId },
}

impl PolicyFiles {
    /// The files of a folder. Relative roots of stores are relative to `base`.
    pub fn in_folder(folder: &Path, base: &Path) -> Self {
        Self { place: PolicyLocation::Folder(folder.to_owned()), base: base.to_owned() }
    }

    /// The files of a configuration.
    ///
    /// # Errors
    /// Their bucket cannot be reached.
    pub async fn configured(config: &Config) -> Result<Self> {
        let Some(bucket) = &config.policies.bucket else {
            return Ok(Self::in_folder(&config.policies.folder, config.base()));
        };
        let space = SpaceId::new("policies")?;
        let address = StoreAddress { account: AccountId::new("mill")?, store: StoreId::new("policies")? };
        let store =
            store_choice::open_policy_bucket((config, bucket), address, &space).await.context(UNREADABLE_BUCKET)?;
        let place = PolicyLocation::Bucket { shown: format!("s3://{bucket}"), store, space };
        Ok(Self { place, base: config.base().to_owned() })
    }

    /// Checks all files, and where their stores are now.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub async fn check(&self) -> Result<PolicyCheck> {
        let files = self.all().await?;
        let mut faults = mill_policy::check(&files);
        let policies = mill_policy::policies(&files);
        faults.extend(roots::faults(&policies, &self.base).await);
        faults.extend(named_spaces::faults(&policies, &self.base).await);
        faults.extend(buckets::faults(&policies).await?);
        let place = match &self.place {
            PolicyLocation::Folder(folder) => folder.display().to_string(),
            PolicyLocation::Bucket { shown, .. } => shown.clone(),
        };
        let files = files.iter().filter(|(name, _)| Path::new(name).extension().is_some_and(|it| it == "json")).count();
        Ok(PolicyCheck { place, files, diagnostics: faults.into_iter().map(PolicyDiagnostic::from).collect() })
    }

    /// The policy of an account.
    ///
    /// # Errors
    /// [`PolicyUnreadable`] if its files have errors, are missing or cannot be read.
    pub async fn account(&self, account: &str) -> Result<AccountPolicy> {
        let account = AccountId::new(account)?;
        let policy = self.of_account(&account, AccountPolicy::policy_file_name(&account)).await?;
        let stores = self.of_account(&account, AccountPolicy::stores_file_name(&account)).await?;
        AccountPolicy::parse(account.clone(), &policy, &stores).map_err(|faults| unreadable(account, faults))
    }

    /// All files, by name.
    async fn all(&self) -> Result<Vec<(String, FileContent)>> {
        match &self.place {
            PolicyLocation::Folder(folder) => look_in(folder, files).await,
            PolicyLocation::Bucket { store, space, .. } => objects(&**store, space).await.context(UNREADABLE_BUCKET),
        }
    }

    async fn of_account(&self, account: &AccountId, name: String) -> Result<Vec<u8>> {
        let (content, shown) = match &self.place {
            PolicyLocation::Folder(folder) => {
                let path = folder.join(&name);
                let shown = path.display().to_string();
                let read = look_in(folder, move |_| Ok(read_file(&path)));
                (read.await?.map_err(anyhow::Error::from), shown)
            }
            PolicyLocation::Bucket { shown, store, space } => {
                let item = ItemAddress { space: space.clone(), id: ContentId::new(name.as_str())? };
                let read = read_policy_object(&**store, &item).await.context(UNREADABLE_BUCKET)?.present();
                (read.map(|(content, _)| content).context("there is no such object"), format!("{shown}/{name}"))
            }
        };
        match content.with_context(|| format!("account `{account}` has no readable file `{shown}`"))? {
            FileContent::Whole(bytes) => Ok(bytes),
            FileContent::TooLarge { bytes } => {
                Err(unreadable(account.clone(), vec![Diagnostic::of_large_file(name, bytes)]))
            }
        }
    }
}

fn unreadable(account: AccountId, faults: Vec<Diagnostic>) -> anyhow::Error {
    let diagnostics = faults.into_iter().map(PolicyDiagnostic::from).collect();
    PolicyUnreadable { account, diagnostics }.into()
}

const UNREADABLE_BUCKET: &str = "the bucket of the policy files cannot be read";

/// Reads the folder, and says after a while if it hangs.
async fn look_in<T: Send + 'static>(
    folder: &Path,
    look: impl FnOnce(&Path) -> Result<T> + Send + 'static,
) -> Result<T> {
    let at = folder.to_owned();
    WaitLimit::endless().look(folder, move || look(&at)).await
}

/// All files of the folder, by name.
fn files(folder: &Path) -> Result<Vec<(String, FileContent)>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("the policy folder `{}` cannot be read", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let path = entry.path();
            let content = read_file(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
            files.push((entry.file_name().to_string_lossy().into_owned(), content));
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}

/// Reads a file, unless it is too large for a policy file.
fn read_file(path: &Path) -> std::io::Result<FileContent> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX as u64 {
        return Ok(FileContent::TooLarge { bytes });
    }
    Ok(FileContent::Whole(std::fs::read(path)?))
}

/// All objects that a folder could hold as files, by name.
async fn objects(store: &dyn DeletableStore, space: &SpaceId) -> Result<Vec<(String, FileContent)>> {
    let (mut files, mut pages) = (Vec::new(), CompleteListing::open(store, space, None));
    while let Some(page) = pages.next_page().await? {
        for entry in page.entries {
            let ListEntry::Item(id, _) = entry else { continue };
            if !is_file_name(&id) {
                continue;
            }
            let item = ItemAddress { space: space.clone(), id };
            if let Presence::Present((content, _)) = read_policy_object(store, &item).await? {
                files.push((item.id.as_str().to_owned(), content));
            }
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}

/// Whether an id is the name of a file in one folder.
fn is_file_name(id: &ContentId) -> bool {
    !id.as_str().contains('/') && ![".", ".."].contains(&id.as_str())
}

#[cfg(test)]
mod tests;
