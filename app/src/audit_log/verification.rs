//! Verifies a log: every entry, every tile, the root and the signature, in each of its stores, and that they agree.

use std::collections::BTreeMap;

use mill_model::Timestamp;
use mill_records::audit_log::entry::{EntryError, LargeEntry, ReadEntry, read_entry};
use mill_transparency::{Checkpoint, ConsistencyProof, LogCheck, OpenedCheckpoint, TreeHash};

use super::log_fault::{LogCopyFault, LogFault};
use super::readable_log::{LogCopy, ReadableLog};
use crate::counted::grouped;

/// How many bundles of entries are read in one step.
const BUNDLES_AT_ONCE: u64 = 8;

/// A copy of a log in which nothing is wrong.
#[derive(Debug)]
pub struct VerifiedCopy {
    /// The copy.
    pub copy: String,
    /// Its state.
    pub checkpoint: OpenedCheckpoint,
    /// The time of its last entry.
    pub last_at: Option<Timestamp>,
    /// How many entries are kept beside it. All of them were read.
    pub beside: u64,
    /// How many entries are of a later form, which this Mill cannot read. Their hashes are right.
    pub later_form: u64,
    /// The size of the older checkpoint with which it was compared.
    pub kept: Option<u64>,
    /// Whether another copy has more entries.
    pub is_behind: bool,
}

impl VerifiedCopy {
    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.state().size
    }

    fn state(&self) -> &Checkpoint {
        &self.checkpoint.checkpoint
    }

    /// What was proven, in one line.
    pub fn sentence(&self) -> String {
        let last = self.last_at.map(|at| format!(", the last at {at}")).unwrap_or_default();
        let kept = self.kept.map(|kept| format!("; append-only since the checkpoint of {}", entries(kept)));
        let kept = kept.unwrap_or_default();
        format!("{}{last}{kept}", entries(self.size()))
    }
}

/// `1 entry`, `100,000 entries`.
pub fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{} entries", grouped(count)) }
}

/// What became of the verification of a log.
#[derive(Debug, Default)]
pub struct LogVerification {
    /// The copies in which nothing is wrong.
    pub verified: Vec<VerifiedCopy>,
    /// The others.
    pub faults: Vec<LogFault>,
}

impl LogVerification {
    /// The verified state with the most entries.
    pub fn newest(&self) -> Option<&VerifiedCopy> {
        self.verified.iter().max_by_key(|copy| copy.size())
    }
}

impl ReadableLog {
    /// Verifies each copy of the log. `kept`: an older checkpoint. `progress` receives the copy's name, how many entries were checked, and
    /// how many there are.
    ///
    /// # Errors
    /// The table of the installation does not answer.
    pub async fn verify(
        &self,
        kept: Option<&Checkpoint>,
        progress: &(dyn Fn(&str, u64, u64) + Send + Sync),
    ) -> anyhow::Result<LogVerification> {
        let published = match (&self.table, &self.account) {
            (Some(table), Some(account)) => table.published(account).await?,
            _ => None,
        };
        let (mut found, mut sound) = (LogVerification::default(), Vec::new());
        for copy in &self.copies {
            let verified = self.verify_copy(copy, kept, progress).await;
            let verified = match (verified, published) {
                (Ok(verified), Some(published)) => follows(copy, verified, published).await,
                (verified, _) => verified,
            };
            match verified {
                Ok(verified) => sound.push((copy, verified)),
                Err((fault, size)) => found.faults.push(LogFault::look(copy, fault, size).await),
            }
        }
        self.compare_copies(sound, &mut found).await;
        Ok(found)
    }

    /// All copies must be one log: each begins with the smaller ones.
    async fn compare_copies(&self, mut sound: Vec<(&LogCopy, VerifiedCopy)>, found: &mut LogVerification) {
        sound.sort_by_key(|(_, verified)| verified.size());
        let Some((largest, last)) = sound.pop() else { return };
        for (copy, mut verified) in sound {
            let state = verified.state();
            match extends(largest, (state.size, state.root), last.state()).await {
                Ok(true) => {
                    verified.is_behind = self.is_behind(copy, last.size()).await;
                    found.verified.push(verified);
                }
                Ok(false) => {
                    let fault = LogCopyFault::Forked { size: state.size, other: largest.shown.clone() };
                    found.faults.push(LogFault::look(copy, fault, None).await);
                }
                Err(fault) => found.faults.push(LogFault::look(largest, fault, None).await),
            }
        }
        found.verified.push(last);
    }

    /// Whether a copy has fewer entries still. It may have been published into while others were read.
    async fn is_behind(&self, copy: &LogCopy, size: u64) -> bool {
        let now = copy.files.checkpoint(&self.verifier).await;
        !matches!(now, Ok(Some(opened)) if opened.checkpoint.size >= size)
    }

    async fn verify_copy(
        &self,
        copy: &LogCopy,
        kept: Option<&Checkpoint>,
        progress: &(dyn Fn(&str, u64, u64) + Send + Sync),
    ) -> Result<VerifiedCopy, (LogCopyFault, Option<u64>)> {
        let opened = copy.files.checkpoint(&self.verifier).await;
        let opened = opened.map_err(|error| (LogCopyFault::of(error), None))?.ok_or((LogCopyFault::NoLog, None))?;
        let size = opened.checkpoint.size;
        let seen = self.check(copy, &opened.checkpoint, kept, progress).await.map_err(|fault| (fault, Some(size)))?;
        Ok(VerifiedCopy {
            copy: copy.shown.clone(),
            checkpoint: opened,
            last_at: seen.last_at,
            beside: seen.beside,
            later_form: seen.later_form,
            kept: kept.map(|kept| kept.size),
            is_behind: false,
        })
    }

    async fn check(
        &self,
        copy: &LogCopy,
        checkpoint: &Checkpoint,
        kept: Option<&Checkpoint>,
        progress: &(dyn Fn(&str, u64, u64) + Send + Sync),
    ) -> Result<Seen, LogCopyFault> {
        let mut check = LogCheck::new(checkpoint, kept)?;
        let mut seen = Seen::default();
        loop {
            let paths = check.needs(BUNDLES_AT_ONCE);
            if paths.is_empty() {
                check.finish()?;
                return Ok(seen);
            }
            let files = copy.files.read_all(&paths).await.map_err(LogCopyFault::of)?;
            check.take(&files, |index, entry| seen.add(index, entry))?;
            for (index, large) in std::mem::take(&mut seen.named) {
                check_beside(copy, index, &large).await?;
                seen.beside += 1;
            }
            progress(&copy.shown, seen.count, checkpoint.size);
        }
    }
}

/// What the entries say.
#[derive(Debug, Default)]
struct Seen {
    count: u64,
    last_at: Option<Timestamp>,
    named: BTreeMap<u64, LargeEntry>,
    beside: u64,
    later_form: u64,
}

impl Seen {
    fn add(&mut self, index: u64, entry: &[u8]) {
        self.count = index + 1;
        match read_entry(entry) {
            Ok(ReadEntry::Whole(entry)) => self.last_at = Some(entry.event.happened_at()),
            Ok(ReadEntry::Beside(large)) => {
                self.named.insert(index, large);
            }
            Err(_) => self.later_form += 1,
        }
    }
}

async fn check_beside(copy: &LogCopy, index: u64, large: &LargeEntry) -> Result<(), LogCopyFault> {
    let name = large.item_name();
    let Some(whole) = copy.files.read(&name).await.map_err(LogCopyFault::of)? else {
        return Err(LogCopyFault::BesideAbsent { index, name });
    };
    match large.read_whole(&whole) {
        Err(source @ EntryError::OtherBytes { .. }) => Err(LogCopyFault::BesideChanged { index, name, source }),
        _ => Ok(()),
    }
}

/// Whether a verified copy has what the installation has published.
async fn follows(
    copy: &LogCopy,
    verified: VerifiedCopy,
    (size, root): (u64, TreeHash),
) -> Result<VerifiedCopy, (LogCopyFault, Option<u64>)> {
    let state = verified.state();
    let now = Some(state.size);
    if state.size < size {
        return Err((LogCopyFault::Behind { size: state.size, published: size }, now));
    }
    match extends(copy, (size, root), state).await {
        Ok(true) => Ok(verified),
        Ok(false) => {
            let other = "the installation's own table".to_owned();
            Err((LogCopyFault::Forked { size: state.size, other }, now))
        }
        Err(fault) => Err((fault, now)),
    }
}

/// Whether the log of a verified copy begins with that of the size and root.
async fn extends(copy: &LogCopy, (size, root): (u64, TreeHash), state: &Checkpoint) -> Result<bool, LogCopyFault> {
    let files = copy.files.read_all(&ConsistencyProof::needs(size, state.size)).await.map_err(LogCopyFault::of)?;
    let Ok(proof) = ConsistencyProof::make(size, state.size, &files) else { return Ok(false) };
    Ok(proof.check(&root, &state.root).is_ok())
}
