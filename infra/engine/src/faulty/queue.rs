use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, Monotonic, QueueName};
use mill_ports::{
    BatchReport, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError, QueueErrorKind,
    QueueLimits, Receipt, TaskQueue,
};

use super::batch::Cut;
use super::{Fault, FaultKind, Faulty};
use crate::op::Op;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<Q: TaskQueue + ?Sized> TaskQueue for Faulty<Q> {
    fn name(&self) -> QueueName {
        self.inner.name()
    }

    fn limits(&self) -> QueueLimits {
        self.inner.limits()
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        let cut = self.plan.cut(Op::Send, out).await;
        let report = around(self, Op::Send, cut.whole, self.inner.send(&cut.entries)).await?;
        Ok(mended(self, Op::Send, &cut, report))
    }

    async fn receive(
        &self,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.receive_but(&ExcludedAccounts::default(), max, visibility, wait).await
    }

    async fn receive_but(
        &self,
        passed_over: &ExcludedAccounts,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let fault = self.plan.meet(Op::Receive).await;
        around(self, Op::Receive, fault, self.inner.receive_but(passed_over, max, visibility, wait)).await
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        let cut = self.plan.cut(Op::Extend, receipts).await;
        let extended = around(self, Op::Extend, cut.whole, self.inner.extend(&cut.entries, visibility)).await?;
        let mut answers: Vec<Option<Result<Monotonic, QueueError>>> = receipts.iter().map(|_| None).collect();
        for (place, answer) in cut.places.iter().zip(extended) {
            answers[*place] = Some(answer);
        }
        for failing in &cut.failing {
            answers[*failing] = Some(Err(error(self, Op::Extend, cut.kind)));
        }
        Ok(answers.into_iter().flatten().collect())
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        let cut = self.plan.cut(Op::Release, receipts).await;
        let report = around(self, Op::Release, cut.whole, self.inner.release(&cut.entries)).await?;
        Ok(mended(self, Op::Release, &cut, report))
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        let cut = self.plan.cut(Op::Acknowledge, receipts).await;
        let report = around(self, Op::Acknowledge, cut.whole, self.inner.acknowledge(&cut.entries)).await?;
        Ok(mended(self, Op::Acknowledge, &cut, report))
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        let fault = self.plan.meet(Op::Depth).await;
        around(self, Op::Depth, fault, self.inner.depth()).await
    }

    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        let fault = self.plan.meet(Op::Depth).await;
        around(self, Op::Depth, fault, self.inner.depth_of(group)).await
    }
}

fn error<Q: TaskQueue + ?Sized>(faulty: &Faulty<Q>, op: Op, kind: FaultKind) -> QueueError {
    let kind = match kind {
        FaultKind::Throttled => QueueErrorKind::Throttled { retry_after: None },
        FaultKind::Unavailable | FaultKind::Unreachable => QueueErrorKind::Unavailable,
        FaultKind::Unexpected => QueueErrorKind::Unexpected,
    };
    QueueError { kind, op: op.as_str(), queue: faulty.inner.name(), source: Some("a planned fault".into()) }
}

/// Makes a call, or not, and fails, or not. A call that is not awaited does nothing.
async fn around<Q: TaskQueue + ?Sized, T>(
    faulty: &Faulty<Q>,
    op: Op,
    fault: Option<Fault>,
    call: impl Future<Output = Result<T, QueueError>> + Send,
) -> Result<T, QueueError> {
    match fault {
        None => call.await,
        Some(Fault::Before(kind)) => Err(error(faulty, op, kind)),
        Some(fault) => {
            call.await?;
            Err(error(faulty, op, fault.kind()))
        }
    }
}

/// The back end's report, told of the caller's batch, with the planned failures among its own.
fn mended<Q: TaskQueue + ?Sized, E: Clone>(
    faulty: &Faulty<Q>,
    op: Op,
    cut: &Cut<'_, E>,
    mut report: BatchReport,
) -> BatchReport {
    for (index, _) in &mut report.failed {
        *index = cut.places[*index];
    }
    report.failed.retain(|(index, _)| !cut.failing.contains(index));
    report.failed.extend(cut.failing.iter().map(|index| (*index, error(faulty, op, cut.kind))));
    report.failed.sort_by_key(|(index, _)| *index);
    report
}
