//! The folder as a destination: callers prepare their writes, the committer applies them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use mill_model::{ItemAddress, Properties, SpaceId, Version};
use mill_ports::{
    Body, DeletableStore, DestinationStore, Precondition, Presence, PutRequest, PutResult, RefusalReason, Respelling,
    SourceStore as _, StoreError, StoreErrorKind, TagsWritten,
};

use super::buffer_budget::ChunkPermit;
use super::committer::{Change, ChangeResult, NewPath};
use super::error::FolderError;
use super::item_path::{ItemPath, Layout};
use super::item_reader;
use super::properties::PropertyPlan;
use super::temp_files::{self, TempFile};
use super::{FolderInner, FolderStore, space_subject};

#[async_trait]
impl DestinationStore for FolderStore {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let made = async {
            if matches!(&self.0.layout, Layout::Single(only) if only == space) {
                return self.on_root(|_, root| item_reader::space(root, "").map(drop)).await;
            }
            let directory = self.0.space_to_write(space)?;
            self.commit(Change::CreateSpace(directory)).await.map(drop)
        };
        made.await.map_err(|error| self.0.error("create space", &space_subject(space), error))
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let failed = |error| self.0.error("put", &item.to_string(), error);
        let writer = self.writer(&item.space).await.map_err(failed)?;
        writer.put_here(item, content, when, body).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let failed = |error| self.0.error("put properties", &item.to_string(), error);
        let writer = self.writer(&item.space).await.map_err(failed)?;
        let item_path: ItemPath = writer.0.item_path_to_write(item).map_err(failed)?;
        let plan = writer.0.plan(properties);
        let change = Change::Properties(item_path.clone(), plan.clone(), when.clone());
        let changed = match writer.commit(change).await {
            Ok(ChangeResult::Shared(version)) => writer.write_anew(item, item_path, plan, version).await?,
            other => other,
        };
        writer.written(item, changed).await.map_err(failed)
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        self.respell_here(space, respelling).await
    }

    async fn remove_stale_uploads(&self) {
        // If the root cannot be reached, each call that needs it reports that.
        let remove = |folder: &FolderInner, root: &_| {
            temp_files::remove_leftovers(root, &*folder.clock);
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
        removed.await.map_err(|error| self.0.error("remove space", &space_subject(space), error))
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        let deleted = async {
            let writer = self.writer(&item.space).await?;
            let Ok(item_path) = writer.0.item_path(item)? else {
                return self.on_root(|_, _| Ok(Presence::Absent)).await;
            };
            Ok(match writer.commit(Change::Remove(item_path, when.clone())).await? {
                ChangeResult::WasAbsent => Presence::Absent,
                _ => Presence::Present(()),
            })
        };
        deleted.await.map_err(|error| self.0.error("delete", &item.to_string(), error))
    }
}

impl FolderInner {
    fn plan(&self, properties: &Properties) -> PropertyPlan {
        PropertyPlan::of(properties, self.sidecar.table.is_some())
    }
}

impl FolderStore {
    /// Writes an item's bytes into a new file: the old one has other names too (hard links), which must keep their
    /// properties.
    async fn write_anew(
        &self,
        item: &ItemAddress,
        item_path: ItemPath,
        plan: PropertyPlan,
        version: Version,
    ) -> Result<Result<ChangeResult, FolderError>, StoreError> {
        let Presence::Present(reading) = self.open(item, None, Some(&version)).await? else {
            return Ok(Err(StoreErrorKind::Precondition.into()));
        };
        let mut writer_ = ItemWriter::new(self, item, reading.facts.size);
        writer_.take_all(reading.body, &plan).await?;
        let temp_file = writer_.finish(plan).await?;
        let new_path = NewPath { item_path, directory_modes: Vec::new() };
        Ok(self.commit(Change::PutFile(temp_file, new_path, Precondition::VersionIs(version))).await)
    }

    /// Writes an item into this very folder.
    async fn put_here(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let failed = |error| self.0.error("put", &item.to_string(), error);
        let item_path = self.0.item_path_to_write(item).map_err(failed)?;
        let plan = self.0.plan(&content.properties);
        let new_path = NewPath { item_path, directory_modes: content.attachments.directory_modes.clone() };
        let change = if new_path.item_path.directory {
            if content.size > 0 {
                let why = "a name with `/` at its end can only be that of an empty directory";
                return Err(failed(FolderError::refused(RefusalReason::UnrepresentableId(why.to_owned()))));
            }
            ItemWriter::new(self, item, 0).take_all(body, &plan).await?;
            Change::Directory(new_path, plan, when.clone())
        } else {
            let mut writer_ = ItemWriter::new(self, item, content.size);
            writer_.take_all(body, &plan).await?;
            Change::PutFile(writer_.finish(plan).await?, new_path, when.clone())
        };
        let changed = self.commit(change).await;
        self.written(item, changed).await.map_err(failed)
    }

    async fn written(
        &self,
        item: &ItemAddress,
        changed: Result<ChangeResult, FolderError>,
    ) -> Result<PutResult, FolderError> {
        let ChangeResult::Item(version, fit) = changed? else {
            return Err(FolderError::unexpected("a write was answered as something else"));
        };
        self.0.sidecar.keep(item, &version, fit).await?;
        Ok(PutResult { version, checksums: Vec::new(), at: Some(self.0.clock.now()), tags: TagsWritten::None })
    }
}

/// Prepares a write: collects bytes, and writes them to a temporary file when they are many.
struct ItemWriter<'a> {
    store: &'a FolderStore,
    item: &'a ItemAddress,
    size: u64,
    taken: u64,
    /// Bytes not yet in the file.
    chunks: Vec<Bytes>,
    pending: u64,
    permit: Option<ChunkPermit>,
    temp_file: Option<TempFile>,
}

impl<'a> ItemWriter<'a> {
    fn new(store: &'a FolderStore, item: &'a ItemAddress, size: u64) -> Self {
        Self { store, item, size, taken: 0, chunks: Vec::new(), pending: 0, permit: None, temp_file: None }
    }

    /// Reads a body to its end, and checks its size.
    async fn take_all(&mut self, mut body: Body, plan: &PropertyPlan) -> Result<(), StoreError> {
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            self.taken += chunk.len() as u64;
            if self.taken > self.size {
                return Err(self.store.0.wrong_size(&self.item.to_string(), "more bytes came than were announced"));
            }
            self.pending += chunk.len() as u64;
            self.chunks.push(chunk);
            if self.is_full() && self.taken < self.size {
                self.flush(plan.clone(), false).await.map_err(|error| self.failed(error))?;
            }
        }
        if self.taken < self.size {
            return Err(self.store.0.wrong_size(&self.item.to_string(), "fewer bytes came than were announced"));
        }
        Ok(())
    }

    /// Whether the collected bytes must be written before more are read.
    fn is_full(&mut self) -> bool {
        if self.permit.is_some() {
            return self.pending >= super::buffer_budget::CHUNK_BYTES;
        }
        let (most, permit) = self.store.0.write_budget.for_chunk(self.size - self.taken + self.pending);
        self.permit = permit;
        self.pending >= most
    }

    /// Writes the collected bytes and sets the properties: one blocking call for a small item.
    async fn finish(mut self, plan: PropertyPlan) -> Result<TempFile, StoreError> {
        self.flush(plan, true).await.map_err(|error| self.failed(error))?;
        self.temp_file.take().ok_or_else(|| self.failed(FolderError::unexpected("no file was prepared")))
    }

    async fn flush(&mut self, plan: PropertyPlan, last: bool) -> Result<(), FolderError> {
        let (temp_file, chunks) = (self.temp_file.take(), std::mem::take(&mut self.chunks));
        let (folder, size) = (Arc::clone(&self.store.0), self.size);
        let prepared = self.store.0.blocking_pool.run(move || {
            let prepare = || {
                let mut temp_file = match temp_file {
                    Some(temp_file) => temp_file,
                    None => TempFile::create(folder.committer.staging()?, &plan)?,
                };
                temp_file.write(&chunks)?;
                if last {
                    temp_file.finish(&plan)?;
                }
                Ok(temp_file)
            };
            prepare().map_err(|error| folder.scope_write_error(None, size, error))
        });
        self.temp_file = Some(prepared.await?);
        (self.pending, self.permit) = (0, None);
        Ok(())
    }

    fn failed(&self, error: FolderError) -> StoreError {
        self.store.0.error("put", &self.item.to_string(), error)
    }
}
