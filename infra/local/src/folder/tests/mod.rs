//! The folder store's own promises, besides those that the conformance suite tests for every store.

mod directory_modes;
mod durable;
mod failure_scope;
mod folding;
mod held;
mod item_reader;
mod listing;
mod mapped_writes;
mod mounted;
mod mounts;
mod racing;
mod speed;
mod unavailable;
mod uncached;
mod writing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mill_model::{
    AccountId, ContentId, ItemAddress, ItemFacts, Monotonic, Properties, SpaceId, StoreAddress, StoreId, Timestamp,
};
use mill_ports::{
    Body, Clock, DeletableStore, DestinationStore, ListEntry, OwnerMark, Precondition, Presence, PutRequest, PutResult,
    RefusalReason, SourceStore, SpaceList, StoreError, StoreErrorKind, Table,
};
use tempfile::TempDir;

use super::{FolderSettings, FolderStore, Layout};

#[derive(Debug)]
struct WallClock;

#[async_trait::async_trait]
impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp::from_millis(since.as_millis() as u64)
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic::default()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A folder of its own with the space `s`, as a store.
struct Scratch {
    directory: TempDir,
    store: FolderStore,
}

impl Scratch {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("s")).unwrap();
        let store = store_at(directory.path(), Layout::Spaces, None);
        Self { directory, store }
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Another store on the same folder, like that of another process.
    fn other(&self) -> FolderStore {
        store_at(self.root(), Layout::Spaces, None)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.root().join("s").join(id)
    }

    /// Writes a file without Mill.
    fn file(&self, id: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.path(id).parent().unwrap()).unwrap();
        std::fs::write(self.path(id), bytes).unwrap();
    }

    async fn put(&self, id: &str, bytes: &[u8], when: &Precondition) -> Result<PutResult, StoreError> {
        put(&self.store, id, bytes, properties(&[]), when).await
    }
}

fn store_at(root: &Path, layout: Layout, sidecars: Option<Arc<dyn Table>>) -> FolderStore {
    let address = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
    let clock = Arc::new(WallClock);
    FolderStore::open(FolderSettings { address, root: root.to_owned(), layout, sidecars, clock })
}

fn space() -> SpaceId {
    SpaceId::new("s").unwrap()
}

fn at(id: &str) -> ItemAddress {
    ItemAddress { space: space(), id: ContentId::new(id).unwrap() }
}

fn properties(pairs: &[(&str, &str)]) -> Properties {
    Properties(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn body(bytes: &[u8]) -> Body {
    let chunks: Vec<_> = bytes.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks).boxed()
}

async fn put(
    store: &FolderStore,
    id: &str,
    bytes: &[u8],
    properties: Properties,
    when: &Precondition,
) -> Result<PutResult, StoreError> {
    let content = PutRequest::new(bytes.len() as u64, properties);
    store.put(&at(id), &content, when, body(bytes)).await
}

async fn head(store: &FolderStore, id: &str) -> Option<ItemFacts> {
    store.head(&at(id)).await.unwrap().present()
}

async fn read(store: &FolderStore, id: &str) -> Result<Vec<u8>, StoreError> {
    let Presence::Present(reading) = store.open(&at(id), None, None).await? else { panic!("`{id}` is absent") };
    let chunks: Vec<Bytes> = reading.body.try_collect().await?;
    Ok(chunks.concat())
}

/// All entries of a listing: ids, and the names of refused entries with their reasons.
async fn list(
    store: &FolderStore,
    after: Option<&str>,
) -> Result<(Vec<String>, BTreeMap<String, RefusalReason>), StoreError> {
    let mut pages = store.list(&space(), after.map(|id| ContentId::new(id).unwrap()));
    let (mut ids, mut refused, mut end) = (Vec::new(), BTreeMap::new(), false);
    while let Some(page) = pages.next().await {
        let page = page?;
        assert!(!end, "a page after the end");
        end = page.end;
        for entry in page.entries {
            match entry {
                ListEntry::Item(id, _) => ids.push(id.as_str().to_owned()),
                ListEntry::Refused { shown, reason } => drop(refused.insert(shown, reason)),
                ListEntry::Hidden { shown } => panic!("`{shown}` is hidden"),
            }
        }
    }
    assert!(end, "a listing that is over before its end");
    Ok((ids, refused))
}

async fn ids(store: &FolderStore) -> Vec<String> {
    list(store, None).await.unwrap().0
}

fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreErrorKind {
    result.unwrap_err().kind
}

/// Runs a test as a user who is not root, to whom permissions apply.
fn as_nobody(test: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(|| {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    })
    .join()
    .unwrap();
}
