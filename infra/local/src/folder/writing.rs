//! The folder as a destination: writes are prepared by their own callers and made by the committer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use mill_model::{ItemAddress, Properties, SpaceId, Version};
use mill_ports::{
    Body, DeletableStore, DestinationStore, Precondition, Presence, PutRequest, PutResult, RefusalReason, Respelling,
    SourceStore as _, StoreError, StoreErrorKind,
};

use super::committer::{Change, Changed};
use super::faults::Fault;
use super::kept::Keeping;
use super::place::{Layout, Place};
use super::reading;
use super::room::Permit;
use super::staging::{self, Staged};
use super::{Folder, FolderStore, space_subject};

#[async_trait]
impl DestinationStore for FolderStore {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let made = async {
            if matches!(&self.0.layout, Layout::Single(only) if only == space) {
                return self.on_root(|_, root| reading::space(root, "").map(drop)).await;
            }
            let directory = self.0.space_to_write(space)?;
            self.commit(Change::CreateSpace(directory)).await.map(drop)
        };
        made.await.map_err(|fault| self.0.error("create space", &space_subject(space), fault))
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let failed = |fault| self.0.error("put", &item.to_string(), fault);
        let writer = self.writer(&item.space).await.map_err(failed)?;
        writer.put_here(item, content, when, body).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let failed = |fault| self.0.error("put properties", &item.to_string(), fault);
        let writer = self.writer(&item.space).await.map_err(failed)?;
        let place: Place = writer.0.place_to_write(item).map_err(failed)?;
        let keeping = writer.0.keeping(properties);
        let change = Change::Properties(place.clone(), keeping.clone(), when.clone());
        let changed = match writer.commit(change).await {
            Ok(Changed::Shared(version)) => writer.write_anew(item, place, keeping, version).await?,
            other => other,
        };
        writer.written(item, changed).await.map_err(failed)
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        self.respell_here(space, respelling).await
    }

    async fn remove_stale_uploads(&self) {
        // A root that cannot be reached says so to each call that needs it.
        let remove = |folder: &Folder, root: &_| {
            staging::remove_leftovers(root, &*folder.clock);
            Ok(())
        };
        let _ = self.on_root(remove).await;
    }
}

#[async_trait]
impl DeletableStore for FolderStore {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let removed = async {
            let directory = self.0.space_to_write(space)?;
            self.commit(Change::RemoveSpace(directory)).await.map(drop)
        };
        removed.await.map_err(|fault| self.0.error("remove space", &space_subject(space), fault))
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        let deleted = async {
            let writer = self.writer(&item.space).await?;
            let Ok(place) = writer.0.place(item)? else {
                return self.on_root(|_, _| Ok(Presence::Absent)).await;
            };
            Ok(match writer.commit(Change::Remove(place, when.clone())).await? {
                Changed::WasAbsent => Presence::Absent,
                _ => Presence::Present(()),
            })
        };
        deleted.await.map_err(|fault| self.0.error("delete", &item.to_string(), fault))
    }
}

impl Folder {
    fn keeping(&self, properties: &Properties) -> Keeping {
        Keeping::of(properties, self.sidecar.table.is_some())
    }
}

impl FolderStore {
    /// Gives an item a file of its own with the same bytes: its own has other names too, to which the properties would go
    /// as well.
    async fn write_anew(
        &self,
        item: &ItemAddress,
        place: Place,
        keeping: Keeping,
        version: Version,
    ) -> Result<Result<Changed, Fault>, StoreError> {
        let Presence::Present(reading) = self.open(item, None, Some(&version)).await? else {
            return Ok(Err(StoreErrorKind::Precondition.into()));
        };
        let mut preparing = Preparing::new(self, item, reading.facts.size);
        preparing.take_all(reading.body, &keeping).await?;
        let staged = preparing.finish(keeping).await?;
        Ok(self.commit(Change::Place(staged, place, Precondition::VersionIs(version))).await)
    }

    /// Writes an item into this very folder.
    async fn put_here(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let failed = |fault| self.0.error("put", &item.to_string(), fault);
        let place = self.0.place_to_write(item).map_err(failed)?;
        let keeping = self.0.keeping(&content.properties);
        let change = if place.directory {
            if content.size > 0 {
                let why = "a name with `/` at its end can only be that of an empty directory";
                return Err(failed(Fault::refused(RefusalReason::UnrepresentableId(why.to_owned()))));
            }
            Preparing::new(self, item, 0).take_all(body, &keeping).await?;
            Change::Directory(place, keeping, when.clone())
        } else {
            let mut preparing = Preparing::new(self, item, content.size);
            preparing.take_all(body, &keeping).await?;
            Change::Place(preparing.finish(keeping).await?, place, when.clone())
        };
        let changed = self.commit(change).await;
        self.written(item, changed).await.map_err(failed)
    }

    async fn written(&self, item: &ItemAddress, changed: Result<Changed, Fault>) -> Result<PutResult, Fault> {
        let Changed::Item(version, fits) = changed? else {
            return Err(Fault::unexpected("a write was answered as something else"));
        };
        self.0.sidecar.keep(item, &version, fits).await?;
        Ok(PutResult { version, checksums: Vec::new(), at: Some(self.0.clock.now()) })
    }
}

/// A write being prepared: bytes come in, and go into a file out of sight as they become many.
struct Preparing<'a> {
    store: &'a FolderStore,
    item: &'a ItemAddress,
    size: u64,
    taken: u64,
    /// Bytes not yet in the file.
    chunks: Vec<Bytes>,
    pending: u64,
    permit: Option<Permit>,
    staged: Option<Staged>,
}

impl<'a> Preparing<'a> {
    fn new(store: &'a FolderStore, item: &'a ItemAddress, size: u64) -> Self {
        Self { store, item, size, taken: 0, chunks: Vec::new(), pending: 0, permit: None, staged: None }
    }

    /// Takes a body to its end, which must be where its size says.
    async fn take_all(&mut self, mut body: Body, keeping: &Keeping) -> Result<(), StoreError> {
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            self.taken += chunk.len() as u64;
            if self.taken > self.size {
                return Err(self.store.0.wrong_size(&self.item.to_string(), "more bytes came than were announced"));
            }
            self.pending += chunk.len() as u64;
            self.chunks.push(chunk);
            if self.is_full() && self.taken < self.size {
                self.flush(keeping.clone(), false).await.map_err(|fault| self.failed(fault))?;
            }
        }
        if self.taken < self.size {
            return Err(self.store.0.wrong_size(&self.item.to_string(), "fewer bytes came than were announced"));
        }
        Ok(())
    }

    /// Whether no more bytes should be held.
    fn is_full(&mut self) -> bool {
        if self.permit.is_some() {
            return self.pending >= super::room::CHUNK_BYTES;
        }
        let (most, permit) = self.store.0.writing.for_chunk(self.size - self.taken + self.pending);
        self.permit = permit;
        self.pending >= most
    }

    /// Writes what is left and sets the properties: one hop for a small item.
    async fn finish(mut self, keeping: Keeping) -> Result<Staged, StoreError> {
        self.flush(keeping, true).await.map_err(|fault| self.failed(fault))?;
        self.staged.take().ok_or_else(|| self.failed(Fault::unexpected("no file was prepared")))
    }

    async fn flush(&mut self, keeping: Keeping, last: bool) -> Result<(), Fault> {
        let (staged, chunks) = (self.staged.take(), std::mem::take(&mut self.chunks));
        let (folder, size) = (Arc::clone(&self.store.0), self.size);
        let prepared = self.store.0.hops.run(move || {
            let prepare = || {
                let mut staged = match staged {
                    Some(staged) => staged,
                    None => Staged::create(folder.committer.staging()?, &keeping)?,
                };
                staged.write(&chunks)?;
                if last {
                    staged.finish(&keeping)?;
                }
                Ok(staged)
            };
            prepare().map_err(|fault| folder.of_write(None, size, fault))
        });
        self.staged = Some(prepared.await?);
        (self.pending, self.permit) = (0, None);
        Ok(())
    }

    fn failed(&self, fault: Fault) -> StoreError {
        self.store.0.error("put", &self.item.to_string(), fault)
    }
}
