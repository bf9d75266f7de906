//! A delivery's way through a workman, each stage a type of its own, so that no step can be left out.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use mill_model::wire::{self, ReceiveContext, WireError};
use mill_model::{AccountId, Envelope, ItemOutcome, QueueName, SpaceId, StoreAddress, TaskId};
use mill_ports::{
    Attempt, Delivery, EndedTask, OutgoingMessage, ProcessorError, RngExt as _, Statistics, SubjectHash, TaskProcessor,
};

use crate::in_flight::{InFlightGuard, InFlightTask};
use crate::run::WorkmanShared;

/// Received; its lease is kept from now on.
#[derive(Debug)]
pub(crate) struct ReceivedTask {
    /// Index of the queue it came from.
    pub(crate) lane: usize,
    pub(crate) delivery: Delivery,
    pub(crate) held: InFlightGuard,
}

/// Understood as an envelope.
pub(crate) struct DecodedTask {
    pub(crate) taken: ReceivedTask,
    pub(crate) envelope: Envelope,
    pub(crate) processor: Result<Box<dyn TaskProcessor>, NoProcessor>,
}

impl fmt::Debug for DecodedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("taken", &self.taken).field("envelope", &self.envelope).finish_non_exhaustive()
    }
}

/// Why a task has no processor.
pub(crate) enum NoProcessor {
    Failed(ProcessorError),
    Panicked(String),
}

/// Decided: what is to be moved, and then to become of the delivery.
#[derive(Debug)]
pub(crate) struct SettledTask {
    pub(crate) taken: ReceivedTask,
    pub(crate) moves: Disposition,
    /// The task, where the body could be understood and was executed.
    pub(crate) task: Option<ExecutedTask>,
}

/// A task that was executed, and what its processor noted of its item.
#[derive(Debug)]
pub(crate) struct ExecutedTask {
    pub(crate) id: TaskId,
    account: AccountId,
    fate: Option<ItemOutcome>,
    subject: Option<SubjectHash>,
}

impl ExecutedTask {
    pub(crate) fn of(attempt: &Attempt, statistics: &Statistics) -> Self {
        let Envelope { id, task, .. } = &attempt.envelope;
        let subject = statistics.asks_for_subject(id).then(|| mill_ports::subject_of(task));
        Self { id: *id, account: task.account.clone(), fate: attempt.fate.get(), subject }
    }
}

impl SettledTask {
    /// What is to be counted once its delivery is acknowledged, if the task comes to its end by that.
    pub(crate) fn ended_task(&self) -> Option<EndedTask> {
        let &ExecutedTask { id, fate, subject, .. } = self.task.as_ref().filter(|_| self.moves.is_the_end())?;
        let given_up = self.moves.given_up.is_some();
        Some(EndedTask { id, fate: if given_up { Some(ItemOutcome::DeadLettered) } else { fate }, subject })
    }

    /// Whose task leaves this queue for good once its delivery is acknowledged: done, given up, or sent on to another.
    pub(crate) fn leaves(&self, queue: QueueName) -> Option<AccountId> {
        let comes_again = self.moves.sends.iter().any(|(to, _)| *to == queue);
        let leaves = self.moves.then == ReceiptAction::Acknowledge && !comes_again;
        self.task.as_ref().filter(|_| leaves).map(|task| task.account.clone())
    }
}

/// Sends, and what follows once all of them are durable.
#[derive(Debug)]
pub(crate) struct Disposition {
    pub(crate) sends: Vec<(QueueName, OutgoingMessage)>,
    pub(crate) then: ReceiptAction,
    /// Whether they are another workman's to make once the lease is lost.
    pub(crate) need_lease: bool,
    /// What is given up by them.
    pub(crate) given_up: Option<DeadLetteredTask>,
}

impl Disposition {
    /// Whether the task comes to its end by them: it is done, or given up.
    pub(crate) fn is_the_end(&self) -> bool {
        self.then == ReceiptAction::Acknowledge && (self.sends.is_empty() || self.given_up.is_some())
    }
}

/// What becomes of the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiptAction {
    Acknowledge,
    Release,
    /// It is left to its visibility timeout.
    LetExpire,
}

/// A task that is dead-lettered.
#[derive(Debug)]
pub(crate) struct DeadLetteredTask {
    pub(crate) subject: String,
    pub(crate) reason: String,
}

impl ReceivedTask {
    pub(crate) fn entry(&self) -> &Arc<InFlightTask> {
        &self.held.entry
    }

    /// Opens the envelope. A letter that was moved back here from among the dead ones is opened too.
    pub(crate) fn open(self, shared: &WorkmanShared) -> Result<DecodedTask, Box<(Self, WireError)>> {
        let arrival = ReceiveContext {
            id: shared.chance.task_id(shared.clock.now()),
            queue: shared.lanes[self.lane].name(),
            sent_at: self.delivery.sent_at,
        };
        match open_body(&self.delivery.body, arrival) {
            Ok(envelope) => {
                let making = || shared.registry.processor(envelope.task.clone());
                let made = catch_unwind(AssertUnwindSafe(making));
                let processor = match made {
                    Ok(made) => made.map_err(NoProcessor::Failed),
                    Err(panic) => Err(NoProcessor::Panicked(panic_message(panic.as_ref()))),
                };
                Ok(DecodedTask { taken: self, envelope, processor })
            }
            Err(error) => Err(Box::new((self, error))),
        }
    }
}

impl DecodedTask {
    /// The stores that its task needs, each once. None where that cannot be told: then its attempt says why.
    pub(crate) fn stores(&mut self) -> Vec<StoreAddress> {
        let Ok(processor) = &self.processor else { return Vec::new() };
        match catch_unwind(AssertUnwindSafe(|| processor.stores())) {
            Ok(mut stores) => {
                stores.sort();
                stores.dedup();
                stores
            }
            Err(panic) => {
                self.processor = Err(NoProcessor::Panicked(panic_message(panic.as_ref())));
                Vec::new()
            }
        }
    }

    /// The space that its task is about, if that can be told.
    pub(crate) fn space(&self) -> Option<SpaceId> {
        let processor = self.processor.as_ref().ok()?;
        // One that panics says so when it is run.
        catch_unwind(AssertUnwindSafe(|| processor.space())).ok().flatten()
    }
}

/// What a panic of a processor said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the processor panicked: {}", words.unwrap_or("without a word"))
}

fn open_body(body: &Bytes, arrival: ReceiveContext) -> Result<Envelope, WireError> {
    wire::decode(body, arrival).or_else(|error| match wire::decode_dead_letter(body) {
        Ok(letter) => wire::decode(&letter.body, arrival),
        Err(_) => Err(error),
    })
}
