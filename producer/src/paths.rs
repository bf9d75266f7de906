//! Ids that are paths at one side only: what a folder makes of a bucket's ids, and a bucket of a folder's.
//!
//! A bucket may hold `a`, `a/b` and `a/` at once. In a folder `a` is a file or a directory, and `a/`, which consoles make as a
//! sign for a folder, is there wherever something lies in it.
//!
//! | source has | destination, a folder, has | |
//! |---|---|---|
//! | `a` and `a/b` | something beneath `a/` | `a/b` is copied; `a` is refused by its own task |
//! | `a` and `a/b` | nothing beneath `a/` | `a` is copied, the first in the order of ids; `a/b` is refused by name |
//! | `a/`, empty | something beneath `a/` | in sync, once the task has seen that its properties are kept |
//!
//! So what is there stays, in a first run the order of ids decides, and no worker's pace does. It costs nothing until the
//! listing of the source shows two that exclude each other; then one page of the destination's. A listing that goes on
//! behind a marker asks the source for the few ids that may stand before it.

use std::sync::Arc;

use mill_model::{ContentId, ItemAddress, SpaceId};
use mill_ports::{Presence, SourceStore, StoreError, StoreErrorKind, holds_anything};

/// The ids of both sides of a merge as paths.
#[derive(Default)]
pub(crate) struct Paths {
    /// At both sides, where only the destination's are.
    crowding: Option<Crowding>,
    /// Whether only the destination's ids are paths.
    at_destination: bool,
    /// Whether only the source's are.
    at_source: bool,
}

/// Finds the items in whose place directories would have to be made.
struct Crowding {
    source: Arc<dyn SourceStore>,
    /// The destination, where its space is there.
    destination: Option<Arc<dyn SourceStore>>,
    space: SpaceId,
    /// The id behind which the source is listed, until it was asked what stands before.
    behind: Option<ContentId>,
    /// The items of the source with whose ids the last id begins, the shortest first.
    above: Vec<Above>,
}

struct Above {
    id: ContentId,
    /// Whether nothing lies beneath it at the destination, once that was asked.
    is_file: Option<bool>,
}

impl Paths {
    /// Of a source listed behind `behind` and a destination, if that is there.
    pub(crate) fn of(
        (source, destination): (&Arc<dyn SourceStore>, &Arc<dyn SourceStore>),
        destination_here: bool,
        space: &SpaceId,
        behind: Option<&ContentId>,
    ) -> Self {
        let are_paths = |store: &Arc<dyn SourceStore>| store.capabilities().ids_are_paths;
        let (at_source, at_destination) = match (are_paths(source), are_paths(destination)) {
            (true, true) => (false, false),
            other => other,
        };
        let crowding = at_destination.then(|| Crowding {
            source: Arc::clone(source),
            destination: destination_here.then(|| Arc::clone(destination)),
            space: space.clone(),
            behind: behind.cloned(),
            above: Vec::new(),
        });
        Self { crowding, at_destination, at_source }
    }

    /// Takes notice of the source's next item. The one that has its place, if another has.
    pub(crate) async fn pass(&mut self, id: &ContentId) -> Result<Option<ContentId>, StoreError> {
        match &mut self.crowding {
            Some(crowding) => crowding.pass(id).await,
            None => Ok(None),
        }
    }

    /// Whether an item of the source is only the sign for a directory, to the destination.
    pub(crate) fn is_sign_at_destination(&self, id: &ContentId, size: u64) -> bool {
        self.at_destination && id.is_directory() && size == 0
    }

    /// Whether an item of the destination is only the sign for a directory, to the source.
    pub(crate) fn is_sign_at_source(&self, id: &ContentId, size: u64) -> bool {
        self.at_source && id.is_directory() && size == 0
    }
}

impl Crowding {
    async fn pass(&mut self, id: &ContentId) -> Result<Option<ContentId>, StoreError> {
        if let Some(behind) = self.behind.take() {
            self.above = self.before(&behind).await?;
        }
        while self.above.last().is_some_and(|above| !id.as_str().starts_with(above.id.as_str())) {
            self.above.pop();
        }
        let mut by = None;
        for above in &mut self.above {
            if !id.as_str()[above.id.as_str().len()..].starts_with('/') {
                continue;
            }
            let is_file = match (above.is_file, &self.destination) {
                (Some(known), _) => known,
                (None, None) => true,
                (None, Some(destination)) => !has_beneath(&**destination, &self.space, &above.id).await?,
            };
            above.is_file = Some(is_file);
            if is_file {
                by = Some(above.id.clone());
                break;
            }
        }
        if !id.is_directory() {
            self.above.push(Above { id: id.clone(), is_file: None });
        }
        Ok(by)
    }

    /// The items up to `last` with which ids behind it can begin: those of its own beginnings that a `/` can follow yet.
    async fn before(&self, last: &ContentId) -> Result<Vec<Above>, StoreError> {
        let text = last.as_str();
        let ends = (1..=text.len()).filter(|end| text.as_bytes().get(*end).is_none_or(|next| *next <= b'/'));
        let ids = ends.filter_map(|end| ContentId::new(text.get(..end)?).ok()).filter(|id| !id.is_directory());
        let mut above = Vec::new();
        for id in ids {
            let item = ItemAddress { space: self.space.clone(), id };
            match self.source.head(&item).await {
                Ok(Presence::Present(_)) => above.push(Above { id: item.id, is_file: None }),
                Ok(Presence::Absent) => {}
                Err(error) if matches!(error.kind, StoreErrorKind::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(above)
    }
}

/// Whether a directory of that name is there, with something in it or as an item.
async fn has_beneath(store: &dyn SourceStore, space: &SpaceId, id: &ContentId) -> Result<bool, StoreError> {
    let Ok(directory) = ContentId::new(format!("{id}/")) else { return Ok(false) };
    let item = ItemAddress { space: space.clone(), id: directory.clone() };
    match store.head(&item).await {
        Ok(Presence::Present(_)) => return Ok(true),
        Ok(Presence::Absent) => {}
        Err(error) if error.kind == StoreErrorKind::SpaceAbsent => return Ok(false),
        Err(error) => return Err(error),
    }
    holds_anything(store, space, &directory).await
}
