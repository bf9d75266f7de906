use async_trait::async_trait;
use bytes::Bytes;
use mill_ports::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};

use super::{Fault, FaultKind, Faulty};
use crate::op::Op;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Table + ?Sized> Table for Faulty<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        let fault = self.plan.meet(Op::GetRow).await;
        around(self, Op::GetRow, fault, self.inner.get(key)).await
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        let fault = self.plan.meet(Op::PutRow).await;
        around(self, Op::PutRow, fault, self.inner.put(key, value, when)).await
    }

    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        let cut = self.plan.cut(Op::PutRows, rows).await;
        around(self, Op::PutRows, cut.whole, self.inner.put_many(&cut.entries)).await?;
        if cut.failing.is_empty() { Ok(()) } else { Err(error(self, Op::PutRows, cut.kind)) }
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        let fault = self.plan.meet(Op::DeleteRow).await;
        around(self, Op::DeleteRow, fault, self.inner.delete(key, when)).await
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        let fault = self.plan.meet(Op::Query).await;
        around(self, Op::Query, fault, self.inner.query(partition, range, limit)).await
    }
}

fn error<T: Table + ?Sized>(faulty: &Faulty<T>, op: Op, kind: FaultKind) -> TableError {
    let kind = match kind {
        FaultKind::Throttled => TableErrorKind::Throttled,
        FaultKind::Unavailable | FaultKind::Unreachable => TableErrorKind::Unavailable,
        FaultKind::Unexpected => TableErrorKind::Unexpected,
    };
    let table = faulty.inner.name().to_owned();
    TableError { kind, op: op.as_str(), table, source: Some("a planned fault".into()) }
}

/// Makes a call, or not, and fails, or not. A call that is not awaited does nothing.
async fn around<T: Table + ?Sized, A>(
    faulty: &Faulty<T>,
    op: Op,
    fault: Option<Fault>,
    call: impl Future<Output = Result<A, TableError>> + Send,
) -> Result<A, TableError> {
    match fault {
        None => call.await,
        Some(Fault::Before(kind)) => Err(error(faulty, op, kind)),
        Some(fault) => {
            call.await?;
            Err(error(faulty, op, fault.kind()))
        }
    }
}
