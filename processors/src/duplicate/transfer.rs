//! The copy of one item: as one stream from source to destination, or by the service behind both.

use std::sync::Arc;

use mill_model::{Checksum, ItemAddress, ItemFacts, ItemOutcome, Properties, Version};
use mill_ports::{
    CrashPoint, OpenItem, PlantedBug, Precondition, Presence, PutRequest, PutResult, RefusalReason, StoreError,
    StoreErrorKind, TransferGuard, crash_point, error_chain, planted,
};
use tracing::warn;

use super::address;
use super::context::{AttemptContext, Side, VerifiedPair, of_source};
use super::verified_body;
use crate::early_exit::EarlyExit;

/// What was copied.
struct Copied {
    /// The state of the source that was read.
    source: Version,
    written: PutResult,
    /// What the bytes come to.
    checksum: Checksum,
}

impl AttemptContext<'_> {
    /// Copies an item that the destination lacks, if the source has it. It is opened without being looked at first: one
    /// request of the source instead of two.
    pub(super) async fn copy_new(&self, item: &ItemAddress) -> Result<(), EarlyExit> {
        match self.copied(item, None, &Precondition::Absent).await {
            // What it is that cannot be read is told by a look.
            Err(EarlyExit::Store(error)) if self.is_refused_by_source(&error) => match self.source_head(item).await? {
                Presence::Present(source) => self.copy(item, &source, &Precondition::Absent).await,
                Presence::Absent => {
                    self.vanished();
                    Ok(())
                }
            },
            other => other,
        }
    }

    /// Copies an item in the state that was seen, if the destination is `when`.
    pub(super) async fn copy(
        &self,
        item: &ItemAddress,
        source: &ItemFacts,
        when: &Precondition,
    ) -> Result<(), EarlyExit> {
        self.readable(item, source, Side::Source)?;
        self.copied(item, Some(source), when).await
    }

    /// Copies an item and seals the pair.
    async fn copied(&self, item: &ItemAddress, seen: Option<&ItemFacts>, when: &Precondition) -> Result<(), EarlyExit> {
        let made = self.made();
        let copied = match self.room.tries.of(|| self.transfer(item, seen, when)).await {
            Err(EarlyExit::Store(error)) if self.lacks_space(&error) => {
                self.create_space(made).await?;
                self.room.tries.of(|| self.transfer(item, seen, when)).await?
            }
            other => other?,
        };
        let Presence::Present(copied) = copied else {
            self.vanished();
            return Ok(());
        };
        self.attempt.fate.note(if *when == Precondition::Absent { ItemOutcome::Copied } else { ItemOutcome::Updated });
        let (source, destination) = (&copied.source, &copied.written.version);
        self.remember(&item.id, VerifiedPair { source, destination, checksum: &copied.checksum }).await;
        Ok(())
    }

    /// Whether a look may tell more than what the source refused. Of an archive tier it has told all.
    fn is_refused_by_source(&self, error: &StoreError) -> bool {
        let refused = matches!(&error.kind, StoreErrorKind::Refused(why) if !matches!(why, RefusalReason::Archived(_)));
        refused && error.store.store == self.pair.source
    }

    fn lacks_space(&self, error: &StoreError) -> bool {
        error.kind == StoreErrorKind::SpaceAbsent && error.store.store == self.pair.destination
    }

    /// One try. A body can be had once, so each try opens the source anew, in the state that was decided on if it was
    /// seen before. Nothing is copied where it was not, and is not there.
    async fn transfer(
        &self,
        item: &ItemAddress,
        seen: Option<&ItemFacts>,
        when: &Precondition,
    ) -> Result<Presence<Copied>, EarlyExit> {
        crash_point(CrashPoint::DuplicateBeforeRead);
        let opened = self.source.open(item, None, seen.map(|seen| &seen.version)).await.map_err(of_source)?;
        let Presence::Present(reading) = opened else {
            if seen.is_none() {
                return Ok(Presence::Absent);
            }
            let why = "it went away between being seen and being read";
            return Err(self.found(Side::Source, item, StoreErrorKind::Changed, why).into());
        };
        self.readable(item, &reading.facts, Side::Source)?;
        self.claim().await?;
        let known = reading.facts.properties.clone().or_else(|| seen?.properties.clone());
        let properties = known.ok_or_else(|| self.properties_unknown(item))?;
        let properties = if planted(PlantedBug::PropertiesForgotten) { Properties::default() } else { properties };
        let when = if planted(PlantedBug::StaleOverNewer) { &Precondition::Always } else { when };
        let content = PutRequest { size: reading.facts.size, properties };
        Ok(Presence::Present(match self.taken(item, &reading.facts, &content, when).await? {
            Some(taken) => taken,
            None => self.streamed(item, reading, &content, when).await?,
        }))
    }

    /// Has the service behind both stores bring the bytes, where there is one and it does.
    ///
    /// Nobody reads them: they are as good as the checksum by which the service judged them, and so is the seal.
    async fn taken(
        &self,
        item: &ItemAddress,
        source: &ItemFacts,
        content: &PutRequest,
        when: &Precondition,
    ) -> Result<Option<Copied>, EarlyExit> {
        let Some(origin) = self.source.copy_source(item, source) else { return Ok(None) };
        // Its own: what it has moved does not count where the bytes are read in the end.
        let transferring = self.transferring(item, content.size);
        let going = |bytes| {
            transferring.moved(bytes);
            self.attempt.may_act().is_ok()
        };
        self.attempt.may_act()?;
        crash_point(CrashPoint::DuplicateBeforeWrite);
        let written = match self.destination.server_side_copy(item, content, when, &origin, &going).await {
            Ok(Some(written)) => written,
            Ok(None) => return Ok(None),
            // The reading tells whether it is the source that is damaged.
            Err(error) if error.kind == StoreErrorKind::Damaged => {
                warn!(error = %error_chain(&error), "the service found other bytes than it has a checksum of; they are read");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        crash_point(CrashPoint::DuplicateWritten);
        let both = |stated: &&Checksum| written.checksums.iter().any(|told| told.algorithm == stated.algorithm);
        let comparable: Vec<&Checksum> = source.checksums.iter().filter(both).collect();
        if comparable.iter().any(|stated| !written.checksums.contains(stated)) {
            return Err(self.wrote_others(item).into());
        }
        let Some(&checksum) = comparable.first() else {
            // It is there: the next look compares it, rather than to bring it once more.
            let why = "the store tells nothing by which what it took can be compared";
            return Err(self.found(Side::Destination, item, StoreErrorKind::Changed, why).into());
        };
        transferring.durable(content.size);
        Ok(Some(Copied { source: source.version.clone(), checksum: checksum.clone(), written }))
    }

    /// Reads the bytes, judges them on their way, and writes them.
    async fn streamed(
        &self,
        item: &ItemAddress,
        reading: OpenItem,
        content: &PutRequest,
        when: &Precondition,
    ) -> Result<Copied, EarlyExit> {
        let ItemFacts { size, version, checksums, .. } = reading.facts;
        let transferring = self.transferring(item, size);
        let destination = address(&self.pair.account, &self.pair.destination);
        let watch = verified_body::VerifyOptions {
            size,
            stated: checksums,
            told: self.room.told.by(&destination),
            transferring: transferring.clone(),
            lease: self.attempt.lease.clone(),
            cancelled: self.attempt.cancelled.clone(),
            damaged: self.found(Side::Source, item, StoreErrorKind::Damaged, "its bytes are not those of its checksum"),
        };
        let (body, witnessed) = verified_body::verify_body(reading.body, watch).await?;
        self.attempt.may_act()?;
        crash_point(CrashPoint::DuplicateBeforeWrite);
        let written = self.destination.put(item, content, when, body).await?;
        crash_point(CrashPoint::DuplicateWritten);
        let Some((checksums, sha256)) = witnessed.get().and_then(|all| Some((all, all.first()?.clone()))) else {
            let why = "the store answered before it had taken all bytes";
            return Err(self.found(Side::Destination, item, StoreErrorKind::Damaged, why).into());
        };
        self.room.told.note(&destination, &written.checksums);
        self.judge(item, size, checksums, &written).await?;
        transferring.durable(size);
        Ok(Copied { source: version, checksum: sha256, written })
    }

    fn transferring(&self, item: &ItemAddress, size: u64) -> Arc<TransferGuard> {
        Arc::new(self.room.deps.statistics.begin_transfer(|| format!("{}/{item}", self.pair.account), size))
    }

    /// What the destination computed of what it wrote must be what was read. The next look finds them to differ.
    async fn judge(
        &self,
        item: &ItemAddress,
        size: u64,
        read: &[Checksum],
        written: &PutResult,
    ) -> Result<(), EarlyExit> {
        let ours = |theirs: &Checksum| read.iter().find(|ours| ours.algorithm == theirs.algorithm);
        let comparable = written.checksums.iter().filter_map(|theirs| Some((ours(theirs)?, theirs)));
        let judged: Vec<bool> = comparable.map(|(ours, theirs)| ours == theirs).collect();
        let same = if judged.is_empty() && !written.checksums.is_empty() {
            // It told a checksum that nobody had reckoned with: this once, it is read again.
            self.read_back(item, size, read, &written.version).await?
        } else {
            judged.into_iter().all(|same| same)
        };
        if same {
            return Ok(());
        }
        Err(self.wrote_others(item).into())
    }

    fn wrote_others(&self, item: &ItemAddress) -> StoreError {
        self.found(Side::Destination, item, StoreErrorKind::Damaged, "the store wrote other bytes than it was given")
    }
}
