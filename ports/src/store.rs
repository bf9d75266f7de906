//! Stores: content is read from them and written to them.

mod attachments;
mod error;
mod listing;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{
    AccountId, Checksum, ContentId, ItemAddress, ItemFacts, Properties, SpaceId, SpacePair, StoreId, Timestamp, Version,
};

pub use self::attachments::{Attachments, TagReader, Tags, TagsWritten};
pub use self::error::{RefusalReason, StoreError, StoreErrorKind};
pub use self::listing::{LeftOutEntries, ListEntry, ListPage, Listing, Place, SpaceList, directory_has_entries};

/// The answer to a lookup. `Absent` is a definite no from a store (for items: from a space) that answers; any doubt is
/// an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence<T> {
    /// It is there.
    Present(T),
    /// It is certainly not there.
    Absent,
}

impl<T> Presence<T> {
    /// What is there, if anything.
    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(found) => Some(found),
            Self::Absent => None,
        }
    }

    /// Borrows what is there.
    pub fn as_ref(&self) -> Presence<&T> {
        match self {
            Self::Present(found) => Presence::Present(found),
            Self::Absent => Presence::Absent,
        }
    }
}

/// The bytes of an item, as a stream that is read once.
pub type Body = BoxStream<'static, Result<Bytes, StoreError>>;

/// A store that can only be read, such as the source of duplication. No method changes anything.
#[async_trait]
pub trait SourceStore: fmt::Debug + Send + Sync + 'static {
    /// What the back end can do.
    fn capabilities(&self) -> Capabilities;

    /// All spaces, and the entries beside them that belong to no space. The answer is complete or an error.
    async fn list_spaces(&self) -> Result<SpaceList, StoreError>;

    /// All spaces, in order. The answer is complete or an error.
    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        Ok(self.list_spaces().await?.spaces)
    }

    /// Whether a space exists. `Absent` only if the store itself answers.
    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError>;

    /// The facts of an item, with its properties. `Absent` only if its space answers.
    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError>;

    /// Opens an item, or a range of it, for reading; with `if_version`, only in that state.
    ///
    /// The stream ends in [`StoreErrorKind::Changed`] when the item changed while it was read, and in
    /// [`StoreErrorKind::Unexpected`] when the number of bytes is not the one that `facts.size` says.
    ///
    /// # Errors
    /// [`StoreErrorKind::Changed`] when the item is not in the state `if_version`.
    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError>;

    /// Opens a whole item for reading, in the state `if_version`, and bypasses every cache of this host: the bytes come
    /// from the device or service itself. Comparisons that prove a copy use it.
    ///
    /// Otherwise like [`open`](Self::open), which is the default for stores that no cache of this host serves.
    ///
    /// # Errors
    /// [`StoreErrorKind::OnlyCached`] when the caches cannot be bypassed: then nothing is proven of the item.
    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.open(item, None, if_version).await
    }

    /// The places on the way to an item, outermost first: the one with an empty path, then each mount above the item.
    /// Each is opened before it is identified. An absent item has places too.
    ///
    /// # Errors
    /// As [`head`](Self::head): if the way to the item cannot be followed, nothing is known of it.
    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError>;

    /// Lists a space's items in byte order of their ids, from the first one after `after`.
    ///
    /// An item that exists all the while is listed once. What cannot be an item is listed as refused. An absent space
    /// is an error ([`StoreErrorKind::SpaceAbsent`]), not an empty listing.
    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing;

    /// Whether the store treats names that differ only in case or Unicode normal form as one, as far as can be found
    /// out for a space. An item that vanished there may still exist under another spelling. See
    /// [`fold_name`](mill_model::name_folding::fold_name).
    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        let _ = space;
        Ok(false)
    }

    /// Where the service behind this store keeps an item, so that a destination of the same service can
    /// [copy](DestinationStore::server_side_copy) it without Mill moving the bytes. `None` if there is no such service,
    /// or if it keeps no checksum among `facts` that could verify the copy.
    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        let _ = (item, facts);
        None
    }
}

/// A store that can be written: duplication's destination. Nothing can be deleted through it.
#[async_trait]
pub trait DestinationStore: SourceStore {
    /// Creates a space. Does nothing if it exists.
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError>;

    /// Writes an item whole or not at all; it is durable when this returns. `body` must yield `content.size` bytes; an
    /// error in `body` is returned unchanged, and nothing is written.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when `when` does not hold; [`StoreErrorKind::Refused`] for an item that the
    /// back end cannot hold.
    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError>;

    /// Writes an item whole or not at all, durable when this returns, with bytes that the service behind both stores
    /// copies by itself. It copies `origin` in the state that the source reported, and the service verifies the copy by
    /// a checksum that it keeps. `None`, and nothing is written, if it cannot copy the item or prefers a
    /// [`put`](Self::put).
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when `when` does not hold, or `origin` has changed since;
    /// [`StoreErrorKind::Damaged`] when its bytes do not match the checksum; otherwise as [`put`](Self::put).
    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        let _ = (item, content, when, origin, going);
        Ok(None)
    }

    /// Replaces all properties of an item and keeps its bytes.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when `when` does not hold.
    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError>;

    /// Changes the spelling of a name in a store that treats both spellings as [one name](RefusalReason::Twin), such as
    /// a change of case alone. `false` if nothing has the old spelling.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when the item that was compared is not in the state that was compared;
    /// [`RefusalReason::Twin`] if both exist, or the store keeps the old spelling.
    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let _ = (space, respelling);
        Ok(false)
    }

    /// Removes what crashed writers left unfinished, if it is certainly theirs. Call it once when a store is opened for
    /// writing. What cannot be removed now is left for the next call.
    async fn remove_stale_uploads(&self) {}
}

/// A destination from which items and spaces can be deleted. Only `remove` tasks hold one.
#[async_trait]
pub trait DeletableStore: DestinationStore {
    /// Removes an empty space. Does nothing if it is absent.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when anything is in it.
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError>;

    /// Deletes an item. `Absent` if it was absent already.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when `when` does not hold.
    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError>;
}

/// Opens stores by account and id, for processors and producers.
#[async_trait]
pub trait Stores: fmt::Debug + Send + Sync + 'static {
    /// Opens a store for reading.
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError>;

    /// Opens a store for writing.
    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError>;

    /// Opens a store for deleting.
    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError>;

    /// Checks that the two stores of a policy share no content, whatever their names are. Called each time before
    /// anything is compared or written, because mounts may change.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotConfigured`] when they do.
    async fn check_no_overlap(
        &self,
        account: &AccountId,
        source: &StoreId,
        destination: &StoreId,
    ) -> Result<(), StoreError> {
        let _ = (account, source, destination);
        Ok(())
    }

    /// Checks that no other Mill of this host keeps this destination space in sync: no other account, store, mirror or
    /// installation that writes to the same place. With `claim`, a place without an owner becomes this store's. Returns
    /// `false` if the space does not exist yet and so cannot be owned: call again after it is created, before anything
    /// is written into it.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] with [`RefusalReason::ForeignDestination`] when another Mill owns it, or when the source is a
    /// copy of it.
    async fn ensure_owned(&self, pair: &SpacePair, claim: bool) -> Result<bool, StoreError> {
        let _ = (pair, claim);
        Ok(true)
    }
}

impl dyn Stores + '_ {
    /// Checks by [`Stores::check_no_overlap`]. Every reader and writer of a pair calls this before it touches either
    /// store.
    ///
    /// # Errors
    /// As [`Stores::check_no_overlap`].
    pub async fn ensure_no_overlap(
        &self,
        account: &AccountId,
        source: &StoreId,
        destination: &StoreId,
    ) -> Result<(), StoreError> {
        if is_planted(PlantedBug::OverlapByText) && source != destination {
            return Ok(());
        }
        self.check_no_overlap(account, source, destination).await
    }
}

/// The state in which a write must find the item. Concurrent writes are decided by it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Any.
    Always,
    /// It must not be there.
    Absent,
    /// It must be in this state.
    VersionIs(Version),
}

/// Another spelling for the last name of a path in a space. Paths that end in `/` name a directory with everything in
/// it; other paths name one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respelling {
    /// The path as the store spells it.
    pub from: String,
    /// The same path with the new spelling of its last name.
    pub to: String,
    /// The item that was compared, as the store spells it: the item at `from`, or one in that directory.
    pub compared: ContentId,
    /// The state in which it was compared. In any other state it may be a copy of another item.
    pub version: Version,
}

/// What to write of an item, except its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRequest {
    /// The number of bytes.
    pub size: u64,
    /// All its properties.
    pub properties: Properties,
    /// What belongs to it beside these.
    pub attachments: Attachments,
}

impl PutRequest {
    /// An item of this size with these properties, and nothing beside them.
    pub fn new(size: u64, properties: Properties) -> Self {
        Self { size, properties, attachments: Attachments::default() }
    }
}

/// What a back end can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is a question of its own
pub struct Capabilities {
    /// The most concurrent transfers; `None` for no limit.
    pub transfers_max: Option<u32>,
    /// Whether listings report the same versions as `head`.
    pub versions_in_listings: bool,
    /// Whether the store itself decides `Precondition::VersionIs` (else Mill checks and writes under its own lock).
    pub native_conditions: bool,
    /// Whether a version identifies the object itself: two items of one version are the same object, even in two
    /// stores, such as one file with two links.
    pub versions_identify_objects: bool,
    /// Whether ids are paths of files in directories. Then only one of `a` and `a/b` can exist, and the directory `a/`
    /// is listed only while it is empty.
    pub ids_are_paths: bool,
}

/// Whether an item of one store and an item of another are the same object, so that neither is a copy of the other.
pub fn is_same_object<A, B>((a, of_a): (&A, &Version), (b, of_b): (&B, &Version)) -> bool
where
    A: SourceStore + ?Sized,
    B: SourceStore + ?Sized,
{
    let named = a.capabilities().versions_identify_objects && b.capabilities().versions_identify_objects;
    named && of_a.token() == of_b.token()
}

/// The identity of a space: it distinguishes a space that is gone from one that is not mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceFacts {
    /// Distinguishes this space from another of the same id (a folder: device and inode).
    pub identity: String,
}

/// An item opened for reading.
pub struct OpenItem {
    /// Its facts in the state that is read.
    pub facts: ItemFacts,
    /// The bytes.
    pub body: Body,
    /// What belongs to it beside its properties.
    pub attachments: Attachments,
}

impl fmt::Debug for OpenItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenItem").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Progress callback. Receives the bytes copied since the last call; return `false` to abort: then nothing is written
/// and the call returns an error. Called once more with 0 right before the item becomes visible.
pub type CopyProgress<'a> = &'a (dyn Fn(u64) -> bool + Send + Sync);

/// An item's place in a service, in one state. Only the adapters of that service know what is in it.
#[derive(Clone)]
pub struct CopySource(Arc<dyn Any + Send + Sync>);

impl CopySource {
    /// The place, in the adapter's own form.
    pub fn new(place: impl Any + Send + Sync) -> Self {
        Self(Arc::new(place))
    }

    /// The place, if it is of this form.
    pub fn place<P: Any>(&self) -> Option<&P> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for CopySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CopySource")
    }
}

/// A range of an item's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub offset: u64,
    /// The number of bytes.
    pub length: u64,
}

/// The result of a write.
#[derive(Debug, Clone)]
pub struct PutResult {
    /// The item's state now.
    pub version: Version,
    /// The checksums that the store itself computed; may be empty.
    pub checksums: Vec<Checksum>,
    /// When the store wrote it.
    pub at: Option<Timestamp>,
    /// What became of the item's tags.
    pub tags: TagsWritten,
}
