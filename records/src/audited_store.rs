//! A store whose changes are recorded: each makes exactly one event of the audit log, also if its writer is killed.
//!
//! The wrapper writes an intent, makes the change, sends the event, and removes the intent. A change whose result is not known
//! keeps its intent, and [`AuditedStore::settle`] looks at the item later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::digest::Digester;
use mill_model::{
    Algorithm, AuditAction, AuditEvent, ContentId, CopiedFrom, EventCertainty, EventSource, ItemAddress, ItemFacts,
    Properties, SpaceId, StoreAddress, Version,
};
use mill_ports::{
    Body, ByteRange, Capabilities, CompleteListing, CopyProgress, CopySource, DeletableStore, DestinationStore,
    ListEntry, Listing, OpenItem, Place, Precondition, Presence, PutRequest, PutResult, RefusalReason, Respelling,
    RngExt as _, SourceStore, SpaceFacts, SpaceList, StoreError, StoreErrorKind, error_chain, may_still_change,
};
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::audit_intents::{FoundState, Intent, IntentVerdict, Intents, StateBefore, judge};
use crate::audit_sender::AuditSender;
use crate::crash_points;

/// A store whose changes are recorded.
#[derive(Debug)]
pub struct AuditedStore {
    inner: Arc<dyn DeletableStore>,
    address: StoreAddress,
    /// The space whose changes are not recorded.
    unrecorded: Option<SpaceId>,
    intents: Intents,
    sender: AuditSender,
}

impl AuditedStore {
    /// Records the changes made through `inner`, but for those of the space `unrecorded`, which has the log itself.
    pub fn new(
        inner: Arc<dyn DeletableStore>,
        address: StoreAddress,
        unrecorded: Option<SpaceId>,
        (intents, sender): (Intents, AuditSender),
    ) -> Self {
        Self { inner, address, unrecorded, intents, sender }
    }

    fn records(&self, space: &SpaceId) -> bool {
        self.unrecorded.as_ref() != Some(space)
    }

    /// Settles the intents of writers that were lost: sends the events of what happened, and removes what never will. Returns
    /// the number of events sent.
    ///
    /// # Errors
    /// The store or the table did not answer. What is left is settled by the next call.
    pub async fn settle(&self) -> Result<u64, StoreError> {
        let intents = self.intents.of_store(&self.address).await.map_err(|error| self.failed(error))?;
        let mut by_subject: BTreeMap<_, Vec<Intent>> = BTreeMap::new();
        for intent in intents {
            let subject = (intent.event.space.clone(), intent.event.item.clone());
            by_subject.entry(subject).or_default().push(intent);
        }
        let (mut sent, mut failure) = (0, None);
        for intents in by_subject.into_values() {
            // An item that cannot be looked at keeps no other waiting.
            let count = intents.len();
            match self.settle_subject(intents).await {
                Ok(open) => sent += (count - open.len()) as u64,
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        failure.map_or(Ok(sent), Err)
    }

    /// Settles the intents of lost writers of one item or space, and returns those that stay open: it is not known yet what became of
    /// them, or their writers may be well and have not been refused yet.
    async fn settle_subject(&self, intents: Vec<Intent>) -> Result<Vec<Intent>, StoreError> {
        let (alone, mut open, mut found) = (is_alone(&intents), Vec::new(), None);
        for intent in intents {
            let age = self.intents.age(&intent, self.sender.clock.now());
            if age >= Intents::SENT_AFTER {
                let found = match &found {
                    Some(found) => found,
                    None => found.insert(self.look(&intent.event).await?),
                };
                if self.settle_one(&intent, found, (age, alone)).await? {
                    continue;
                }
            }
            open.push(intent);
        }
        Ok(open)
    }

    /// Whether it is settled, so that an event was sent. `alone`: no other lost write may have left what stands there.
    async fn settle_one(
        &self,
        intent: &Intent,
        found: &FoundState,
        (age, alone): (Duration, bool),
    ) -> Result<bool, StoreError> {
        let forgotten = is_planted(PlantedBug::LostWriterForgotten);
        let (verdict, age) =
            if forgotten { (IntentVerdict::NotHappened, Duration::MAX) } else { (judge(intent, found), age) };
        let event = match verdict {
            IntentVerdict::Happened if alone => completed(&intent.event, found),
            IntentVerdict::Superseded | IntentVerdict::Happened if age >= Intents::SUPERSEDED_AFTER => {
                AuditEvent { certainty: EventCertainty::Superseded, ..intent.event.clone() }
            }
            IntentVerdict::NotHappened if age >= Intents::WRITER_LOST_AFTER => {
                self.remove(&intent.event).await;
                return Ok(false);
            }
            _ => return Ok(false),
        };
        let id = if is_planted(PlantedBug::EventIdDrawnAnew) {
            self.sender.chance.event_id(event.happened_at())
        } else {
            event.id
        };
        let event = AuditEvent { id, ..event };
        info!(store = %self.address, subject = event.subject(), action = %event.action, "a lost writer's change is recorded");
        self.sender.send(&self.address.account, vec![event]).await.map_err(|error| self.failed(error))?;
        self.remove(&intent.event).await;
        Ok(true)
    }

    async fn look(&self, event: &AuditEvent) -> Result<FoundState, StoreError> {
        Ok(match &event.item {
            Some(id) => {
                let item = ItemAddress { space: event.space.clone(), id: id.clone() };
                match self.inner.head(&item).await {
                    // Under this name there is none, also where the store has one under another spelling.
                    Err(error)
                        if matches!(
                            error.kind,
                            StoreErrorKind::SpaceAbsent | StoreErrorKind::Refused(RefusalReason::Twin(_))
                        ) =>
                    {
                        FoundState::Item(Presence::Absent)
                    }
                    found => FoundState::Item(found?),
                }
            }
            None => FoundState::Space(self.inner.space(&event.space).await?.present().map(|facts| facts.identity)),
        })
    }

    fn event(&self, space: &SpaceId, item: Option<&ContentId>, action: AuditAction) -> AuditEvent {
        let now = self.sender.clock.now();
        let subject = (self.address.store.clone(), space.clone(), item.cloned());
        AuditEvent::new(self.sender.chance.event_id(now), subject, action, now, EventSource::Mill)
    }

    /// Begins a change: settles what lost writers left of the same item, and writes the intent.
    async fn begin(&self, event: AuditEvent, before: StateBefore) -> Result<PendingChange<'_>, StoreError> {
        let older = self.intents.about(&self.address, &event).await.map_err(|error| self.failed(error))?;
        let open = self.settle_subject(older).await?;
        let intent = self.intents.intent(event, before);
        if !is_planted(PlantedBug::ChangedWithoutIntent) {
            self.intents.add(&self.address, &intent).await.map_err(|error| self.failed(error))?;
        }
        crash_point(crash_points::AUDIT_INTENT_WRITTEN);
        // The caller checked before this was written down: much may have happened since.
        if !may_still_change().await {
            self.remove(&intent.event).await;
            let why = "what was checked before does not hold any more, so nothing is changed";
            return Err(StoreError { kind: StoreErrorKind::Precondition, ..self.failed(why) });
        }
        Ok(PendingChange { store: self, intent, open })
    }

    /// Marks what another writer was about to do: what stands there from now on proves nothing about it.
    async fn supersede(&self, intent: &Intent) {
        if intent.event.certainty == EventCertainty::Superseded {
            return;
        }
        if let Err(error) = self.intents.supersede(&self.address, intent).await {
            warn!(store = %self.address, subject = intent.event.subject(), error = error_chain(&error), "a superseded intent is not marked");
        }
    }

    async fn remove(&self, event: &AuditEvent) {
        if let Err(error) = self.intents.remove(&self.address, event).await {
            warn!(store = %self.address, subject = event.subject(), error = error_chain(&error), "a settled intent stays for now");
        }
    }

    fn failed(&self, error: impl Into<mill_ports::BoxError>) -> StoreError {
        StoreError {
            kind: StoreErrorKind::Unexpected,
            op: "recording a change",
            store: self.address.clone(),
            subject: "the audit log".into(),
            source: Some(error.into()),
        }
    }
}

/// Whether at most one of the intents about an item may tell of what stands there.
fn is_alone(intents: &[Intent]) -> bool {
    intents.iter().filter(|intent| intent.event.certainty == EventCertainty::Certain).count() <= 1
}

/// A change that is under way.
struct PendingChange<'s> {
    store: &'s AuditedStore,
    intent: Intent,
    /// Intents of other writers of the same item, lost or not, of which it is not known that they happened.
    open: Vec<Intent>,
}

impl PendingChange<'_> {
    /// The change was made: `event` says what it left.
    async fn done(self, event: AuditEvent) {
        let store = self.store;
        crash_point(crash_points::AUDIT_CHANGE_MADE);
        if let Err(error) = store.sender.send(&store.address.account, vec![event]).await {
            // The intent stays, and with it what happened.
            warn!(store = %store.address, subject = self.intent.event.subject(), error = error_chain(&error), "a change is recorded later");
            return;
        }
        crash_point(crash_points::AUDIT_EVENT_SENT);
        let before = &self.intent.before;
        for lost in &self.open {
            let marked = lost.event.certainty == EventCertainty::Superseded;
            if !marked && lost.before.is_still(before) {
                // This change found the state that those wanted to replace: they did not happen, and cannot any more.
                store.remove(&lost.event).await;
            } else {
                store.supersede(lost).await;
            }
        }
        store.remove(&self.intent.event).await;
    }

    /// The change failed. If it certainly was not made, nothing is left of it.
    async fn failed(self, error: &StoreError) {
        let not_made = match error.kind {
            StoreErrorKind::Precondition
            | StoreErrorKind::Refused(_)
            | StoreErrorKind::NotConfigured
            | StoreErrorKind::SpaceAbsent
            | StoreErrorKind::Changed => true,
            StoreErrorKind::Throttled { .. }
            | StoreErrorKind::Unavailable
            | StoreErrorKind::Unreachable
            | StoreErrorKind::Damaged
            | StoreErrorKind::OnlyCached
            | StoreErrorKind::Unexpected => false,
        };
        if not_made {
            self.store.remove(&self.intent.event).await;
        }
    }

    /// Ends the change by what the store said. `event` makes the event of what it left; `None` if nothing was changed.
    async fn end<T>(
        self,
        result: Result<T, StoreError>,
        event: impl FnOnce(&T, AuditEvent) -> Option<AuditEvent>,
    ) -> Result<T, StoreError> {
        match &result {
            Ok(left) => match event(left, self.intent.event.clone()) {
                Some(event) => {
                    let event = identified(event, &self.intent.before);
                    self.done(event).await;
                }
                None => self.store.remove(&self.intent.event).await,
            },
            Err(error) => self.failed(error).await,
        }
        result
    }
}

/// An event of a change that left the version that was there before has no version: it would pass for the one change that has it.
/// The event of a delete has the version that was deleted.
fn identified(mut event: AuditEvent, before: &StateBefore) -> AuditEvent {
    let deletes = matches!(event.action, AuditAction::DeleteContent | AuditAction::DeleteSpace);
    let given_twice = event.version.as_deref() == before.version() && !is_planted(PlantedBug::OneVersionOneChange);
    if given_twice && !deletes {
        event.version = None;
    }
    event
}

/// The event of a lost writer, with what stands there now.
fn completed(event: &AuditEvent, found: &FoundState) -> AuditEvent {
    let mut event = event.clone();
    if let FoundState::Space(Some(identity)) = found {
        event.version = Some(identity.clone());
    }
    if let (FoundState::Item(Presence::Present(facts)), false) = (found, event.action == AuditAction::DeleteContent) {
        event.version = Some(facts.version.token().to_owned());
        if event.checksums.is_empty() {
            event.checksums.clone_from(&facts.checksums);
        }
    }
    event
}

/// The event of a write, with what the store said of it.
fn written(mut event: AuditEvent, put: &PutResult) -> AuditEvent {
    event.version = Some(put.version.token().to_owned());
    for checksum in &put.checksums {
        if !event.checksums.contains(checksum) {
            event.checksums.push(checksum.clone());
        }
    }
    event
}

fn state_before(when: &Precondition) -> StateBefore {
    match when {
        Precondition::Always => StateBefore::Any,
        Precondition::Absent => StateBefore::Absent,
        Precondition::VersionIs(version) if version.settled() => StateBefore::Version(version.token().to_owned()),
        Precondition::VersionIs(version) => StateBefore::UnsettledVersion(version.token().to_owned()),
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SourceStore for AuditedStore {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.inner.list_spaces().await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        self.inner.spaces().await
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.inner.space(space).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        self.inner.head(item).await
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.inner.open(item, range, if_version).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.inner.open_uncached(item, if_version).await
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.inner.places(item).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        self.inner.list(space, after)
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        self.inner.folds_names(space).await
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.inner.copy_source(item, facts)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DestinationStore for AuditedStore {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        if !self.records(space) {
            return self.inner.create_space(space).await;
        }
        if matches!(self.inner.space(space).await?, Presence::Present(_)) {
            return Ok(());
        }
        let change = self.begin(self.event(space, None, AuditAction::CreateSpace), StateBefore::Absent).await?;
        let created = self.inner.create_space(space).await;
        let made = match &created {
            Ok(()) => self.inner.space(space).await.ok().and_then(Presence::present),
            Err(_) => None,
        };
        let version = made.map(|facts| facts.identity);
        change.end(created, |(), event| Some(AuditEvent { version, ..event })).await
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        if !self.records(&item.space) {
            return self.inner.put(item, content, when, body).await;
        }
        let mut event = self.event(&item.space, Some(&item.id), AuditAction::AddContent);
        event.size = Some(content.size);
        event.properties = Some(content.properties.0.clone());
        let change = self.begin(event, state_before(when)).await?;
        let digester = Arc::new(Mutex::new(Digester::new(&[Algorithm::Sha256])));
        let hashing = digester.clone();
        let body = body.inspect_ok(move |piece| hashing.lock().update(piece)).boxed();
        let put = self.inner.put(item, content, when, body).await;
        let digester = digester.lock().clone();
        let with_checksum = |put: &PutResult, mut event: AuditEvent| {
            // A store may have had the bytes already, and read none.
            if digester.bytes() == content.size {
                event.checksums = digester.finish();
            }
            Some(written(event, put))
        };
        change.end(put, with_checksum).await
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        if !self.records(&item.space) {
            return self.inner.server_side_copy(item, content, when, origin, going).await;
        }
        let mut event = self.event(&item.space, Some(&item.id), AuditAction::CopyContent);
        event.size = Some(content.size);
        event.properties = Some(content.properties.0.clone());
        let change = self.begin(event, state_before(when)).await?;
        let copied = self.inner.server_side_copy(item, content, when, origin, going).await;
        change.end(copied, |copied, event| copied.as_ref().map(|put| written(event, put))).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        if !self.records(&item.space) {
            return self.inner.put_properties(item, properties, when).await;
        }
        let mut event = self.event(&item.space, Some(&item.id), AuditAction::UpdateContentProperties);
        event.properties = Some(properties.0.clone());
        let change = self.begin(event, state_before(when)).await?;
        let put = self.inner.put_properties(item, properties, when).await;
        change.end(put, |put, event| Some(written(event, put))).await
    }

    /// Each item that gets another name makes two events: it is deleted under the old one, and made under the new one.
    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        if !self.records(space) {
            return self.inner.respell(space, respelling).await;
        }
        let mut changes = Vec::new();
        for old in self.items_beneath(space, &respelling.from).await? {
            let new = format!("{}{}", respelling.to, &old.as_str()[respelling.from.len()..]);
            let Ok(new) = ContentId::new(new) else { continue };
            let mut made = self.event(space, Some(&new), AuditAction::CopyContent);
            made.copied_from = Some(CopiedFrom { store: None, space: space.clone(), item: old.clone() });
            changes.push(self.begin(made, StateBefore::Absent).await?);
            let gone = self.event(space, Some(&old), AuditAction::DeleteContent);
            changes.push(self.begin(gone, StateBefore::Any).await?);
        }
        let respelled = self.inner.respell(space, respelling).await;
        for change in changes {
            match &respelled {
                Ok(true) => {
                    let event = change.intent.event.clone();
                    change.done(event).await;
                }
                Ok(false) => self.remove(&change.intent.event).await,
                Err(error) => change.failed(error).await,
            }
        }
        respelled
    }

    async fn remove_stale_uploads(&self) {
        self.inner.remove_stale_uploads().await;
    }
}

impl AuditedStore {
    /// The item of this path, or the items in this directory.
    async fn items_beneath(&self, space: &SpaceId, path: &str) -> Result<Vec<ContentId>, StoreError> {
        if !path.ends_with('/') {
            return Ok(ContentId::new(path).into_iter().collect());
        }
        let before = ContentId::new(path.trim_end_matches('/')).ok();
        let mut listing = CompleteListing::open(&*self.inner, space, before.as_ref());
        let mut found = Vec::new();
        while let Some(page) = listing.next_page().await.map_err(|error| self.failed(error))? {
            let ids = page.entries.into_iter().filter_map(|entry| match entry {
                ListEntry::Item(id, _) => Some(id),
                _ => None,
            });
            found.extend(ids.filter(|id| id.as_str().starts_with(path)));
            // All that begins with the path stands together.
            if listing.last().is_some_and(|last| last.as_str() > path && !last.as_str().starts_with(path)) {
                break;
            }
        }
        Ok(found)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DeletableStore for AuditedStore {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        if !self.records(space) {
            return self.inner.remove_empty_space(space).await;
        }
        let Presence::Present(facts) = self.inner.space(space).await? else { return Ok(()) };
        let mut event = self.event(space, None, AuditAction::DeleteSpace);
        event.version = Some(facts.identity.clone());
        let change = self.begin(event, StateBefore::Version(facts.identity)).await?;
        let removed = self.inner.remove_empty_space(space).await;
        change.end(removed, |(), event| Some(event)).await
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        if !self.records(&item.space) {
            return self.inner.delete(item, when).await;
        }
        let mut event = self.event(&item.space, Some(&item.id), AuditAction::DeleteContent);
        let before = state_before(when);
        event.version = before.version().map(str::to_owned);
        let change = self.begin(event, before).await?;
        let deleted = self.inner.delete(item, when).await;
        change.end(deleted, |deleted, event| matches!(deleted, Presence::Present(())).then_some(event)).await
    }
}

#[cfg(test)]
mod tests;
