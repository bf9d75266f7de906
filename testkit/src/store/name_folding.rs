//! Name folding of a memory store, as on exFAT, where its behavior says so.

use mill_hooks::{PlantedBug, is_planted};
use mill_model::name_folding::fold_name;
use mill_model::{ContentId, ItemAddress, SpaceId};
use mill_ports::{RefusalReason, Respelling, StoreError, StoreErrorKind};

use super::MemoryStoreInner;
use super::items::{StoredEntry, StoredSpace, StoredSpaces};

impl MemoryStoreInner {
    /// The item on which a call acts: `item` itself, but for the planted bug of unnoticed folding.
    pub(super) fn resolve_name(&self, spaces: &StoredSpaces, item: &ItemAddress) -> ItemAddress {
        let unseen = self.behavior.folds_names && is_planted(PlantedBug::FoldUnseen);
        let space = spaces.space(&item.space).filter(|space| unseen && !space.entries.contains_key(&item.id));
        let key = fold_name(item.id.as_str());
        let twin = space.and_then(|space| space.entries.keys().find(|id| fold_name(id.as_str()) == key));
        twin.map_or_else(|| item.clone(), |id| ItemAddress { space: item.space.clone(), id: id.clone() })
    }

    /// Refuses an id if it, or a directory on its path, has the folded name of another entry.
    pub(super) fn name_must_be_own(
        &self,
        op: &'static str,
        spaces: &StoredSpaces,
        item: &ItemAddress,
    ) -> Result<(), StoreError> {
        let Some(space) = spaces.space(&item.space).filter(|_| self.behavior.folds_names) else { return Ok(()) };
        match twin(space, &item.id).filter(|_| !is_planted(PlantedBug::FoldUnseen)) {
            Some(twin) => Err(self.error(op, item, StoreErrorKind::Refused(RefusalReason::Twin(twin)))),
            None => Ok(()),
        }
    }

    /// Changes the spelling of a path: of an item, or of everything beneath a path that ends in `/`.
    pub(super) fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let Respelling { from, to, compared, version } = respelling;
        let mut spaces = self.spaces.lock();
        let Some(there) = spaces.space_mut(space) else {
            return Err(self.error("respell", space, StoreErrorKind::SpaceAbsent));
        };
        let moved = |id: &ContentId| respelled(id, from, to);
        if !self.behavior.folds_names || fold_name(from) != fold_name(to) {
            return Err(self.error("respell", space, StoreErrorKind::Unexpected));
        }
        if !there.entries.keys().any(|id| moved(id).is_some()) {
            return Ok(false);
        }
        if there.entries.keys().any(|id| respelled(id, to, from).is_some()) {
            let twin = from.trim_end_matches('/').to_owned();
            return Err(self.error("respell", space, StoreErrorKind::Refused(RefusalReason::Twin(twin))));
        }
        let is_as_compared = there.entries.get(compared).is_some_and(|standing| match standing {
            StoredEntry::Item(item) => item.token() == version.token(),
            StoredEntry::Refused(_) => false,
        });
        if !is_as_compared || moved(compared).is_none() {
            return Err(self.error("respell", space, StoreErrorKind::Precondition));
        }
        let old: Vec<_> = there.entries.extract_if(.., |id, _| moved(id).is_some()).collect();
        there.entries.extend(old.into_iter().filter_map(|(id, standing)| Some((moved(&id)?, standing))));
        Ok(true)
    }
}

/// The id with another spelling of the path `from`: the whole id or, if it ends in `/`, a directory on its path.
fn respelled(id: &ContentId, from: &str, to: &str) -> Option<ContentId> {
    let rest = id.as_str().strip_prefix(from).filter(|rest| rest.is_empty() || from.ends_with('/'))?;
    ContentId::new(format!("{to}{rest}")).ok()
}

/// The first part of the path of `id`, up to `id` itself, that another entry has in another spelling.
///
/// The store may have an item beside a directory of the same name, for example after a respelling. An entry that exists
/// under the very name counts first.
fn twin(space: &StoredSpace, id: &ContentId) -> Option<String> {
    let wanted = names(id);
    (0..wanted.len()).find_map(|at| {
        let there = || space.entries.keys().map(names).filter(|there| there.len() > at && there[..at] == wanted[..at]);
        if there().any(|there| there[at] == wanted[at]) {
            return None;
        }
        let bare = |name: &str| name.trim_end_matches('/').to_owned();
        let name = bare(wanted[at]);
        let is_twin = |there: &Vec<&str>| bare(there[at]) != name && fold_name(&bare(there[at])) == fold_name(&name);
        let is_alike = |there: &Vec<&str>| there[at].ends_with('/') == wanted[at].ends_with('/');
        let found = there().filter(is_twin).min_by_key(|there| !is_alike(there))?;
        Some(bare(&found[..=at].concat()))
    })
}

/// The names on the path of `id`, those of directories with a `/` at the end.
fn names(id: &ContentId) -> Vec<&str> {
    id.as_str().split_inclusive('/').collect()
}
