//! What an item has at its source and no copy gets.

use crate::totals::WorkCounts;

/// What an item has at its source and no copy gets. A run counts the items that it copied without it, and names none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncarried {
    /// A storage class other than the usual one.
    StorageClass,
    /// A key of its own by which the service encrypts it.
    EncryptionKey,
    /// A lock until a time, or a legal hold.
    ObjectLock,
    /// Tags.
    Tags,
    /// An owner other than the user who copies.
    Owner,
    /// An access list.
    AccessList,
    /// Extended attributes of others.
    Attributes,
    /// Further names of the same file.
    HardLinks,
}

impl Uncarried {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::StorageClass,
        Self::EncryptionKey,
        Self::ObjectLock,
        Self::Tags,
        Self::Owner,
        Self::AccessList,
        Self::Attributes,
        Self::HardLinks,
    ];

    /// Its name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StorageClass => "storage class",
            Self::EncryptionKey => "encryption key",
            Self::ObjectLock => "lock",
            Self::Tags => "tags",
            Self::Owner => "owner",
            Self::AccessList => "access list",
            Self::Attributes => "extended attributes",
            Self::HardLinks => "further names (hard links)",
        }
    }

    /// Its counter.
    pub fn counter(self, counts: &mut WorkCounts) -> &mut u64 {
        match self {
            Self::StorageClass => &mut counts.storage_classes_left,
            Self::EncryptionKey => &mut counts.encryption_keys_left,
            Self::ObjectLock => &mut counts.locks_left,
            Self::Tags => &mut counts.tags_left,
            Self::Owner => &mut counts.owners_left,
            Self::AccessList => &mut counts.access_lists_left,
            Self::Attributes => &mut counts.attributes_left,
            Self::HardLinks => &mut counts.hard_links_left,
        }
    }
}
