//! Carries out dispositions, many deliveries at a time: sends, and only then acknowledges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream;
use futures::{FutureExt as _, StreamExt as _};
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::{AccountId, EntryFate, ItemEvent, Monotonic, QueueName};
use mill_ports::{
    BatchReport, EndedTask, OutgoingMessage, QueueError, QueueErrorKind, Receipt, RngExt as _, TaskQueue,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use crate::crash_points;
use crate::disposition::{DispositionBuilder, ReceiptAction};
use crate::run::WorkmanShared;
use crate::settings::{OnFinalFailure, WorkmanEndReason};
use crate::stages::SettledTask;

/// The most deliveries completed in one round.
pub(crate) const ROUND_MAX: usize = 256;
/// The most rounds at once, so that one that meets failures does not hold up the others.
const ROUNDS_MAX: usize = 4;
/// The most calls at once within a round, for each kind of call.
const CALLS_MAX: usize = 8;
/// The tries of one call.
const TRIES: u32 = 3;
/// The first pause between two tries; each further pause is four times as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Completes deliveries until all senders are gone.
pub(crate) async fn complete_all(shared: Arc<WorkmanShared>, mut settled_tasks: mpsc::Receiver<SettledTask>) {
    let mut rounds = JoinSet::new();
    let mut waiting = Vec::new();
    loop {
        let count = collect_batch(&shared, &mut settled_tasks, &mut waiting).await;
        if count == 0 {
            break;
        }
        while rounds.len() >= ROUNDS_MAX {
            log_panic(rounds.join_next().await);
        }
        let rest = waiting.split_off(count);
        rounds.spawn(complete_batch(shared.clone(), std::mem::replace(&mut waiting, rest)));
    }
    while !rounds.is_empty() {
        log_panic(rounds.join_next().await);
    }
}

/// Waits for full batches, or until the waiting deliveries have lingered. Returns how many of them to complete now: full batches
/// where there are any, so that the rest goes with the next. Zero only after the last delivery.
async fn collect_batch(
    shared: &WorkmanShared,
    settled_tasks: &mut mpsc::Receiver<SettledTask>,
    waiting: &mut Vec<SettledTask>,
) -> usize {
    if waiting.is_empty() && settled_tasks.recv_many(waiting, ROUND_MAX).await == 0 {
        return 0;
    }
    let full = shared.input_queues[0].limits().batch_max.get() as usize;
    let mut lingered = shared.clock.sleep(shared.settings.batch_linger);
    while waiting.len() < full {
        let room = ROUND_MAX - waiting.len();
        tokio::select! {
            biased;
            more = settled_tasks.recv_many(waiting, room) => if more == 0 { return waiting.len() },
            () = &mut lingered => return waiting.len(),
        }
    }
    waiting.len() - waiting.len() % full
}

fn log_panic(joined: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = joined {
        error!(%error, "deliveries could not be settled; their tasks will come again");
    }
}

async fn complete_batch(shared: Arc<WorkmanShared>, mut batch: Vec<SettledTask>) {
    for settled in &mut batch {
        if settled.disposition.need_lease && !settled.received.in_flight().lease.is_ahead() {
            debug!("a lease was lost before the task was settled");
            settled.disposition = DispositionBuilder::abandon();
        }
    }
    let dead_lettered = batch.iter().any(|settled| settled.disposition.dead_lettered.is_some());
    let again = batch
        .iter()
        .any(|settled| settled.disposition.dead_lettered.is_none() && !settled.disposition.sends.is_empty());
    let mut accounting = BatchAccounting::of(&shared, &batch);
    let sent = send(&shared, &mut batch).await;
    for (passed, point) in
        [(dead_lettered, crash_points::WORKMAN_DEAD_LETTERED), (again, crash_points::WORKMAN_SENT_AGAIN)]
    {
        if passed {
            crash_point(point);
        }
    }
    for (settled, _) in batch.iter().zip(&sent).filter(|(_, sent)| **sent) {
        report_dead_lettered(&shared, settled);
    }
    accounting.keep_events(&shared, &batch, &sent).await;
    let mut receipts: BTreeMap<(usize, bool), Vec<(usize, Receipt)>> = BTreeMap::new();
    for (at, (settled, sent)) in batch.iter().zip(sent).enumerate() {
        let release = match settled.disposition.receipt_action {
            ReceiptAction::Acknowledge => false,
            ReceiptAction::Release => true,
            ReceiptAction::LetExpire => continue,
        };
        if sent {
            let receipt = settled.received.delivery.receipt.clone();
            receipts.entry((settled.received.queue_index, release)).or_default().push((at, receipt));
        }
    }
    let mut calls = Vec::new();
    for ((queue_index, release), receipts) in receipts {
        let queue = shared.input_queues[queue_index].as_ref();
        for (owners, receipts) in split_into_batches(receipts, queue) {
            let call = if release { QueueCall::Release(receipts) } else { QueueCall::Acknowledge(receipts) };
            let owners = if release { Vec::new() } else { owners };
            calls.push(call_with_retries(&shared, queue, call).map(move |failed| (owners, failed)));
        }
    }
    let mut calls = stream::iter(calls).buffer_unordered(CALLS_MAX);
    while let Some((owners, failed)) = calls.next().await {
        // A delivery that stays unacknowledged only comes again.
        let acknowledged = owners.into_iter().enumerate().filter(|(place, _)| !failed.contains(place));
        accounting.count_acknowledged(&shared, acknowledged.map(|(_, at)| at).collect());
    }
}

/// The counts of each delivery of a batch, made once it is acknowledged.
struct BatchAccounting {
    is_end: Vec<bool>,
    tasks: Vec<Option<EndedTask>>,
    /// The queue that each task leaves for good, and its account.
    leaves: Vec<Option<(QueueName, AccountId)>>,
    /// What became of each task's item; empty if nobody wants to know that.
    events: Vec<Option<ItemEvent>>,
}

impl BatchAccounting {
    fn of(shared: &WorkmanShared, batch: &[SettledTask]) -> Self {
        let leaves = |settled: &SettledTask| {
            let queue = shared.input_queues[settled.received.queue_index].name();
            Some((queue, settled.leaves(queue)?))
        };
        Self {
            is_end: batch.iter().map(|settled| settled.disposition.is_end_of_task()).collect(),
            tasks: batch.iter().map(SettledTask::ended_task).collect(),
            leaves: batch.iter().map(leaves).collect(),
            events: Vec::new(),
        }
    }

    /// Has the events kept of all that is going to be acknowledged.
    async fn keep_events(&mut self, shared: &WorkmanShared, batch: &[SettledTask], sent: &[bool]) {
        let Some(events) = shared.statistics.events() else { return };
        let sent = batch.iter().zip(sent).map(|(settled, sent)| Some(settled).filter(|_| *sent));
        self.events = sent.map(|settled| settled?.event(&shared.statistics)).collect();
        if events.wants_all() && self.events.iter().any(Option::is_some) {
            let kept: Vec<ItemEvent> = self.events.iter().flatten().cloned().collect();
            events.keep(&kept).await;
        }
    }

    /// The event to tell of a delivery. Of a task that found its item as an earlier run's task had left it in this run, that
    /// was told already.
    fn told_event(&self, at: usize) -> Option<ItemEvent> {
        let event = self.events.get(at)?.as_ref()?;
        let found_again =
            self.tasks[at].and_then(|task| task.outcome).is_some_and(|own| EntryFate::from(own) != event.fate);
        (!found_again).then(|| event.clone())
    }

    /// Tells what became of items that are counted now.
    fn tell_events(&self, shared: &WorkmanShared, ended: &[usize]) {
        let Some(events) = shared.statistics.events() else { return };
        let told: Vec<ItemEvent> = ended.iter().filter_map(|at| self.told_event(*at)).collect();
        if !told.is_empty() {
            events.tell(&told);
        }
    }

    fn count_acknowledged(&self, shared: &WorkmanShared, acknowledged: Vec<usize>) {
        let leaves = acknowledged.iter().filter_map(|at| self.leaves[*at].as_ref());
        if let Some(account_counter) = &shared.account_counter {
            leaves.for_each(|(queue, account)| account_counter.ended(*queue, account));
        }
        let ended: Vec<usize> = acknowledged.into_iter().filter(|at| self.is_end[*at]).collect();
        shared.statistics.ended.fetch_add(ended.len() as u64, Ordering::Relaxed);
        shared.statistics.end_tasks(ended.iter().filter_map(|at| self.tasks[*at]));
        self.tell_events(shared, &ended);
    }
}

/// Makes all sends. Returns for each delivery whether all of its sends are durable.
async fn send(shared: &WorkmanShared, batch: &mut [SettledTask]) -> Vec<bool> {
    let mut sent = vec![true; batch.len()];
    let mut by_queue: BTreeMap<QueueName, Vec<(usize, OutgoingMessage)>> = BTreeMap::new();
    for (at, settled) in batch.iter_mut().enumerate() {
        for (queue, outgoing) in settled.disposition.sends.drain(..) {
            by_queue.entry(queue).or_default().push((at, outgoing));
        }
    }
    if by_queue.is_empty() {
        return sent;
    }
    let now = shared.clock.monotonic();
    let mut expected = BTreeSet::new();
    let mut calls = Vec::new();
    for (name, sends) in by_queue {
        let Some(queue) = shared.output_queues.get(&name) else {
            error!(queue = %name, "this workman cannot send to a queue; its tasks will come again");
            for (at, _) in sends {
                sent[at] = false;
            }
            continue;
        };
        expected.extend(sends.iter().map(|(_, outgoing)| visible_at(now, outgoing.delay)));
        for (owners, sends) in split_into_batches(sends, queue.as_ref()) {
            calls
                .push(async move { (owners, call_with_retries(shared, queue.as_ref(), QueueCall::Send(sends)).await) });
        }
    }
    let mut calls = stream::iter(calls).buffer_unordered(CALLS_MAX);
    while let Some((owners, failed)) = calls.next().await {
        for at in failed {
            sent[owners[at]] = false;
        }
    }
    shared.expect(expected);
    sent
}

/// When a task sent now with `delay` can be received, rounded up to a tenth of a second, so that many share one.
fn visible_at(now: Monotonic, delay: Duration) -> Monotonic {
    if delay.is_zero() {
        return now;
    }
    let tenths = now.plus(delay).since_origin().as_millis().div_ceil(100);
    Monotonic::from_origin(Duration::from_millis(u64::try_from(tenths).unwrap_or(u64::MAX).saturating_mul(100)))
}

/// Splits a list into batches for a queue, owners and entries apart.
fn split_into_batches<T>(entries: Vec<(usize, T)>, queue: &dyn TaskQueue) -> Vec<(Vec<usize>, Vec<T>)> {
    let batch_max = queue.limits().batch_max.get() as usize;
    let mut entries = entries.into_iter().peekable();
    let mut chunks = Vec::new();
    while entries.peek().is_some() {
        chunks.push(entries.by_ref().take(batch_max).unzip());
    }
    chunks
}

fn report_dead_lettered(shared: &WorkmanShared, settled: &SettledTask) {
    let Some(dead_lettered) = &settled.disposition.dead_lettered else { return };
    if !settled.task.as_ref().is_some_and(|task| shared.statistics.is_open_item(&task.id)) {
        // An item of this run is counted with the outcomes of items, once its delivery is acknowledged.
        shared.statistics.count(|work| work.dead_lettered += 1);
    }
    let queue = shared.input_queues[settled.received.queue_index].name();
    error!(%queue, subject = dead_lettered.subject, reason = dead_lettered.reason, "a task was dead-lettered");
    if shared.settings.on_final_failure == OnFinalFailure::FailFast {
        let (subject, reason) = (dead_lettered.subject.clone(), dead_lettered.reason.clone());
        shared.end(Ok(WorkmanEndReason::FailedFast { subject, reason }));
    }
}

/// A call on a queue that takes a batch.
enum QueueCall {
    Send(Vec<OutgoingMessage>),
    Acknowledge(Vec<Receipt>),
    Release(Vec<Receipt>),
}

impl QueueCall {
    fn len(&self) -> usize {
        match self {
            Self::Send(sends) => sends.len(),
            Self::Acknowledge(receipts) | Self::Release(receipts) => receipts.len(),
        }
    }

    async fn run(&self, queue: &dyn TaskQueue) -> Result<BatchReport, QueueError> {
        match self {
            Self::Send(sends) => queue.send(sends).await,
            Self::Acknowledge(receipts) => {
                crash_point(crash_points::WORKMAN_BEFORE_ACKNOWLEDGE);
                let report = queue.acknowledge(receipts).await;
                crash_point(crash_points::WORKMAN_ACKNOWLEDGED);
                report
            }
            Self::Release(receipts) => {
                crash_point(crash_points::WORKMAN_BEFORE_RELEASE);
                let report = queue.release(receipts).await;
                crash_point(crash_points::WORKMAN_RELEASED);
                report
            }
        }
    }

    /// Keeps only the entries at these positions.
    fn retain(&mut self, positions: &[usize]) {
        fn retain_at<T: Clone>(entries: &mut Vec<T>, positions: &[usize]) {
            *entries = positions.iter().filter_map(|at| entries.get(*at).cloned()).collect();
        }
        match self {
            Self::Send(sends) => retain_at(sends, positions),
            Self::Acknowledge(receipts) | Self::Release(receipts) => retain_at(receipts, positions),
        }
    }
}

/// Makes a call, and again for the entries that failed, as long as that may help. Returns which entries failed in the end.
///
/// A send whose answer was lost is made again too: a task that is there twice only costs time.
async fn call_with_retries(shared: &WorkmanShared, queue: &dyn TaskQueue, mut call: QueueCall) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..call.len()).collect();
    let mut failed = Vec::new();
    for attempt in 1..=TRIES {
        let mut again = Vec::new();
        match call.run(queue).await {
            Ok(_) if is_planted(PlantedBug::WorkmanIgnoresPartialSend) => {}
            Ok(report) => {
                for (at, error) in report.failed {
                    if error.kind.is_retryable() && attempt < TRIES {
                        again.push(at);
                    } else {
                        log_failure(shared, &error);
                        failed.extend(positions.get(at));
                    }
                }
            }
            Err(error) if error.kind.is_retryable() && attempt < TRIES => again.extend(0..positions.len()),
            Err(error) => {
                log_failure(shared, &error);
                failed.extend(&positions);
            }
        }
        if again.is_empty() {
            break;
        }
        call.retain(&again);
        positions = again.iter().filter_map(|at| positions.get(*at).copied()).collect();
        let pause = PAUSE * 4_u32.pow(attempt - 1);
        shared.clock.sleep(pause + shared.chance.jitter(pause)).await;
    }
    failed
}

fn log_failure(shared: &WorkmanShared, error: &QueueError) {
    if error.kind == QueueErrorKind::ReceiptExpired {
        debug!(queue = %error.queue, op = error.op, "a delivery is no longer this workman's");
    } else if let Some(suppressed) = shared.warnings.due("settle", shared.clock.monotonic()) {
        let error = mill_ports::error_chain(error);
        warn!(error, suppressed, "deliveries could not be settled; their tasks will come again");
    }
}
