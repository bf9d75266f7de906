//! Stores: where content is read from and written to.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use mill_model::{
    AccountId, Checksum, ContentId, ItemAddress, ItemFacts, Properties, SpaceId, StoreAddress, StoreId, Timestamp,
    Version,
};

use crate::BoxError;
use crate::planted_bugs::{PlantedBug, planted};

/// `Absent` is a definite no from a store (for items: from a space) that answers; everything else is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence<T> {
    /// It is there.
    Present(T),
    /// It is surely not there.
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

    /// The same about what is there.
    pub fn as_ref(&self) -> Presence<&T> {
        match self {
            Self::Present(found) => Presence::Present(found),
            Self::Absent => Presence::Absent,
        }
    }
}

/// The bytes of an item, once.
pub type Body = BoxStream<'static, Result<Bytes, StoreError>>;

/// The pages of a listing. One that is over before a page with `end` is an error of the store, never an end.
pub type Listing = BoxStream<'static, Result<ListPage, StoreError>>;

/// A store that can only be read: duplication's source. No method of it changes anything.
#[async_trait]
pub trait SourceStore: fmt::Debug + Send + Sync + 'static {
    /// What the back end can do.
    fn capabilities(&self) -> Capabilities;

    /// All spaces, and what stands beside them and can be in none. The answer is complete or an error.
    async fn list_spaces(&self) -> Result<SpaceList, StoreError>;

    /// All spaces, in order. The answer is complete or an error.
    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        Ok(self.list_spaces().await?.spaces)
    }

    /// Whether a space is there. `Absent` only where the store itself answers.
    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError>;

    /// What is known of an item, its properties included. `Absent` only where its space answers.
    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError>;

    /// Opens an item to be read, all of it or a range; with `if_version` only in that state.
    ///
    /// The stream ends in [`StoreErrorKind::Changed`] when the item did not keep one state while it was read, and in
    /// [`StoreErrorKind::Unexpected`] when fewer or more bytes came than `facts.size` says.
    ///
    /// # Errors
    /// [`StoreErrorKind::Changed`] when the item is not in the state `if_version`.
    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError>;

    /// Opens an item to be read whole, in the state `if_version`, past every cache of this host: the bytes are those that
    /// the device or service gives, not those that somebody meant to write. Comparisons that prove a copy read so.
    ///
    /// Otherwise as [`open`](Self::open), which a store without a cache of its own keeps.
    ///
    /// # Errors
    /// [`StoreErrorKind::OnlyCached`] when no such reading can be had: nothing is proven of the item then.
    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.open(item, None, if_version).await
    }

    /// The places on the way to an item, outermost first: the one with an empty path, then each mount above the item.
    /// They are judged after each was opened. An item that is not there has its places all the same.
    ///
    /// # Errors
    /// As [`head`](Self::head): where the way to the item cannot be followed, nothing is known of it.
    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError>;

    /// Lists a space's items in the order of their ids' bytes, those after `after`.
    ///
    /// An item that is there all the while is listed once. What cannot be an item is listed as refused.
    /// An absent space is an error ([`StoreErrorKind::SpaceAbsent`]), not an empty listing.
    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing;

    /// Whether the store takes names for one another that differ in case or normal form, as far as can be told of a space:
    /// what vanished there may be there under another spelling. See [`folded`](mill_model::name_folding::fold_name).
    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        let _ = space;
        Ok(false)
    }

    /// Where an item stands in the service behind this store, for a destination of the same service that may
    /// [copy](DestinationStore::server_side_copy) it by itself. `None` where there is no such service, or where it keeps nothing of
    /// these `facts` by which it could judge what it took.
    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        let _ = (item, facts);
        None
    }
}

/// A store that can be written: duplication's destination. Nothing can be deleted through it.
#[async_trait]
pub trait DestinationStore: SourceStore {
    /// Makes a space. One that is there already is fine.
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError>;

    /// Writes an item whole or not at all, durably before it answers. `content.size` bytes must come from `body`;
    /// an error in `body` is given back as it is, and nothing is written then.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when `when` does not hold; [`StoreErrorKind::Refused`] for what the back end
    /// cannot hold.
    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError>;

    /// Writes an item whole or not at all, durably before it answers, with bytes that the service behind both stores brings
    /// by itself: those of the state that the origin was told of, judged by the service by a checksum that it kept of them.
    /// `None`, and nothing is written, where it cannot or would rather be given the bytes.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when `when` does not hold, or the origin is not in that state any more;
    /// [`StoreErrorKind::Damaged`] when its bytes are not those of the checksum; as [`put`](Self::put) else.
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

    /// Replaces all properties of an item, and keeps its bytes.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when `when` does not hold.
    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError>;

    /// Gives something another spelling of its name, in a store that takes the two for [one](RefusalReason::Twin): a change of case
    /// alone, say. `false` where there is no such thing.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when the item that was compared is not in the state that was compared;
    /// [`RefusalReason::Twin`] where both are there, or the store keeps the spelling as it is.
    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let _ = (space, respelling);
        Ok(false)
    }

    /// Removes what writers that died left unfinished, as far as it is surely theirs; to be called once when a store is
    /// opened to be written. Where it cannot be done it is left for another time.
    async fn remove_stale_uploads(&self) {}
}

/// A destination from which items and spaces can be deleted. Only tasks of the kind `remove` hold one.
#[async_trait]
pub trait DeletableStore: DestinationStore {
    /// Removes a space that holds nothing. Absent already is fine.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when anything is in it.
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError>;

    /// Deletes an item. Absent already is `Absent`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Precondition`] when `when` does not hold.
    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError>;
}

/// How a processor gets "store 2 of this account".
#[async_trait]
pub trait Stores: fmt::Debug + Send + Sync + 'static {
    /// A store to be read.
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError>;

    /// A store to be written.
    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError>;

    /// A store from which something is to be deleted.
    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError>;

    /// Makes sure that the two stores of a policy hold no content in common, whatever their names are. Asked before
    /// anything is compared or written, each time: what is mounted where may change.
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

    /// Makes sure that a space of a destination is kept in sync by no other Mill of this host: another account, store,
    /// mirror or installation that writes the same place. With `claim`, one that is nobody's becomes this store's; `false`
    /// where it is not there yet, so that it can be nobody's: ask again once it was made, before anything is written into it.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] with [`RefusalReason::ForeignDestination`] when it is another's.
    async fn ensure_owned(
        &self,
        account: &AccountId,
        destination: &StoreId,
        space: &SpaceId,
        claim: bool,
    ) -> Result<bool, StoreError> {
        let _ = (account, destination, space, claim);
        Ok(true)
    }
}

impl dyn Stores + '_ {
    /// Asks [`Stores::check_no_overlap`]: what every reader and writer of a pair calls before it touches either store.
    ///
    /// # Errors
    /// As there.
    pub async fn ensure_no_overlap(
        &self,
        account: &AccountId,
        source: &StoreId,
        destination: &StoreId,
    ) -> Result<(), StoreError> {
        if planted(PlantedBug::OverlapByText) && source != destination {
            return Ok(());
        }
        self.check_no_overlap(account, source, destination).await
    }
}

/// The one place where concurrency is decided: in which state a write may meet the item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Any.
    Always,
    /// It must not be there.
    Absent,
    /// It must be in this state.
    VersionIs(Version),
}

/// Another spelling for the last name of a path in a space. With `/` at their ends the paths are those of a directory with
/// all that lies in it, without it of an item alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respelling {
    /// The path as the store spells it.
    pub from: String,
    /// The same, its last name as it is to be spelled.
    pub to: String,
    /// The item that was compared, as the store spells it: the one at `from`, or one that lies in that directory.
    pub compared: ContentId,
    /// The state in which it was compared. In another it may be another item's copy.
    pub version: Version,
}

/// What is to be written of an item, its bytes apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRequest {
    /// How many bytes will come.
    pub size: u64,
    /// All its properties.
    pub properties: Properties,
}

/// What a back end can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is a question of its own
pub struct Capabilities {
    /// Most transfers at once that it takes; `None` for no cap.
    pub transfers_max: Option<u32>,
    /// Whether listings give versions that tell the same as `head`'s.
    pub versions_in_listings: bool,
    /// Whether `Precondition::VersionIs` is decided by the store itself (else check and write under Mill's own lock).
    pub native_conditions: bool,
    /// Whether a version names the very thing: items of one version are one, in two stores too, as a file that both link to.
    pub versions_identify_objects: bool,
    /// Whether ids are paths of files in directories: of the items `a` and `a/b` it holds one, and `a/` is listed only while
    /// nothing lies in it, though it is there.
    pub ids_are_paths: bool,
}

/// Whether a listing of the space has anything that lies in `directory`, an id that ends in `/`, itself left out. In a space
/// that is not there nothing does.
///
/// # Errors
/// Those of the listing.
pub async fn directory_has_entries<S: SourceStore + ?Sized>(
    store: &S,
    space: &SpaceId,
    directory: &ContentId,
) -> Result<bool, StoreError> {
    let mut pages = store.list(space, Some(directory.clone()));
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) if page.entries.is_empty() && !page.end => {}
            Ok(page) => return Ok(page.entries.first().is_some_and(|entry| entry.lies_in(directory))),
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether an item of one store and one of another are one thing, and so neither is a copy of the other.
pub fn is_same_object<A, B>((a, of_a): (&A, &Version), (b, of_b): (&B, &Version)) -> bool
where
    A: SourceStore + ?Sized,
    B: SourceStore + ?Sized,
{
    let named = a.capabilities().versions_identify_objects && b.capabilities().versions_identify_objects;
    named && of_a.token() == of_b.token()
}

/// Where a space was seen, to tell a space that is gone from one that is not mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceFacts {
    /// What tells this space from another of the same id (a folder: device and inode).
    pub identity: String,
}

/// An item opened for reading.
pub struct OpenItem {
    /// Its facts in the state that is read.
    pub facts: ItemFacts,
    /// The bytes.
    pub body: Body,
}

impl fmt::Debug for OpenItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenItem").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Progress callback. Receives the bytes copied since the last call; return `false` to abort: nothing is written then, and the
/// call ends in an error. Called once more with 0 right before the item appears.
pub type CopyProgress<'a> = &'a (dyn Fn(u64) -> bool + Send + Sync);

/// An item's place in a service, in one state. What it holds is the affair of the adapters of that service alone.
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

/// A stretch of an item's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// What a write left.
#[derive(Debug, Clone)]
pub struct PutResult {
    /// The item's state now.
    pub version: Version,
    /// The checksums that the store itself computed; may be empty.
    pub checksums: Vec<Checksum>,
    /// When the store wrote it.
    pub at: Option<Timestamp>,
}

/// A place where content stands: a store's root, or something mounted beneath it.
///
/// What is absent beneath a place that changed may only be out of sight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Where it begins, relative to the space: empty for what the space itself lies in, else a path that ends in `/`.
    pub path: String,
    /// What tells it from anything else that may stand there. It outlives remounts and reboots.
    pub identity: String,
}

/// Some entries of a listing, in order.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// What was found; may be empty.
    pub entries: Vec<ListEntry>,
    /// The places that were entered for this page. The first page of a listing has the place with an empty path.
    pub places: Vec<Place>,
    /// Whether the listing is complete with this page.
    pub end: bool,
}

/// The spaces of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpaceList {
    /// All spaces, in order.
    pub spaces: Vec<SpaceId>,
    /// What stands beside them and can be no space.
    pub left_out: LeftOutEntries,
}

/// Entries of a store that lie in no space, so that no listing of a space names them: a file or a link beside the spaces, a
/// directory whose name can be no space's, a key without a slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOutEntries {
    /// The first of them by name, escaped for a message, and why.
    pub first: Vec<(String, RefusalReason)>,
    /// How many there are.
    pub count: u64,
}

impl LeftOutEntries {
    /// How many are kept by name.
    pub const NAMED_MAX: usize = 100;

    /// Adds an entry.
    pub fn add(&mut self, shown: impl FnOnce() -> String, reason: RefusalReason) {
        self.count += 1;
        if self.first.len() < Self::NAMED_MAX {
            self.first.push((shown(), reason));
        }
    }
}

/// One entry of a listing.
#[derive(Debug, Clone)]
pub enum ListEntry {
    /// A content item. Its facts may lack properties.
    Item(ContentId, ItemFacts),
    /// Something that cannot be a content item; reported by name, never skipped.
    Refused {
        /// Its name, escaped for a message.
        shown: String,
        /// Why.
        reason: RefusalReason,
    },
    /// A directory that was named and could not be entered. What lies beneath it is unknown in this pass.
    Hidden {
        /// Its name, escaped for a message.
        shown: String,
    },
}

impl ListEntry {
    /// Whether it lies in `directory`, an id that ends in `/`.
    pub fn lies_in(&self, directory: &ContentId) -> bool {
        match self {
            Self::Item(id, _) => id.as_str().starts_with(directory.as_str()),
            Self::Refused { shown, .. } | Self::Hidden { shown } => {
                shown.starts_with(&mill_model::ids::escape_for_display(directory.as_str()))
            }
        }
    }
}

/// Why something cannot be an item of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// A symbolic link: what it points at may lie anywhere.
    #[error("a symbolic link")]
    SymbolicLink,
    /// A pipe, socket or device.
    #[error("not a file or directory ({0})")]
    SpecialFile(&'static str),
    /// A name whose bytes are not UTF-8.
    #[error("its name is not UTF-8")]
    NotUtf8,
    /// An id longer than any may be.
    #[error("its path is longer than 1,024 bytes")]
    TooLong,
    /// A name that Mill needs for itself.
    #[error("its name is reserved for mill")]
    Reserved,
    /// An id that this back end cannot hold.
    #[error("this store cannot hold such an id: {0}")]
    UnrepresentableId(String),
    /// A name already taken by something else, as `a` is by `a/b`.
    #[error("its place is taken by {0}")]
    PathConflict(String),
    /// A name that this store takes for another's, which stands there: an item's path in the space, or that of the first
    /// directory on the way to it which is spelled otherwise.
    #[error("this store takes its name for that of `{0}`")]
    Twin(String),
    /// It may not be read.
    #[error("it may not be read")]
    Unreadable,
    /// It may not be written, while others of its store may.
    #[error("it may not be written: {0}")]
    Unwritable(String),
    /// Its bytes lie in an archive tier, named as the service names it, and must be brought back by a person first.
    #[error("it lies in the archive tier {0}; bring it back to be copied")]
    Archived(String),
    /// It stands beside the spaces and is none.
    #[error("it lies in no space")]
    OutsideSpaces,
    /// Another Mill keeps the place in sync, from another source.
    #[error("{0}")]
    ForeignDestination(String),
    /// A name that no space can bear.
    #[error("no space can bear its name: {0}")]
    InvalidSpaceName(&'static str),
}

/// A call on a store that failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} of `{subject}` in store `{store}` failed: {kind}")]
pub struct StoreError {
    /// What sort of failure, as far as any caller acts on it.
    pub kind: StoreErrorKind,
    /// The operation.
    pub op: &'static str,
    /// The store.
    pub store: StoreAddress,
    /// The space or item, escaped for a message.
    pub subject: String,
    /// The back end's own words.
    #[source]
    pub source: Option<BoxError>,
}

/// The sorts of failure on which some caller acts differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreErrorKind {
    /// Asked too often: slow down, nothing is wrong.
    #[error("throttled")]
    Throttled {
        /// How long to wait before the next call, if it said so.
        retry_after: Option<Duration>,
    },
    /// The store as a whole cannot be used now, and a person must act: no credentials, full, read-only, not mounted.
    /// Nothing is known of any item.
    #[error("the store is unavailable")]
    Unavailable,
    /// The store as a whole does not answer, or is in trouble of its own: it may pass by itself. Nothing is known of any item.
    #[error("the store does not answer")]
    Unreachable,
    /// The space is not there, though the store answers.
    #[error("the space is not there")]
    SpaceAbsent,
    /// This item may not or cannot be held or read; trying again will not help.
    #[error("refused: {0}")]
    Refused(RefusalReason),
    /// The condition of a write did not hold.
    #[error("the item is not in the expected state")]
    Precondition,
    /// The item changed while it was read.
    #[error("the item changed while it was read")]
    Changed,
    /// The bytes are not those that were announced or sealed.
    #[error("the bytes are damaged")]
    Damaged,
    /// The bytes can be had only from a cache, which may hold what never reached the disk.
    #[error("its bytes cannot be read from the disk itself")]
    OnlyCached,
    /// The configuration names no such store, or it cannot be used as configured.
    #[error("the store is not configured")]
    NotConfigured,
    /// Anything else.
    #[error("unexpected answer")]
    Unexpected,
}

impl StoreErrorKind {
    /// Whether the same call, made again within the attempt, may well succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unexpected)
    }

    /// Whether it may pass by itself, in a while.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unexpected | Self::Unreachable)
    }
}
