//! Opens the log that an account's stores file names.

use std::fmt;

use async_trait::async_trait;
use mill_model::{AccountId, StoreAddress};
use mill_policy::{AuditLogSpec, SecretReference};
use mill_ports::{BoxError, StoreError, Stores};
use mill_transparency::{KeyError, LogSigner, LogVerifier, VerifierError};

use super::log_files::LogFiles;
use super::publisher::OpenedLog;

/// Reads signing keys from where their references say. A key is never kept, shown or logged.
#[async_trait]
pub trait SigningKeys: fmt::Debug + Send + Sync + 'static {
    /// The text that holds the key: one secret key a line, the newest first.
    ///
    /// # Errors
    /// It cannot be read. The error does not repeat its content.
    async fn read(&self, key: &SecretReference) -> Result<String, BoxError>;
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// The key cannot be read.
    #[error("the signing key of the audit log `{origin}` cannot be read")]
    Key {
        /// The log.
        origin: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The text is no key.
    #[error("what is named as the signing key of the audit log `{origin}` is none")]
    NoKey {
        /// The log.
        origin: String,
        /// What is wrong. It does not repeat the text.
        #[source]
        source: KeyError,
    },
    /// The keys are not of this log.
    #[error("the signing key is not of the audit log `{origin}`; `mill audit new-key {origin}` makes one")]
    OtherLog {
        /// The log.
        origin: String,
    },
    /// The keys make no verifier.
    #[error(transparent)]
    Verifier(#[from] VerifierError),
    /// A store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the keys of the log `origin`: one secret key a line, the newest first.
///
/// # Errors
/// [`OpenLogError::NoKey`], [`OpenLogError::OtherLog`]. They do not repeat the text.
pub fn read_signers(origin: &str, text: &str) -> Result<Vec<LogSigner>, OpenLogError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let signers: Vec<LogSigner> = lines
        .map(LogSigner::from_secret)
        .collect::<Result<_, _>>()
        .map_err(|source| OpenLogError::NoKey { origin: origin.to_owned(), source })?;
    if signers.iter().any(|signer| signer.public().name() != origin) {
        return Err(OpenLogError::OtherLog { origin: origin.to_owned() });
    }
    Ok(signers)
}

impl OpenedLog {
    /// Opens the log of `spec` in all its stores, with its key.
    ///
    /// # Errors
    /// [`OpenLogError`].
    pub async fn open(
        account: &AccountId,
        spec: &AuditLogSpec,
        stores: &dyn Stores,
        keys: &dyn SigningKeys,
    ) -> Result<Self, OpenLogError> {
        let origin = spec.origin.clone();
        let text = keys.read(&spec.signing_key).await;
        let text = text.map_err(|source| OpenLogError::Key { origin: origin.clone(), source })?;
        let signers = read_signers(&origin, &text)?;
        let verifier = LogVerifier::new(signers.iter().map(|signer| signer.public().clone()).collect())?;
        let mut files = Vec::with_capacity(spec.stores.len());
        for store in &spec.stores {
            files.push(LogFiles {
                store: stores.destination(account, store).await?,
                address: StoreAddress::of(account, store),
                space: spec.space.clone(),
            });
        }
        Ok(Self { origin, signers, verifier, stores: files })
    }
}
