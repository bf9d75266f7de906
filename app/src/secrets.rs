//! Reads secrets from where the policy files say that they are.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use mill_policy::SecretReference;
use mill_ports::BoxError;
use mill_records::audit_log::opening::SigningKeys;

/// Reads a secret. Messages name its location, never its value.
pub(crate) fn read_secret(reference: &SecretReference, base: &Path) -> Result<String, String> {
    match reference {
        SecretReference::Env(name) => {
            std::env::var(name).map_err(|_| format!("the environment variable `{name}` is not set, or is no text"))
        }
        SecretReference::File(path) => {
            let path = base.join(path);
            let text = std::fs::read_to_string(&path).map_err(|why| format!("`{}`: {why}", path.display()))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

/// Reads signing keys each time they are needed: a changed key is used at once.
#[derive(Debug)]
pub(crate) struct KeyReader {
    /// The folder that relative paths are relative to.
    pub(crate) base: PathBuf,
}

#[async_trait]
impl SigningKeys for KeyReader {
    async fn read(&self, key: &SecretReference) -> Result<String, BoxError> {
        Ok(read_secret(key, &self.base)?)
    }
}
