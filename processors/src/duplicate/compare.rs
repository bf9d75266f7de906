//! Compares the bytes of both sides: by known checksums, otherwise by reading.

use futures::stream::{self, StreamExt as _};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{Algorithm, Checksum, ItemAddress, ItemFacts, ItemState, Version};
use mill_ports::{Presence, StoreErrorKind, is_same_object};
use mill_records::sync_proofs::SyncProof;
use tracing::debug;

use super::context::{AttemptContext, Side, source_exit};
use crate::digest_item::digest_body;
use crate::early_exit::EarlyExit;
use crate::refusals::RefusedDeed;

/// The result of a comparison of bytes.
#[derive(Debug)]
pub(super) enum ByteComparison {
    /// The bytes are the same, and this is their checksum.
    Same(Checksum),
    /// The bytes differ.
    Differ,
    /// Only a read would tell, and a dry run reads none.
    Unread,
}

/// One side, and the known checksums of its bytes.
struct SideChecksums<'a> {
    side: Side,
    item: &'a ItemAddress,
    facts: &'a ItemFacts,
    proven: Option<Checksum>,
}

impl SideChecksums<'_> {
    fn by(&self, algorithm: Algorithm) -> Option<&Checksum> {
        self.facts.checksums.iter().chain(&self.proven).find(|checksum| checksum.algorithm == algorithm)
    }

    fn any(&self) -> Option<&Checksum> {
        ALGORITHMS.into_iter().find_map(|algorithm| self.by(algorithm))
    }
}

/// The strongest first.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Md5, Algorithm::Crc64Nvme];

impl AttemptContext<'_> {
    /// Compares bytes of one size, reading as little as proves it.
    pub(super) async fn compare_bytes(
        &self,
        item: &ItemAddress,
        source: &ItemFacts,
        destination: &ItemFacts,
        sync_proof: Option<&SyncProof>,
    ) -> Result<ByteComparison, EarlyExit> {
        self.compare_bytes_of((item, source), (item, destination), sync_proof).await
    }

    /// The same for two items whose names may differ. `sync_proof` is that of the item at the destination.
    pub(super) async fn compare_bytes_of(
        &self,
        (at_source, source): (&ItemAddress, &ItemFacts),
        (at_destination, destination): (&ItemAddress, &ItemFacts),
        sync_proof: Option<&SyncProof>,
    ) -> Result<ByteComparison, EarlyExit> {
        if is_same_object((&*self.source, &source.version), (&*self.destination, &destination.version)) {
            debug!(item = %at_source, "one file, linked into both stores, is no copy: written anew");
            return Ok(ByteComparison::Differ);
        }
        let proven = sync_proof.and_then(|sync_proof| sync_proof.checksum_of_source(&source.version));
        let source = SideChecksums { side: Side::Source, item: at_source, facts: source, proven };
        let proven = sync_proof.and_then(|sync_proof| sync_proof.checksum_of_destination(&destination.version));
        let destination = SideChecksums { side: Side::Destination, item: at_destination, facts: destination, proven };
        if let Some(known) = source.any().filter(|_| is_planted(PlantedBug::SizeAloneCompared)) {
            return Ok(ByteComparison::Same(known.clone()));
        }
        if let Some(known) = compare_known(&source, &destination) {
            return Ok(known);
        }
        if self.shared.deps.dry_run && source.facts.size > 0 {
            return self.leave_unread(&source, &destination);
        }
        let compared = async {
            Ok::<_, EarlyExit>(match (source.any(), destination.any()) {
                (Some(known), _) => (known.clone(), self.checksum(&destination, known.algorithm).await?),
                (None, Some(known)) => (self.checksum(&source, known.algorithm).await?, known.clone()),
                (None, None) => futures::try_join!(
                    self.checksum(&source, Algorithm::Sha256),
                    self.checksum(&destination, Algorithm::Sha256)
                )?,
            })
        };
        match compared.await {
            Ok((ours, theirs)) if ours == theirs => Ok(ByteComparison::Same(ours)),
            Ok(_) => Ok(ByteComparison::Differ),
            // Nothing can be proven of the copy that is there, so the item is written anew.
            Err(EarlyExit::Store(error)) if error.kind == StoreErrorKind::OnlyCached => {
                debug!(%error, "written anew");
                Ok(ByteComparison::Differ)
            }
            Err(stop) => Err(stop),
        }
    }

    /// Refuses a source that has the bytes which a verification found damaged: the copy may be the last with the right ones.
    pub(super) async fn ensure_undamaged(
        &self,
        item: &ItemAddress,
        source: &ItemFacts,
        sync_proof: Option<&SyncProof>,
    ) -> Result<(), EarlyExit> {
        let Some(damaged) = sync_proof.and_then(SyncProof::damaged_source) else { return Ok(()) };
        let known = SideChecksums { side: Side::Source, item, facts: source, proven: None };
        if self.checksum(&known, damaged.algorithm).await? != damaged || is_planted(PlantedBug::DamagedSourceCopied) {
            return Ok(());
        }
        let reason = "a verification found that the disk of the source damaged it, and it still has these bytes; bring it back from \
                      the copy (`mill restore … --item NAME`), or delete it at the copy to have it copied as it is";
        Err(EarlyExit::Refused { deed: RefusedDeed::PendingCopy, reason: reason.to_owned() })
    }

    /// Refuses, as a read would, what lies in an archive.
    fn leave_unread(
        &self,
        source: &SideChecksums<'_>,
        destination: &SideChecksums<'_>,
    ) -> Result<ByteComparison, EarlyExit> {
        let [reads_source, reads_destination] = [source.any().is_none(), source.any().or(destination.any()).is_none()];
        if reads_source {
            self.ensure_online(source.item, source.facts, source.side)?;
        }
        if !reads_source || reads_destination {
            self.ensure_online(destination.item, destination.facts, destination.side)?;
        }
        Ok(ByteComparison::Unread)
    }

    /// Reads one side, in the version that was seen. Returns the checksum of its bytes.
    async fn checksum(&self, known: &SideChecksums<'_>, algorithm: Algorithm) -> Result<Checksum, EarlyExit> {
        if known.facts.size > 0 {
            self.ensure_online(known.item, known.facts, known.side)?;
        }
        self.shared.retry.run(|| self.read(known, algorithm)).await
    }

    /// Whether the destination returns, for that version, bytes with one of these checksums.
    pub(super) async fn read_back(
        &self,
        item: &ItemAddress,
        size: u64,
        wanted: &[Checksum],
        version: &Version,
    ) -> Result<bool, EarlyExit> {
        let facts = ItemFacts {
            size,
            modified: None,
            version: version.clone(),
            checksums: Vec::new(),
            properties: None,
            state: ItemState::Online,
        };
        let known = SideChecksums { side: Side::Destination, item, facts: &facts, proven: None };
        let found = self.checksum(&known, Algorithm::Sha256).await?;
        Ok(wanted.contains(&found))
    }

    async fn read(&self, known: &SideChecksums<'_>, algorithm: Algorithm) -> Result<Checksum, EarlyExit> {
        let SideChecksums { side, item, facts, .. } = known;
        let found = |kind, why| EarlyExit::Store(self.store_error(*side, item, kind, why));
        // An empty item, such as an empty directory, is not read.
        let mut body = stream::empty().boxed();
        if facts.size > 0 {
            let opened = match side {
                Side::Source => self.source.open(item, None, Some(&facts.version)).await.map_err(source_exit)?,
                Side::Destination if is_planted(PlantedBug::CacheCompared) => {
                    self.destination.open(item, None, Some(&facts.version)).await?
                }
                // Cached bytes of a copy may never have reached the disk.
                Side::Destination => self.destination.open_uncached(item, Some(&facts.version)).await?,
            };
            let Presence::Present(reading) = opened else {
                return Err(found(StoreErrorKind::Changed, "it went away between being seen and being read"));
            };
            body = reading.body;
        }
        let (mut checksums, bytes) = digest_body(body, &[algorithm]).await?;
        if bytes != facts.size {
            return Err(found(StoreErrorKind::Unexpected, "fewer or more bytes came than announced"));
        }
        checksums.pop().ok_or_else(|| found(StoreErrorKind::Unexpected, "nothing was computed"))
    }
}

/// Compares known checksums. `None` where both sides have no algorithm in common.
fn compare_known(source: &SideChecksums<'_>, destination: &SideChecksums<'_>) -> Option<ByteComparison> {
    let mut agreed = None;
    for algorithm in ALGORITHMS {
        if let (Some(ours), Some(theirs)) = (source.by(algorithm), destination.by(algorithm)) {
            if ours != theirs {
                return Some(ByteComparison::Differ);
            }
            agreed = agreed.or(Some(ours));
        }
    }
    agreed.map(|checksum| ByteComparison::Same(checksum.clone()))
}
