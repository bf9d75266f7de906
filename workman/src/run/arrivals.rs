//! Received tasks until they begin: decodes them, looks up the caps of their stores, and places them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::{AccountId, Monotonic, StoreAddress};
use mill_ports::{CapUnknownError, StoreCaps};
use tokio::task::JoinError;
use tracing::debug;

use super::{ReceiveResult, RunLoop, SlotGuard, note};
use crate::admission::{Placement, TurnEstimate, WaitingTask};
use crate::attempt::attempt;
use crate::crash_points;
use crate::disposition::{Disposition, DispositionBuilder};
use crate::permits::PermitKeeper;
use crate::poller::PollRequest;
use crate::stages::{DecodedTask, ReceivedTask, SettledTask};

/// The caps of stores, as of a moment ago.
type StoreCapResults = Vec<(StoreAddress, Result<Option<NonZeroU32>, CapUnknownError>)>;

/// The result of a lookup.
#[derive(Debug)]
pub(super) enum LookupResult {
    /// The caps of the stores of a received task.
    CapsOfTask(Box<DecodedTask>, StoreCapResults),
    /// The caps of the stores of the waiting tasks.
    CapsOfWaiting(StoreCapResults),
    /// Whether there are several accounts.
    SeveralAccounts(bool),
}

/// How often the waiting tasks are looked at: a cap may have changed, or a lease may be lost.
const TICK: Duration = Duration::from_secs(1);

/// How often it is looked up whether there are several accounts. The policies answer from what they read last.
const ACCOUNTS_HOLD: Duration = Duration::from_secs(30);

impl RunLoop {
    /// Decodes each delivery, and begins the tasks that can begin.
    pub(super) fn arrive(&mut self, request: &PollRequest, result: ReceiveResult) {
        let tasks = self.register_received(request, result);
        if !tasks.is_empty() {
            crash_point(crash_points::WORKMAN_RECEIVED);
        }
        for received in tasks {
            match received.decode(&self.shared) {
                Ok(decoded) => {
                    if let Some(account_counter) = &self.shared.account_counter {
                        let queue = self.shared.input_queues[decoded.received.queue_index].name();
                        account_counter.received(queue, &decoded.envelope.task.account);
                    }
                    self.look_up_caps(decoded);
                }
                Err(refused) => {
                    let (received, error) = *refused;
                    let disposition = DispositionBuilder { shared: &self.shared, received: &received }
                        .dead_letter_undecodable(&error);
                    self.poller.note_freed(received.queue_index);
                    self.settle(received, disposition);
                }
            }
        }
    }

    /// Looks up the caps of a task's stores. Most are known at once; where one is not, no other task waits for it.
    fn look_up_caps(&mut self, mut decoded: DecodedTask) {
        let stores = decoded.stores();
        let caps = self.shared.caps.clone();
        let cancelled = decoded.received.in_flight().cancelled.clone();
        let mut lookup = async move {
            let lookup = std::pin::pin!(look_up(caps, stores));
            let cancelled = std::pin::pin!(cancelled.cancelled());
            match futures::future::select(cancelled, lookup).await {
                // The attempt says why.
                futures::future::Either::Left(_) => Vec::new(),
                futures::future::Either::Right((caps, _)) => caps,
            }
        }
        .boxed();
        match (&mut lookup).now_or_never() {
            Some(caps) => self.place(decoded, caps),
            None => drop(self.lookups.spawn(async move { LookupResult::CapsOfTask(Box::new(decoded), lookup.await) })),
        }
    }

    pub(super) fn take_lookup(&mut self, lookup: Result<LookupResult, JoinError>) {
        match lookup {
            Ok(LookupResult::CapsOfTask(decoded, caps)) => self.place(*decoded, caps),
            Ok(LookupResult::CapsOfWaiting(caps)) => {
                self.looks_up_waiting = false;
                self.note_caps(&caps);
            }
            Ok(LookupResult::SeveralAccounts(several)) => {
                self.accounts_known = true;
                self.admission.note_several_accounts(several);
            }
            Err(error) => {
                // This may have been the lookup of accounts: there are taken to be several until the next lookup.
                self.accounts_known = true;
                note(Err(error));
            }
        }
    }

    /// Looks up now and then whether there are several accounts.
    pub(super) fn look_up_accounts(&mut self, now: Monotonic) {
        if self.accounts_looked_up_at.is_some_and(|last| now.since(last) < ACCOUNTS_HOLD) {
            return;
        }
        self.accounts_looked_up_at = Some(now);
        let caps = self.shared.caps.clone();
        self.lookups.spawn(async move { LookupResult::SeveralAccounts(caps.several_accounts().await) });
    }

    fn note_caps(&mut self, caps: &StoreCapResults) {
        let now = self.shared.clock.monotonic();
        for (store, cap) in caps {
            match cap {
                Ok(cap) => self.admission.note_cap(store, *cap, now),
                Err(CapUnknownError) => self.admission.note_unknown_cap(store, now),
            }
        }
    }

    /// Begins a task, has it wait without a slot, or requeues it.
    fn place(&mut self, decoded: DecodedTask, caps: StoreCapResults) {
        self.note_caps(&caps);
        let (queue_index, account) = (decoded.received.queue_index, decoded.envelope.task.account.clone());
        let batch = self.shared.input_queues[queue_index].limits().batch_max.get();
        let stores = caps.into_iter().map(|(store, _)| store).collect();
        let waiting = WaitingTask::new(decoded, account, stores);
        let slot = !self.poller.has_too_many();
        match self.admission.place(queue_index, waiting, (slot, batch), self.shared.clock.monotonic()) {
            Placement::Start(waiting) => self.begin(waiting),
            Placement::Benched if is_planted(PlantedBug::SlotBeforePermits) => {}
            Placement::Benched => self.poller.note_freed(queue_index),
            Placement::Requeue(waiting, turn) => {
                self.poller.note_freed(queue_index);
                self.requeue(waiting, turn);
            }
        }
    }

    fn begin(&mut self, waiting: WaitingTask<DecodedTask>) {
        let WaitingTask { task: decoded, account, stores, .. } = waiting;
        let (shared, queue_index) = (self.shared.clone(), decoded.received.queue_index);
        let began = shared.clock.monotonic();
        if let Some(keeper) = &self.keeper {
            let entry = decoded.received.in_flight();
            entry.lease.bind(keeper.leases(&stores));
            let _ = entry.stores.set(stores.clone());
        }
        let slot = SlotGuard { shared: shared.clone(), queue_index, account, stores: stores.clone(), began };
        self.attempts.spawn(attempt(shared, decoded, (slot, stores), self.settled.clone()));
    }

    fn requeue(&mut self, waiting: WaitingTask<DecodedTask>, turn: TurnEstimate) {
        let received = waiting.task.received;
        debug!(account = %waiting.account, ?turn, "put back, since too many tasks wait for its store");
        let disposition =
            DispositionBuilder { shared: &self.shared, received: &received }.requeue(&waiting.account, turn);
        self.settle(received, disposition);
    }

    /// Hands a disposition that was decided without an attempt to the completer.
    fn settle(&mut self, received: ReceivedTask, disposition: Disposition) {
        let settled = self.settled.clone();
        self.attempts.spawn(async move { drop(settled.send(SettledTask { received, disposition, task: None }).await) });
    }

    /// Begins the waiting tasks that can begin by now, of the highest queue first.
    pub(super) fn begin_ready(&mut self) {
        let mut all = true;
        for queue_index in 0..self.shared.input_queues.len() {
            loop {
                if !(self.poller.may_begin(queue_index) || is_planted(PlantedBug::SlotBeforePermits)) {
                    all = false;
                    break;
                }
                let Some(waiting) = self.admission.next_ready(queue_index) else { break };
                if !is_planted(PlantedBug::SlotBeforePermits) {
                    self.poller.note_begun(queue_index);
                }
                self.begin(waiting);
            }
        }
        if all {
            self.admission.note_all_begun();
        }
        self.poller.note_waiting(self.admission.benched());
    }

    /// Looks at the waiting tasks now and then. Returns how long it is until the next time.
    pub(super) fn tick_if_due(&mut self, now: Monotonic) -> Option<Duration> {
        if self.admission.benched() == 0 && self.keeper.as_ref().is_none_or(PermitKeeper::is_idle) {
            return None;
        }
        if self.tick <= now {
            self.tick = now.plus(TICK);
            for (queue_index, mut waiting) in
                self.admission.remove_waiting(|decoded| decoded.received.in_flight().cancelled.is_cancelled())
            {
                // The attempt decides what becomes of the task, and does not run the processor.
                if !is_planted(PlantedBug::SlotBeforePermits) {
                    self.poller.note_begun(queue_index);
                }
                waiting.stores.clear();
                self.admission.admit(&waiting);
                self.begin(waiting);
            }
            let (caps, stores) = (self.shared.caps.clone(), self.admission.awaited_stores());
            if !self.looks_up_waiting && !stores.is_empty() {
                self.looks_up_waiting = true;
                self.lookups.spawn(async move { LookupResult::CapsOfWaiting(look_up(caps, stores).await) });
            }
        }
        Some(self.tick.since(now))
    }

    /// Slots of tasks that have begun: without those whose caps are still being looked up.
    pub(super) fn begun(&self) -> u32 {
        let looked_up = self.lookups.len() - usize::from(self.looks_up_waiting);
        self.poller.in_use().saturating_sub(u32::try_from(looked_up).unwrap_or(u32::MAX))
    }

    pub(super) fn give_back(&mut self, request: &PollRequest, result: ReceiveResult) {
        for received in self.register_received(request, result) {
            self.give_back_one(received, None);
        }
    }

    pub(super) fn give_back_waiting(&mut self) {
        for (_, waiting) in self.admission.remove_waiting(|_| true) {
            self.give_back_one(waiting.task.received, Some(&waiting.account));
        }
    }

    pub(super) fn give_back_looked_up(&mut self, lookup: Result<LookupResult, JoinError>) {
        match lookup {
            Ok(LookupResult::CapsOfTask(decoded, _)) => {
                let account = decoded.envelope.task.account.clone();
                self.give_back_one(decoded.received, Some(&account));
            }
            Ok(LookupResult::CapsOfWaiting(_) | LookupResult::SeveralAccounts(_)) => {}
            Err(error) => note(Err(error)),
        }
    }

    fn give_back_one(&mut self, received: ReceivedTask, account: Option<&AccountId>) {
        let disposition = DispositionBuilder { shared: &self.shared, received: &received }.give_back(account);
        self.settle(received, disposition);
    }
}

async fn look_up(caps: Arc<dyn StoreCaps>, stores: Vec<StoreAddress>) -> StoreCapResults {
    join_all(stores.into_iter().map(|store| async {
        let cap = caps.cap(&store).await;
        (store, cap)
    }))
    .await
}
