//! The properties that do not fit with their file: rows that name the version to which they belong.

use std::sync::Arc;

use bytes::Bytes;
use mill_hooks::crash_point;
use mill_model::{ItemAddress, StoreAddress, Version};
use mill_ports::{RowKey, RowPrecondition, StoreErrorKind, Table, TableError, TableErrorKind};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::error::FolderError;
use super::properties::{PropertyFit, PropertyMap, StoredProperties};
use crate::crash_points;

/// The sidecar table of one store, if it has one.
#[derive(Debug, Clone)]
pub(super) struct Sidecar {
    pub(super) table: Option<Arc<dyn Table>>,
    pub(super) store: StoreAddress,
}

#[derive(Serialize, Deserialize)]
struct SidecarRow {
    version: String,
    properties: PropertyMap,
}

impl Sidecar {
    /// The properties of an item; `None` where they are unknown.
    pub(super) async fn resolve(
        &self,
        item: &ItemAddress,
        version: &Version,
        stored: StoredProperties,
    ) -> Result<Option<PropertyMap>, FolderError> {
        let unless_there = match stored {
            StoredProperties::InFile(map) => return Ok(Some(map)),
            StoredProperties::Unreadable => return Ok(None),
            StoredProperties::InSidecar => None,
            StoredProperties::PerhapsInSidecar => Some(PropertyMap::new()),
        };
        let Some(table) = &self.table else { return Ok(unless_there) };
        let Some(row) = table.get(&self.key(item)).await.map_err(table_error)? else { return Ok(unless_there) };
        let row: Option<SidecarRow> = serde_json::from_slice(&row.value).ok();
        // The row of another version: somebody has changed the file since, and its properties are unknown.
        Ok(row.filter(|row| row.version == version.token()).map(|row| row.properties))
    }

    /// Stores the properties that did not fit with the file just written.
    ///
    /// A crash before leaves the file without its row, so with unknown properties.
    pub(super) async fn keep(
        &self,
        item: &ItemAddress,
        version: &Version,
        fit: PropertyFit,
    ) -> Result<(), FolderError> {
        if fit == PropertyFit::Lost {
            let (space, item) = (&item.space, &item.id);
            warn!(%space, %item, "its file cannot hold its mode or time as it is, and there is no table beside it to hold them");
        }
        let (Some(table), PropertyFit::NeedsSidecar { essential }) = (&self.table, fit) else { return Ok(()) };
        let Some(map) = essential else {
            return table.delete(&self.key(item), RowPrecondition::Always).await.map_err(table_error);
        };
        let row = SidecarRow { version: version.token().to_owned(), properties: map };
        let row = serde_json::to_vec(&row).map_err(FolderError::unexpected)?;
        crash_point(crash_points::SIDECAR_BEFORE_WRITE);
        table.put(&self.key(item), Bytes::from(row), RowPrecondition::Always).await.map_err(table_error)?;
        crash_point(crash_points::SIDECAR_WRITTEN);
        Ok(())
    }

    fn key(&self, item: &ItemAddress) -> RowKey {
        let StoreAddress { account, store } = &self.store;
        let partition = format!("{}:{}/{}", account.as_str(), store.as_str(), item.space.as_str());
        RowKey::new(partition, item.id.as_str())
    }
}

fn table_error(error: TableError) -> FolderError {
    let kind = match error.kind {
        TableErrorKind::Throttled => StoreErrorKind::Throttled { retry_after: None },
        TableErrorKind::Unavailable | TableErrorKind::Denied => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Unexpected,
    };
    FolderError { source: Some(Box::new(error)), ..kind.into() }
}
