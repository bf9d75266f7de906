//! What belongs to an item beside its bytes and properties.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use mill_model::Uncarried;

use super::StoreError;

/// What belongs to an item beside its bytes and properties: the store that opens an item tells it, and the store that writes
/// the item uses what it can. It is never compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attachments {
    /// The permission bits of the directories above the item in its space, outermost first; empty where a store has no
    /// directories. A store that makes directories on the way to the item grants others no more than these.
    pub directory_modes: Vec<u32>,
    /// Its tags, if the store tells that it has some.
    pub tags: Option<TagReader>,
    /// What else it has there, and no copy gets.
    pub uncarried: Vec<Uncarried>,
}

/// Tags, by their keys.
pub type Tags = BTreeMap<String, String>;

/// The tags of an item at its source. Only a store that keeps tags reads them, since that is a request of its own.
#[derive(Clone)]
pub struct TagReader(Arc<dyn Fn() -> BoxFuture<'static, Result<Tags, StoreError>> + Send + Sync>);

impl TagReader {
    /// Tags that `read` reads.
    pub fn new(read: impl Fn() -> BoxFuture<'static, Result<Tags, StoreError>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Reads the tags.
    ///
    /// # Errors
    /// That of the source.
    pub async fn read(&self) -> Result<Tags, StoreError> {
        (self.0)().await
    }
}

impl PartialEq for TagReader {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TagReader {}

impl fmt::Debug for TagReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagReader")
    }
}

/// What a write did with the tags of an item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TagsWritten {
    /// The store keeps none.
    #[default]
    None,
    /// They are at the copy, as far as there are any.
    All,
    /// The copy has none, for this reason.
    Refused(String),
}
