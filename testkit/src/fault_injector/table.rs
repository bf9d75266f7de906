use async_trait::async_trait;
use bytes::Bytes;
use mill_ports::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};

use super::{FaultInjector, FaultKind, InjectedFault};
use crate::port_call::PortCall;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Table + ?Sized> Table for FaultInjector<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        let fault = self.plan.next_fault(PortCall::GetRow).await;
        call_with_fault(self, PortCall::GetRow, fault, self.inner.get(key)).await
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        let fault = self.plan.next_fault(PortCall::PutRow).await;
        call_with_fault(self, PortCall::PutRow, fault, self.inner.put(key, value, when)).await
    }

    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        let batch = self.plan.batch(PortCall::PutRows, rows).await;
        call_with_fault(self, PortCall::PutRows, batch.call_fault, self.inner.put_many(&batch.entries)).await?;
        if batch.pick_failing.is_empty() { Ok(()) } else { Err(error(self, PortCall::PutRows, batch.kind)) }
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        let fault = self.plan.next_fault(PortCall::DeleteRow).await;
        call_with_fault(self, PortCall::DeleteRow, fault, self.inner.delete(key, when)).await
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        let fault = self.plan.next_fault(PortCall::Query).await;
        call_with_fault(self, PortCall::Query, fault, self.inner.query(partition, range, limit)).await
    }
}

fn error<T: Table + ?Sized>(faulty: &FaultInjector<T>, op: PortCall, kind: FaultKind) -> TableError {
    let kind = match kind {
        FaultKind::Throttled => TableErrorKind::Throttled,
        FaultKind::Unavailable | FaultKind::Unreachable => TableErrorKind::Unavailable,
        FaultKind::Unexpected => TableErrorKind::Unexpected,
    };
    let table = faulty.inner.name().to_owned();
    TableError { kind, op: op.as_str(), table, source: Some("a planned fault".into()) }
}

/// Makes a call with its planned fault. A call that is not awaited has no effect.
async fn call_with_fault<T: Table + ?Sized, A>(
    faulty: &FaultInjector<T>,
    op: PortCall,
    fault: Option<InjectedFault>,
    call: impl Future<Output = Result<A, TableError>> + Send,
) -> Result<A, TableError> {
    match fault {
        None => call.await,
        Some(InjectedFault::Before(kind)) => Err(error(faulty, op, kind)),
        Some(fault) => {
            call.await?;
            Err(error(faulty, op, fault.kind()))
        }
    }
}
