//! The copy of one item: as one stream from source to destination, or by the service behind both.

use std::sync::Arc;

use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::{Checksum, ItemAddress, ItemFacts, ItemOutcome, Properties, Uncarried, UpdatedPart, Version};
use mill_ports::{
    Attachments, OpenItem, OutcomeDetail, Precondition, Presence, PutRequest, PutResult, RefusalReason, StoreError,
    StoreErrorKind, TagsWritten, TransferGuard, error_chain, with_deed_check,
};
use tracing::warn;

use super::context::{AttemptContext, Side, VerifiedPair, source_exit};
use super::copy_check;
use crate::crash_points;
use crate::early_exit::EarlyExit;
use crate::refusals::{Refusal, RefusedDeed};
use crate::retry::lease_check;
use crate::verify::is_implied_directory;

/// The result of a copy.
struct Copied {
    /// The version of the source that was read.
    source: Version,
    written: PutResult,
    /// The checksum of the bytes.
    checksum: Checksum,
    /// How many bytes there are.
    size: u64,
}

impl AttemptContext<'_> {
    /// Copies an item that the destination lacks, if the source has it. The source is opened without a `head` first: one request
    /// instead of two.
    pub(super) async fn copy_new(&self, item: &ItemAddress) -> Result<(), EarlyExit> {
        match self.copy_and_remember(item, None, &Precondition::Absent).await {
            // The `head` says why the item cannot be read.
            Err(EarlyExit::Store(error)) if self.is_refused_by_source(&error) => match self.source_head(item).await? {
                Presence::Present(source) => self.copy(item, &source, &Precondition::Absent).await,
                Presence::Absent => {
                    self.note_vanished();
                    Ok(())
                }
            },
            other => other,
        }
    }

    /// Copies an item in the version that was seen, if the destination meets `when`.
    pub(super) async fn copy(
        &self,
        item: &ItemAddress,
        source: &ItemFacts,
        when: &Precondition,
    ) -> Result<(), EarlyExit> {
        self.ensure_online(item, source, Side::Source)?;
        self.copy_and_remember(item, Some(source), when).await
    }

    /// Copies an item and records the sync proof.
    async fn copy_and_remember(
        &self,
        item: &ItemAddress,
        seen: Option<&ItemFacts>,
        when: &Precondition,
    ) -> Result<(), EarlyExit> {
        if self.shared.deps.dry_run {
            return self.note_copy(item, seen, when).await;
        }
        let made = self.creations();
        let copied = match self.shared.retry.run(|| self.transfer(item, seen, when)).await {
            Err(EarlyExit::Store(error)) if self.lacks_space(&error) => {
                self.create_space(made).await?;
                self.shared.retry.run(|| self.transfer(item, seen, when)).await?
            }
            other => other?,
        };
        let Presence::Present(copied) = copied else {
            self.note_vanished();
            return Ok(());
        };
        let reason = self.note_missing_tags(item, &copied.written.tags);
        self.note_written(item, (copied.size, reason), when).await;
        let (source, destination) = (&copied.source, &copied.written.version);
        self.remember(&item.id, VerifiedPair { source, destination, checksum: &copied.checksum }).await;
        Ok(())
    }

    /// Notes the copy that a dry run would make. Asks for the item's facts where a run would open it: that costs no more.
    async fn note_copy(
        &self,
        item: &ItemAddress,
        seen: Option<&ItemFacts>,
        when: &Precondition,
    ) -> Result<(), EarlyExit> {
        let facts = match seen {
            Some(seen) => seen.clone(),
            None => match self.source_head(item).await? {
                Presence::Present(facts) => facts,
                Presence::Absent => {
                    self.note_vanished();
                    return Ok(());
                }
            },
        };
        self.ensure_online(item, &facts, Side::Source)?;
        if facts.properties.is_none() {
            return Err(self.properties_unknown(item));
        }
        self.shared.deps.statistics.count(|work| work.bytes += facts.size);
        self.note_written(item, (facts.size, None), when).await;
        Ok(())
    }

    /// Notes that the item was copied, or its bytes updated. `reason`: why a part of it was not.
    async fn note_written(&self, item: &ItemAddress, (bytes, reason): (u64, Option<String>), when: &Precondition) {
        let bytes = Some(bytes);
        // A directory that holds something at the destination was there: it only got the sign that it is an item of its own.
        if *when == Precondition::Absent && is_implied_directory(&*self.destination, item).await.unwrap_or(false) {
            self.note_unchanged();
        } else if *when == Precondition::Absent {
            let detail = OutcomeDetail { bytes, reason, ..OutcomeDetail::default() };
            self.attempt.outcome.note_with(ItemOutcome::Copied, detail);
        } else {
            let detail = OutcomeDetail { bytes, part: Some(UpdatedPart::Bytes), reason };
            self.attempt.outcome.note_with(ItemOutcome::Updated, detail);
        }
    }

    /// Whether a `head` may say more than the refusal of the source. A refusal for an archive tier says all.
    fn is_refused_by_source(&self, error: &StoreError) -> bool {
        let refused = matches!(&error.kind, StoreErrorKind::Refused(why) if !matches!(why, RefusalReason::Archived(_)));
        refused && error.store.store == self.pair.source
    }

    fn lacks_space(&self, error: &StoreError) -> bool {
        error.kind == StoreErrorKind::SpaceAbsent && error.store.store == self.pair.destination
    }

    /// One try. A body can be read once, so each try opens the source anew, in the version that was seen, if one was. `Absent` if
    /// none was seen and there is none.
    async fn transfer(
        &self,
        item: &ItemAddress,
        seen: Option<&ItemFacts>,
        when: &Precondition,
    ) -> Result<Presence<Copied>, EarlyExit> {
        crash_point(crash_points::DUPLICATE_BEFORE_READ);
        let opened = self.source.open(item, None, seen.map(|seen| &seen.version)).await.map_err(source_exit)?;
        let Presence::Present(reading) = opened else {
            if seen.is_none() {
                return Ok(Presence::Absent);
            }
            let why = "it went away between being seen and being read";
            return Err(self.store_error(Side::Source, item, StoreErrorKind::Changed, why).into());
        };
        self.ensure_online(item, &reading.facts, Side::Source)?;
        self.claim().await?;
        let known = reading.facts.properties.clone().or_else(|| seen?.properties.clone());
        let properties = known.ok_or_else(|| self.properties_unknown(item))?;
        let properties = if is_planted(PlantedBug::PropertiesForgotten) { Properties::default() } else { properties };
        let when = if is_planted(PlantedBug::StaleOverNewer) { &Precondition::Always } else { when };
        let content = PutRequest { size: reading.facts.size, properties, attachments: reading.attachments.clone() };
        let copied = match self.server_side_copy(item, &reading.facts, &content, when).await? {
            Some(copied) => copied,
            None => self.stream(item, reading, &content, when).await?,
        };
        self.count_uncarried(&content.attachments, &copied.written.tags);
        Ok(Presence::Present(copied))
    }

    /// Names an item whose copy lacks the tags that it could have. Returns the reason.
    pub(super) fn note_missing_tags(&self, item: &ItemAddress, written: &TagsWritten) -> Option<String> {
        let TagsWritten::Refused(reason) = written else { return None };
        warn!(target: mill_ports::REPORTED, reason, "copied without its tags");
        let subject = format!("{}/{item}", self.pair.account);
        self.shared.deps.refusals.note(Refusal { subject, reason: reason.clone(), deed: RefusedDeed::PartOfCopy });
        Some(reason.clone())
    }

    /// Counts what the copy did not get.
    fn count_uncarried(&self, attachments: &Attachments, written: &TagsWritten) {
        let tags = (attachments.tags.is_some() && *written == TagsWritten::None).then_some(Uncarried::Tags);
        self.shared.deps.statistics.count(|work| {
            for what in attachments.uncarried.iter().copied().chain(tags) {
                *what.counter(work) += 1;
            }
        });
    }

    /// Has the service behind both stores copy the bytes, if there is one and it can.
    ///
    /// Mill does not read the bytes: the copy and the sync proof are as good as the checksum by which the service
    /// verified them.
    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        source: &ItemFacts,
        content: &PutRequest,
        when: &Precondition,
    ) -> Result<Option<Copied>, EarlyExit> {
        let Some(copy_source) = self.source.copy_source(item, source) else { return Ok(None) };
        // A guard of its own: bytes that the service moved do not count if Mill reads them in the end.
        let transfer_guard = self.begin_transfer(item, content.size);
        let progress = |bytes| {
            transfer_guard.moved(bytes);
            self.attempt.may_act().is_ok()
        };
        self.attempt.may_act()?;
        crash_point(crash_points::DUPLICATE_BEFORE_WRITE);
        let copy = self.destination.server_side_copy(item, content, when, &copy_source, &progress);
        let written = match with_deed_check(lease_check(self.attempt), copy).await {
            Ok(Some(written)) => written,
            Ok(None) => return Ok(None),
            // Reading the bytes shows whether the source is damaged.
            Err(error) if error.kind == StoreErrorKind::Damaged => {
                warn!(error = %error_chain(&error), "the service found other bytes than it has a checksum of; they are read");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        crash_point(crash_points::DUPLICATE_WRITTEN);
        let both = |stated: &&Checksum| written.checksums.iter().any(|told| told.algorithm == stated.algorithm);
        let comparable: Vec<&Checksum> = source.checksums.iter().filter(both).collect();
        if comparable.iter().any(|stated| !written.checksums.contains(stated)) {
            return Err(self.wrote_other_bytes(item).into());
        }
        let Some(&checksum) = comparable.first() else {
            // The copy is there: the next attempt compares it instead of copying it once more.
            let why = "the store tells nothing by which what it took can be compared";
            return Err(self.store_error(Side::Destination, item, StoreErrorKind::Changed, why).into());
        };
        transfer_guard.durable(content.size);
        Ok(Some(Copied { source: source.version.clone(), checksum: checksum.clone(), written, size: content.size }))
    }

    /// Reads the bytes, verifies them on their way, and writes them.
    async fn stream(
        &self,
        item: &ItemAddress,
        reading: OpenItem,
        content: &PutRequest,
        when: &Precondition,
    ) -> Result<Copied, EarlyExit> {
        let ItemFacts { size, version, checksums, .. } = reading.facts;
        let transfer_guard = self.begin_transfer(item, size);
        let destination = self.pair.destination_address();
        let options = copy_check::VerifyOptions {
            size,
            stated: checksums,
            computed: self.shared.checksum_capabilities.of(&destination),
            transfer_guard: transfer_guard.clone(),
            lease: self.attempt.lease.clone(),
            cancelled: self.attempt.cancelled.clone(),
            damaged: self.store_error(
                Side::Source,
                item,
                StoreErrorKind::Damaged,
                "its bytes are not those of its checksum",
            ),
        };
        let (body, verified) = copy_check::verify_copy(reading.body, options).await?;
        self.attempt.may_act()?;
        crash_point(crash_points::DUPLICATE_BEFORE_WRITE);
        let put = self.destination.put(item, content, when, body);
        let written = with_deed_check(lease_check(self.attempt), put).await?;
        crash_point(crash_points::DUPLICATE_WRITTEN);
        let Some((checksums, sha256)) = verified.get().and_then(|all| Some((all, all.first()?.clone()))) else {
            let why = "the store answered before it had taken all bytes";
            return Err(self.store_error(Side::Destination, item, StoreErrorKind::Damaged, why).into());
        };
        self.shared.checksum_capabilities.note(&destination, &written.checksums);
        self.verify_written(item, size, checksums, &written).await?;
        transfer_guard.durable(size);
        Ok(Copied { source: version, checksum: sha256, written, size })
    }

    fn begin_transfer(&self, item: &ItemAddress, size: u64) -> Arc<TransferGuard> {
        Arc::new(self.shared.deps.statistics.begin_transfer(|| format!("{}/{item}", self.pair.account), size))
    }

    /// The checksums that the destination computed must be those of the bytes that were read. If not, the next attempt copies the
    /// item again.
    async fn verify_written(
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
            // The destination returned a checksum of an unexpected algorithm: this once, the copy is read again.
            self.read_back(item, size, read, &written.version).await?
        } else {
            judged.into_iter().all(|same| same)
        };
        if same {
            return Ok(());
        }
        Err(self.wrote_other_bytes(item).into())
    }

    fn wrote_other_bytes(&self, item: &ItemAddress) -> StoreError {
        self.store_error(
            Side::Destination,
            item,
            StoreErrorKind::Damaged,
            "the store wrote other bytes than it was given",
        )
    }
}
