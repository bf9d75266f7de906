//! The list of an installation's tables. Deployments create them, an installation is identified by them, and the
//! simulation and the tests of the deployment's template read the list.

use crate::account_counts::AccountCounts;
use crate::audit_log::AuditLog;
use crate::content_index::ContentIndex;
use crate::dead_letters::DeadLetters;
use crate::delete_lists::DeleteLists;
use crate::permits::PermitRepository;

/// One table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRole {
    /// Its name, without the prefix that a deployment adds.
    pub name: &'static str,
    /// What its rows contain.
    pub holds: &'static str,
}

/// The owner of each destination space.
pub const OWNERS: &str = "owners";
/// The state of producers.
pub const PRODUCER_STATE: &str = "producer-state";
/// The sync proofs.
pub const SYNC_PROOFS: &str = "seals";
/// Properties that a folder's file system cannot keep.
pub const FOLDER_PROPERTIES: &str = "folder-properties";

/// All tables. The owners come first: every component may read that table, and components that write copies may write
/// it. So its row lists the other tables of the installation.
pub const TABLES: [TableRole; 10] = [
    TableRole { name: OWNERS, holds: "the source of each destination space" },
    TableRole {
        name: PRODUCER_STATE,
        holds: "the producer's lease, its morsels and each account's run, and what the last runs came to",
    },
    TableRole { name: SYNC_PROOFS, holds: "pairs of versions that were proven in sync" },
    TableRole { name: DeadLetters::TABLE, holds: "dead-lettered tasks, with their histories" },
    TableRole { name: FOLDER_PROPERTIES, holds: "properties that a folder's file system cannot keep" },
    TableRole { name: DeleteLists::TABLE, holds: "what may be deleted, and what is held" },
    TableRole { name: PermitRepository::TABLE, holds: "how many tasks of each workman use a store" },
    TableRole { name: AccountCounts::TABLE, holds: "how many tasks of each account were sent and have ended" },
    TableRole {
        name: AuditLog::TABLE,
        holds: "changes that wait for their places in the audit logs, and these places",
    },
    TableRole { name: ContentIndex::TABLE, holds: "the last change of each item" },
];

/// Their names, in the same order.
pub fn table_names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|table| table.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_is_in_the_list_twice() {
        assert_eq!(table_names().collect::<BTreeSet<_>>().len(), TABLES.len());
    }
}
