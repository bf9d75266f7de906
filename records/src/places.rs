//! Places: what was at the root of each destination, so that something else at that path is detected.
//!
//! A disk that is not mounted leaves its mount point: an empty folder that accepts writes until the system's own disk
//! is full. The folder alone does not show that; a comparison with the remembered place does.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mill_model::{SpaceId, StoreAddress};
use mill_ports::{KeyRange, RowKey, RowPrecondition, Table, TableError};
use serde::{Deserialize, Serialize};

/// What was at a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPlace {
    /// The identity of the directory. It survives reboots and remounts.
    pub identity: String,
    /// The identity of its file system.
    #[serde(rename = "fileSystem")]
    pub file_system: String,
    /// Whether it was a mount point.
    pub mounted: bool,
    /// The path, for messages.
    pub path: String,
}

/// Why what is at a root now is not what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceChange {
    /// Something was mounted there, and nothing is now.
    NotMounted,
    /// Another file system is there.
    OtherFileSystem,
    /// Another part of the same file system is mounted there.
    OtherDirectory,
}

impl fmt::Display for PlaceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMounted => "a file system was mounted there at the last run, and none is now",
            Self::OtherFileSystem => "another file system is there than at the last run",
            Self::OtherDirectory => "another folder is mounted there than at the last run",
        })
    }
}

impl RootPlace {
    /// Why `now` is not this place, if it is not. An ordinary folder may be deleted and created again; a mounted file
    /// system can be missing, or can cover what was there.
    pub fn moved(&self, now: &Self) -> Option<PlaceChange> {
        if self.identity == now.identity {
            None
        } else if self.mounted && !now.mounted {
            Some(PlaceChange::NotMounted)
        } else if self.file_system != now.file_system {
            Some(PlaceChange::OtherFileSystem)
        } else {
            (self.mounted || now.mounted).then_some(PlaceChange::OtherDirectory)
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The row cannot be read.
    #[error("what was remembered of the root of store `{store}` cannot be read")]
    Unreadable {
        /// The store.
        store: StoreAddress,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The repository of places: one row for each destination and host.
#[derive(Debug, Clone)]
pub struct PlaceRepository {
    table: Arc<dyn Table>,
    host: String,
}

impl PlaceRepository {
    /// Its name.
    pub const TABLE: &str = "places";

    /// The repository over `table` for `host`: a path has a meaning only on one host.
    pub fn new(table: Arc<dyn Table>, host: impl Into<String>) -> Self {
        Self { table, host: host.into() }
    }

    fn key(&self, store: &StoreAddress) -> RowKey {
        RowKey::new(format!("{}/{}", store.account.as_str(), store.store.as_str()), format!("root@{}", self.host))
    }

    fn space_key(&self, store: &StoreAddress, space: &SpaceId) -> RowKey {
        RowKey { sort: format!("space@{}/{}", self.host, space.as_str()), ..self.key(store) }
    }

    /// What was at a store's root, if anything was seen there before.
    ///
    /// # Errors
    /// [`PlaceError`]. A row that cannot be read is an error, not an absent row.
    pub async fn root(&self, store: &StoreAddress) -> Result<Option<RootPlace>, PlaceError> {
        self.read(store, &self.key(store)).await
    }

    async fn read(&self, store: &StoreAddress, key: &RowKey) -> Result<Option<RootPlace>, PlaceError> {
        let Some(row) = self.table.get(key).await? else { return Ok(None) };
        let read = serde_json::from_slice(&row.value);
        read.map(Some).map_err(|source| PlaceError::Unreadable { store: store.clone(), source })
    }

    /// Remembers what is at a store's root.
    ///
    /// # Errors
    /// The table's.
    pub async fn remember(&self, store: &StoreAddress, place: &RootPlace) -> Result<(), PlaceError> {
        self.write(store, &self.key(store), place).await
    }

    async fn write(&self, store: &StoreAddress, key: &RowKey, place: &RootPlace) -> Result<(), PlaceError> {
        let value =
            serde_json::to_vec(place).map_err(|source| PlaceError::Unreadable { store: store.clone(), source })?;
        self.table.put(key, Bytes::from(value), RowPrecondition::Always).await?;
        Ok(())
    }

    /// The same for a space: its directory may have become a mount point, or be one no longer. An ordinary folder may
    /// be created again at will.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn compare_and_remember_space(
        &self,
        (store, space): (&StoreAddress, &SpaceId),
        now: &RootPlace,
    ) -> Result<Result<(), PlaceChange>, PlaceError> {
        let key = self.space_key(store, space);
        let before = self.read(store, &key).await?;
        if let Some(moved) = before.as_ref().and_then(|before| before.moved(now)) {
            return Ok(Err(moved));
        }
        if before.as_ref() != Some(now) {
            self.write(store, &key, now).await?;
        }
        Ok(Ok(()))
    }

    /// Accepts what is at a space's directory now as its place, whatever was there before.
    ///
    /// # Errors
    /// The table's.
    pub async fn accept_space(
        &self,
        (store, space): (&StoreAddress, &SpaceId),
        now: Option<&RootPlace>,
    ) -> Result<(), PlaceError> {
        let key = self.space_key(store, space);
        match now {
            Some(now) => self.write(store, &key, now).await,
            None => Ok(self.table.delete(&key, RowPrecondition::Always).await?),
        }
    }

    /// The spaces of a store whose places are remembered.
    ///
    /// # Errors
    /// The table's.
    pub async fn spaces(&self, store: &StoreAddress) -> Result<Vec<SpaceId>, PlaceError> {
        let prefix = format!("space@{}/", self.host);
        let (mut range, mut spaces) = (KeyRange { prefix: prefix.clone(), after: None }, Vec::new());
        loop {
            let page = self.table.query(&self.key(store).partition, &range, 1000).await?;
            let names = page.rows.iter().filter_map(|row| row.sort.strip_prefix(&*prefix));
            spaces.extend(names.filter_map(|name| SpaceId::new(name).ok()));
            match page.rows.last().filter(|_| !page.end) {
                Some(last) => range.after = Some(last.sort.clone()),
                None => return Ok(spaces),
            }
        }
    }

    /// Compares what is at a store's root now with what was there.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn compare(&self, store: &StoreAddress, now: &RootPlace) -> Result<Result<(), PlaceChange>, PlaceError> {
        let before = self.root(store).await?;
        Ok(before.and_then(|before| before.moved(now)).map_or(Ok(()), Err))
    }

    /// The same, and remembers what is there now if it is the same place.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn compare_and_remember(
        &self,
        store: &StoreAddress,
        now: &RootPlace,
    ) -> Result<Result<(), PlaceChange>, PlaceError> {
        let before = self.root(store).await?;
        if let Some(moved) = before.as_ref().and_then(|before| before.moved(now)) {
            return Ok(Err(moved));
        }
        if before.as_ref() != Some(now) {
            self.remember(store, now).await?;
        }
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{AccountId, StoreId};

    use super::*;
    use crate::test_table::TestTable;

    fn place(identity: &str, file_system: &str, mounted: bool) -> RootPlace {
        RootPlace { identity: identity.into(), file_system: file_system.into(), mounted, path: "/mnt/backup".into() }
    }

    #[test]
    fn what_was_mounted_is_known_from_its_mount_point_and_from_what_else_is_mounted_there() {
        let (disk, folder) = (place("d/2", "d", true), place("r/7", "r", false));
        for (before, now, moved) in [
            (&disk, place("d/2", "d", true), None),
            (&disk, folder.clone(), Some(PlaceChange::NotMounted)),
            (&disk, place("d/9", "d", false), Some(PlaceChange::NotMounted)),
            (&disk, place("e/2", "e", true), Some(PlaceChange::OtherFileSystem)),
            (&disk, place("d/9", "d", true), Some(PlaceChange::OtherDirectory)),
            (&folder, place("r/8", "r", false), None),
            (&folder, disk.clone(), Some(PlaceChange::OtherFileSystem)),
            (&folder, place("r/8", "r", true), Some(PlaceChange::OtherDirectory)),
            (&folder, place("r/7", "r", true), None),
            // A folder of a disk that was unplugged, and of the disk below.
            (&place("d/5", "d", false), place("r/5", "r", false), Some(PlaceChange::OtherFileSystem)),
        ] {
            assert_eq!(before.moved(&now), moved, "{before:?} → {now:?}");
        }
    }

    #[tokio::test]
    async fn a_root_is_remembered_until_another_is_accepted_on_each_host_its_own() {
        let table = Arc::new(TestTable::default());
        let places = PlaceRepository::new(table.clone(), "one");
        let store = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("2").unwrap() };
        let (disk, folder) = (place("d/2", "d", true), place("r/7", "r", false));
        assert_eq!(places.compare_and_remember(&store, &disk).await.unwrap(), Ok(()));
        assert_eq!(places.compare_and_remember(&store, &folder).await.unwrap(), Err(PlaceChange::NotMounted));
        assert_eq!(
            places.compare_and_remember(&store, &folder).await.unwrap(),
            Err(PlaceChange::NotMounted),
            "it is not forgotten for that"
        );
        assert_eq!(
            PlaceRepository::new(table.clone(), "other").compare_and_remember(&store, &folder).await.unwrap(),
            Ok(())
        );
        places.remember(&store, &folder).await.unwrap();
        assert_eq!(places.compare_and_remember(&store, &folder).await.unwrap(), Ok(()));
        assert_eq!(places.compare_and_remember(&store, &place("r/8", "r", false)).await.unwrap(), Ok(()));
        assert_eq!(places.root(&store).await.unwrap().unwrap().identity, "r/8");

        let (space, other) = (SpaceId::new("s").unwrap(), SpaceId::new("t").unwrap());
        assert_eq!(places.compare_and_remember_space((&store, &space), &folder).await.unwrap(), Ok(()));
        let covered = places.compare_and_remember_space((&store, &space), &disk).await.unwrap();
        assert_eq!(covered, Err(PlaceChange::OtherFileSystem), "a disk over the folder");
        places.accept_space((&store, &space), Some(&disk)).await.unwrap();
        assert_eq!(places.compare_and_remember_space((&store, &space), &disk).await.unwrap(), Ok(()));
        assert_eq!(
            places.compare_and_remember_space((&store, &space), &folder).await.unwrap(),
            Err(PlaceChange::NotMounted)
        );
        assert_eq!(places.compare_and_remember_space((&store, &other), &folder).await.unwrap(), Ok(()));
        assert_eq!(places.spaces(&store).await.unwrap(), [space.clone(), other.clone()]);
        places.accept_space((&store, &space), Some(&folder)).await.unwrap();
        assert_eq!(places.compare_and_remember_space((&store, &space), &folder).await.unwrap(), Ok(()));
        places.accept_space((&store, &space), None).await.unwrap();
        assert_eq!(places.spaces(&store).await.unwrap(), [other]);

        table.put(&places.key(&store), Bytes::from_static(b"{"), RowPrecondition::Always).await.unwrap();
        assert!(matches!(places.compare_and_remember(&store, &folder).await, Err(PlaceError::Unreadable { .. })));
    }
}
