//! Stores that speak S3: each space a bucket, or a prefix in one bucket, as configured.
//!
//! A version is the object's entity tag, size and time of change. The tag is of the bytes alone and the time is of whole
//! seconds, so a version found within two seconds of the change proves nothing yet.

mod body_chunks;
mod directory_walk;
mod error_context;
mod errors;
mod failure_scope;
mod head;
mod headers;
mod key_encoding;
mod key_names;
mod key_shapes;
mod keys;
mod listing;
mod multipart;
mod order_probe;
mod overlap;
mod page;
mod prepared_put;
mod properties;
mod read;
mod server_side_copy;
mod spaces;
mod write;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use mill_model::{ContentId, ItemAddress, ItemFacts, Properties, SpaceId, StoreAddress, Version};
use mill_ports::{
    Body, ByteRange, Capabilities, Clock, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing,
    OpenItem, Place, Precondition, Presence, PutRequest, PutResult, SourceStore, SpaceFacts, SpaceList, StoreError,
};
use tokio::sync::Semaphore;

use self::error_context::ErrorContext;
use self::failure_scope::ProbeCache;
use self::key_encoding::ProvenSpellings;
use self::key_names::KeyNameMemory;
pub use self::overlap::{OverlapResult, S3Extent, S3Overlap, S3SpaceLocation};
use self::spaces::SpaceSightings;
use crate::connection::{AccessIdentity, Connection};
use crate::many_headers;
use crate::request_stats::RequestStats;
use crate::response::CompleteResponses;
use crate::service::S3Service;

/// Where a store's spaces are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpaceLayout {
    /// All in one bucket, each under the prefix of its id and a slash. The bucket is never made or removed.
    InBucket(String),
    /// Each a bucket of its own, named by this prefix and the space's id.
    Buckets {
        /// What their names begin with.
        prefix: String,
    },
    /// One alone: what lies under a prefix of a bucket.
    Single {
        /// Its id.
        space: SpaceId,
        /// The bucket.
        bucket: String,
        /// What the keys of its items begin with; may be empty.
        prefix: String,
    },
}

/// How a store is used.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a server
pub struct S3Settings {
    /// What policies call it.
    pub address: StoreAddress,
    /// Where its spaces are.
    pub spaces: SpaceLayout,
    /// Whether the bucket stands in the path rather than in the host name.
    pub path_style: bool,
    /// Whether the store decides conditions on writes itself. Amazon's does; where not, they are checked before.
    pub native_conditions: bool,
    /// Whether the store is to keep the SHA-256 of what is written in one part, rather than a CRC-64.
    pub sha256: bool,
    /// Whether an item written in parts is judged by the checksum of its whole. Amazon's and most others do; where a store
    /// knows only the parts' own, those alone are sent.
    pub whole_checksum: bool,
    /// Whether an entity tag that looks like an MD5 is one.
    pub md5_tags: bool,
    /// Whether the store's service brings large items from another of its buckets by itself.
    pub server_side_copies: bool,
    /// Of such copies, most bytes in one request. Amazon takes at most 5 GiB.
    pub copied_part_bytes: u64,
    /// Items larger than this are written in parts of this size. Amazon takes none smaller than 5 MiB.
    pub part_bytes: u64,
    /// Most bytes of bodies held in memory at once.
    pub memory_bytes: u64,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl S3Settings {
    /// The usual part: what an attempt can lose at once, against requests for each.
    pub const PART_BYTES: u64 = 8 << 20;
    /// The usual part of a copy within the service: no bytes pass through Mill.
    pub const COPIED_PART_BYTES: u64 = 256 << 20;
    /// The usual memory.
    pub const MEMORY_BYTES: u64 = 256 << 20;

    /// The usual settings.
    pub fn new(address: StoreAddress, spaces: SpaceLayout, clock: Arc<dyn Clock>) -> Self {
        Self {
            address,
            spaces,
            path_style: false,
            native_conditions: true,
            sha256: false,
            whole_checksum: true,
            md5_tags: true,
            server_side_copies: true,
            copied_part_bytes: Self::COPIED_PART_BYTES,
            part_bytes: Self::PART_BYTES,
            memory_bytes: Self::MEMORY_BYTES,
            clock,
        }
    }
}

/// A store that speaks S3.
#[derive(Debug, Clone)]
pub struct S3Store(Arc<StoreInner>);

#[derive(Debug)]
struct StoreInner {
    client: Client,
    settings: S3Settings,
    service: AccessIdentity,
    requests: Arc<RequestStats>,
    region: Option<String>,
    /// Whether the service is Amazon's own.
    amazon: bool,
    extent: S3Extent,
    /// A permit for each [`MEMORY_UNIT`] that bodies may take.
    memory: Arc<Semaphore>,
    /// How many permits there are in all.
    memory_units: u32,
    seen: SpaceSightings,
    proven_sorts: ProvenSpellings,
    /// Whether the server was seen to list directory by directory.
    by_directories: AtomicBool,
    /// Whether it was seen to list keys in the order of their bytes where the two differ.
    by_bytes: AtomicBool,
    names: KeyNameMemory,
    found_out: ProbeCache,
    /// What its failures as a whole say of where it is.
    whereabouts: ErrorContext,
    /// For answers with more headers than the client reads.
    wide: SharedHttpClient,
}

/// The unit of memory that is counted, in bytes.
const MEMORY_UNIT: u64 = 64 << 10;

/// Retries without a budget that all calls share: a service that fails once or twice at each of many keys would use it up,
/// and be taken for one that fails. A store that fails as a whole is left alone by those who call it.
fn each_by_itself() -> RetryPartition {
    RetryPartition::custom("mill-s3").token_bucket(TokenBucket::unlimited()).build()
}

impl S3Store {
    /// The store of these settings. Nothing is asked of it yet.
    pub fn new(connection: &Connection, settings: S3Settings) -> Self {
        let whereabouts = ErrorContext::new(connection, &settings.spaces);
        let config = aws_sdk_s3::config::Builder::from(&connection.config)
            .force_path_style(settings.path_style)
            .interceptor(connection.counting())
            .interceptor(CompleteResponses)
            .interceptor(whereabouts.signed_by())
            .retry_partition(each_by_itself());
        let units = settings.memory_bytes.max(settings.part_bytes).div_ceil(MEMORY_UNIT);
        let memory_units = u32::try_from(units).unwrap_or(u32::MAX);
        Self(Arc::new(StoreInner {
            client: Client::from_conf(config.build()),
            service: connection.service.clone(),
            requests: connection.requests().clone(),
            region: connection.region().map(str::to_owned),
            amazon: matches!(connection.s3, S3Service::Amazon { .. }),
            extent: S3Extent::new(connection.s3.clone(), &settings.spaces),
            memory: Arc::new(Semaphore::new(memory_units as usize)),
            memory_units,
            seen: SpaceSightings::default(),
            proven_sorts: ProvenSpellings::default(),
            by_directories: AtomicBool::new(false),
            by_bytes: AtomicBool::new(false),
            names: KeyNameMemory::default(),
            found_out: ProbeCache::default(),
            whereabouts,
            wide: many_headers::many_headers_client(),
            settings,
        }))
    }
}

#[async_trait]
impl SourceStore for S3Store {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transfers_max: None,
            versions_in_listings: true,
            native_conditions: self.0.settings.native_conditions,
            versions_name_things: false,
            ids_are_paths: false,
        }
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.0.all_spaces().await
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.0.space_facts(space).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        let found = self.0.look("looking", item).await?;
        Ok(found.present().map_or(Presence::Absent, |found| Presence::Present(found.facts)))
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        read::open(&self.0, item, range, if_version).await
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        Ok(self.0.places_of(&item.space))
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        listing::list(self.0.clone(), space.clone(), after)
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        server_side_copy::origin(&self.0, item, facts)
    }
}

#[async_trait]
impl DestinationStore for S3Store {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.0.make_space(space).await
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        write::put(&self.0, item, content, when, body).await
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        server_side_copy::take(&self.0, (item, content, when), origin, going).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        write::put_properties(&self.0, item, properties, when).await
    }
}

#[async_trait]
impl DeletableStore for S3Store {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.0.remove_space(space).await
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        write::delete(&self.0, item, when).await
    }
}
