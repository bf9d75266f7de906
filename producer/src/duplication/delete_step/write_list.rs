//! Writes a delete list: its rows, then its head.

use mill_model::{DeleteListId, SpacePair};
use mill_ports::{Place, RngExt as _};
use mill_records::delete_lists::{DeleteListError, DeleteListHead, DeleteListState, DeletionScope};

use crate::duplication::delete_scan::{DeleteScan, VanishedFilter};
use crate::duplication::endpoints::Endpoints;
use crate::duplication::list_writer::{ListWriter, RowsSummary};
use crate::duplication::merge::Merge;
use crate::duplication::plan::{DuplicationSession, DuplicationStepError};

impl DuplicationSession<'_> {
    /// Writes a list of the items in memory: the rows, then the head.
    pub(super) async fn write_list(
        &self,
        pair: &SpacePair,
        survey: DeleteScan,
        state: DeleteListState,
    ) -> Result<DeleteListId, DuplicationStepError> {
        let list = self.deps.chance.delete_list_id(self.deps.clock.now());
        let mut writer = ListWriter::new(&self.plan.delete_lists, pair, list);
        for listed in survey.vanished {
            writer.push(listed).await?;
        }
        let rows = writer.finish().await?;
        self.add_head(pair, list, rows, (survey.items_total, survey.places, DeletionScope::Items, state)).await?;
        Ok(list)
    }

    /// Writes a list that may be longer than the items in memory. If so, both sides are listed once more.
    pub(super) async fn write_long_list(
        &self,
        endpoints: &Endpoints,
        list: DeleteListId,
        survey: DeleteScan,
        (of, state): (DeletionScope, DeleteListState),
    ) -> Result<(), DuplicationStepError> {
        let pair = &endpoints.pair;
        let mut writer = ListWriter::new(&self.plan.delete_lists, pair, list);
        let (mut items_total, mut places) = (survey.items_total, survey.places);
        if survey.vanished.len() as u64 == survey.count {
            for listed in survey.vanished {
                writer.push(listed).await?;
            }
        } else {
            let mut merge = self.rescan_vanished(endpoints, of);
            let mut vanishing = VanishedFilter::new(survey.respelled);
            while let Some(found) = merge.next().await? {
                if let Some((listed, _)) = vanishing.vanished_item(&found) {
                    writer.push(listed).await?;
                }
            }
            items_total = merge.items_at_destination();
            if of == DeletionScope::Items {
                places = merge.source_places().to_vec();
            }
        }
        let rows = writer.finish().await?;
        // The note comes before the head, so that a person can find every list that waits.
        self.plan.delete_lists.note_held(pair, list).await?;
        self.add_head(pair, list, rows, (items_total, places, of, state)).await?;
        Ok(())
    }

    fn rescan_vanished(&self, endpoints: &Endpoints, of: DeletionScope) -> Merge {
        match of {
            DeletionScope::Items => endpoints.merge_both_sides(&self.plan.sync_proofs),
            DeletionScope::Space => endpoints.merge_destination_alone(),
        }
    }

    async fn add_head(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        rows: RowsSummary,
        (items_total, places, of, state): (u64, Vec<Place>, DeletionScope, DeleteListState),
    ) -> Result<(), DeleteListError> {
        let RowsSummary { rows, count, digest } = rows;
        let made = self.deps.clock.now().as_millis();
        let mut places: Vec<(String, String)> =
            places.into_iter().map(|Place { path, identity }| (path, identity)).collect();
        places.sort();
        places.dedup();
        let head = DeleteListHead { of, made, count, items_total, rows, digest, places, state };
        self.plan.delete_lists.add_head(pair, list, head).await?;
        Ok(())
    }
}
