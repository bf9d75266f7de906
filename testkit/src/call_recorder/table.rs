use async_trait::async_trait;
use bytes::Bytes;
use mill_ports::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError};

use super::CallRecorder;
use crate::port_call::PortCall;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Table + ?Sized> Table for CallRecorder<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        self.log.call(PortCall::GetRow, 1);
        self.inner.get(key).await
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        self.log.call(PortCall::PutRow, 1);
        self.inner.put(key, value, when).await
    }

    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        self.log.call(PortCall::PutRows, rows.len());
        self.inner.put_many(rows).await
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        self.log.call(PortCall::DeleteRow, 1);
        self.inner.delete(key, when).await
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        self.log.call(PortCall::Query, 0);
        let page = self.inner.query(partition, range, limit).await?;
        self.log.entries(PortCall::Query, page.rows.len());
        Ok(page)
    }
}
