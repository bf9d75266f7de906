//! The keys of an audit log.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use mill_model::AccountId;
use mill_records::audit_log::opening::read_signers;
use mill_transparency::{LogSigner, PublicKey};

use crate::UsageError;
use crate::installation::Installation;
use crate::secrets::read_secret;

/// A key that was made.
#[derive(Debug)]
pub struct NewKey {
    /// What verifiers need.
    pub public: PublicKey,
    /// The file of the secret key.
    pub file: PathBuf,
}

/// Makes the key of the log `origin`, and keeps the secret part in a new file that this user alone may read.
///
/// # Errors
/// [`UsageError`] for a name that no log can have; the file is there already or cannot be written.
pub fn new_key(origin: &str, file: &Path) -> Result<NewKey> {
    let random = mill_local::secret_bytes().context("the operating system gives no random numbers; no key was made")?;
    let signer = LogSigner::generate(origin, random).map_err(|why| UsageError(format!("no key was made: {why}")))?;
    match write_new(file, &format!("{}\n", signer.to_secret())) {
        Ok(()) => Ok(NewKey { public: signer.public().clone(), file: file.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
            "`{}` is there already and may be the key of a log, so it is kept, and no key was made; name another file by `--out`",
            file.display()
        ),
        Err(error) => {
            Err(error).with_context(|| format!("no key was made, because `{}` cannot be written", file.display()))
        }
    }
}

/// Writes a new file for this user alone, durable when this returns. None is left if that fails.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written?;
    let above = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(above)?.sync_all()
}

/// The public keys of an account's log, the newest first, from its secret keys. `base`: the folder of the configuration.
///
/// # Errors
/// The account has no log, or its keys cannot be read here.
pub async fn public_keys(installation: &Installation, base: &Path, account: &AccountId) -> Result<Vec<PublicKey>> {
    let policy = installation.policies.account(account).await?;
    let Some(spec) = policy.audit_log() else { bail!(no_log(account)) };
    let text = read_secret(&spec.signing_key, base).map_err(anyhow::Error::msg).with_context(|| {
        format!(
            "the signing key of the audit log `{}` cannot be read here; give its public key by `--key`",
            spec.origin
        )
    })?;
    let signers = read_signers(&spec.origin, &text)?;
    Ok(signers.iter().map(|signer| signer.public().clone()).collect())
}

/// The message about an account without a log.
pub(super) fn no_log(account: &AccountId) -> String {
    format!("account `{account}` has no audit log: its stores file has no `auditLog`")
}

/// Reads public keys as a person gives them.
///
/// # Errors
/// [`UsageError`].
pub fn parse_keys(texts: &[String]) -> Result<Vec<PublicKey>> {
    let lines = texts.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty());
    let read = |line: &str| {
        // What was given may be a secret key.
        line.parse::<PublicKey>()
            .map_err(|why| UsageError(format!("what `--key` gives is no public key: {why}")).into())
    };
    lines.map(read).collect()
}
