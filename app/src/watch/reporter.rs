//! From the hints of one watch to events in the audit queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use mill_local::folder::{FolderHint, HintBatch, Rescan, RescanReason, RescanScope};
use mill_model::{AuditAction, AuditEvent, EventSource, ItemAddress, ItemFacts, SpaceId, StoreAddress};
use mill_ports::{Clock, Presence, Rng, RngExt as _, StoreError, StoreErrorKind, Stores, error_chain};
use mill_records::audit_sender::{AuditSendError, AuditSender};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How many items are looked at together.
const LOOKS_AT_ONCE: usize = 16;

/// The pauses between looks at a store that does not answer. Then its changes are left to the loop.
const LOOK_PAUSES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];

/// The longest pause between two tries to send.
const SEND_PAUSE_MAX: Duration = Duration::from_mins(1);

/// Looks at what is hinted at, and sends it.
#[derive(Debug)]
pub(super) struct HintReporter {
    address: StoreAddress,
    stores: Arc<dyn Stores>,
    sender: AuditSender,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Rng>,
    /// How many directories were left at the last line about that.
    left: Option<usize>,
}

/// What a look found.
enum Look {
    There(Box<ItemFacts>),
    Gone,
    /// Nothing to tell: it cannot be an item, or its space is gone.
    Nothing,
    /// The store does not answer.
    Unknown(StoreError),
}

impl HintReporter {
    pub(super) fn new(
        address: StoreAddress,
        stores: Arc<dyn Stores>,
        sender: AuditSender,
        (clock, chance): (Arc<dyn Clock>, Arc<dyn Rng>),
    ) -> Self {
        Self { address, stores, sender, clock, chance, left: None }
    }

    /// Reports a batch. Returns when it is in the queue, or when told to stop.
    pub(super) async fn report(&mut self, HintBatch { hints, directories, left }: HintBatch, stop: &CancellationToken) {
        self.log_reach(directories, left);
        let (mut items, mut events, mut rescans) = (Vec::new(), Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for hint in hints {
            match hint {
                FolderHint::Changed(item) | FolderHint::Gone(item) => items.push(item),
                FolderHint::SpaceAppeared(space) => events.push(self.event(space, None, AuditAction::CreateSpace)),
                FolderHint::SpaceGone(space) => self.log_space_gone(&space),
                FolderHint::Rescan(Rescan { scope, reason }) => rescans.entry(reason).or_default().push(scope),
            }
        }
        for (reason, scopes) in &rescans {
            self.log_rescans(reason, scopes);
        }
        let (found, unknown) = self.look(items, stop).await;
        events.extend(found);
        if let Some((count, error)) = unknown {
            let why = error_chain(&error);
            warn!(account = %self.address.account, store = %self.address.store, count, why,
                "changes are left to the loop: the store does not answer");
        }
        if !events.is_empty() {
            self.send(events, stop).await;
        }
    }

    /// The events of items, and how many could not be looked at.
    async fn look(
        &self,
        items: Vec<ItemAddress>,
        stop: &CancellationToken,
    ) -> (Vec<AuditEvent>, Option<(usize, StoreError)>) {
        let looks = futures::stream::iter(items).map(|item| async move {
            let look = self.look_at(&item, stop).await;
            (item, look)
        });
        let looks: Vec<_> = looks.buffered(LOOKS_AT_ONCE).collect().await;
        let (mut events, mut unknown) = (Vec::new(), None::<(usize, StoreError)>);
        for (ItemAddress { space, id }, look) in looks {
            match look {
                Look::There(facts) => {
                    let (size, version) = (Some(facts.size), Some(facts.version.token().to_owned()));
                    events.push(AuditEvent { size, version, ..self.event(space, Some(id), AuditAction::AddContent) });
                }
                Look::Gone => events.push(self.event(space, Some(id), AuditAction::DeleteContent)),
                Look::Nothing => {}
                Look::Unknown(error) => unknown = Some((unknown.map_or(1, |(count, _)| count + 1), error)),
            }
        }
        (events, unknown)
    }

    async fn look_at(&self, item: &ItemAddress, stop: &CancellationToken) -> Look {
        let mut pauses = LOOK_PAUSES.into_iter();
        loop {
            let head = async { self.stores.source(&self.address.account, &self.address.store).await?.head(item).await };
            let error = match head.await {
                Ok(Presence::Present(facts)) => return Look::There(Box::new(facts)),
                Ok(Presence::Absent) => return Look::Gone,
                Err(error) => error,
            };
            match &error.kind {
                StoreErrorKind::SpaceAbsent => return Look::Nothing,
                // A listing names it, with the reason.
                StoreErrorKind::Refused(reason) => {
                    debug!(%item, %reason, "a changed item cannot be copied");
                    return Look::Nothing;
                }
                _ => {}
            }
            let Some(pause) = pauses.next().filter(|_| !stop.is_cancelled()) else { return Look::Unknown(error) };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    fn event(&self, space: SpaceId, item: Option<mill_model::ContentId>, action: AuditAction) -> AuditEvent {
        let now = self.clock.now();
        let subject = (self.address.store.clone(), space, item);
        AuditEvent::new(self.chance.event_id(now), subject, action, now, EventSource::Watch)
    }

    /// Sends events until the queue has them. A repeat of an event is known by its id.
    async fn send(&self, events: Vec<AuditEvent>, stop: &CancellationToken) {
        let (account, store) = (&self.address.account, &self.address.store);
        let mut pause = Duration::from_secs(1);
        loop {
            let error = match self.sender.send(account, events.clone()).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let (count, why) = (events.len(), error_chain(&error));
            if matches!(error, AuditSendError::Wire(_)) {
                warn!(%account, %store, count, why, "changes cannot be written, and are left to the loop");
                return;
            }
            if stop.is_cancelled() {
                warn!(%account, %store, count, why, "changes are not in the queue, and are left to the loop");
                return;
            }
            warn!(%account, %store, count, why, "changes are not in the queue yet, and are sent again");
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep(self.chance.equal_jitter(pause)) => {}
            }
            pause = (pause * 2).min(SEND_PAUSE_MAX);
        }
    }

    /// One line when the watch stands, and when more or less is left.
    fn log_reach(&mut self, directories: usize, left: usize) {
        let same = |last: usize| (last == 0) == (left == 0) && left < last.max(1) * 2;
        if directories == 0 || self.left.is_some_and(same) {
            return;
        }
        self.left = Some(left);
        let (account, store) = (&self.address.account, &self.address.store);
        info!(%account, %store, directories, left, "watches this many directories; what is left is for the loop");
    }

    /// One line for all parts of which the same is to be said.
    fn log_rescans(&self, reason: &RescanReason, scopes: &[RescanScope]) {
        let (account, store) = (&self.address.account, &self.address.store);
        let Some(first) = scopes.first() else { return };
        let parts = match scopes.len() {
            1 => first.to_string(),
            many => format!("{first} and {} other parts", many - 1),
        };
        if reason.is_lasting() {
            warn!(%account, %store, "changes of {parts} are left to the loop from now on: {reason}");
        } else if *reason == RescanReason::MovedAway {
            info!(%account, %store, "the next survey decides about the copies of {parts}: {reason}");
        } else {
            warn!(%account, %store, "{parts} may have changed unseen, which is left to the loop: {reason}");
        }
    }

    fn log_space_gone(&self, space: &SpaceId) {
        let (account, store) = (&self.address.account, &self.address.store);
        info!(%account, %store, %space, "the directory of a space is gone; the next survey decides about its copy");
    }
}
