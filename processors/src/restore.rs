//! Restores a space from one of its copies: items with proven bytes are restored, the others are named.

mod parts;
mod report;

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use mill_hooks::crash_point;
use mill_model::digest::Digester;
use mill_model::{
    Algorithm, Checksum, ContentId, ItemAddress, ItemFacts, Properties, SpaceId, SpacePair, StoreAddress,
};
use mill_ports::{
    DestinationStore, ListingError, OpenItem, Precondition, Presence, PutRequest, SourceStore, StoreError,
    StoreErrorKind, error_chain,
};
use mill_records::sync_proofs::{SyncProof, SyncProofs};

pub use self::parts::NamedParts;
pub use self::report::RestorationReport;
use self::report::RestoreOutcome;
use crate::crash_points;
use crate::digest_item::digest_item;
use crate::each_item::EachItem;
use crate::verified_body::{BodyCheck, verify_body};
use crate::verify::{CopyFault, ItemFinding, is_implied_directory};

/// Why nothing could be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The copy's store answers and has no such space.
    #[error("the copy has no space `{space}`; it has: {}", known_spaces(known))]
    SpaceAbsent {
        /// The space that was asked for.
        space: SpaceId,
        /// The spaces that the copy has.
        known: Vec<SpaceId>,
    },
    /// The copy cannot be listed.
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// One of the stores failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The names of spaces for a message, or the first of them.
fn known_spaces(known: &[SpaceId]) -> String {
    const SHOWN_MAX: usize = 20;
    if known.is_empty() {
        return "none at all".to_owned();
    }
    let shown: Vec<String> = known.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    let more = known.len().saturating_sub(SHOWN_MAX);
    format!("{}{}", shown.join(", "), if more > 0 { format!(", and {more} more") } else { String::new() })
}

/// A copy, and where its items are to go.
#[derive(Debug, Clone)]
pub struct Restoration {
    /// The store that holds the copy; it is only read.
    pub copy: Arc<dyn SourceStore>,
    /// Its name, for messages.
    pub from: StoreAddress,
    /// The space to restore, of the same id at both.
    pub space: SpaceId,
    /// What of it.
    pub parts: NamedParts,
    /// Where it goes.
    pub to: Arc<dyn DestinationStore>,
    /// The pairs whose sync proofs were recorded when the items of this copy were written.
    pub proven_pairs: Vec<SpacePair>,
    /// The repository of those sync proofs, if there is one.
    pub sync_proofs: Option<SyncProofs>,
    /// Whether items at `to` that differ are replaced by proven bytes; otherwise they are kept and named.
    pub overwrite: bool,
    /// Whether items whose bytes differ from their sync proofs are restored too, and whether items that were never
    /// proven replace existing ones. The former are named in any case.
    pub unproven: bool,
    /// How many items are restored at once.
    pub concurrency: NonZeroUsize,
}

/// The sync proof of an item, if there is one.
enum ProofLookup {
    Found(SyncProof),
    NoProof,
    /// The repository of sync proofs failed.
    Unreadable(String),
}

impl Restoration {
    /// Whether there is a copy to restore from.
    ///
    /// # Errors
    /// [`RestoreError::SpaceAbsent`], which names the spaces there are; the error of the copy's store.
    pub async fn has_copy(copy: &dyn SourceStore, space: &SpaceId) -> Result<(), RestoreError> {
        match copy.space(space).await? {
            Presence::Present(_) => Ok(()),
            Presence::Absent => Err(RestoreError::SpaceAbsent { space: space.clone(), known: copy.spaces().await? }),
        }
    }

    /// Restores the items of the copy.
    ///
    /// # Errors
    /// When there is no copy, it cannot be listed, or `to` cannot be written at all. If a listing breaks off, the items before
    /// that are restored, and the report names the break and the known items behind it.
    pub async fn run(self) -> Result<RestorationReport, RestoreError> {
        Self::has_copy(&*self.copy, &self.space).await?;
        self.to.create_space(&self.space).await?;
        crash_point(crash_points::RESTORE_BEGUN);
        let mut report = RestorationReport::default();
        let mut running = EachItem::new(&mut report, self.concurrency);
        let (mut broken, mut missing) = (None, Vec::new());
        for part in self.parts.each() {
            let found = self.begin_part(&mut running, part.as_ref()).await?;
            missing.extend(part.filter(|_| !found.any && found.broken.is_none()));
            broken = found.broken;
            if broken.is_some() {
                break;
            }
        }
        running.finish().await;
        for part in missing {
            let what = CopyFault::NotRestored("the copy has no item or folder of this name".to_owned());
            report.faults.push(ItemFinding { item: part.to_string(), what });
        }
        if let Some((last, error)) = &broken {
            let (behind, why) = (last.to_string(), error_chain(error));
            report
                .faults
                .push(ItemFinding { item: self.space.to_string(), what: CopyFault::ListingBroken { behind, why } });
        }
        self.report_missing(&mut report, broken.map(|(last, _)| last).as_ref()).await?;
        report.not_kept.sort_by(|a, b| a.item.cmp(&b.item));
        report.faults.sort_by(|a, b| a.item.cmp(&b.item));
        report.faults.dedup();
        Ok(report)
    }

    async fn restore(self, id: ContentId, listed: ItemFacts) -> (ContentId, Result<RestoreOutcome, StoreError>) {
        let outcome = self.restore_item(&self.item(&id), &listed).await;
        (id, outcome)
    }

    fn item(&self, id: &ContentId) -> ItemAddress {
        ItemAddress { space: self.space.clone(), id: id.clone() }
    }

    async fn restore_item(&self, item: &ItemAddress, listed: &ItemFacts) -> Result<RestoreOutcome, StoreError> {
        let expected = match self.sync_proof(&item.id).await {
            ProofLookup::Found(sync_proof) => sync_proof.checksum(),
            ProofLookup::NoProof => return self.write(item, None).await,
            ProofLookup::Unreadable(why) => return Ok(self.write(item, None).await?.unproven_because(&why)),
        };
        match self.write(item, Some(&expected)).await {
            Err(error) if error.kind == StoreErrorKind::Damaged => {
                let as_left = matches!(self.sync_proof(&item.id).await, ProofLookup::Found(sync_proof) if is_in_proven_state(&sync_proof, listed));
                let why = if as_left {
                    "its bytes are not those that were copied here, though nothing seems to have written it"
                } else {
                    "it was changed since it was copied here, so its bytes cannot be vouched for"
                };
                if !self.unproven {
                    return Ok(RestoreOutcome::Skipped(why.into()));
                }
                Ok(match self.write(item, None).await? {
                    restored @ (RestoreOutcome::Restored { .. } | RestoreOutcome::RestoredUnproven { .. }) => {
                        restored.unproven(why)
                    }
                    other => other,
                })
            }
            other => other,
        }
    }

    /// Writes one item, if its bytes are the expected ones.
    async fn write(&self, item: &ItemAddress, expected: Option<&Checksum>) -> Result<RestoreOutcome, StoreError> {
        let proven = expected.is_some();
        let when = match self.to.head(item).await? {
            Presence::Absent => Precondition::Absent,
            Presence::Present(there) => match self.compare(item, expected).await? {
                Some(true) => return Ok(RestoreOutcome::AlreadyPresent { proven }),
                None => return Ok(RestoreOutcome::Skipped("it went away while it was read".into())),
                Some(false) if !self.overwrite => {
                    return Ok(RestoreOutcome::Skipped(
                        "another file of this name is there; --overwrite replaces all such".into(),
                    ));
                }
                // The file that is there may be good, and the copy damaged.
                Some(false) if !proven && !self.unproven => {
                    let why = "another file of this name is there, and nothing vouches for the bytes of the copy; \
                               --overwrite with --unproven replaces all such";
                    return Ok(RestoreOutcome::Skipped(why.into()));
                }
                Some(false) => Precondition::VersionIs(there.version),
            },
        };
        let Presence::Present(OpenItem { facts, body, attachments }) = self.copy.open(item, None, None).await? else {
            return Ok(RestoreOutcome::Skipped("it went away while it was read".into()));
        };
        let unknown = facts.properties.is_none();
        let content = PutRequest { size: facts.size, properties: facts.properties.unwrap_or_default(), attachments };
        let body = match expected {
            Some(expected) => {
                let digester = Digester::new(&[expected.algorithm]);
                let (expected, damaged) = (expected.clone(), self.damaged(item));
                verify_body(body, ProvenBytes { digester, expected, damaged })
            }
            None => body,
        };
        crash_point(crash_points::RESTORE_BEFORE_WRITE);
        self.to.put(item, &content, &when, body).await?;
        crash_point(crash_points::RESTORE_WRITTEN);
        if unknown {
            return Ok(RestoreOutcome::RestoredUnproven {
                bytes: content.size,
                why: "the copy's store does not tell all its properties".into(),
            });
        }
        self.compare_written(item, &content, proven).await
    }

    /// Reads the properties back: not every place keeps them all.
    async fn compare_written(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        proven: bool,
    ) -> Result<RestoreOutcome, StoreError> {
        let lost = match self.to.head(item).await? {
            Presence::Present(there) => Properties::difference(Some(&content.properties), there.properties.as_ref()),
            Presence::Absent if is_implied_directory(&*self.to, item).await? => None,
            Presence::Absent => return Ok(RestoreOutcome::Skipped("it was gone right after it was written".into())),
        };
        Ok(RestoreOutcome::Restored { bytes: content.size, proven, lost })
    }

    /// Whether the item that is there equals the copy. `None` when the item of the copy went away.
    async fn compare(&self, item: &ItemAddress, expected: Option<&Checksum>) -> Result<Option<bool>, StoreError> {
        // A sync proof may have another algorithm than Mill's own.
        let algorithms: Vec<_> =
            [Algorithm::Sha256].into_iter().chain(expected.map(|expected| expected.algorithm)).collect();
        let Presence::Present((ours, ours_facts)) = digest_item(&*self.copy, item, &algorithms).await? else {
            return Ok(None);
        };
        if expected.is_some_and(|expected| !ours.contains(expected)) {
            return Err(self.damaged(item));
        }
        let Presence::Present((theirs, theirs_facts)) = digest_item(&*self.to, item, &algorithms).await? else {
            return Ok(Some(false));
        };
        let alike = Properties::difference(ours_facts.properties.as_ref(), theirs_facts.properties.as_ref()).is_none();
        Ok(Some(ours == theirs && alike))
    }

    fn damaged(&self, item: &ItemAddress) -> StoreError {
        StoreError {
            kind: StoreErrorKind::Damaged,
            op: "restoring",
            store: self.from.clone(),
            subject: item.to_string(),
            source: None,
        }
    }

    /// The sync proof of an item, whichever source it was copied from.
    async fn sync_proof(&self, id: &ContentId) -> ProofLookup {
        let mut known = ProofLookup::NoProof;
        let Some(sync_proofs) = &self.sync_proofs else { return ProofLookup::NoProof };
        for pair in &self.proven_pairs {
            match sync_proofs.get(pair, id).await {
                Ok(Some(sync_proof)) => return ProofLookup::Found(sync_proof),
                Ok(None) => {}
                Err(error) => known = ProofLookup::Unreadable(error_chain(&error)),
            }
        }
        known
    }

    /// Reports proven items that the copy no longer has, or that are behind the end of a broken listing.
    async fn report_missing(
        &self,
        report: &mut RestorationReport,
        broken: Option<&ContentId>,
    ) -> Result<(), StoreError> {
        let Some(repository) = &self.sync_proofs else { return Ok(()) };
        for pair in &self.proven_pairs {
            let mut sync_proofs = repository.stream(pair, None);
            let mut behind = None;
            while let Some(row) = sync_proofs.next().await {
                let id = match row {
                    Ok((id, _)) => id,
                    Err(error) => {
                        let what = CopyFault::ProofsBroken { behind, why: error_chain(&error) };
                        report.faults.push(ItemFinding { item: self.space.to_string(), what });
                        break;
                    }
                };
                behind = Some(id.to_string());
                if !self.parts.contain(&id) {
                    continue;
                }
                if broken.is_some_and(|last| id > *last) {
                    let why = "it did not come back: the listing of the copy broke off before it".to_owned();
                    report.faults.push(ItemFinding { item: id.to_string(), what: CopyFault::NotRestored(why) });
                    continue;
                }
                let item = self.item(&id);
                let why = match self.copy.head(&item).await {
                    Ok(Presence::Present(_)) => continue,
                    Ok(Presence::Absent) if is_implied_directory(&*self.copy, &item).await? => continue,
                    Ok(Presence::Absent) => "it was copied here once and is not here any more".to_owned(),
                    // For example in a directory that may not be read: the listing has named only that.
                    Err(error) if matches!(error.kind, StoreErrorKind::Refused(_)) => error_chain(&error),
                    Err(error) => return Err(error),
                };
                report.faults.push(ItemFinding { item: item.id.to_string(), what: CopyFault::NotRestored(why) });
            }
        }
        Ok(())
    }
}

/// Whether the copy still has the proven version.
fn is_in_proven_state(sync_proof: &SyncProof, listed: &ItemFacts) -> bool {
    sync_proof.checksum_of_destination(&listed.version).is_some()
}

/// Checks that bytes have the checksum of their sync proof.
struct ProvenBytes {
    digester: Digester,
    expected: Checksum,
    damaged: StoreError,
}

impl BodyCheck for ProvenBytes {
    fn update(mut self, chunk: &Bytes) -> Result<Self, StoreError> {
        self.digester.update(chunk);
        Ok(self)
    }

    fn finish(self) -> Result<(), StoreError> {
        let good = self.digester.finish().first() == Some(&self.expected);
        if good { Ok(()) } else { Err(self.damaged) }
    }
}

#[cfg(test)]
mod tests;
