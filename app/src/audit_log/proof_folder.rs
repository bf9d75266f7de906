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

/// Verifies each proof in a folder, by these keys or else by the ones beside the proofs. That none was taken out of the folder is
/// not proven: a log alone says what else is in it.
///
/// # Errors
/// A proof does not hold, or an entry has none; there is no proof.
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
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".tlog-proof") {
            entries
                .push(verify_entry(&path, &verifier).with_context(|| format!("`{}` proves nothing", path.display()))?);
        } else if let Some(number) = name.strip_suffix(".whole.json").or_else(|| name.strip_suffix(".json"))
            && !folder.join(format!("{number}.tlog-proof")).try_exists()?
        {
            bail!("`{}` has no proof beside it", path.display());
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
    if path.file_stem().is_none_or(|stem| stem.to_string_lossy() != proof.index.to_string()) {
        bail!("it is the proof of entry {}", proof.index);
    }
    let whole = path.with_extension("whole.json");
    let event = match read_entry(&bytes)? {
        ReadEntry::Whole(_) if whole.try_exists()? => bail!("`{}` is none of the log's", whole.display()),
        ReadEntry::Whole(entry) => entry.event,
        ReadEntry::Beside(large) => large.read_whole(&read(&whole)?)?.event,
    };
    Ok(ProvenEntry { index: proof.index, size: opened.checkpoint.size, event })
}
