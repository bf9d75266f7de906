//! The promises of the kind, on memory stores and with paused time.

mod conditions;
mod errors;
mod order;
mod places;
mod repeats;
mod space;

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use mill_model::{Algorithm, Checksum, DeleteListId, SpaceId, StoreAddress, Task, Timestamp, Version};
use mill_ports::Clock as _;
use mill_records::delete_lists::rows::IdsDigest;
use mill_records::delete_lists::{
    DeleteListRow, DeleteListState, DeleteLists, DeletionScope, GrantedBy, HoldReason, ListedId, RowResult,
};
use mill_records::owners::Owners;
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::{SyncProof, SyncProofs, VersionDigest};

use super::*;
use crate::fixture::*;

const GRANTED: DeleteListState = DeleteListState::Granted { by: GrantedBy::Rule, at: 1 };

fn deleted(deleted: u64) -> RowResult {
    RowResult { deleted, ..RowResult::default() }
}

fn gone(gone: u64) -> RowResult {
    RowResult { gone, ..RowResult::default() }
}

fn kept(kept: u64) -> RowResult {
    RowResult { kept, ..RowResult::default() }
}

fn failed(failed: u64) -> RowResult {
    RowResult { failed, ..RowResult::default() }
}

/// The destination has these items of a source, which has none of them.
async fn vanished(ids: &[&str]) -> Fixture {
    let site = Fixture::new();
    site.own().await;
    for id in ids {
        site.destination.insert(&at(id), (*id).to_owned(), noted("n"));
        site.sync_proofs.put_written(&Fixture::pair(), &at(id).id, &site.version(id).await).await.unwrap();
    }
    site
}

/// The same, and the source space is gone too.
async fn orphaned(ids: &[&str]) -> Fixture {
    let site = vanished(ids).await;
    site.source.remove_space(&space());
    site
}

fn list_id() -> DeleteListId {
    DeleteListId::new(Timestamp::from_millis(1), [7; 10])
}

fn row_task(row: u32) -> Task {
    task(Some(row))
}

fn task(row: Option<u32>) -> Task {
    RemoveTask { pair: Fixture::pair(), list: list_id(), row }.to_task().unwrap()
}

impl Fixture {
    async fn version(&self, id: &str) -> Version {
        self.destination.head(&at(id)).await.unwrap().present().unwrap().version
    }

    /// Writes a list of items in these rows as they stand at the destination, like a survey does.
    async fn list(&self, of: DeletionScope, state: DeleteListState, rows: &[&[&str]]) {
        let (mut digest, mut count) = (IdsDigest::default(), 0);
        for (number, ids) in (0..).zip(rows) {
            let mut row = DeleteListRow::default();
            for id in *ids {
                let id = at(id).id;
                digest.add(&id);
                count += 1;
                let seen = VersionDigest::of(&self.version(id.as_str()).await);
                row.ids.push(ListedId { id, seen });
            }
            self.delete_lists.put_row(&Fixture::pair(), list_id(), number, &row).await.unwrap();
        }
        let items_total = self.destination.contents(&space()).unwrap().len() as u64;
        let (rows, digest) = (rows.len() as u32, digest.finish());
        let head =
            DeleteListHead { of, made: 1, count, items_total, rows, digest, places: self.places(of).await, state };
        self.delete_lists.add_head(&Fixture::pair(), list_id(), head).await.unwrap();
    }

    /// The places of the source as a survey sees them: all that its listing entered, or the root of a space that is gone.
    async fn places(&self, of: DeletionScope) -> Vec<(String, String)> {
        let places = match of {
            DeletionScope::Items => {
                let pages: Vec<_> = self.source.list(&space(), None).try_collect().await.unwrap();
                pages.into_iter().flat_map(|page| page.places).collect()
            }
            DeletionScope::Space => self.source.places(&at("x")).await.unwrap(),
        };
        let each: BTreeSet<_> = places.into_iter().map(|place| (place.path, place.identity)).collect();
        each.into_iter().collect()
    }

    async fn granted(&self, ids: &[&str]) {
        self.list(DeletionScope::Items, GRANTED, &[ids]).await;
    }

    /// Runs the task of the first row under a policy that removes what vanished.
    async fn remove(&self) -> Result<TaskOutcome, ProcessorError> {
        self.remove_under(policy(true), row_task(0), &self.attempt()).await
    }

    async fn remove_under(
        &self,
        policies: PolicyRepository,
        task: Task,
        attempt: &Attempt,
    ) -> Result<TaskOutcome, ProcessorError> {
        self.registry(policies).processor(task)?.run(attempt).await
    }

    async fn result(&self, row: u32) -> Option<RowResult> {
        self.delete_lists.result(&Fixture::pair(), list_id(), row).await.unwrap()
    }

    async fn state(&self) -> DeleteListState {
        self.delete_lists.head(&Fixture::pair(), list_id()).await.unwrap().unwrap().record.state
    }

    async fn set_state(&self, state: DeleteListState) {
        let mut head = self.delete_lists.head(&Fixture::pair(), list_id()).await.unwrap().unwrap();
        head.record.state = state;
        self.delete_lists.save_head(&Fixture::pair(), list_id(), &mut head).await.unwrap();
    }

    /// The ids at the destination; `None` without the space.
    fn left(&self) -> Option<Vec<String>> {
        let contents = self.destination.contents(&space())?;
        Some(contents.into_keys().map(|id| id.as_str().to_owned()).collect())
    }

    async fn known(&self) -> Vec<String> {
        let all: Vec<_> = self.sync_proofs.stream(&Fixture::pair(), None).try_collect().await.unwrap();
        all.into_iter().map(|(id, _)| id.as_str().to_owned()).collect()
    }

    /// Checks that nothing was deleted and no result written.
    async fn assert_untouched(&self, ids: &[&str]) {
        assert_eq!(self.left().unwrap(), ids);
        assert_eq!((self.totals().deleted, self.result(0).await), (0, None));
        assert_eq!(self.destination.writes(), 0);
    }
}
