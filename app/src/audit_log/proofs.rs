//! Proves what the log says of one item, to somebody who has neither the log nor Mill.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use mill_model::{ContentId, SpaceId, StoreId};
use mill_transparency::{EntryProof, InclusionProof};

use super::entries::{EntryReader, ShownEntry, WantedEntries};
use super::entry_filter::EntryFilter;
use super::readable_log::ReadableLog;
use crate::UsageError;

/// The program that verifies a folder of proofs without Mill.
const VERIFY_PY: &str = include_str!("verify.py");

/// The file with the public keys.
pub(super) const KEY_FILE: &str = "key.txt";

impl ReadableLog {
    /// Writes into a new folder: each entry of an item with its proof, and what somebody needs to verify them. Returns the indexes
    /// of the entries.
    ///
    /// # Errors
    /// The log has no entry of the item; the folder is there already; an entry is not what the log has signed.
    pub async fn prove(
        &self,
        (store, space, item): (&StoreId, &SpaceId, &ContentId),
        folder: &Path,
    ) -> Result<Vec<u64>> {
        let Some(reader) = self.reader().await? else { bail!("nothing is published in the audit log yet") };
        let filter = EntryFilter {
            store: Some(store.clone()),
            space: Some(space.clone()),
            item: Some(item.clone()),
            ..EntryFilter::default()
        };
        let found = collect(&reader, reader.wanted(&filter, 0).await?, &filter).await?;
        if found.is_empty() {
            let shown = mill_model::ids::escape_for_display(item.as_str());
            bail!("the audit log has no entry of `{space}/{shown}` in store `{store}`, so there is nothing to prove");
        }
        create_new(folder)?;
        for entry in &found {
            self.prove_entry(&reader, entry, folder).await?;
        }
        let keys: Vec<String> = self.keys().iter().map(ToString::to_string).collect();
        write(folder, KEY_FILE, format!("{}\n", keys.join("\n")).as_bytes())?;
        write(folder, "verify.py", VERIFY_PY.as_bytes())?;
        write(folder, "README.txt", self.readme((store, space, item), &reader, &found).as_bytes())?;
        Ok(found.iter().map(|entry| entry.index).collect())
    }

    async fn prove_entry(&self, reader: &EntryReader<'_>, entry: &ShownEntry, folder: &Path) -> Result<()> {
        let (state, index) = (reader.state(), entry.index);
        let content = entry.read()?;
        let files = reader.copy().files.read_all(&InclusionProof::needs(index, state.size)).await?;
        let wrong = || format!("entry {index} cannot be proven; `mill audit verify` names what is wrong with the log");
        let proof = InclusionProof::make(index, state.size, &files).with_context(wrong)?;
        proof.check(&entry.bytes, &state.root).with_context(wrong)?;
        let mut proof = EntryProof::new(proof, reader.checkpoint.note.clone());
        proof.extra = Some(content.event.id.to_string().into_bytes());
        write(folder, &format!("{index}.json"), &entry.bytes)?;
        write(folder, &format!("{index}.tlog-proof"), proof.to_string().as_bytes())?;
        if let Some(whole) = &entry.beside {
            write(folder, &format!("{index}.whole.json"), whole)?;
        }
        Ok(())
    }

    fn readme(
        &self,
        (store, space, item): (&StoreId, &SpaceId, &ContentId),
        reader: &EntryReader<'_>,
        found: &[ShownEntry],
    ) -> String {
        let item = mill_model::ids::escape_for_display(item.as_str());
        let indexes: Vec<String> = found.iter().map(|entry| entry.index.to_string()).collect();
        format!(
            "What the audit log `{origin}` says of `{space}/{item}` in store `{store}`.\n\
             \n\
             Entries: {indexes}, of the {size} that the log had when this was written.\n\
             \n\
             N.json         entry N, with exactly the bytes that the log has\n\
             N.tlog-proof   its proof (c2sp.org/tlog-proof): place N, hashes, signed checkpoint\n\
             N.whole.json   the whole entry, if it is too large for the log; N.json has its SHA-256\n\
             key.txt        the public key of the log\n\
             \n\
             To verify it without Mill and without a network:\n\
             \n\
             \x20   python3 verify.py\n\
             \n\
             verify.py needs Python 3.8 and nothing else. It takes the check of signatures from PyCA cryptography if that is\n\
             installed. With Mill: `mill audit verify --proof FOLDER`. Any other verifier of C2SP `tlog-proof` does as well.\n\
             \n\
             A proof is worth as much as its key. Compare key.txt with the key that the keeper of the log has published, or\n\
             give the published one: `python3 verify.py --key VKEY`.\n\
             \n\
             What is proven: the keeper of this key has signed a log in which each of these entries has its place. An entry\n\
             names no person: `user` is the SHA-256 of a random salt, a newline and the name.\n",
            origin = self.origin(),
            indexes = indexes.join(", "),
            size = reader.size(),
        )
    }
}

async fn collect(reader: &EntryReader<'_>, wanted: WantedEntries, filter: &EntryFilter) -> Result<Vec<ShownEntry>> {
    let mut entries = reader.entries(wanted, filter);
    let mut found = Vec::new();
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        // One that cannot be read may be of another item.
        if entry.content.is_ok() {
            found.push(entry);
        }
    }
    Ok(found)
}

fn create_new(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(UsageError(format!(
            "`{}` is there already, and nothing in it is replaced; name another folder by `--out`",
            folder.display()
        ))
        .into()),
        Err(error) => Err(error).with_context(|| format!("`{}` cannot be made", folder.display())),
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, bytes).with_context(|| format!("`{}` cannot be written", path.display()))
}
