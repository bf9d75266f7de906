//! Brings an item in sync: the decision table.

use mill_hooks::crash_point;
use mill_model::{ItemAddress, ItemFacts, ItemOutcome, Properties, UpdatedPart, Version};
use mill_ports::{OutcomeDetail, Precondition, Presence, StoreErrorKind};
use mill_records::sync_proofs::SyncProof;
use tracing::debug;

use super::compare::ByteComparison;
use super::context::{AttemptContext, Side, VerifiedPair};
use crate::crash_points;
use crate::early_exit::EarlyExit;
use crate::refusals::{ANOTHER_SOURCE, RefusedDeed};

impl AttemptContext<'_> {
    /// Brings an item in sync. If it changes meanwhile, it is looked at once more.
    pub(super) async fn sync_named_item(&self, item: &ItemAddress) -> Result<(), EarlyExit> {
        match self.reconcile(item).await {
            Err(EarlyExit::Store(error))
                if matches!(error.kind, StoreErrorKind::Precondition | StoreErrorKind::Changed) =>
            {
                debug!(%error, "it changed meanwhile; looking once more");
                self.reconcile(item).await
            }
            other => other,
        }
    }

    async fn reconcile(&self, item: &ItemAddress) -> Result<(), EarlyExit> {
        // The destination first: the write is conditional on its version from before the source was read, so that the copy
        // that another worker made of a newer source is never overwritten.
        let Presence::Present(destination) = self.destination_head(item).await? else {
            return self.copy_new(item).await;
        };
        match self.source_head(item).await? {
            Presence::Present(source) => self.compare(item, source, destination).await,
            Presence::Absent => {
                self.log_left_in_place(item, "gone at the source; only a delete list lets it go");
                self.note_vanished();
                Ok(())
            }
        }
    }

    /// Notes that the item is gone at the source since it was listed there.
    pub(super) fn note_vanished(&self) {
        self.attempt.outcome.note(ItemOutcome::Vanished);
    }

    async fn compare(&self, item: &ItemAddress, source: ItemFacts, destination: ItemFacts) -> Result<(), EarlyExit> {
        if source.size != destination.size {
            return self.replace(item, (&source, destination.version), None).await;
        }
        let sync_proof = self.sync_proof(&item.id).await;
        if sync_proof.as_ref().is_some_and(|sync_proof| sync_proof.holds(&source.version, &destination.version)) {
            self.note_unchanged();
            return Ok(());
        }
        // Of an item whose source was damaged, the versions that were proven say nothing of its bytes any more.
        let trusted = sync_proof.as_ref().filter(|proof| proof.damaged_source().is_none());
        let checksum = match self.compare_bytes(item, &source, &destination, trusted).await? {
            ByteComparison::Differ => {
                return self.replace(item, (&source, destination.version), sync_proof.as_ref()).await;
            }
            ByteComparison::Same(checksum) => checksum,
            ByteComparison::Unread => {
                self.note_unread(item, &source, &destination).await;
                return Ok(());
            }
        };
        let Some(wanted) = &source.properties else { return Err(self.properties_unknown(item)) };
        if Properties::difference(Some(wanted), destination.properties.as_ref()).is_none() {
            let (source, destination) = (&source.version, &destination.version);
            self.remember(&item.id, VerifiedPair { source, destination, checksum: &checksum }).await;
            self.note_unchanged();
            return Ok(());
        }
        if self.shared.deps.dry_run {
            self.note_updated(UpdatedPart::Properties);
            return Ok(());
        }
        self.claim().await?;
        let when = Precondition::VersionIs(destination.version);
        crash_point(crash_points::DUPLICATE_BEFORE_PROPERTIES);
        let written =
            self.shared.retry.run_effect(self.attempt, || self.destination.put_properties(item, wanted, &when)).await?;
        crash_point(crash_points::DUPLICATE_PROPERTIES_SET);
        let reason = self.note_missing_tags(item, &written.tags);
        let detail = OutcomeDetail { part: Some(UpdatedPart::Properties), reason, ..OutcomeDetail::default() };
        self.attempt.outcome.note_with(ItemOutcome::Updated, detail);
        let (source, destination) = (&source.version, &written.version);
        self.remember(&item.id, VerifiedPair { source, destination, checksum: &checksum }).await;
        Ok(())
    }

    /// Replaces the bytes of a copy, unless those of the source come from another disk or were found damaged.
    async fn replace(
        &self,
        item: &ItemAddress,
        (source, destination): (&ItemFacts, Version),
        sync_proof: Option<&SyncProof>,
    ) -> Result<(), EarlyExit> {
        if self.shared.deps.another_source {
            return Err(EarlyExit::Refused { deed: RefusedDeed::PendingCopy, reason: ANOTHER_SOURCE.to_owned() });
        }
        self.ensure_undamaged(item, source, sync_proof).await?;
        self.copy(item, source, &Precondition::VersionIs(destination)).await
    }

    /// Notes that a part of the item other than its bytes was updated.
    pub(super) fn note_updated(&self, part: UpdatedPart) {
        let detail = OutcomeDetail { part: Some(part), ..OutcomeDetail::default() };
        self.attempt.outcome.note_with(ItemOutcome::Updated, detail);
    }

    /// Notes what becomes of an item whose bytes were not read, as far as its properties and its last copy say it.
    async fn note_unread(&self, item: &ItemAddress, source: &ItemFacts, destination: &ItemFacts) {
        let (wanted, found) = (source.properties.as_ref(), destination.properties.as_ref());
        let versions = (&source.version, &destination.version);
        // A table that fails knows of no copy.
        if self.shared.deps.sync_proofs.is_copy(self.pair, &item.id, versions).await.unwrap_or(false) {
            self.note_unchanged();
        } else if wanted.is_some() && Properties::difference(wanted, found).is_some() {
            self.attempt.outcome.note(ItemOutcome::Updated);
        } else {
            self.note_undecided();
        }
    }

    /// Notes that only the bytes of the item tell whether it is equal.
    pub(super) fn note_undecided(&self) {
        let reason = Some("only its bytes tell whether it differs; a run reads them".to_owned());
        self.attempt.outcome.note_with(ItemOutcome::Unread, OutcomeDetail { reason, ..OutcomeDetail::default() });
    }

    pub(super) fn note_unchanged(&self) {
        self.attempt.outcome.note(ItemOutcome::Unchanged);
    }

    /// The properties at the source are not known. To set none would lose those at the destination.
    pub(super) fn properties_unknown(&self, item: &ItemAddress) -> EarlyExit {
        self.store_error(Side::Source, item, StoreErrorKind::Unexpected, "its properties are not known").into()
    }
}
