//! What is done with an item: the decision table.

use mill_model::{ItemAddress, ItemFacts};
use mill_ports::{CrashPoint, Planted, Presence, Statistics, StoreErrorKind, When, crash_point, planted};
use tracing::debug;

use super::alike::{Bytes, properties_alike};
use super::sides::{Proven, Side, Sides, source_space_absent};
use super::stop::Stop;
use super::today::{self, Today};

impl Sides<'_> {
    /// Brings an item in step. What changes under its hands is looked at once more.
    pub(super) async fn item(&self, item: &ItemAddress, retire: bool) -> Result<(), Stop> {
        match self.look(item, retire).await {
            Err(Stop::Store(error)) if matches!(error.kind, StoreErrorKind::Precondition | StoreErrorKind::Changed) => {
                debug!(%error, "it changed meanwhile; looking once more");
                self.look(item, retire).await
            }
            other => other,
        }
    }

    async fn look(&self, item: &ItemAddress, retire: bool) -> Result<(), Stop> {
        if retire && self.source_space().await? == Presence::Absent {
            return self.retire_item(item).await;
        }
        // The destination first: what is written is conditional on its state from before the source was seen, so that
        // what another worker made of a newer source is never taken back.
        let Presence::Here(destination) = self.destination_head(item).await? else {
            return self.copy_new(item).await;
        };
        match self.source_head(item).await? {
            Presence::Here(source) => self.compare(item, source, destination).await,
            Presence::Absent => self.remove(item, destination).await,
        }
    }

    async fn compare(&self, item: &ItemAddress, source: ItemFacts, destination: ItemFacts) -> Result<(), Stop> {
        if source.size != destination.size {
            return self.copy(item, &source, &When::VersionIs(destination.version)).await;
        }
        let seal = self.seal(&item.id).await;
        if seal.as_ref().is_some_and(|seal| seal.holds(&source.version, &destination.version)) {
            self.unchanged();
            return Ok(());
        }
        let checksum = match self.bytes(item, &source, &destination, seal.as_ref()).await? {
            Bytes::Differ => return self.copy(item, &source, &When::VersionIs(destination.version)).await,
            Bytes::Same(checksum) => checksum,
        };
        let Some(wanted) = &source.properties else { return Err(self.properties_unknown(item)) };
        if destination.properties.as_ref().is_some_and(|found| properties_alike(wanted, found)) {
            let (source, destination) = (&source.version, &destination.version);
            self.remember(&item.id, Proven { source, destination, checksum: &checksum, stood_before: true }).await;
            self.unchanged();
            return Ok(());
        }
        self.claim().await?;
        self.attempt.may_act()?;
        let when = When::VersionIs(destination.version);
        crash_point(CrashPoint::DuplicateBeforeProperties);
        let written = self.room.tries.of(|| self.destination.put_properties(item, wanted, &when)).await?;
        crash_point(CrashPoint::DuplicatePropertiesSet);
        Statistics::count(&self.room.deps.statistics.updated);
        let (source, destination) = (&source.version, &written.version);
        self.remember(&item.id, Proven { source, destination, checksum: &checksum, stood_before: true }).await;
        Ok(())
    }

    fn unchanged(&self) {
        Statistics::count(&self.room.deps.statistics.unchanged);
    }

    /// To set none where they are not known would lose those that are.
    pub(super) fn properties_unknown(&self, item: &ItemAddress) -> Stop {
        self.found(Side::Source, item, StoreErrorKind::Unexpected, "its properties are not known").into()
    }

    /// Deletes what is gone at the source, on positive proof alone: the policy asked for it before and does now, the
    /// source space answers, and the item is absent each of the two times that it was asked for.
    async fn remove(&self, item: &ItemAddress, destination: ItemFacts) -> Result<(), Stop> {
        if !self.policy.remove_vanished {
            self.left_in_place(item, "the policy keeps what vanished");
            return Ok(());
        }
        self.claim().await?;
        if self.source_space().await? == Presence::Absent {
            return Err(source_space_absent());
        }
        if self.source_head(item).await?.here().is_some() {
            let why = "it came back while its deletion was being proved";
            return Err(self.found(Side::Source, item, StoreErrorKind::Changed, why).into());
        }
        self.delete(item, destination).await
    }

    /// Deletes an item of a space that is gone, on positive proof alone: a person confirmed it, the policy asked for it
    /// before and does now, the destination space is this source's, and the source store answers that the space is
    /// absent each of the two times that it was asked for.
    async fn retire_item(&self, item: &ItemAddress) -> Result<(), Stop> {
        if !self.policy.remove_vanished {
            self.left_in_place(item, "the policy keeps what vanished");
            return Ok(());
        }
        self.belongs_to_source().await?;
        let Presence::Here(destination) = self.destination_head(item).await? else {
            self.forget(&item.id).await;
            return Ok(());
        };
        if self.source_space().await? != Presence::Absent {
            let why = "its space came back while its deletion was being proved";
            return Err(self.found(Side::Source, item, StoreErrorKind::Changed, why).into());
        }
        self.delete(item, destination).await
    }

    /// Deletes an item that was proven to be gone, if today's policy still asks for it.
    async fn delete(&self, item: &ItemAddress, destination: ItemFacts) -> Result<(), Stop> {
        match today::ask(&self.room.deps.policies, self.pair).await {
            _ if planted(Planted::PolicyNotAskedAgain) => {}
            Today::Covers(policy) if policy.remove_vanished => {}
            Today::Covers(_) | Today::Discard { .. } => {
                self.left_in_place(item, "today's policy does not ask for its removal any more");
                return Ok(());
            }
            Today::Unknown { reason } => return Err(today::waits(item, &reason)),
        }
        self.attempt.may_act()?;
        let seen = When::VersionIs(destination.version);
        let when = if planted(Planted::UnconditionalDelete) { When::Always } else { seen };
        crash_point(CrashPoint::DuplicateBeforeDelete);
        let deleted = self.room.tries.of(|| self.destination.delete(item, &when)).await?;
        crash_point(CrashPoint::DuplicateDeleted);
        if let Presence::Here(()) = deleted {
            let (account, destination) = (&self.pair.account, &self.pair.destination);
            debug!(%account, %destination, %item, "deleted, gone at the source");
            Statistics::count(&self.room.deps.statistics.deleted);
        }
        self.forget(&item.id).await;
        crash_point(CrashPoint::DuplicateForgotten);
        Ok(())
    }
}
