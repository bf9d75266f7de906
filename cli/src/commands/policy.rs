//! `mill policy`: check, show and explain.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mill_app::config::Config;
use mill_app::exit::Exit;
use mill_app::patience::Patience;
use mill_app::{aws, policy_buckets, policy_roots};
use mill_model::{AccountId, SpaceId};
use mill_policy::{AccountPolicy, Severity, StoreKind};

use crate::args::Policy;
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: Policy, config: impl AsyncFn() -> Result<Config>) -> Result<Exit> {
    if let Policy::Check { folder: Some(folder) } = &args {
        // Where relative roots begin is known to a configuration alone.
        let config = config().await.ok();
        return check(folder, config.as_ref().map_or(folder, Config::base)).await;
    }
    let config = config().await?;
    if config.text("policies.bucket").is_empty() {
        return in_folder(args, &config.path("policies.folder"), config.base()).await;
    }
    let fetched = Fetched::make()?;
    aws::fetch_policies(&config, &fetched.0).await.context("the bucket of the policy files cannot be read")?;
    in_folder(args, &fetched.0, config.base()).await
}

/// A folder for the policy files of a bucket, gone in the end.
struct Fetched(PathBuf);

impl Fetched {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("mill-policies-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("`{}` cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // A folder left in the temporary one does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn in_folder(args: Policy, folder: &Path, base: &Path) -> Result<Exit> {
    match args {
        Policy::Check { .. } => check(folder, base).await,
        Policy::Show { account } => {
            show(&look_in(folder, move |folder| read(folder, &account)).await?);
            Ok(Exit::Done)
        }
        Policy::Explain { account, space } => {
            let policy = look_in(folder, move |folder| read(folder, &account)).await?;
            let space = SpaceId::new(space)?;
            line(format!("space `{space}` of account `{}`: {}", policy.account(), policy.for_space(&space)));
            Ok(Exit::Done)
        }
    }
}

async fn check(folder: &Path, base: &Path) -> Result<Exit> {
    let files = look_in(folder, files).await?;
    let mut faults = mill_policy::check(&files);
    let policies = mill_policy::policies(&files);
    faults.extend(policy_roots::faults(&policies, base).await);
    faults.extend(policy_buckets::faults(&policies).await?);
    for fault in &faults {
        line(fault.to_string());
    }
    let errors = faults.iter().filter(|fault| fault.severity == Severity::Error).count();
    let warnings = faults.len() - errors;
    let read = files.iter().filter(|(name, _)| has_extension(name, "json")).count();
    line(format!("{read} policy files in `{}`: {errors} errors, {warnings} warnings", folder.display()));
    Ok(if errors > 0 {
        Exit::Error
    } else if warnings > 0 {
        Exit::Warnings
    } else {
        Exit::Done
    })
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// What a look into the folder tells.
async fn look_in<T: Send + 'static>(
    folder: &Path,
    look: impl FnOnce(&Path) -> Result<T> + Send + 'static,
) -> Result<T> {
    let at = folder.to_owned();
    Patience::endless().look(folder, move || look(&at)).await
}

/// All files of the folder, by name.
fn files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("the policy folder `{}` cannot be read", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let path = entry.path();
            let bytes = std::fs::read(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
            files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
        }
    }
    files.sort();
    Ok(files)
}

fn read(folder: &Path, account: &str) -> Result<AccountPolicy> {
    let account = AccountId::new(account)?;
    let bytes = |name: String| {
        std::fs::read(folder.join(&name))
            .with_context(|| format!("account `{account}` has no readable file `{}`", folder.join(&name).display()))
    };
    let policy = bytes(AccountPolicy::policy_file_name(&account))?;
    let stores = bytes(AccountPolicy::stores_file_name(&account))?;
    match AccountPolicy::parse(account.clone(), &policy, &stores) {
        Ok(policy) => Ok(policy),
        Err(faults) => {
            for fault in &faults {
                line(fault.to_string());
            }
            bail!("the policy of account `{account}` has {} faults", faults.len())
        }
    }
}

fn show(policy: &AccountPolicy) {
    line(format!("account {}", policy.account()));
    let stores = policy.stores().iter().map(|store| {
        let (kind, place) = match &store.kind {
            StoreKind::Folder { root } => ("folder", root.display().to_string()),
            StoreKind::S3(s3) => ("s3", format!("{:?}", s3.buckets)),
        };
        let primary = if store.primary { "primary" } else { "" };
        let most = store.transfers_max.map_or_else(|| "-".to_owned(), |most| most.to_string());
        [store.id.to_string(), kind.to_owned(), place, primary.to_owned(), most]
    });
    line(table(["store", "type", "place", "", "transfers at most"], stores));
    for space in policy.named_spaces() {
        line(format!("\nspace `{space}`: {}", policy.for_space(space)));
    }
    line("\nother spaces: the default policies");
}
