//! A record with the version of its row.

use mill_ports::{RowPrecondition, RowVersion};

/// A record as this process last read or wrote it. It is saved only if no other process has written its row since.
#[derive(Debug, Clone)]
pub struct Versioned<R> {
    /// The record. A change is in the table only once it is saved.
    pub record: R,
    pub(crate) version: Option<RowVersion>,
}

impl<R> Versioned<R> {
    /// A record that was never saved.
    pub fn unsaved(record: R) -> Self {
        Self { record, version: None }
    }

    /// Whether the record was never saved.
    pub fn is_unsaved(&self) -> bool {
        self.version.is_none()
    }

    /// The precondition under which this record may replace the row.
    pub(crate) fn precondition(&self) -> RowPrecondition {
        self.version.clone().map_or(RowPrecondition::Absent, RowPrecondition::VersionIs)
    }
}
