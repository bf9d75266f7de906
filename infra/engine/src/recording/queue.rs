use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, QueueName};
use mill_ports::{
    BatchReport, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError, QueueLimits,
    Receipt, TaskQueue,
};

use super::Recording;
use crate::op::Op;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<Q: TaskQueue + ?Sized> TaskQueue for Recording<Q> {
    fn name(&self) -> QueueName {
        self.inner.name()
    }

    fn limits(&self) -> QueueLimits {
        self.inner.limits()
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        self.ledger.call(Op::Send, out.len());
        self.inner.send(out).await
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
        self.ledger.call(Op::Receive, 0);
        let deliveries = self.inner.receive_but(passed_over, max, visibility, wait).await?;
        self.ledger.entries(Op::Receive, deliveries.len());
        Ok(deliveries)
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        self.ledger.call(Op::Extend, receipts.len());
        self.inner.extend(receipts, visibility).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.ledger.call(Op::Release, receipts.len());
        self.inner.release(receipts).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.ledger.call(Op::Acknowledge, receipts.len());
        self.inner.acknowledge(receipts).await
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        self.ledger.call(Op::Depth, 1);
        self.inner.depth().await
    }

    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        self.ledger.call(Op::Depth, 1);
        self.inner.depth_of(group).await
    }
}
