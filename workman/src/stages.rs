//! A delivery's way through a workman, each stage a type of its own, so that no step can be left out.

use std::sync::Arc;

use bytes::Bytes;
use mill_model::wire::{self, Arrival, WireError};
use mill_model::{Envelope, Fate, QueueName, TaskId};
use mill_ports::{Attempt, ChanceExt as _, Delivery, EndedTask, Outgoing, Statistics, Subject};

use crate::in_flight::{Entry, Held};
use crate::run::Shared;

/// Received; its lease is kept from now on.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Index of the queue it came from.
    pub(crate) lane: usize,
    pub(crate) delivery: Delivery,
    pub(crate) held: Held,
}

/// Understood as an envelope.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) taken: Taken,
    pub(crate) envelope: Envelope,
}

/// Decided: what is to be moved, and then to become of the delivery.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) taken: Taken,
    pub(crate) moves: Moves,
    /// The task, where the body could be understood and was executed.
    pub(crate) task: Option<ExecutedTask>,
}

/// A task that was executed, and what its processor noted of its item.
#[derive(Debug)]
pub(crate) struct ExecutedTask {
    pub(crate) id: TaskId,
    fate: Option<Fate>,
    subject: Option<Subject>,
}

impl ExecutedTask {
    pub(crate) fn of(attempt: &Attempt, statistics: &Statistics) -> Self {
        let Envelope { id, task, .. } = &attempt.envelope;
        let subject = statistics.asks_for_subject(id).then(|| mill_ports::subject_of(task));
        Self { id: *id, fate: attempt.fate.get(), subject }
    }
}

impl Settled {
    /// What is to be counted once its delivery is acknowledged, if the task comes to its end by that.
    pub(crate) fn ended_task(&self) -> Option<EndedTask> {
        let ExecutedTask { id, fate, subject } = *self.task.as_ref().filter(|_| self.moves.is_the_end())?;
        let given_up = self.moves.given_up.is_some();
        Some(EndedTask { id, fate: if given_up { Some(Fate::DeadLettered) } else { fate }, subject })
    }
}

/// Sends, and what follows once all of them are durable.
#[derive(Debug)]
pub(crate) struct Moves {
    pub(crate) sends: Vec<(QueueName, Outgoing)>,
    pub(crate) then: Then,
    /// Whether they are another workman's to make once the lease is lost.
    pub(crate) need_lease: bool,
    /// What is given up by them.
    pub(crate) given_up: Option<GivenUp>,
}

impl Moves {
    /// Whether the task comes to its end by them: it is done, or given up.
    pub(crate) fn is_the_end(&self) -> bool {
        self.then == Then::Acknowledge && (self.sends.is_empty() || self.given_up.is_some())
    }
}

/// What becomes of the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Acknowledge,
    Release,
    /// It is left to its visibility timeout.
    Nothing,
}

/// A task that is dead-lettered.
#[derive(Debug)]
pub(crate) struct GivenUp {
    pub(crate) subject: String,
    pub(crate) reason: String,
}

impl Taken {
    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.held.entry
    }

    /// Opens the envelope. A letter that was moved back here from among the dead ones is opened too.
    pub(crate) fn open(self, shared: &Shared) -> Result<Opened, Box<(Self, WireError)>> {
        let arrival = Arrival {
            id: shared.chance.task_id(shared.clock.now()),
            queue: shared.lanes[self.lane].name(),
            sent_at: self.delivery.sent_at,
        };
        match open_body(&self.delivery.body, arrival) {
            Ok(envelope) => Ok(Opened { taken: self, envelope }),
            Err(error) => Err(Box::new((self, error))),
        }
    }
}

fn open_body(body: &Bytes, arrival: Arrival) -> Result<Envelope, WireError> {
    wire::open(body, arrival).or_else(|error| match wire::open_letter(body) {
        Ok(letter) => wire::open(&letter.body, arrival),
        Err(_) => Err(error),
    })
}
