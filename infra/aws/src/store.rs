//! S3 stores: each space is a bucket, or a prefix in one bucket, as configured.
//!
//! A version is the object's entity tag, size and modification time. The tag covers the bytes alone, and the time has whole
//! seconds, so a version that is read within two seconds of the change proves nothing yet.

mod attachments;
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
mod placement;
mod prepared_put;
mod properties;
mod read;
mod readable_headers;
mod server_side_copy;
mod spaces;
mod stored_as;
mod write;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

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

use self::error_context::StoreErrorContext;
use self::failure_scope::ProbeCache;
use self::key_encoding::ProvenSpellings;
use self::key_names::KeyNameMemory;
pub use self::overlap::{OverlapResult, S3Extent, S3Overlap};
pub(crate) use self::page::hex_byte;
use self::readable_headers::ReadableHeaders;
pub(crate) use self::readable_headers::UnreadableHeader;
use self::spaces::SpaceSightings;
use crate::connection::{AccessIdentity, Connection};
use crate::many_headers;
use crate::request_stats::RequestStats;
use crate::response::CompleteResponses;
use crate::service::S3Service;

/// Where a store's spaces are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpaceLayout {
    /// All in one bucket, each under the prefix of its id and a slash. Mill never makes or removes the bucket.
    InBucket(String),
    /// Each a bucket of its own, named by this prefix and the space's id.
    Buckets {
        /// What their names begin with.
        prefix: String,
    },
    /// A single space: the objects under a prefix of a bucket.
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
    /// Its name in policies.
    pub address: StoreAddress,
    /// Where its spaces are.
    pub spaces: SpaceLayout,
    /// Whether the bucket is in the path of the URL rather than in the host name.
    pub path_style: bool,
    /// Whether the store enforces conditions on writes. Amazon's does; otherwise Mill checks them before the write.
    pub native_conditions: bool,
    /// Whether an object written in one part is sent with its SHA-256, rather than a CRC-64.
    pub sha256: bool,
    /// Whether the store verifies the checksum of a whole multipart object. Amazon's and most others do; a store that knows
    /// only checksums of parts receives only those.
    pub whole_checksum: bool,
    /// Whether an entity tag that looks like an MD5 is one.
    pub md5_tags: bool,
    /// Whether the service copies large objects between its buckets itself.
    pub server_side_copies: bool,
    /// Most bytes of one such copy request. Amazon accepts at most 5 GiB.
    pub copied_part_bytes: u64,
    /// Items larger than this are written in parts of this size. Amazon accepts no part smaller than 5 MiB.
    pub part_bytes: u64,
    /// Most bytes of bodies held in memory at once.
    pub memory_bytes: u64,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl S3Settings {
    /// The usual part size: a trade-off between the bytes that a failed request loses and the number of requests.
    pub const PART_BYTES: u64 = 8 << 20;
    /// The usual part size of a copy within the service: no bytes pass through Mill.
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

/// An S3 store.
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
    /// A permit for each [`MEMORY_UNIT`] of memory for bodies.
    memory: Arc<Semaphore>,
    /// The number of permits in all.
    memory_units: u32,
    space_sightings: SpaceSightings,
    proven_spellings: ProvenSpellings,
    /// Whether the server is known to list directory by directory.
    lists_by_directory: AtomicBool,
    /// Whether it is known to list keys in byte order, where the two orders differ.
    lists_by_bytes: AtomicBool,
    /// Whether the first tags that were written were there afterwards.
    keeps_tags: OnceLock<bool>,
    key_name_memory: KeyNameMemory,
    probe_cache: ProbeCache,
    /// What errors of the whole store say about its address and credentials.
    error_context: StoreErrorContext,
    /// The client for responses with more headers than the usual client reads.
    many_headers_client: SharedHttpClient,
}

/// The unit of memory that is counted, in bytes.
const MEMORY_UNIT: u64 = 64 << 10;

/// Retries without the budget that all calls share: a service that fails once or twice at each of many keys would use it up,
/// and seem to fail as a whole. Callers back off from a store that does.
fn unlimited_retries() -> RetryPartition {
    RetryPartition::custom("mill-s3").token_bucket(TokenBucket::unlimited()).build()
}

impl S3Store {
    /// The store of these settings. No request is sent yet.
    pub fn new(connection: &Connection, settings: S3Settings) -> Self {
        let error_context = StoreErrorContext::new(connection, &settings.spaces);
        let config = aws_sdk_s3::config::Builder::from(&connection.config)
            .force_path_style(settings.path_style)
            .interceptor(connection.request_counter())
            .interceptor(CompleteResponses)
            .interceptor(ReadableHeaders)
            .interceptor(error_context.signer())
            .retry_partition(unlimited_retries());
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
            space_sightings: SpaceSightings::default(),
            proven_spellings: ProvenSpellings::default(),
            lists_by_directory: AtomicBool::new(false),
            lists_by_bytes: AtomicBool::new(false),
            keeps_tags: OnceLock::new(),
            key_name_memory: KeyNameMemory::default(),
            probe_cache: ProbeCache::default(),
            error_context,
            many_headers_client: many_headers::many_headers_client(connection.ca_bundle.clone()),
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
            versions_identify_objects: false,
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
        let found = self.0.head_item("looking", item).await?;
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
        server_side_copy::copy_source(&self.0, item, facts)
    }
}

#[async_trait]
impl DestinationStore for S3Store {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.0.create_bucket_or_marker(space).await
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
        source: &CopySource,
        progress: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        server_side_copy::copy_from(&self.0, (item, content, when), source, progress).await
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
