//! The content index of a space: made again from its store, compared with it, and rid of old tombstones.

use std::cmp::Ordering;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use mill_model::ids::escape_for_display;
use mill_model::{ContentId, EventId, EventSource, ItemAddress, ItemFacts, SpaceId, Timestamp};
use mill_ports::{CompleteListing, ListEntry, Presence, SourceStore};
use mill_records::content_index::{ContentIndex, IndexRow, IndexedSpace};

use crate::installation::Installation;

/// How many items are looked at, or rows written, at once.
const AT_ONCE: usize = 16;

/// A space with its index.
#[derive(Debug)]
pub struct SpaceIndex {
    space: IndexedSpace,
    index: ContentIndex,
    store: Arc<dyn SourceStore>,
}

/// What a rebuild came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// Items that the index has now.
    pub items: u64,
    /// Rows that were written anew, because they differed or were missing.
    pub written: u64,
    /// Items that became tombstones, because they are gone.
    pub gone: u64,
    /// Entries of the store that cannot be items, or that cannot be read.
    pub refused: u64,
}

/// How the index differs from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexDifference {
    /// The store has the item, and the index does not.
    Missing(ContentId),
    /// The index has the item, and the store does not.
    Extra(ContentId),
    /// They have it with other sizes, checksums or versions.
    Different(ContentId, String),
}

/// What a comparison found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Items that are alike.
    pub same: u64,
    /// Items that the index does not have.
    pub missing: u64,
    /// Items that only the index has.
    pub extra: u64,
    /// Items that differ.
    pub different: u64,
    /// Entries of the store that cannot be items, or that cannot be read.
    pub refused: u64,
}

impl Compared {
    /// Whether all is alike.
    pub fn is_same(&self) -> bool {
        self.missing + self.extra + self.different + self.refused == 0
    }
}

impl SpaceIndex {
    /// The index of a space of a store.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub async fn open(installation: &Installation, space: IndexedSpace) -> Result<Self> {
        let store = installation.stores.source(&space.account, &space.store).await?;
        let index = ContentIndex::new(installation.engine.table(ContentIndex::TABLE));
        Ok(Self { space, index, store })
    }

    /// The space.
    pub fn space_id(&self) -> &SpaceId {
        &self.space.space
    }

    /// The rows of the index, in byte order of their items, with those of items that are gone.
    pub fn rows(&self) -> BoxStream<'static, Result<(ContentId, IndexRow)>> {
        self.index.items(&self.space).map_err(Into::into).boxed()
    }

    /// Makes the index anew: each item as the store has it; what is gone becomes a tombstone.
    ///
    /// # Errors
    /// The listing is not complete, or the table does not answer. What was written stays, and a repeat goes on.
    pub async fn rebuild(&self, now: Timestamp) -> Result<Rebuilt> {
        let mut done = Rebuilt::default();
        let mut hidden = false;
        let mut sides = IndexSides::of(self);
        while let Some(found) = sides.next().await? {
            match found {
                IndexSide::Refused { is_hidden, shown, why } => {
                    tracing::warn!("`{shown}` of space `{}` is no item of the index: {why}", self.space.space);
                    (hidden, done.refused) = (hidden || is_hidden, done.refused + 1);
                }
                IndexSide::Store(id, _, known) => {
                    done.items += 1;
                    done.written += u64::from(self.refresh(&id, known.as_ref(), now).await?);
                }
                IndexSide::Index(_, row) if row.deleted => {}
                // What lies in a directory that cannot be read may still be there.
                IndexSide::Index(..) if hidden => done.refused += 1,
                IndexSide::Index(id, row) => {
                    let gone = tombstone(&self.space, &id, &row, now);
                    done.gone += u64::from(self.index.replace(&self.space, &id, (Some(&row), &gone)).await?);
                }
            }
        }
        Ok(done)
    }

    /// Looks at an item, and writes its row if it is not as it should be. Returns whether it was written.
    async fn refresh(&self, id: &ContentId, known: Option<&IndexRow>, now: Timestamp) -> Result<bool> {
        let address = ItemAddress { space: self.space.space.clone(), id: id.clone() };
        let looked = self.store.head(&address).await;
        let looked = looked.with_context(|| format!("`{}` cannot be looked at", escape_for_display(id.as_str())))?;
        // It went since it was listed: its own event says so.
        let Presence::Present(facts) = looked else { return Ok(false) };
        if known.is_some_and(|row| {
            difference(row, &facts).is_none() && row.version.as_deref() == Some(facts.version.token())
        }) {
            return Ok(false);
        }
        Ok(self.index.replace(&self.space, id, (known, &row_of(&self.space, id, &facts, now))).await?)
    }

    /// Compares the index with the store, and reports each difference to `named`.
    ///
    /// # Errors
    /// The listing is not complete, or the table does not answer.
    pub async fn compare(&self, mut named: impl FnMut(IndexDifference)) -> Result<Compared> {
        let mut done = Compared::default();
        let mut sides = IndexSides::of(self);
        while let Some(found) = sides.next().await? {
            match found {
                IndexSide::Refused { shown, why, .. } => {
                    tracing::warn!("`{shown}` of space `{}` is no item of the index: {why}", self.space.space);
                    done.refused += 1;
                }
                IndexSide::Store(id, facts, Some(row)) if !row.deleted => match difference(&row, &facts) {
                    None => done.same += 1,
                    Some(how) => {
                        done.different += 1;
                        named(IndexDifference::Different(id, how));
                    }
                },
                IndexSide::Store(id, ..) => {
                    done.missing += 1;
                    named(IndexDifference::Missing(id));
                }
                IndexSide::Index(_, row) if row.deleted => {}
                IndexSide::Index(id, _) => {
                    done.extra += 1;
                    named(IndexDifference::Extra(id));
                }
            }
        }
        Ok(done)
    }

    /// Forgets items that were deleted before this time. Returns how many.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn expire(&self, before: Timestamp) -> Result<u64> {
        let old = self.rows().try_filter(move |(_, row)| std::future::ready(row.deleted && row.changed_at() < before));
        let forget =
            |(id, row): (ContentId, IndexRow)| async move { Ok(self.index.forget(&self.space, &id, &row).await?) };
        let forgotten: BoxStream<'_, Result<bool>> = old.map_ok(forget).try_buffered(AT_ONCE).boxed();
        forgotten.try_fold(0, |count, gone| std::future::ready(Ok(count + u64::from(gone)))).await
    }
}

/// How a row differs from what the store says; `None` if nothing speaks against it.
fn difference(row: &IndexRow, facts: &ItemFacts) -> Option<String> {
    if row.deleted {
        return Some("it is deleted in the index".into());
    }
    if let Some(size) = row.size.filter(|size| *size != facts.size) {
        return Some(format!("it has {} bytes, in the index {size}", facts.size));
    }
    let mut compared = false;
    for found in &facts.checksums {
        let Some(known) = row.checksums.iter().find(|known| known.algorithm == found.algorithm) else { continue };
        if known != found {
            return Some(format!("its checksum is {found}, in the index {known}"));
        }
        compared = true;
    }
    let version = row.version.as_deref().filter(|version| !compared && *version != facts.version.token());
    version.map(|_| "it was written again since".to_owned())
}

fn row_of(space: &IndexedSpace, id: &ContentId, facts: &ItemFacts, now: Timestamp) -> IndexRow {
    let at = facts.modified.unwrap_or(now);
    IndexRow {
        looked: true,
        event: event_id(space, id, at, facts.version.token()),
        at: at.as_millis(),
        source: EventSource::Store,
        order: None,
        deleted: false,
        size: Some(facts.size),
        checksums: facts.checksums.clone(),
        content_type: facts.properties.as_ref().and_then(|found| found.get("content-type")).map(str::to_owned),
        version: Some(facts.version.token().to_owned()),
    }
}

fn tombstone(space: &IndexedSpace, id: &ContentId, row: &IndexRow, now: Timestamp) -> IndexRow {
    IndexRow {
        looked: true,
        event: event_id(space, id, now, "gone"),
        at: now.as_millis(),
        source: EventSource::Store,
        order: row.order.clone(),
        deleted: true,
        size: None,
        checksums: Vec::new(),
        content_type: None,
        version: None,
    }
}

fn event_id(space: &IndexedSpace, id: &ContentId, at: Timestamp, state: &str) -> EventId {
    EventId::of_facts(
        at,
        &["rebuilt", space.account.as_str(), space.store.as_str(), space.space.as_str(), id.as_str(), state],
    )
}

/// What stands on one or both sides, in byte order of the items.
enum IndexSide {
    /// The store has it; the row of the index, if there is one.
    Store(ContentId, ItemFacts, Option<IndexRow>),
    /// Only the index has it.
    Index(ContentId, IndexRow),
    /// An entry that cannot be an item.
    Refused { shown: String, why: String, is_hidden: bool },
}

/// Reads store and index side by side.
struct IndexSides {
    listing: CompleteListing,
    listed: std::vec::IntoIter<ListEntry>,
    rows: BoxStream<'static, Result<(ContentId, IndexRow)>>,
    item: Option<(ContentId, ItemFacts)>,
    row: Option<(ContentId, IndexRow)>,
    ended: bool,
}

impl IndexSides {
    fn of(of: &SpaceIndex) -> Self {
        let listing = CompleteListing::open(&*of.store, &of.space.space, None);
        let rows = of.rows();
        Self { listing, listed: Vec::new().into_iter(), rows, item: None, row: None, ended: false }
    }

    async fn next(&mut self) -> Result<Option<IndexSide>> {
        if self.item.is_none()
            && let Some(refused) = self.next_item().await?
        {
            return Ok(Some(refused));
        }
        if self.row.is_none() {
            self.row = self.rows.try_next().await?;
        }
        let order = match (&self.item, &self.row) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((item, _)), Some((row, _))) => item.cmp(row),
        };
        let item = if order.is_le() { self.item.take() } else { None };
        let row = if order.is_ge() { self.row.take() } else { None };
        Ok(match (item, row) {
            (Some((id, facts)), row) => Some(IndexSide::Store(id, facts, row.map(|(_, row)| row))),
            (None, Some((id, row))) => Some(IndexSide::Index(id, row)),
            (None, None) => None,
        })
    }

    /// Reads the next item of the store; returns what cannot be one.
    async fn next_item(&mut self) -> Result<Option<IndexSide>> {
        loop {
            match self.listed.next() {
                Some(ListEntry::Item(id, facts)) => {
                    self.item = Some((id, facts));
                    return Ok(None);
                }
                Some(ListEntry::Refused { shown, reason }) => {
                    return Ok(Some(IndexSide::Refused { shown, why: reason.to_string(), is_hidden: false }));
                }
                Some(ListEntry::Hidden { shown }) => {
                    return Ok(Some(IndexSide::Refused { shown, why: "it cannot be read".into(), is_hidden: true }));
                }
                None if self.ended => return Ok(None),
                None => match self.listing.next_page().await? {
                    Some(page) => self.listed = page.entries.into_iter(),
                    None => self.ended = true,
                },
            }
        }
    }
}
