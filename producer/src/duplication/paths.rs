//! Ids that are paths at one side only: a bucket copied to a folder, or a folder to a bucket.
//!
//! A bucket may hold `a`, `a/b` and `a/` at once. In a folder `a` is either a file or a directory. `a/`, which consoles create
//! as a directory marker, exists in a folder wherever something lies in the directory.
//!
//! | source has | destination, a folder, has | |
//! |---|---|---|
//! | `a` and `a/b` | something beneath `a/` | `a/b` is copied; `a` is refused by its own task |
//! | `a` and `a/b` | nothing beneath `a/` | `a` is copied, the first in the order of ids; `a/b` is refused by name |
//! | `a/`, empty | something beneath `a/` | in sync, once the task has seen that its properties are kept |
//!
//! So existing copies stay, and in a first run the order of ids decides, not the speed of a worker. The rule costs nothing
//! until the source lists two conflicting ids; then it costs one page of the destination's listing. A listing that resumes
//! after a marker asks the source for the few ids before the marker that may conflict.

use std::sync::Arc;

use mill_model::{ContentId, ItemAddress, SpaceId};
use mill_ports::{Presence, SourceStore, StoreError, StoreErrorKind, directory_has_entries};

/// The rules of a merge for ids that are paths at one side only.
#[derive(Default)]
pub(crate) struct PathRules {
    /// Set where only the destination's ids are paths.
    conflicts: Option<PathConflicts>,
    /// Whether only the destination's ids are paths.
    at_destination: bool,
    /// Whether only the source's ids are paths.
    at_source: bool,
}

/// Finds source items whose path would have to be both a file and a directory.
struct PathConflicts {
    source: Arc<dyn SourceStore>,
    /// The destination, where its space is present.
    destination: Option<Arc<dyn SourceStore>>,
    space: SpaceId,
    /// The marker after which the source is listed, until the ids before it were checked.
    behind: Option<ContentId>,
    /// The source items whose ids are prefixes of the last id, the shortest first.
    ancestors: Vec<Ancestor>,
}

struct Ancestor {
    id: ContentId,
    /// Whether nothing lies beneath it at the destination, once that was checked.
    is_file: Option<bool>,
}

impl PathRules {
    /// The rules for a source that is listed after `behind`, and for a destination.
    pub(crate) fn of(
        (source, destination): (&Arc<dyn SourceStore>, &Arc<dyn SourceStore>),
        destination_present: bool,
        space: &SpaceId,
        behind: Option<&ContentId>,
    ) -> Self {
        let are_paths = |store: &Arc<dyn SourceStore>| store.capabilities().ids_are_paths;
        let (at_source, at_destination) = match (are_paths(source), are_paths(destination)) {
            (true, true) => (false, false),
            other => other,
        };
        let conflicts = at_destination.then(|| PathConflicts {
            source: Arc::clone(source),
            destination: destination_present.then(|| Arc::clone(destination)),
            space: space.clone(),
            behind: behind.cloned(),
            ancestors: Vec::new(),
        });
        Self { conflicts, at_destination, at_source }
    }

    /// Takes in the source's next item. Returns the item that it conflicts with, if there is one.
    pub(crate) async fn conflict_of(&mut self, id: &ContentId) -> Result<Option<ContentId>, StoreError> {
        match &mut self.conflicts {
            Some(conflicts) => conflicts.conflict_of(id).await,
            None => Ok(None),
        }
    }

    /// Whether an item of the source is only a directory marker at the destination.
    pub(crate) fn is_directory_marker_at_destination(&self, id: &ContentId, size: u64) -> bool {
        self.at_destination && id.is_directory() && size == 0
    }

    /// Whether an item of the destination is only a directory marker at the source.
    pub(crate) fn is_directory_marker_at_source(&self, id: &ContentId, size: u64) -> bool {
        self.at_source && id.is_directory() && size == 0
    }
}

impl PathConflicts {
    async fn conflict_of(&mut self, id: &ContentId) -> Result<Option<ContentId>, StoreError> {
        if let Some(behind) = self.behind.take() {
            self.ancestors = self.before(&behind).await?;
        }
        while self.ancestors.last().is_some_and(|ancestor| !id.as_str().starts_with(ancestor.id.as_str())) {
            self.ancestors.pop();
        }
        let mut by = None;
        for ancestor in &mut self.ancestors {
            if !id.as_str()[ancestor.id.as_str().len()..].starts_with('/') {
                continue;
            }
            let is_file = match (ancestor.is_file, &self.destination) {
                (Some(known), _) => known,
                (None, None) => true,
                (None, Some(destination)) => !has_beneath(&**destination, &self.space, &ancestor.id).await?,
            };
            ancestor.is_file = Some(is_file);
            if is_file {
                by = Some(ancestor.id.clone());
                break;
            }
        }
        if !id.is_directory() {
            self.ancestors.push(Ancestor { id: id.clone(), is_file: None });
        }
        Ok(by)
    }

    /// The source items that later ids may lie beneath: those prefixes of `last`, itself included, after which `/` can still follow.
    async fn before(&self, last: &ContentId) -> Result<Vec<Ancestor>, StoreError> {
        let text = last.as_str();
        let prefix_ends = (1..=text.len()).filter(|end| text.as_bytes().get(*end).is_none_or(|next| *next <= b'/'));
        let ids = prefix_ends.filter_map(|end| ContentId::new(text.get(..end)?).ok()).filter(|id| !id.is_directory());
        let mut ancestors = Vec::new();
        for id in ids {
            let item = ItemAddress { space: self.space.clone(), id };
            match self.source.head(&item).await {
                Ok(Presence::Present(_)) => ancestors.push(Ancestor { id: item.id, is_file: None }),
                Ok(Presence::Absent) => {}
                Err(error) if matches!(error.kind, StoreErrorKind::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ancestors)
    }
}

/// Whether the store has a directory of that name, as an item or with something in it.
async fn has_beneath(store: &dyn SourceStore, space: &SpaceId, id: &ContentId) -> Result<bool, StoreError> {
    let Ok(directory) = ContentId::new(format!("{id}/")) else { return Ok(false) };
    let item = ItemAddress { space: space.clone(), id: directory.clone() };
    match store.head(&item).await {
        Ok(Presence::Present(_)) => return Ok(true),
        Ok(Presence::Absent) => {}
        Err(error) if error.kind == StoreErrorKind::SpaceAbsent => return Ok(false),
        Err(error) => return Err(error),
    }
    directory_has_entries(store, space, &directory).await
}
