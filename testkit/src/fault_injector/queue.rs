use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, Monotonic, QueueName};
use mill_ports::{
    BatchReport, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError, QueueErrorKind,
    QueueLimits, Receipt, TaskQueue,
};

use super::batch::BatchPlan;
use super::{FaultInjector, FaultKind, InjectedFault};
use crate::port_call::PortCall;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<Q: TaskQueue + ?Sized> TaskQueue for FaultInjector<Q> {
    fn name(&self) -> QueueName {
        self.inner.name()
    }

    fn limits(&self) -> QueueLimits {
        self.inner.limits()
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        let batch = self.plan.batch(PortCall::Send, out).await;
        let report = call_with_fault(self, PortCall::Send, batch.call_fault, self.inner.send(&batch.entries)).await?;
        Ok(merge_report(self, PortCall::Send, &batch, report))
    }

    async fn receive(
        &self,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.receive_excluding(&ExcludedAccounts::default(), max, visibility, wait).await
    }

    async fn receive_excluding(
        &self,
        passed_over: &ExcludedAccounts,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let fault = self.plan.next_fault(PortCall::Receive).await;
        call_with_fault(
            self,
            PortCall::Receive,
            fault,
            self.inner.receive_excluding(passed_over, max, visibility, wait),
        )
        .await
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        let batch = self.plan.batch(PortCall::Extend, receipts).await;
        let extended =
            call_with_fault(self, PortCall::Extend, batch.call_fault, self.inner.extend(&batch.entries, visibility))
                .await?;
        let mut answers: Vec<Option<Result<Monotonic, QueueError>>> = receipts.iter().map(|_| None).collect();
        for (place, answer) in batch.places.iter().zip(extended) {
            answers[*place] = Some(answer);
        }
        for pick_failing in &batch.pick_failing {
            answers[*pick_failing] = Some(Err(error(self, PortCall::Extend, batch.kind)));
        }
        Ok(answers.into_iter().flatten().collect())
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        let batch = self.plan.batch(PortCall::Release, receipts).await;
        let report =
            call_with_fault(self, PortCall::Release, batch.call_fault, self.inner.release(&batch.entries)).await?;
        Ok(merge_report(self, PortCall::Release, &batch, report))
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        let batch = self.plan.batch(PortCall::Acknowledge, receipts).await;
        let report =
            call_with_fault(self, PortCall::Acknowledge, batch.call_fault, self.inner.acknowledge(&batch.entries))
                .await?;
        Ok(merge_report(self, PortCall::Acknowledge, &batch, report))
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        let fault = self.plan.next_fault(PortCall::Depth).await;
        call_with_fault(self, PortCall::Depth, fault, self.inner.depth()).await
    }

    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        let fault = self.plan.next_fault(PortCall::Depth).await;
        call_with_fault(self, PortCall::Depth, fault, self.inner.depth_of(group)).await
    }
}

fn error<Q: TaskQueue + ?Sized>(faulty: &FaultInjector<Q>, op: PortCall, kind: FaultKind) -> QueueError {
    let kind = match kind {
        FaultKind::Throttled => QueueErrorKind::Throttled { retry_after: None },
        FaultKind::Unavailable | FaultKind::Unreachable => QueueErrorKind::Unavailable,
        FaultKind::Unexpected => QueueErrorKind::Unexpected,
    };
    QueueError { kind, op: op.as_str(), queue: faulty.inner.name(), source: Some("a planned fault".into()) }
}

/// Makes a call with its planned fault. A call that is not awaited has no effect.
async fn call_with_fault<Q: TaskQueue + ?Sized, T>(
    faulty: &FaultInjector<Q>,
    op: PortCall,
    fault: Option<InjectedFault>,
    call: impl Future<Output = Result<T, QueueError>> + Send,
) -> Result<T, QueueError> {
    match fault {
        None => call.await,
        Some(InjectedFault::Before(kind)) => Err(error(faulty, op, kind)),
        Some(fault) => {
            call.await?;
            Err(error(faulty, op, fault.kind()))
        }
    }
}

/// Translates the back end's report to the caller's batch, and adds the planned failures.
fn merge_report<Q: TaskQueue + ?Sized, E: Clone>(
    faulty: &FaultInjector<Q>,
    op: PortCall,
    batch: &BatchPlan<'_, E>,
    mut report: BatchReport,
) -> BatchReport {
    for (index, _) in &mut report.failed {
        *index = batch.places[*index];
    }
    report.failed.retain(|(index, _)| !batch.pick_failing.contains(index));
    report.failed.extend(batch.pick_failing.iter().map(|index| (*index, error(faulty, op, batch.kind))));
    report.failed.sort_by_key(|(index, _)| *index);
    report
}
