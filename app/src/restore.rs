//! Restores a space from one of its copies.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mill_local::folder::{Extent, Layout};
use mill_model::{AccountId, SpaceId, SpacePair, StoreAddress, StoreId};
use mill_policy::{AccountPolicy, StoreKind};
use mill_processors::restore::{Restoration, RestorationReport};

use crate::UsageError;
use crate::config::Config;
use crate::files::create_folder;
use crate::installation::Installation;
use crate::placement_checks::overlapping;
use crate::store_registry::FolderOpener;

/// Items restored at once.
const AT_ONCE: usize = 64;

/// A request to restore a space.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The account.
    pub account: AccountId,
    /// The space.
    pub space: SpaceId,
    /// The store that holds the copy.
    pub from: StoreId,
    /// The folder to restore it to.
    pub to: PathBuf,
    /// Whether files that differ are replaced by copies that are proven to be unchanged.
    pub overwrite: bool,
    /// Whether items that are not proven are restored too, and may replace files that differ.
    pub unproven: bool,
}

impl RestoreRequest {
    /// Restores the space.
    ///
    /// # Errors
    /// There is no such copy, or the folder contains the copy itself or cannot be created.
    pub async fn run(&self, installation: &Installation, config: &Config) -> Result<RestorationReport> {
        let Self { account, space, from, .. } = self;
        let policy = installation.policies.account(account).await?;
        let Some(spec) = policy.store(from) else {
            let known: Vec<String> = policy.stores().iter().map(|store| store.id.to_string()).collect();
            bail!("account `{account}` has no store `{from}`; it has: {}", known.join(", "));
        };
        self.ensure_no_overlap(&spec.kind, config)?;
        let copy = installation.stores.source(account, from).await?;
        // Checked before anything is created for it.
        Restoration::has_copy(&*copy, space).await?;
        let made = !self.to.is_dir();
        if made {
            create_folder(&self.to).with_context(|| format!("`{}` cannot be made", self.to.display()))?;
        }
        let to = std::fs::canonicalize(&self.to)?;
        let address = StoreAddress { account: AccountId::new("restore")?, store: StoreId::new("to")? };
        let restoration = Restoration {
            copy,
            from: StoreAddress::of(account, from),
            space: space.clone(),
            to: FolderOpener::plain(installation.engine.clock()).open(address, to, Layout::Single(space.clone())),
            proven_pairs: self.pairs_with_proofs(&policy),
            sync_proofs: installation.sync_proofs(),
            overwrite: self.overwrite,
            unproven: self.unproven,
            concurrency: AT_ONCE.try_into()?,
        };
        restoration.to.remove_stale_uploads().await;
        Ok(restoration.run().await.inspect_err(|_| {
            // If nothing was restored, the created folder is removed again. A folder with content stays.
            if made {
                let _ = std::fs::remove_dir(&self.to);
            }
        })?)
    }

    /// Checks that the folder and the copy do not overlap.
    fn ensure_no_overlap(&self, copy: &StoreKind, config: &Config) -> Result<()> {
        let Some(root) = copy.folder_root() else { return Ok(()) };
        let extent =
            |path: &Path| Extent::of(path).with_context(|| format!("it is not known what `{}` holds", path.display()));
        match extent(&config.base().join(root))?.overlap(&extent(&self.to)?) {
            Some(overlap) => Err(UsageError(overlapping(&overlap)).into()),
            None => Ok(()),
        }
    }

    /// The pairs whose sync proofs are about copies in the store.
    fn pairs_with_proofs(&self, policy: &AccountPolicy) -> Vec<SpacePair> {
        let sources = policy.stores().iter().filter(|store| store.id != self.from);
        let pair = |source: &StoreId| SpacePair {
            account: self.account.clone(),
            source: source.clone(),
            destination: self.from.clone(),
            space: self.space.clone(),
        };
        sources.map(|store| pair(&store.id)).collect()
    }
}
