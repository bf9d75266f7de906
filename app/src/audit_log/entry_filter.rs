//! Which entries a person wants to see.

use mill_model::{AuditAction, ContentId, SpaceId, StoreId, Timestamp};
use mill_records::audit_log::entry::LogEntry;

/// Entries that have all of this.
#[derive(Debug, Clone, Default)]
pub struct EntryFilter {
    /// Changes in this store.
    pub store: Option<StoreId>,
    /// Changes in this space.
    pub space: Option<SpaceId>,
    /// Changes of this item.
    pub item: Option<ContentId>,
    /// Changes of this sort.
    pub action: Option<AuditAction>,
    /// Changes by this person, as far as the name is still known.
    pub user: Option<String>,
    /// Changes from this time on.
    pub since: Option<Timestamp>,
    /// Changes before this time.
    pub until: Option<Timestamp>,
}

impl EntryFilter {
    /// Whether an entry, by a person of this name, is wanted.
    pub fn admits(&self, entry: &LogEntry, user: Option<&str>) -> bool {
        let event = &entry.event;
        let at = event.happened_at();
        self.store.as_ref().is_none_or(|store| event.store == *store)
            && self.space.as_ref().is_none_or(|space| event.space == *space)
            && self.item.as_ref().is_none_or(|item| event.item.as_ref() == Some(item))
            && self.action.is_none_or(|action| event.action == action)
            && self.user.as_deref().is_none_or(|wanted| user == Some(wanted))
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
    }

    /// Whether all entries are wanted.
    pub fn is_empty(&self) -> bool {
        let of_subject = self.store.is_none() && self.space.is_none() && self.item.is_none();
        of_subject && self.action.is_none() && self.user.is_none() && self.since.is_none() && self.until.is_none()
    }

    /// The one item whose entries are wanted, if it is one.
    pub fn one_item(&self) -> Option<(&StoreId, &SpaceId, &ContentId)> {
        Some((self.store.as_ref()?, self.space.as_ref()?, self.item.as_ref()?))
    }
}
