//! What was received, until it begins: opened, its stores' caps looked up, placed.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use mill_model::{AccountId, Monotonic, StoreAddress};
use mill_ports::{CapUnknown, CrashPoint, PlantedBug, StoreCaps, crash_point, planted};
use tokio::task::JoinError;
use tracing::debug;

use super::{ReceiveResult, RunLoop, SlotGuard, note};
use crate::admission::{Placement, TurnEstimate, WaitingTask};
use crate::attempt::attempt;
use crate::disposition::DispositionBuilder;
use crate::permits::PermitKeeper;
use crate::poller::ReceiveRequest;
use crate::stages::{DecodedTask, Disposition, ReceivedTask, SettledTask};

/// What stores take at once, as of a moment ago.
type StoreCapResults = Vec<(StoreAddress, Result<Option<NonZeroU32>, CapUnknown>)>;

/// An answer to a question for caps.
#[derive(Debug)]
pub(super) enum LookupResult {
    /// For a task that was received.
    CapsOfTask(Box<DecodedTask>, StoreCapResults),
    /// For those that wait.
    CapsOfWaiting(StoreCapResults),
    /// Whether there are several accounts.
    SeveralAccounts(bool),
}

/// Those that wait are looked at so often: a cap may have changed, or a lease may be lost.
const TICK: Duration = Duration::from_secs(1);

/// It is asked so often whether there are several accounts. The policies answer from what they read last.
const ACCOUNTS_HOLD: Duration = Duration::from_secs(30);

impl RunLoop {
    /// Opens each delivery, and begins those that can begin.
    pub(super) fn arrive(&mut self, ask: &ReceiveRequest, received: ReceiveResult) {
        let taken = self.taken(ask, received);
        if !taken.is_empty() {
            crash_point(CrashPoint::WorkmanReceived);
        }
        for taken in taken {
            match taken.open(&self.shared) {
                Ok(opened) => {
                    if let Some(counting) = &self.shared.counting {
                        let queue = self.shared.lanes[opened.taken.lane].name();
                        counting.received(queue, &opened.envelope.task.account);
                    }
                    self.ask_for_caps(opened);
                }
                Err(refused) => {
                    let (taken, error) = *refused;
                    let moves = DispositionBuilder { shared: &self.shared, taken: &taken }.not_opened(&error);
                    self.poller.freed(taken.lane);
                    self.settle(taken, moves);
                }
            }
        }
    }

    /// Looks up the caps of a task's stores. Mostly they are known at once; where they are not, nothing else waits for them.
    fn ask_for_caps(&mut self, mut opened: DecodedTask) {
        let stores = opened.stores();
        let caps = self.shared.caps.clone();
        let cancelled = opened.taken.entry().cancelled.clone();
        let mut looking = async move {
            let looking = std::pin::pin!(look_up(caps, stores));
            let cancelled = std::pin::pin!(cancelled.cancelled());
            match futures::future::select(cancelled, looking).await {
                // Its attempt says why.
                futures::future::Either::Left(_) => Vec::new(),
                futures::future::Either::Right((caps, _)) => caps,
            }
        }
        .boxed();
        match (&mut looking).now_or_never() {
            Some(caps) => self.place(opened, caps),
            None => drop(self.asked.spawn(async move { LookupResult::CapsOfTask(Box::new(opened), looking.await) })),
        }
    }

    pub(super) fn learn(&mut self, news: Result<LookupResult, JoinError>) {
        match news {
            Ok(LookupResult::CapsOfTask(opened, caps)) => self.place(*opened, caps),
            Ok(LookupResult::CapsOfWaiting(caps)) => {
                self.asked_for_those_waiting = false;
                self.note_caps(&caps);
            }
            Ok(LookupResult::SeveralAccounts(several)) => {
                self.accounts_known = true;
                self.admission.note_several_accounts(several);
            }
            Err(error) => {
                // It may have been the question about accounts: there are taken to be several until it is asked again.
                self.accounts_known = true;
                note(Err(error));
            }
        }
    }

    /// Asks now and then whether there are several accounts.
    pub(super) fn ask_for_accounts(&mut self, now: Monotonic) {
        if self.accounts_asked.is_some_and(|asked| now.since(asked) < ACCOUNTS_HOLD) {
            return;
        }
        self.accounts_asked = Some(now);
        let caps = self.shared.caps.clone();
        self.asked.spawn(async move { LookupResult::SeveralAccounts(caps.several_accounts().await) });
    }

    fn note_caps(&mut self, caps: &StoreCapResults) {
        let now = self.shared.clock.monotonic();
        for (store, cap) in caps {
            match cap {
                Ok(cap) => self.admission.note_cap(store, *cap, now),
                Err(CapUnknown) => self.admission.note_unknown_cap(store, now),
            }
        }
    }

    /// Begins a task, or has it wait without a slot.
    fn place(&mut self, opened: DecodedTask, caps: StoreCapResults) {
        self.note_caps(&caps);
        let (lane, account) = (opened.taken.lane, opened.envelope.task.account.clone());
        let batch = self.shared.lanes[lane].limits().batch_max.get();
        let stores = caps.into_iter().map(|(store, _)| store).collect();
        let waiting = WaitingTask::new(opened, account, stores);
        let slot = !self.poller.is_over();
        match self.admission.place(lane, waiting, (slot, batch), self.shared.clock.monotonic()) {
            Placement::Start(waiting) => self.begin(waiting),
            Placement::Benched if planted(PlantedBug::SlotBeforePermits) => {}
            Placement::Benched => self.poller.freed(lane),
            Placement::Requeue(waiting, turn) => {
                self.poller.freed(lane);
                self.put_back(waiting, turn);
            }
        }
    }

    fn begin(&mut self, waiting: WaitingTask<DecodedTask>) {
        let WaitingTask { task: opened, account, stores, .. } = waiting;
        let (shared, lane) = (self.shared.clone(), opened.taken.lane);
        let began = shared.clock.monotonic();
        if let Some(keeper) = &self.keeper {
            let entry = opened.taken.entry();
            entry.lease.bind(keeper.leases(&stores));
            let _ = entry.stores.set(stores.clone());
        }
        let slot = SlotGuard { shared: shared.clone(), lane, account, stores: stores.clone(), began };
        self.attempts.spawn(attempt(shared, opened, (slot, stores), self.decided.clone()));
    }

    fn put_back(&mut self, waiting: WaitingTask<DecodedTask>, turn: TurnEstimate) {
        let taken = waiting.task.taken;
        debug!(account = %waiting.account, ?turn, "put back, since too many tasks wait for its store");
        let moves = DispositionBuilder { shared: &self.shared, taken: &taken }.put_back(&waiting.account, turn);
        self.settle(taken, moves);
    }

    /// Hands over what was decided without an attempt.
    fn settle(&mut self, taken: ReceivedTask, moves: Disposition) {
        let decided = self.decided.clone();
        self.attempts.spawn(async move { drop(decided.send(SettledTask { taken, moves, task: None }).await) });
    }

    /// Begins what waits here and can begin by now, of the highest queue first.
    pub(super) fn begin_those_ready(&mut self) {
        let mut all = true;
        for lane in 0..self.shared.lanes.len() {
            loop {
                if !(self.poller.may_begin(lane) || planted(PlantedBug::SlotBeforePermits)) {
                    all = false;
                    break;
                }
                let Some(waiting) = self.admission.next(lane) else { break };
                if !planted(PlantedBug::SlotBeforePermits) {
                    self.poller.began(lane);
                }
                self.begin(waiting);
            }
        }
        if all {
            self.admission.settle();
        }
        self.poller.wait(self.admission.benched());
    }

    /// Looks at those that wait, now and then, and says how long until then.
    pub(super) fn tick_if_due(&mut self, now: Monotonic) -> Option<Duration> {
        if self.admission.benched() == 0 && self.keeper.as_ref().is_none_or(PermitKeeper::is_idle) {
            return None;
        }
        if self.tick <= now {
            self.tick = now.plus(TICK);
            for (lane, mut waiting) in self.admission.remove(|opened| opened.taken.entry().cancelled.is_cancelled()) {
                // Its attempt decides what becomes of it, and begins nothing.
                if !planted(PlantedBug::SlotBeforePermits) {
                    self.poller.began(lane);
                }
                waiting.stores.clear();
                self.admission.enter(&waiting);
                self.begin(waiting);
            }
            let (caps, stores) = (self.shared.caps.clone(), self.admission.awaited());
            if !self.asked_for_those_waiting && !stores.is_empty() {
                self.asked_for_those_waiting = true;
                self.asked.spawn(async move { LookupResult::CapsOfWaiting(look_up(caps, stores).await) });
            }
        }
        Some(self.tick.since(now))
    }

    /// Slots of tasks that have begun: not of those whose stores' caps are still being looked up.
    pub(super) fn begun(&self) -> u32 {
        let looked_up = self.asked.len() - usize::from(self.asked_for_those_waiting);
        self.poller.in_use().saturating_sub(u32::try_from(looked_up).unwrap_or(u32::MAX))
    }

    pub(super) fn give_back(&mut self, ask: &ReceiveRequest, received: ReceiveResult) {
        for taken in self.taken(ask, received) {
            self.give_back_one(taken, None);
        }
    }

    pub(super) fn give_back_those_waiting(&mut self) {
        for (_, waiting) in self.admission.remove(|_| true) {
            self.give_back_one(waiting.task.taken, Some(&waiting.account));
        }
    }

    pub(super) fn give_back_arrived(&mut self, news: Result<LookupResult, JoinError>) {
        match news {
            Ok(LookupResult::CapsOfTask(opened, _)) => {
                let account = opened.envelope.task.account.clone();
                self.give_back_one(opened.taken, Some(&account));
            }
            Ok(LookupResult::CapsOfWaiting(_) | LookupResult::SeveralAccounts(_)) => {}
            Err(error) => note(Err(error)),
        }
    }

    fn give_back_one(&mut self, taken: ReceivedTask, account: Option<&AccountId>) {
        let moves = DispositionBuilder { shared: &self.shared, taken: &taken }.given_back(account);
        self.settle(taken, moves);
    }
}

async fn look_up(caps: Arc<dyn StoreCaps>, stores: Vec<StoreAddress>) -> StoreCapResults {
    join_all(stores.into_iter().map(|store| async {
        let cap = caps.cap(&store).await;
        (store, cap)
    }))
    .await
}
