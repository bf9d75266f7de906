//! Which installation a set of tables belongs to, so that an emptied or exchanged table is detected.
//!
//! Tables of a service come and go independently: somebody deletes one, a deployment creates it again, and it looks
//! like a new table. So each table has a row with the id of its installation, and the first table's row lists the other
//! tables that have it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use mill_ports::{Rng, Row, RowKey, RowPrecondition, Table, TableError, TableErrorKind};
use serde::{Deserialize, Serialize};

use crate::tables::TABLES;

/// The tables of one installation.
#[derive(Debug)]
pub struct InstallationTables {
    /// The table whose row lists the others that have the id.
    pub first: Arc<dyn Table>,
    /// The others.
    pub others: Vec<Arc<dyn Table>>,
}

/// Why the tables are not those that are remembered.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// It had the installation's id and has none now.
    #[error("the table `{table}` was emptied, or made anew")]
    Emptied {
        /// The table.
        table: String,
    },
    /// It has the id of another installation, or one that cannot be read.
    #[error("the table `{table}` is that of another installation")]
    Another {
        /// The table.
        table: String,
    },
    /// A table cannot be read, or does not exist.
    #[error(transparent)]
    Table(#[from] TableError),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InstallationRow {
    id: String,
    /// The other tables that have the id; only in the first table's row.
    #[serde(default, rename = "books", skip_serializing_if = "BTreeSet::is_empty")]
    tables: BTreeSet<String>,
}

impl InstallationTables {
    /// Opens all tables of the list by name.
    pub fn open(table: impl Fn(&str) -> Arc<dyn Table>) -> Self {
        let [first, others @ ..] = &TABLES;
        Self { first: table(first.name), others: others.iter().map(|one| table(one.name)).collect() }
    }

    /// Checks that the tables are those of the `remembered` id, if there is one, and returns their id.
    ///
    /// With `rng`, tables without an id get one, which the first process of an installation draws. Before that the id
    /// is unknown: `None`. What a process is not permitted to read or write is left to others.
    ///
    /// # Errors
    /// [`InstallationError`], also when a table does not exist.
    pub async fn recognise(
        &self,
        remembered: Option<&str>,
        rng: Option<&dyn Rng>,
    ) -> Result<Option<String>, InstallationError> {
        let Some((mut identity, row)) = self.first_row(remembered, rng).await? else { return Ok(None) };
        if remembered.is_some_and(|remembered| remembered != identity.id) {
            return Err(another(&*self.first));
        }
        let before = identity.tables.len();
        for table in &self.others {
            let listed = identity.tables.contains(table.name());
            if self.has_id(&**table, &identity.id, listed, rng.is_some()).await? {
                identity.tables.insert(table.name().to_owned());
            }
        }
        if identity.tables.len() > before && rng.is_some() {
            // Another process that writes the list at the same moment writes the same one. A process without permission
            // leaves it to others.
            match self.first.put(&key(), written(&identity), RowPrecondition::VersionIs(row.version)).await {
                Ok(_) => {}
                Err(error) if matches!(error.kind, TableErrorKind::Conflict | TableErrorKind::Denied) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(identity.id))
    }

    async fn first_row(
        &self,
        remembered: Option<&str>,
        rng: Option<&dyn Rng>,
    ) -> Result<Option<(InstallationRow, Row)>, InstallationError> {
        for _ in 0..2 {
            match permitted(self.first.get(&key()).await)? {
                None => return Ok(None),
                Some(Some(row)) => {
                    let identity = read(&row).ok_or_else(|| another(&*self.first))?;
                    return Ok(Some((identity, row)));
                }
                Some(None) if remembered.is_some() => return Err(emptied(&*self.first)),
                Some(None) => {}
            }
            if self.another_table_has_id().await? {
                // If another process began at this moment, the first table has the id by now.
                match permitted(self.first.get(&key()).await)? {
                    Some(None) => return Err(emptied(&*self.first)),
                    _ => continue,
                }
            }
            let Some(rng) = rng else { return Ok(None) };
            let id = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
            let identity = InstallationRow { id, tables: BTreeSet::new() };
            match self.first.put(&key(), written(&identity), RowPrecondition::Absent).await {
                Ok(_) => {}
                Err(error) if error.kind == TableErrorKind::Conflict => {}
                Err(error) if error.kind == TableErrorKind::Denied => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    async fn another_table_has_id(&self) -> Result<bool, TableError> {
        for table in &self.others {
            if permitted(table.get(&key()).await)?.flatten().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a table has the id. Writes it if the table has none and may be written.
    async fn has_id(
        &self,
        table: &dyn Table,
        id: &str,
        listed: bool,
        may_write: bool,
    ) -> Result<bool, InstallationError> {
        match permitted(table.get(&key()).await)? {
            None => Ok(false),
            Some(Some(row)) => match read(&row) {
                Some(identity) if identity.id == id => Ok(true),
                _ => Err(another(table)),
            },
            Some(None) if listed => Err(emptied(table)),
            Some(None) if !may_write => Ok(false),
            Some(None) => {
                let identity = InstallationRow { id: id.to_owned(), tables: BTreeSet::new() };
                match table.put(&key(), written(&identity), RowPrecondition::Absent).await {
                    Ok(_) => Ok(true),
                    Err(error) if matches!(error.kind, TableErrorKind::Conflict | TableErrorKind::Denied) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

fn another(table: &dyn Table) -> InstallationError {
    InstallationError::Another { table: table.name().to_owned() }
}

fn emptied(table: &dyn Table) -> InstallationError {
    InstallationError::Emptied { table: table.name().to_owned() }
}

/// `None` if reading is not permitted.
#[allow(clippy::option_option)] // there and absent are what the inner one says
fn permitted(asked: Result<Option<Row>, TableError>) -> Result<Option<Option<Row>>, TableError> {
    match asked {
        Ok(row) => Ok(Some(row)),
        Err(error) if error.kind == TableErrorKind::Denied => Ok(None),
        Err(error) => Err(error),
    }
}

/// No table has another partition of this name.
fn key() -> RowKey {
    RowKey::new("installation", "identity")
}

fn written(identity: &InstallationRow) -> Bytes {
    // A map of texts can always be written.
    serde_json::to_vec(identity).unwrap_or_default().into()
}

fn read(row: &Row) -> Option<InstallationRow> {
    serde_json::from_slice(&row.value).ok()
}

#[cfg(test)]
mod tests;
