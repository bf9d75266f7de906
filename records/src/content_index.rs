//! The content index: for each item of a store, the last change that is known of it.
//!
//! Events come late, twice and in any order, and their clocks differ. So a row is replaced only by a change that is certainly
//! later ([`Order`]). Where that cannot be told, the caller looks at the item itself, and the row has what it found.
//! A deleted item keeps its row, so that an older event of it does not bring it back.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{
    AccountId, AuditAction, AuditEvent, Checksum, ContentId, EventId, EventSource, ItemFacts, SpaceId, StoreId,
    Timestamp,
};
use mill_ports::{Presence, Row, RowKey, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};
use serde::{Deserialize, Serialize};

use crate::stored_rows::{json, partition_rows};

/// A space of a store, whose items the index has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexedSpace {
    /// The owner.
    pub account: AccountId,
    /// The store.
    pub store: StoreId,
    /// The space.
    pub space: SpaceId,
}

impl IndexedSpace {
    /// No id contains a `/`, so two spaces never share a partition.
    fn partition(&self) -> String {
        format!("index/{}/{}/{}", self.account.as_str(), self.store.as_str(), self.space.as_str())
    }
}

/// What is known of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRow {
    /// The last change.
    pub event: EventId,
    /// When it happened, in milliseconds since 1970, by the clock of `source`.
    pub at: u64,
    /// Who reported it.
    pub source: EventSource,
    /// The store's own order of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Whether the item is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The size, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The known checksums.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    /// The content type, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The store's token for this state, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether the version was seen at a look, and not stated by the event: then another event may state it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looked: bool,
}

impl IndexRow {
    /// When the last change happened, by the clock of its source.
    pub fn changed_at(&self) -> Timestamp {
        Timestamp::from_millis(self.at)
    }

    /// The row after this event.
    fn of(event: &AuditEvent) -> Self {
        let of_properties = || event.properties.as_ref()?.get("content-type").cloned();
        let content_type = event.content_type.clone().or_else(of_properties);
        Self {
            event: event.id,
            at: event.at,
            source: event.source,
            order: event.order.clone(),
            deleted: event.action == AuditAction::DeleteContent,
            size: event.size,
            checksums: event.checksums.clone(),
            content_type,
            version: event.version.clone(),
            looked: false,
        }
    }

    /// The row after a look at the item, which follows both `self` and the event.
    fn looked_at(self, found: &Presence<ItemFacts>) -> Self {
        let Presence::Present(facts) = found else {
            let version = self.version.filter(|_| self.deleted);
            return Self { deleted: true, size: None, checksums: Vec::new(), content_type: None, version, ..self };
        };
        let same = self.version.as_deref() == Some(facts.version.token());
        let properties = facts.properties.as_ref();
        Self {
            deleted: false,
            size: Some(facts.size),
            checksums: if same && facts.checksums.is_empty() { self.checksums } else { facts.checksums.clone() },
            content_type: properties.map_or(self.content_type, |found| found.get("content-type").map(str::to_owned)),
            version: Some(facts.version.token().to_owned()),
            looked: !same || self.looked,
            ..self
        }
    }
}

/// How an event stands to the last change that the index has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It is later.
    Later,
    /// It is that change.
    Same,
    /// It is earlier.
    Earlier,
    /// It cannot be told: the clocks may differ by more than lies between them.
    Unknown,
}

/// Clocks that differ by more are believed all the same.
pub const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_hours(24);

/// How an event stands to a row.
pub fn order_of(event: &AuditEvent, row: &IndexRow) -> Order {
    if event.id == row.event {
        return Order::Same;
    }
    if is_planted(PlantedBug::LastArrivalIndexed) {
        return Order::Later;
    }
    if event.source == row.source
        && let (Some(new), Some(known)) = (&event.order, &row.order)
    {
        return match new.cmp(known) {
            std::cmp::Ordering::Less => Order::Earlier,
            std::cmp::Ordering::Equal => Order::Same,
            std::cmp::Ordering::Greater => Order::Later,
        };
    }
    let (new, known) = (event.happened_at(), row.changed_at());
    if new.since(known) > CLOCK_DIFFERENCE_MAX {
        Order::Later
    } else if known.since(new) > CLOCK_DIFFERENCE_MAX {
        Order::Earlier
    } else {
        Order::Unknown
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The row has it now, or had it already.
    Current,
    /// A later change was known already.
    Outdated,
    /// Mill recorded the same change before, under another id: two writers meant to leave the same state, or one did and was lost.
    /// There is one change, so there must be no second entry of it.
    Repeated,
    /// The caller must look at the item, and apply the event again with what it found.
    NeedsLook,
}

/// Why the index could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A row cannot be understood.
    #[error("the content index cannot be read at `{item}`; nothing is changed there")]
    Unreadable {
        /// The item.
        item: String,
    },
    /// Others changed the row again and again.
    #[error("the row of `{item}` in the content index is changed by others all the time")]
    Contended {
        /// The item.
        item: String,
    },
    /// The table did not answer.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The repository, over one table.
#[derive(Debug, Clone)]
pub struct ContentIndex {
    table: Arc<dyn Table>,
}

impl ContentIndex {
    /// The table's name.
    pub const TABLE: &str = "content-index";
    const PAGE_ROWS: usize = 500;
    /// How often a row is read again that others changed meanwhile.
    const TRIES: u32 = 8;

    /// The repository over `table`.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// What is known of an item.
    ///
    /// # Errors
    /// The table's; [`IndexError::Unreadable`].
    pub async fn get(&self, space: &IndexedSpace, item: &ContentId) -> Result<Option<IndexRow>, IndexError> {
        Ok(self.read(space, item).await?.map(|(row, _)| row))
    }

    /// Records an event of an item, unless a later change is known. `found` is what the caller saw of the item after it had
    /// learned of the event.
    ///
    /// # Errors
    /// The table's; [`IndexError::Unreadable`], [`IndexError::Contended`].
    pub async fn apply(
        &self,
        account: &AccountId,
        event: &AuditEvent,
        found: Option<&Presence<ItemFacts>>,
    ) -> Result<Applied, IndexError> {
        let Some(item) = &event.item else { return self.apply_to_space(account, event).await };
        let space = IndexedSpace { account: account.clone(), store: event.store.clone(), space: event.space.clone() };
        for _ in 0..Self::TRIES {
            let known = self.read(&space, item).await?;
            if known.as_ref().is_some_and(|(row, _)| is_same_change(event, row)) {
                return Ok(Applied::Repeated);
            }
            let order = known.as_ref().map_or(Order::Later, |(row, _)| order_of(event, row));
            let row = match (order, found) {
                (Order::Same, _) => return Ok(Applied::Current),
                (Order::Earlier, _) => return Ok(Applied::Outdated),
                (Order::Later, None) if says_all(event) => IndexRow::of(event),
                (_, None) => return Ok(Applied::NeedsLook),
                (Order::Later, Some(found)) => IndexRow::of(event).looked_at(found),
                (Order::Unknown, Some(found)) => latest(known.as_ref().map(|(row, _)| row), event, found),
            };
            let when = known.map_or(RowPrecondition::Absent, |(_, version)| RowPrecondition::VersionIs(version));
            match self.table.put(&RowKey::new(space.partition(), item.as_str()), json(&row), when).await {
                Ok(_) => return Ok(Applied::Current),
                // What was looked at may be older than what the other process wrote: the caller looks again.
                Err(error) if error.kind == TableErrorKind::Conflict && found.is_some() => {
                    return Ok(Applied::NeedsLook);
                }
                Err(error) if error.kind == TableErrorKind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(IndexError::Contended { item: item.to_string() })
    }

    /// Records an event of a space. Of Mill's own, two that made or deleted the same space are one change: workmen may do it at the
    /// same moment.
    async fn apply_to_space(&self, account: &AccountId, event: &AuditEvent) -> Result<Applied, IndexError> {
        let opposite = match event.action {
            AuditAction::CreateSpace => AuditAction::DeleteSpace,
            AuditAction::DeleteSpace => AuditAction::CreateSpace,
            _ => return Ok(Applied::Current),
        };
        let Some(version) = event.version.as_ref().filter(|_| event.source == EventSource::Mill) else {
            return Ok(Applied::Current);
        };
        let store = [account.as_str(), event.store.as_str(), event.space.as_str()].join("/");
        let key = |action: AuditAction| RowKey::new(format!("space/{store}"), format!("{action}/{version}"));
        let id = event.id.to_string();
        match self.table.put(&key(event.action), id.clone().into(), RowPrecondition::Absent).await {
            Ok(_) => {}
            Err(error) if error.kind == TableErrorKind::Conflict => match self.table.get(&key(event.action)).await? {
                Some(row) if row.value != id => return Ok(Applied::Repeated),
                _ => {}
            },
            Err(error) => return Err(error.into()),
        }
        // Some stores give a space that is made again the same identity.
        self.table.delete(&key(opposite), RowPrecondition::Always).await?;
        Ok(Applied::Current)
    }

    /// Replaces what is known of an item by what a person's rebuild found, if that is still `known`. Returns whether it was.
    ///
    /// # Errors
    /// The table's. A row that an event changed meanwhile stays, and is no error.
    pub async fn replace(
        &self,
        space: &IndexedSpace,
        item: &ContentId,
        (known, new): (Option<&IndexRow>, &IndexRow),
    ) -> Result<bool, IndexError> {
        let found = self.read(space, item).await?;
        if found.as_ref().map(|(row, _)| row) != known {
            return Ok(false);
        }
        let when = found.map_or(RowPrecondition::Absent, |(_, version)| RowPrecondition::VersionIs(version));
        match self.table.put(&RowKey::new(space.partition(), item.as_str()), json(new), when).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == TableErrorKind::Conflict => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets an item if its row still is `row`: a tombstone that has expired.
    ///
    /// # Errors
    /// The table's. A row that changed meanwhile stays, and is no error.
    pub async fn forget(&self, space: &IndexedSpace, item: &ContentId, row: &IndexRow) -> Result<bool, IndexError> {
        let Some((known, version)) = self.read(space, item).await? else { return Ok(false) };
        if known != *row {
            return Ok(false);
        }
        let key = RowKey::new(space.partition(), item.as_str());
        match self.table.delete(&key, RowPrecondition::VersionIs(version)).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind == TableErrorKind::Conflict => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Streams the items of a space in byte order of their ids, deleted ones too. Few rows are in memory at a time.
    pub fn items(&self, space: &IndexedSpace) -> BoxStream<'static, Result<(ContentId, IndexRow), IndexError>> {
        let rows = partition_rows(self.table.clone(), (space.partition(), String::new()), Self::PAGE_ROWS);
        rows.map_err(IndexError::from).and_then(|row| async move { item_of(&row) }).boxed()
    }

    async fn read(&self, space: &IndexedSpace, item: &ContentId) -> Result<Option<(IndexRow, RowVersion)>, IndexError> {
        let Some(row) = self.table.get(&RowKey::new(space.partition(), item.as_str())).await? else {
            return Ok(None);
        };
        let (_, read) = item_of(&row)?;
        Ok(Some((read, row.version)))
    }
}

/// Whether an event is the change that the row has, under another id: no two changes leave, or delete, one version.
///
/// Of Mill's own changes this may happen where a writer was lost. A watch sees what Mill writes too, and what another watch saw.
fn is_same_change(event: &AuditEvent, row: &IndexRow) -> bool {
    if event.id == row.event || (event.action == AuditAction::DeleteContent) != row.deleted {
        return false;
    }
    let same_version = event.version.is_some() && event.version == row.version && !row.looked;
    match event.source {
        EventSource::Mill => row.source == EventSource::Mill && same_version,
        EventSource::Watch => same_version || row.deleted,
        EventSource::Store | EventSource::Duracloud => false,
    }
}

/// Whether an event says by itself what becomes of the row. One that replaced the properties alone does not.
fn says_all(event: &AuditEvent) -> bool {
    event.action == AuditAction::DeleteContent || event.size.is_some()
}

/// The row after a change of unknown order: what was seen of the item, by the later of the two events.
fn latest(known: Option<&IndexRow>, event: &AuditEvent, found: &Presence<ItemFacts>) -> IndexRow {
    let new = IndexRow::of(event);
    let Some(known) = known.cloned() else { return new.looked_at(found) };
    let fits = |row: &IndexRow| match found {
        Presence::Absent => row.deleted,
        Presence::Present(facts) => !row.deleted && row.version.as_deref() == Some(facts.version.token()),
    };
    let later = match (fits(&known), fits(&new)) {
        (true, false) => known,
        (false, true) => new,
        _ if (known.at, known.event) > (new.at, new.event) => known,
        _ => new,
    };
    later.looked_at(found)
}

fn item_of(row: &Row) -> Result<(ContentId, IndexRow), IndexError> {
    let read = || Some((ContentId::new(row.sort.clone()).ok()?, serde_json::from_slice(&row.value).ok()?));
    read().ok_or_else(|| IndexError::Unreadable { item: mill_model::ids::shorten_for_display(&row.sort) })
}

#[cfg(test)]
mod tests;
