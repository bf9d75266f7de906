//! Which part of a copy is restored: all of it, or named items and folders.

use std::collections::BTreeSet;

use mill_model::{ContentId, IdError};
use mill_ports::{CompleteListing, ListEntry, ListingError, Presence, StoreErrorKind};

use super::report::RestorationReport;
use super::{Restoration, RestoreError};
use crate::each_item::EachItem;

/// The items and folders to restore. None means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedParts(BTreeSet<ContentId>);

impl NamedParts {
    /// The parts of these names. A folder may end with a slash.
    ///
    /// # Errors
    /// A name cannot be that of an item.
    pub fn of(names: &[String]) -> Result<Self, IdError> {
        let ids: Result<BTreeSet<_>, _> = names.iter().map(|name| ContentId::new(name.trim_end_matches('/'))).collect();
        let ids = ids?;
        let lies_in_another = |id: &ContentId| ids.iter().any(|other| other != id && is_within(id, other));
        Ok(Self(ids.iter().filter(|id| !lies_in_another(id)).cloned().collect()))
    }

    /// Whether an item belongs to one of them.
    pub(super) fn contain(&self, id: &ContentId) -> bool {
        self.0.is_empty() || self.0.iter().any(|part| is_within(id, part))
    }

    /// Each of them, or `None` for the whole copy.
    pub(super) fn each(&self) -> Vec<Option<ContentId>> {
        if self.0.is_empty() { vec![None] } else { self.0.iter().cloned().map(Some).collect() }
    }
}

/// What was found of a part.
#[derive(Debug, Default)]
pub(super) struct FoundPart {
    /// Whether there is anything.
    pub(super) any: bool,
    /// The last item that was listed, and why the listing broke off.
    pub(super) broken: Option<(ContentId, ListingError)>,
}

impl Restoration {
    /// Begins the work on each item of a part.
    pub(super) async fn begin_part(
        &self,
        running: &mut EachItem<'_, RestorationReport>,
        part: Option<&ContentId>,
    ) -> Result<FoundPart, RestoreError> {
        let mut found = FoundPart::default();
        let folder = part.map(|part| format!("{}/", part.as_str())).unwrap_or_default();
        let lies_in = |name: &str| name.starts_with(&folder);
        let inside = part.and_then(|_| ContentId::new(&*folder).ok());
        let mut begin = async |entries: Vec<ListEntry>| {
            running.begin(entries, |id, facts| self.clone().restore(id, facts)).await;
        };
        for id in part.into_iter().chain(&inside) {
            let found_there = match self.copy.head(&self.item(id)).await {
                // Not every store can have an item of a folder's name.
                Err(error) if Some(id) == inside.as_ref() && matches!(error.kind, StoreErrorKind::Refused(_)) => {
                    continue;
                }
                other => other?,
            };
            if let Presence::Present(facts) = found_there {
                found.any = true;
                begin(vec![ListEntry::Item(id.clone(), facts)]).await;
            }
        }
        let mut entries = CompleteListing::open(&*self.copy, &self.space, inside.as_ref());
        loop {
            let page = match entries.next_page().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(found),
                Err(error) => match entries.last() {
                    None => return Err(error.into()),
                    Some(last) => {
                        let broken = Some((last.clone(), error));
                        return Ok(FoundPart { broken, ..found });
                    }
                },
            };
            let is_behind =
                page.entries.last().is_some_and(|last| !lies_in(name_of(last)) && name_of(last) > folder.as_str());
            let entries: Vec<_> = page.entries.into_iter().filter(|entry| lies_in(name_of(entry))).collect();
            found.any |= !entries.is_empty();
            begin(entries).await;
            if is_behind {
                return Ok(found);
            }
        }
    }
}

/// The name of an entry, escaped for a message if it is no item.
fn name_of(entry: &ListEntry) -> &str {
    match entry {
        ListEntry::Item(id, _) => id.as_str(),
        ListEntry::Refused { shown, .. } | ListEntry::Hidden { shown } => shown,
    }
}

/// Whether an item is `part`, or lies in the folder of that name.
fn is_within(id: &ContentId, part: &ContentId) -> bool {
    id.as_str().strip_prefix(part.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
