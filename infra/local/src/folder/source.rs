//! The folder as a source: looking, reading, listing.

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
use super::faults::{During, Fault};
use super::in_progress::InProgress;
use super::listing::Walk;
use super::place::{IN_PROGRESS, Layout};
use super::reading::{self, Opened, Rest, Wanted};
use super::root::RootDir;
use super::{Folder, FolderStore, kept, places, reach, space_subject, spelling};

#[async_trait]
impl SourceStore for FolderStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transfers_max: None,
            versions_in_listings: true,
            native_conditions: false,
            versions_name_things: true,
            ids_are_paths: true,
        }
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        let found = self.on_root(|folder, root| match &folder.layout {
            Layout::Single(only) => Ok(SpaceList { spaces: vec![only.clone()], left_out: LeftOutEntries::default() }),
            Layout::Spaces => spaces(root),
        });
        found.await.map_err(|fault| self.0.error("list the spaces", "", fault))
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        let directory = self.0.layout.directory(space).map(str::to_owned);
        let found = self.on_root(move |_, root| match directory {
            Some(directory) => {
                let found = reach::patiently_done(|| places::space(root, &directory));
                found.map_err(|fault| reach::of_listing(root, &directory, fault))
            }
            None => Ok(Presence::Absent),
        });
        found.await.map_err(|fault| self.0.error("look", &space_subject(space), fault))
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        let facts = async {
            let place = self.0.place(item)?;
            let found = self.on_root(move |_, root| match place {
                Ok(place) => Ok(match reading::find(root, &place)? {
                    Presence::Present(found) => Presence::Present((found.stamp, found.kept)),
                    Presence::Absent => Presence::Absent,
                }),
                // The root answers; and no folder holds such an item.
                Err(_) => Ok(Presence::Absent),
            });
            match found.await? {
                Presence::Present((stamp, kept)) => self.0.facts(item, &stamp, kept).await.map(Presence::Present),
                Presence::Absent => Ok(Presence::Absent),
            }
        };
        facts.await.map_err(|fault| self.0.error("look", &item.to_string(), fault))
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.opened(item, Wanted { range, if_version: if_version.cloned(), uncached: false }).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.opened(item, Wanted { range: None, if_version: if_version.cloned(), uncached: true }).await
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        let places = async {
            let Ok(place) = self.0.place(item)? else {
                // No folder holds such an item; what could be known of it is known of the root.
                return self.on_root(|_, root| Ok(vec![root.place()])).await;
            };
            self.on_root(move |_, root| {
                let places = reach::patiently_done(|| places::on_the_way(root, &place));
                places.map_err(|fault| reach::of_read(root, place.space(), Some(&place), fault))
            })
            .await
        };
        places.await.map_err(|fault| self.0.error("look", &item.to_string(), fault))
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        let directory = self.0.layout.directory(space).map(str::to_owned);
        let folds = self.on_root(move |_, root| match directory {
            Some(directory) => match reach::patiently_done(|| reading::space(root, &directory)) {
                Ok(_) => reach::patiently(|| spelling::folds(root, &directory))
                    .map_err(|errno| reach::of_listing(root, &directory, Fault::of(During::Reach, errno))),
                Err(Fault { kind: StoreErrorKind::SpaceAbsent, .. }) => Ok(false),
                Err(fault) => Err(reach::of_listing(root, &directory, fault)),
            },
            None => Ok(false),
        });
        folds.await.map_err(|fault| self.0.error("look", &space_subject(space), fault))
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        let pages = Pages { store: self.clone(), space: space.clone(), after, state: State::Begin };
        stream::unfold(pages, Pages::next).boxed()
    }
}

impl Folder {
    async fn facts(
        &self,
        item: &ItemAddress,
        stamp: &super::stamp::Stamp,
        kept: kept::Kept,
    ) -> Result<ItemFacts, Fault> {
        let bare = kept::bare_facts(stamp, &*self.clock);
        let map = self.sidecar.resolve(item, &bare.version, kept).await?;
        Ok(kept::with_properties(bare, stamp, map))
    }
}

impl FolderStore {
    async fn opened(&self, item: &ItemAddress, wanted: Wanted) -> Result<Presence<OpenItem>, StoreError> {
        let reading = async {
            let Ok(place) = self.0.place(item)? else {
                return self.on_root(|_, _| Ok(Presence::Absent)).await;
            };
            let opened = self.on_root(move |folder, root| {
                if wanted.uncached {
                    // The name of what is proven must not be gone after a loss of power either. Whatever fails to be
                    // flushed is no reading's failure: what the disk holds is seen.
                    folder.settled.call_once(|| {
                        let _ = rustix::fs::syncfs(root);
                    });
                }
                reading::open(root, &place, &wanted, folder)
            });
            let Presence::Present(Opened { stamp, kept, first, rest }) = opened.await? else {
                return Ok(Presence::Absent);
            };
            let facts = self.0.facts(item, &stamp, kept).await?;
            Ok(Presence::Present(OpenItem { facts, body: self.body(item, first, rest) }))
        };
        reading.await.map_err(|fault| self.0.error("read", &item.to_string(), fault))
    }

    fn body(&self, item: &ItemAddress, first: Result<bytes::Bytes, Fault>, rest: Option<Rest>) -> Body {
        let first = match first {
            Ok(bytes) if bytes.is_empty() => return stream::empty().boxed(),
            Ok(bytes) => Ok(bytes),
            Err(fault) => Err(self.0.error("read", &item.to_string(), fault)),
        };
        let Some(rest) = rest else { return stream::iter([first]).boxed() };
        let space = self.0.layout.directory(&item.space).unwrap_or_default().to_owned();
        let state = (self.clone(), (item.to_string(), space), Some(rest));
        let following = stream::unfold(state, |(store, (subject, space), rest)| async {
            let mut rest = rest.filter(|rest| !rest.is_over())?;
            let within = space.clone();
            let read = store.on_root(move |folder, root| {
                let chunk = rest.chunk(&folder.reading);
                Ok((chunk.map_err(|fault| reach::of_read(root, &within, None, fault)), rest))
            });
            let read = read.await;
            let (chunk, rest) = match read {
                Ok((Ok(bytes), rest)) => (Ok(bytes), Some(rest)),
                Ok((Err(fault), _)) | Err(fault) => (Err(store.0.error("read", &subject, fault)), None),
            };
            Some((chunk, (store, (subject, space), rest)))
        });
        stream::iter([first]).chain(following).boxed()
    }
}

/// The pages of a listing. The next is read while the last is dealt with.
struct Pages {
    store: FolderStore,
    space: SpaceId,
    after: Option<ContentId>,
    state: State,
}

enum State {
    Begin,
    OpenItem(tokio::task::JoinHandle<Result<(Walk, ListPage), Fault>>),
    Over,
}

impl Pages {
    async fn next(mut self) -> Option<(Result<ListPage, StoreError>, Self)> {
        let coming = match std::mem::replace(&mut self.state, State::Over) {
            State::Over => return None,
            State::OpenItem(coming) => coming,
            State::Begin => self.begin(),
        };
        let read = coming.await.unwrap_or_else(|lost| Err(Fault::unexpected(lost)));
        let page = match read {
            Ok((walk, page)) => {
                if !page.end {
                    self.state = State::OpenItem(self.on(walk));
                }
                Ok(page)
            }
            Err(fault) => {
                let error = self.store.0.error("list", &space_subject(&self.space), fault);
                if error.kind == StoreErrorKind::NotConfigured {
                    let root = self.store.0.root.path().display();
                    let _ = self
                        .store
                        .0
                        .met
                        .set(format!("`{root}` may not be copied: {}", mill_ports::error_chain(&error)));
                }
                Err(error)
            }
        };
        Some((page, self))
    }

    fn begin(&mut self) -> tokio::task::JoinHandle<Result<(Walk, ListPage), Fault>> {
        let folder = Arc::clone(&self.store.0);
        let (space, after) = (self.space.clone(), self.after.take());
        tokio::task::spawn_blocking(move || {
            let directory = folder.layout.directory(&space).ok_or(StoreErrorKind::SpaceAbsent)?;
            let root = folder.root.dir()?;
            let fed = folder.fed_marks();
            let walk = || Walk::begin(&root, directory, after.as_ref(), (Arc::clone(&folder.clock), fed.clone()));
            let begun = reach::patiently_done(walk);
            let paged = begun.and_then(|mut walk| walk.page().map(|page| (walk, page)));
            paged.map_err(|fault| reach::of_listing(&root, directory, fault))
        })
    }

    fn on(&self, mut walk: Walk) -> tokio::task::JoinHandle<Result<(Walk, ListPage), Fault>> {
        let folder = Arc::clone(&self.store.0);
        let space = self.space.clone();
        tokio::task::spawn_blocking(move || {
            let fault = match walk.page() {
                Ok(page) => return Ok((walk, page)),
                Err(fault) => fault,
            };
            let directory = folder.layout.directory(&space).unwrap_or_default();
            Err(reach::of_listing(&*folder.root.dir()?, directory, fault))
        })
    }
}

/// The directories under the root, and what else stands there.
fn spaces(root: &RootDir) -> Result<SpaceList, Fault> {
    // Opened again: whoever reads a directory moves the place up to which it is read.
    let directory = root.directory("").map_err(|errno| Fault::of(During::Reach, errno))?;
    let mut list = SpaceList::default();
    let read = Dirents::with_buffer(32 * 1024).read(&directory, |name, kind| {
        if name == IN_PROGRESS.as_bytes() {
            // Of what is Mill's own, nothing is anybody's.
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
    read.map_err(|errno| Fault::of(During::Reach, errno))?;
    list.spaces.sort_unstable();
    list.left_out.first.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(list)
}

/// The space that a name in the root stands for, or why it can be none.
fn space(name: &[u8], kind: FileType) -> Result<SpaceId, RefusalReason> {
    match reading::refusal(kind) {
        Some(refusal) => return Err(refusal),
        None if kind != FileType::Directory => return Err(RefusalReason::InNoSpace),
        None => {}
    }
    let name = std::str::from_utf8(name).map_err(|_| RefusalReason::NotUtf8)?;
    SpaceId::new(name).map_err(|error| RefusalReason::NoSpaceName(error.why))
}
