//! Queues the tasks of a granted delete list, row by row.

use mill_hooks::crash_point;
use mill_model::{DeleteListId, RemoveTask};

use mill_records::Versioned;
use mill_records::delete_lists::{DeleteListHead, DeleteListRow, DeletionScope};
use mill_records::producer_state::{DeleteProgress, PairMorsel};

use super::DeleteStepOutcome;
use crate::crash_points;
use crate::duplication::endpoints::Endpoints;
use crate::duplication::plan::{DuplicationSession, DuplicationStepError};

impl DuplicationSession<'_> {
    pub(crate) async fn begin_sending(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        list: DeleteListId,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        crash_point(crash_points::PRODUCER_BEFORE_DELETES);
        morsel.record.deletes = DeleteProgress::Sending { list, next: 0 };
        self.state.save(morsel).await?;
        Ok(DeleteStepOutcome::More)
    }

    /// Queues the tasks of the next rows of a granted list, except for rows that have a result.
    pub(crate) async fn send_rows(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        endpoints: &Endpoints,
        list: DeleteListId,
        next: u32,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        let pair = &endpoints.pair;
        let head = self.plan.delete_lists.head(pair, list).await?.map(|head| head.record);
        let Some(head) = head.filter(DeleteListHead::is_granted) else {
            return self.settle(morsel, DeleteProgress::Done).await;
        };
        if !self.plan.settled_rows.contains_key(&list) {
            let results = self.plan.delete_lists.results(pair, list).await?;
            self.plan.settled_rows.insert(list, results.into_iter().map(|(row, _)| row).collect());
        }
        let steps_max = u32::try_from(self.settings.nibble.get() / DeleteListRow::IDS_MAX).unwrap_or(u32::MAX).max(1);
        let end = Lanes::of(head.rows).steps();
        let until = next.saturating_add(steps_max).min(end);
        let settled = self.plan.settled_rows.get(&list);
        let due = (next..until)
            .filter_map(|step| Lanes::of(head.rows).row(step))
            .filter(|row| settled.is_none_or(|settled| !settled.contains(row)));
        let mut tasks: Vec<Option<u32>> = due.map(Some).collect();
        if until == end && head.of == DeletionScope::Space {
            // This task removes the space once it is empty. Until then the next run finds the space again.
            tasks.push(None);
        }
        let tasks = tasks.into_iter().map(|row| RemoveTask { pair: pair.clone(), list, row });
        let sent = self.queue_tasks(&pair.account, tasks).await?;
        self.report.findings.removing += sent;
        crash_point(crash_points::PRODUCER_DELETES_SENT);
        if until < end {
            morsel.record.deletes = DeleteProgress::Sending { list, next: until };
            self.state.save(morsel).await?;
            return Ok(DeleteStepOutcome::More);
        }
        self.settle(morsel, DeleteProgress::Done).await
    }
}

/// The order in which rows are sent: one row of each lane in turn, so that the deletes and the removal of their proofs do not
/// all load one key range of a service.
#[derive(Debug, Clone, Copy)]
struct Lanes {
    rows: u32,
    width: u32,
}

impl Lanes {
    const LANES: u32 = 16;

    fn of(rows: u32) -> Self {
        Self { rows, width: rows.div_ceil(Self::LANES) }
    }

    /// The number of steps. Some steps have no row.
    fn steps(self) -> u32 {
        self.width * Self::LANES
    }

    /// The row of a step.
    fn row(self, step: u32) -> Option<u32> {
        let row = (step % Self::LANES) * self.width + step / Self::LANES;
        (row < self.rows).then_some(row)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_row_is_sent_once_in_some_order() {
        for rows in [0, 1, 15, 16, 17, 100, 3907] {
            let lanes = Lanes::of(rows);
            let sent: Vec<u32> = (0..lanes.steps()).filter_map(|step| lanes.row(step)).collect();
            let each: BTreeSet<u32> = sent.iter().copied().collect();
            assert_eq!((sent.len(), each.len()), (rows as usize, rows as usize), "{rows}");
        }
    }
}
