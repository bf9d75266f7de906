use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, QueueName};
use mill_ports::{
    BatchReport, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError, QueueLimits,
    Receipt, TaskQueue,
};

use super::CallRecorder;
use crate::port_call::PortCall;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<Q: TaskQueue + ?Sized> TaskQueue for CallRecorder<Q> {
    fn name(&self) -> QueueName {
        self.inner.name()
    }

    fn limits(&self) -> QueueLimits {
        self.inner.limits()
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        self.log.call(PortCall::Send, out.len());
        self.inner.send(out).await
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
        self.log.call(PortCall::Receive, 0);
        let deliveries = self.inner.receive_excluding(passed_over, max, visibility, wait).await?;
        self.log.entries(PortCall::Receive, deliveries.len());
        Ok(deliveries)
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        self.log.call(PortCall::Extend, receipts.len());
        self.inner.extend(receipts, visibility).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.log.call(PortCall::Release, receipts.len());
        self.inner.release(receipts).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.log.call(PortCall::Acknowledge, receipts.len());
        self.inner.acknowledge(receipts).await
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        self.log.call(PortCall::Depth, 1);
        self.inner.depth().await
    }

    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        self.log.call(PortCall::Depth, 1);
        self.inner.depth_of(group).await
    }
}
