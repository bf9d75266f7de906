//! Verifies a folder of proofs, without a log and without an installation.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use mill_model::AuditEvent;
use mill_records::audit_log::entry::{ReadEntry, read_entry};
use mill_transparency::{EntryProof, LogVerifier, PublicKey};

use super::proofs::KEY_FILE;
use crate::UsageError;

/// An entry that is proven.
#[derive(Debug)]
pub struct ProvenEntry {
    /// Its index.
    pub index: u64,
    /// The number of entries of the signed log.
    pub size: u64,
    /// What it says.
    pub event: AuditEvent,
}

/// What a folder proves.
#[derive(Debug)]
pub struct ProvenFolder {
    /// The log.
    pub origin: String,
    /// Its entries, in order.
    pub entries: Vec<ProvenEntry>,
    /// Whether the key is the one that lay beside the proofs: then the proofs are worth as much as it.
    pub key_beside: bool,
}

/// Verifies each proof in a folder, by these keys or else by the ones beside the proofs.
///
/// # Errors
/// A proof does not hold; there is none.
pub fn verify_folder(folder: &Path, keys: Vec<PublicKey>) -> Result<ProvenFolder> {
    let key_beside = keys.is_empty();
    let verifier = if key_beside {
        let path = folder.join(KEY_FILE);
        let advice = || format!("`{}` cannot be used; give the public key of the log by `--key`", path.display());
        let text = fs::read_to_string(&path).with_context(advice)?;
        LogVerifier::parse(&text).with_context(advice)?
    } else {
        LogVerifier::new(keys)?
    };
    let listed =
        fs::read_dir(folder).map_err(|why| UsageError(format!("`{}` cannot be read: {why}", folder.display())))?;
    let mut entries = Vec::new();
    for file in listed {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "tlog-proof") {
            entries
                .push(verify_entry(&path, &verifier).with_context(|| format!("`{}` proves nothing", path.display()))?);
        }
    }
    if entries.is_empty() {
        bail!("`{}` has no proof: no file whose name ends with `.tlog-proof`", folder.display());
    }
    entries.sort_by_key(|entry| entry.index);
    Ok(ProvenFolder { origin: verifier.origin().to_owned(), entries, key_beside })
}

fn verify_entry(path: &Path, verifier: &LogVerifier) -> Result<ProvenEntry> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("`{}` cannot be read", path.display()));
    let proof: EntryProof = String::from_utf8(read(path)?).context("it is no text")?.parse()?;
    let bytes = read(&path.with_extension("json"))?;
    let opened = proof.verify(&bytes, verifier)?;
    let event = match read_entry(&bytes)? {
        ReadEntry::Whole(entry) => entry.event,
        ReadEntry::Beside(large) => large.read_whole(&read(&path.with_extension("whole.json"))?)?.event,
    };
    Ok(ProvenEntry { index: proof.index, size: opened.checkpoint.size, event })
}
