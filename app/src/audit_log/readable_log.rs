//! A log opened for reading: its public keys are enough.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use mill_local::OsClock;
use mill_local::folder::Layout;
use mill_model::{AccountId, SpaceId, StoreAddress, StoreId};
use mill_policy::AUDIT_LOG_SPACE;
use mill_ports::error_chain;
use mill_records::audit_log::AuditLog;
use mill_records::audit_log::log_files::LogFiles;
use mill_transparency::{LogVerifier, OpenedCheckpoint, PublicKey};

use super::keys;
use crate::UsageError;
use crate::installation::Installation;
use crate::store_registry::FolderOpener;

/// A log, for reading.
#[derive(Debug)]
pub struct ReadableLog {
    /// The account, if the log is one of an installation.
    pub account: Option<AccountId>,
    pub(super) verifier: LogVerifier,
    pub(super) copies: Vec<LogCopy>,
    /// Places and names of its events, if the log is one of an installation.
    pub(super) table: Option<AuditLog>,
}

/// The log in one place.
#[derive(Debug, Clone)]
pub struct LogCopy {
    /// Its name in messages: a store or a folder.
    pub shown: String,
    pub(super) files: LogFiles,
}

/// Which logs of an installation are meant.
#[derive(Debug, Default)]
pub struct LogChoice {
    /// That of this account; else those of all.
    pub account: Option<AccountId>,
    /// Only what this store has of it.
    pub store: Option<StoreId>,
    /// Its public keys, if they do not come from its secret ones.
    pub keys: Vec<PublicKey>,
}

impl ReadableLog {
    /// Opens the chosen logs of an installation. `base`: the folder of the configuration.
    ///
    /// # Errors
    /// There is none; a key is unknown; a store is none of the log's.
    pub async fn open(installation: &Installation, base: &Path, choice: &LogChoice) -> Result<Vec<Self>> {
        if let Some(account) = &choice.account {
            return Ok(vec![Self::of_account(installation, base, account, choice).await?]);
        }
        let mut logs = Vec::new();
        for (account, policy) in installation.policies.accounts().await? {
            if policy?.audit_log().is_some() {
                logs.push(Self::of_account(installation, base, &account, choice).await?);
            }
        }
        if logs.is_empty() {
            bail!("no account has an audit log; `mill audit new-key --help` says how to begin one");
        }
        Ok(logs)
    }

    async fn of_account(
        installation: &Installation,
        base: &Path,
        account: &AccountId,
        choice: &LogChoice,
    ) -> Result<Self> {
        let policy = installation.policies.account(account).await?;
        let Some(spec) = policy.audit_log() else { bail!(keys::no_log(account)) };
        let keys = if choice.keys.is_empty() {
            keys::public_keys(installation, base, account).await?
        } else {
            choice.keys.clone()
        };
        let verifier = LogVerifier::new(keys)?;
        if verifier.origin() != spec.origin {
            let message =
                format!("the key is of the log `{}`, and that of `{account}` is `{}`", verifier.origin(), spec.origin);
            return Err(UsageError(message).into());
        }
        let is_chosen = |store: &&StoreId| choice.store.as_ref().is_none_or(|chosen| chosen == *store);
        let mut copies = Vec::new();
        for store in spec.stores.iter().filter(is_chosen) {
            let opened = installation.stores.source(account, store).await;
            let store_of_log =
                opened.with_context(|| format!("store `{store}`, which keeps the audit log, cannot be opened"))?;
            copies.push(LogCopy {
                shown: format!("store `{store}`"),
                files: LogFiles {
                    store: store_of_log,
                    address: StoreAddress::of(account, store),
                    space: spec.space.clone(),
                },
            });
        }
        if copies.is_empty() {
            let stores: Vec<String> = spec.stores.iter().map(|store| format!("`{store}`")).collect();
            let message = format!("that store has no audit log of `{account}`; these have it: {}", stores.join(", "));
            return Err(UsageError(message).into());
        }
        let table = AuditLog::new(installation.engine.table(AuditLog::TABLE));
        Ok(Self { account: Some(account.clone()), verifier, copies, table: Some(table) })
    }

    /// Opens a log as files in a folder, without any installation.
    ///
    /// # Errors
    /// [`UsageError`] without a key, or for what is no folder.
    pub fn of_folder(folder: &Path, keys: Vec<PublicKey>) -> Result<Self> {
        if keys.is_empty() {
            return Err(UsageError(
                "give the log's public key by `--key`: whoever keeps the log has published it".into(),
            )
            .into());
        }
        if !folder.is_dir() {
            return Err(UsageError(format!("`{}` is no folder", folder.display())).into());
        }
        let verifier = LogVerifier::new(keys).map_err(|error| UsageError(error.to_string()))?;
        let address = StoreAddress { account: AccountId::new("mill")?, store: StoreId::new("folder")? };
        let space = SpaceId::new(AUDIT_LOG_SPACE)?;
        let root = std::path::absolute(folder)?;
        let opener = FolderOpener::plain(Arc::new(OsClock));
        let store = opener.open(address.clone(), root, Layout::Single(space.clone()));
        let shown = format!("`{}`", folder.display());
        let copies = vec![LogCopy { shown, files: LogFiles { store, address, space } }];
        Ok(Self { account: None, verifier, copies, table: None })
    }

    /// Its name.
    pub fn origin(&self) -> &str {
        self.verifier.origin()
    }

    /// Its public keys.
    pub fn keys(&self) -> &[PublicKey] {
        self.verifier.keys()
    }

    /// Reads a checkpoint that was kept, and checks that the log has signed it.
    ///
    /// # Errors
    /// It is none of this log.
    pub fn kept_checkpoint(&self, note: &[u8]) -> Result<OpenedCheckpoint> {
        let opened = self.verifier.open(note);
        opened.context("the kept checkpoint is not believed; if the log has a new key, give the old one too by `--key`")
    }

    /// The log as the first of its stores has it that answers; `None` if nothing is published yet.
    ///
    /// # Errors
    /// No store answers, or what one has is not believed.
    pub async fn current(&self) -> Result<Option<(&LogCopy, OpenedCheckpoint)>> {
        let mut failed = None;
        for copy in &self.copies {
            match copy.files.checkpoint(&self.verifier).await {
                Ok(Some(opened)) => return Ok(Some((copy, opened))),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("the audit log in {} cannot be read: {}", copy.shown, error_chain(&error));
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(None), |error| Err(error.into()))
    }

    /// How many events still wait for their places, at most about 10,000.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn waiting(&self) -> Result<usize> {
        let (Some(table), Some(account)) = (&self.table, &self.account) else { return Ok(0) };
        Ok(table.ready(account, Self::WAITING_MAX).await?.len())
    }

    /// The number from which on those that wait are not counted any more.
    pub const WAITING_MAX: usize = 10_000;
}
