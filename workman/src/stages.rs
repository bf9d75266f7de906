//! The stages of a delivery in a workman, each a type of its own, so that no step can be left out.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use mill_model::wire::{self, ReceiveContext, WireError};
use mill_model::{
    AccountId, EntryFate, Envelope, EventSubject, ItemEvent, ItemOutcome, QueueName, SpaceId, StoreAddress, TaskId,
};
use mill_ports::{
    Attempt, CountedAs, Delivery, EndedTask, ItemOutcomeNote, ProcessorError, RngExt as _, Statistics, SubjectHash,
    TaskProcessor,
};

use crate::disposition::{Disposition, ReceiptAction};
use crate::in_flight::{InFlightGuard, InFlightTask};
use crate::run::WorkmanShared;

/// A received delivery. Its lease is kept from now on.
#[derive(Debug)]
pub(crate) struct ReceivedTask {
    /// Index of the queue that the delivery came from.
    pub(crate) queue_index: usize,
    pub(crate) delivery: Delivery,
    pub(crate) guard: InFlightGuard,
}

/// A delivery whose body is an envelope.
pub(crate) struct DecodedTask {
    pub(crate) received: ReceivedTask,
    pub(crate) envelope: Envelope,
    pub(crate) processor: Result<Box<dyn TaskProcessor>, NoProcessor>,
}

impl fmt::Debug for DecodedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("received", &self.received)
            .field("envelope", &self.envelope)
            .finish_non_exhaustive()
    }
}

/// Why a task has no processor.
pub(crate) enum NoProcessor {
    Failed(ProcessorError),
    Panicked(String),
}

/// A delivery of which it is decided what becomes of it.
#[derive(Debug)]
pub(crate) struct SettledTask {
    pub(crate) received: ReceivedTask,
    pub(crate) disposition: Disposition,
    /// The task, if it was executed.
    pub(crate) task: Option<ExecutedTask>,
}

/// A task that was executed, and the outcome that its processor noted of its item.
#[derive(Debug)]
pub(crate) struct ExecutedTask {
    pub(crate) id: TaskId,
    account: AccountId,
    outcome: Option<ItemOutcome>,
    subject: Option<SubjectHash>,
    /// What its processor noted, if somebody listens.
    noted: Option<ItemOutcomeNote>,
}

impl ExecutedTask {
    pub(crate) fn of(attempt: &Attempt, statistics: &Statistics) -> Self {
        let Envelope { id, task, .. } = &attempt.envelope;
        let subject = statistics.asks_for_subject(id).then(|| mill_ports::subject_of(task));
        let noted = statistics.events().map(|_| attempt.outcome.clone());
        Self { id: *id, account: task.account.clone(), outcome: attempt.outcome.get(), subject, noted }
    }
}

impl SettledTask {
    /// The task to count once its delivery is acknowledged, if the task comes to its end then.
    pub(crate) fn ended_task(&self) -> Option<EndedTask> {
        let &ExecutedTask { id, outcome, subject, .. } =
            self.task.as_ref().filter(|_| self.disposition.is_end_of_task())?;
        let dead_lettered = self.disposition.dead_lettered.is_some();
        Some(EndedTask { id, outcome: if dead_lettered { Some(ItemOutcome::DeadLettered) } else { outcome }, subject })
    }

    /// What became of the task's item, if the task comes to its end and somebody wants to know that.
    pub(crate) fn event(&self, statistics: &Statistics) -> Option<ItemEvent> {
        let events = statistics.events().filter(|_| self.disposition.is_end_of_task())?;
        if let Some(dead_lettered) = &self.disposition.dead_lettered {
            let noted = self.task.as_ref().and_then(|task| task.noted.as_ref());
            let event = noted.and_then(|noted| noted.event(ItemOutcome::DeadLettered));
            let other = || {
                // Two bodies that nobody can read are two.
                let name = format!("{}, sent {}", dead_lettered.subject, self.received.delivery.sent_at);
                ItemEvent::new(EventSubject::other(name), EntryFate::DeadLettered)
            };
            return Some(event.unwrap_or_else(other).because(&*dead_lettered.reason));
        }
        let (outcome, of_earlier_run) = match statistics.counts_as(&self.ended_task()?)? {
            CountedAs::OfRun(outcome) => (outcome, false),
            CountedAs::OfOthers(outcome) => (outcome, true),
        };
        if outcome == ItemOutcome::Unchanged && !events.wants_all() {
            return None;
        }
        let event = self.task.as_ref()?.noted.as_ref()?.event(outcome)?;
        Some(ItemEvent { of_earlier_run, ..event })
    }

    /// The account of a task that leaves this queue for good once its delivery is acknowledged: done, dead-lettered, or sent to
    /// another queue.
    pub(crate) fn leaves(&self, queue: QueueName) -> Option<AccountId> {
        let comes_again = self.disposition.sends.iter().any(|(to, _)| *to == queue);
        let leaves = self.disposition.receipt_action == ReceiptAction::Acknowledge && !comes_again;
        self.task.as_ref().filter(|_| leaves).map(|task| task.account.clone())
    }
}

impl ReceivedTask {
    pub(crate) fn in_flight(&self) -> &Arc<InFlightTask> {
        &self.guard.task
    }

    /// Decodes the envelope, also that of a dead letter that was moved back here.
    pub(crate) fn decode(self, shared: &WorkmanShared) -> Result<DecodedTask, Box<(Self, WireError)>> {
        let arrival = ReceiveContext {
            id: shared.chance.task_id(shared.clock.now()),
            queue: shared.input_queues[self.queue_index].name(),
            sent_at: self.delivery.sent_at,
        };
        match decode_body(&self.delivery.body, arrival) {
            Ok(envelope) => {
                let making = || shared.registry.processor(envelope.task.clone());
                let made = catch_unwind(AssertUnwindSafe(making));
                let processor = match made {
                    Ok(made) => made.map_err(NoProcessor::Failed),
                    Err(panic) => Err(NoProcessor::Panicked(panic_message(panic.as_ref()))),
                };
                Ok(DecodedTask { received: self, envelope, processor })
            }
            Err(error) => Err(Box::new((self, error))),
        }
    }
}

impl DecodedTask {
    /// The stores that the task needs, each once. None where the processor cannot say: then the attempt reports why.
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

    /// The space that the task is about, if the processor can say.
    pub(crate) fn space(&self) -> Option<SpaceId> {
        let processor = self.processor.as_ref().ok()?;
        // A processor that panics here panics again when it runs.
        catch_unwind(AssertUnwindSafe(|| processor.space())).ok().flatten()
    }
}

/// The message of a panic of a processor.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the processor panicked: {}", words.unwrap_or("without a word"))
}

fn decode_body(body: &Bytes, arrival: ReceiveContext) -> Result<Envelope, WireError> {
    wire::decode(body, arrival).or_else(|error| match wire::decode_dead_letter(body) {
        Ok(letter) => wire::decode(&letter.body, arrival),
        Err(_) => Err(error),
    })
}
