//! The folder as a source: `head`, `open` and listings.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use mill_model::ids::escape_bytes_for_display;
use mill_model::{ContentId, ItemAddress, ItemFacts, SpaceId, Version};
use mill_ports::{
    Body, ByteRange, Capabilities, LeftOutEntries, ListPage, Listing, OpenItem, Place, Presence, RefusalReason,
    SourceStore, SpaceFacts, SpaceList, StoreError, StoreErrorKind,
};
use rustix::fs::FileType;

use super::dirents::Dirents;
use super::error::{FileOperation, FolderError};
use super::in_progress::InProgress;
use super::item_path::{IN_PROGRESS, Layout};
use super::item_reader::{self, ItemReader, OpenedItem, ReadOptions};
use super::listing::FolderWalk;
use super::root::RootDir;
use super::{FolderInner, FolderStore, failure_scope, places, properties, space_subject, spelling};

#[async_trait]
impl SourceStore for FolderStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transfers_max: None,
            versions_in_listings: true,
            native_conditions: false,
            versions_identify_objects: true,
            ids_are_paths: true,
        }
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        let found = self.on_root(|folder, root| match &folder.layout {
            Layout::Single(only) => Ok(SpaceList { spaces: vec![only.clone()], left_out: LeftOutEntries::default() }),
            Layout::Spaces => spaces(root),
        });
        found.await.map_err(|error| self.0.error("list the spaces", "", error))
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        let directory = self.0.layout.directory(space).map(str::to_owned);
        let found = self.on_root(move |_, root| match directory {
            Some(directory) => {
                let found = failure_scope::retry_transient_call(|| places::space(root, &directory));
                found.map_err(|error| failure_scope::scope_listing_error(root, &directory, error))
            }
            None => Ok(Presence::Absent),
        });
        found.await.map_err(|error| self.0.error("look", &space_subject(space), error))
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        let facts = async {
            let item_path = self.0.item_path(item)?;
            let found = self.on_root(move |_, root| match item_path {
                Ok(item_path) => Ok(match item_reader::find(root, &item_path)? {
                    Presence::Present(found) => {
                        let shown = found.shown(found.state);
                        let shown = shown.map_err(|errno| FolderError::of(FileOperation::Read, errno))?;
                        Presence::Present((shown, found.stored))
                    }
                    Presence::Absent => Presence::Absent,
                }),
                // The root can be read, and no folder can hold such an item.
                Err(_) => Ok(Presence::Absent),
            });
            match found.await? {
                Presence::Present((state, stored)) => self.0.facts(item, &state, stored).await.map(Presence::Present),
                Presence::Absent => Ok(Presence::Absent),
            }
        };
        facts.await.map_err(|error| self.0.error("look", &item.to_string(), error))
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.opened(item, ReadOptions { range, if_version: if_version.cloned(), uncached: false }).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.opened(item, ReadOptions { range: None, if_version: if_version.cloned(), uncached: true }).await
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        let places = async {
            let Ok(item_path) = self.0.item_path(item)? else {
                // No folder can hold such an item: its only place is the root.
                return self.on_root(|_, root| Ok(vec![root.place()])).await;
            };
            self.on_root(move |_, root| {
                let places = failure_scope::retry_transient_call(|| places::places_on_path(root, &item_path));
                places
                    .map_err(|error| failure_scope::scope_read_error(root, item_path.space(), Some(&item_path), error))
            })
            .await
        };
        places.await.map_err(|error| self.0.error("look", &item.to_string(), error))
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        let directory = self.0.layout.directory(space).map(str::to_owned);
        let folds = self.on_root(move |_, root| match directory {
            Some(directory) => match failure_scope::retry_transient_call(|| item_reader::space(root, &directory)) {
                Ok(_) => failure_scope::retry_transient(|| spelling::folds(root, &directory)).map_err(|errno| {
                    failure_scope::scope_listing_error(root, &directory, FolderError::of(FileOperation::Reach, errno))
                }),
                Err(FolderError { kind: StoreErrorKind::SpaceAbsent, .. }) => Ok(false),
                Err(error) => Err(failure_scope::scope_listing_error(root, &directory, error)),
            },
            None => Ok(false),
        });
        folds.await.map_err(|error| self.0.error("look", &space_subject(space), error))
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        let pages = FolderPages { store: self.clone(), space: space.clone(), after, state: PageState::Start };
        stream::unfold(pages, FolderPages::next).boxed()
    }
}

impl FolderInner {
    async fn facts(
        &self,
        item: &ItemAddress,
        state: &super::file_state::FileState,
        stored: properties::StoredProperties,
    ) -> Result<ItemFacts, FolderError> {
        let bare = properties::bare_facts(state, &*self.clock);
        let map = self.sidecar.resolve(item, &bare.version, stored).await?;
        Ok(properties::with_properties(bare, state, map))
    }
}

impl FolderStore {
    async fn opened(&self, item: &ItemAddress, options: ReadOptions) -> Result<Presence<OpenItem>, StoreError> {
        let reading = async {
            let Ok(item_path) = self.0.item_path(item)? else {
                return self.on_root(|_, _| Ok(Presence::Absent)).await;
            };
            let opened = self.on_root(move |folder, root| {
                if options.uncached {
                    // The name of a verified item must survive a loss of power too. A failed flush is no error of the
                    // read, which sees what the disk holds.
                    folder.flushed_leftovers.call_once(|| {
                        let _ = rustix::fs::syncfs(root);
                    });
                }
                item_reader::open(root, &item_path, &options, folder)
            });
            let Presence::Present(OpenedItem { state, stored, first, rest, attachments }) = opened.await? else {
                return Ok(Presence::Absent);
            };
            let facts = self.0.facts(item, &state, stored).await?;
            Ok(Presence::Present(OpenItem { facts, body: self.body(item, first, rest), attachments }))
        };
        reading.await.map_err(|error| self.0.error("read", &item.to_string(), error))
    }

    fn body(&self, item: &ItemAddress, first: Result<bytes::Bytes, FolderError>, rest: Option<ItemReader>) -> Body {
        let first = match first {
            Ok(bytes) if bytes.is_empty() => return stream::empty().boxed(),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.0.error("read", &item.to_string(), error)),
        };
        let Some(rest) = rest else { return stream::iter([first]).boxed() };
        let space = self.0.layout.directory(&item.space).unwrap_or_default().to_owned();
        let state = (self.clone(), (item.to_string(), space), Some(rest));
        let following = stream::unfold(state, |(store, (subject, space), rest)| async {
            let mut rest = rest.filter(|rest| !rest.is_over())?;
            let within = space.clone();
            let read = store.on_root(move |folder, root| {
                let chunk = rest.chunk(&folder.read_budget);
                Ok((chunk.map_err(|error| failure_scope::scope_read_error(root, &within, None, error)), rest))
            });
            let read = read.await;
            let (chunk, rest) = match read {
                Ok((Ok(bytes), rest)) => (Ok(bytes), Some(rest)),
                Ok((Err(error), _)) | Err(error) => (Err(store.0.error("read", &subject, error)), None),
            };
            Some((chunk, (store, (subject, space), rest)))
        });
        stream::iter([first]).chain(following).boxed()
    }
}

/// The pages of a listing. The next one is read while the caller handles the last.
struct FolderPages {
    store: FolderStore,
    space: SpaceId,
    after: Option<ContentId>,
    state: PageState,
}

enum PageState {
    Start,
    Fetching(tokio::task::JoinHandle<Result<(FolderWalk, ListPage), FolderError>>),
    Done,
}

impl FolderPages {
    async fn next(mut self) -> Option<(Result<ListPage, StoreError>, Self)> {
        let coming = match std::mem::replace(&mut self.state, PageState::Done) {
            PageState::Done => return None,
            PageState::Fetching(coming) => coming,
            PageState::Start => self.fetch_first(),
        };
        let read = coming.await.unwrap_or_else(|lost| Err(FolderError::unexpected(lost)));
        let page = match read {
            Ok((walk, page)) => {
                if !page.end {
                    self.state = PageState::Fetching(self.fetch_next(walk));
                }
                Ok(page)
            }
            Err(error) => {
                let error = self.store.0.error("list", &space_subject(&self.space), error);
                if error.kind == StoreErrorKind::NotConfigured {
                    let root = self.store.0.root.path().display();
                    let _ = self
                        .store
                        .0
                        .met_destination
                        .set(format!("`{root}` may not be copied: {}", mill_ports::error_chain(&error)));
                }
                Err(error)
            }
        };
        Some((page, self))
    }

    fn fetch_first(&mut self) -> tokio::task::JoinHandle<Result<(FolderWalk, ListPage), FolderError>> {
        let folder = Arc::clone(&self.store.0);
        let (space, after) = (self.space.clone(), self.after.take());
        tokio::task::spawn_blocking(move || {
            let directory = folder.layout.directory(&space).ok_or(StoreErrorKind::SpaceAbsent)?;
            let root = folder.root.dir()?;
            let destinations = folder.destination_marks();
            let walk = || {
                FolderWalk::begin(&root, directory, after.as_ref(), (Arc::clone(&folder.clock), destinations.clone()))
            };
            let begun = failure_scope::retry_transient_call(walk);
            let paged = begun.and_then(|mut walk| walk.page().map(|page| (walk, page)));
            paged.map_err(|error| failure_scope::scope_listing_error(&root, directory, error))
        })
    }

    fn fetch_next(&self, mut walk: FolderWalk) -> tokio::task::JoinHandle<Result<(FolderWalk, ListPage), FolderError>> {
        let folder = Arc::clone(&self.store.0);
        let space = self.space.clone();
        tokio::task::spawn_blocking(move || {
            let error = match walk.page() {
                Ok(page) => return Ok((walk, page)),
                Err(error) => error,
            };
            let directory = folder.layout.directory(&space).unwrap_or_default();
            Err(failure_scope::scope_listing_error(&*folder.root.dir()?, directory, error))
        })
    }
}

/// The directories under the root, and the other entries there.
fn spaces(root: &RootDir) -> Result<SpaceList, FolderError> {
    // Opened again: reading a directory moves the offset of its open file description.
    let directory = root.directory("").map_err(|errno| FolderError::of(FileOperation::Reach, errno))?;
    let mut list = SpaceList::default();
    let read = Dirents::with_buffer(32 * 1024).read(&directory, |name, kind| {
        if name == IN_PROGRESS.as_bytes() {
            // Mill's own directory is not reported, unless it contains something foreign.
            if !InProgress::in_directory(root).is_ok_and(|found| found.is_some_and(|found| !found.foreign)) {
                list.left_out.add(|| IN_PROGRESS.to_owned(), RefusalReason::Reserved);
            }
            return true;
        }
        match space(name, kind) {
            Ok(space) => list.spaces.push(space),
            Err(reason) => list.left_out.add(|| escape_bytes_for_display(name), reason),
        }
        true
    });
    read.map_err(|errno| FolderError::of(FileOperation::Reach, errno))?;
    list.spaces.sort_unstable();
    list.left_out.first.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(list)
}

/// The space of a name in the root, or why the name is none.
fn space(name: &[u8], kind: FileType) -> Result<SpaceId, RefusalReason> {
    match item_reader::refusal(kind) {
        Some(refusal) => return Err(refusal),
        None if kind != FileType::Directory => return Err(RefusalReason::OutsideSpaces),
        None => {}
    }
    let name = std::str::from_utf8(name).map_err(|_| RefusalReason::NotUtf8)?;
    SpaceId::new(name).map_err(|error| RefusalReason::InvalidSpaceName(error.why))
}
