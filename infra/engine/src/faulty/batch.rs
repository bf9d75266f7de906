//! Batches, some entries of which fail.

use std::borrow::Cow;

use super::{Fault, FaultKind, FaultPlan};
use crate::op::Op;

/// A batch as a plan lets it through.
#[derive(Debug)]
pub(super) struct Cut<'a, E: Clone> {
    /// What happens to the call as a whole.
    pub(super) whole: Option<Fault>,
    /// What reaches the back end.
    pub(super) entries: Cow<'a, [E]>,
    /// Where in the caller's batch each of these entries stands.
    pub(super) places: Vec<usize>,
    /// Which entries of the caller's batch are reported as failed by the plan.
    pub(super) failing: Vec<usize>,
    /// How they fail.
    pub(super) kind: FaultKind,
}

impl FaultPlan {
    /// Decides what becomes of a batch.
    pub(super) async fn cut<'a, E: Clone>(&self, op: Op, entries: &'a [E]) -> Cut<'a, E> {
        let fault = self.meet(op).await;
        let mut cut = Cut {
            whole: None,
            entries: Cow::Borrowed(entries),
            places: Vec::new(),
            failing: Vec::new(),
            kind: fault.map_or(FaultKind::Unexpected, Fault::kind),
        };
        match fault {
            Some(Fault::Partial(_)) => {
                let failing = self.failing(entries.len());
                let (failed, kept): (Vec<usize>, Vec<usize>) = (0..entries.len()).partition(|index| failing[*index]);
                cut.entries = Cow::Owned(kept.iter().map(|index| entries[*index].clone()).collect());
                (cut.places, cut.failing) = (kept, failed);
            }
            Some(Fault::PartialAfter(_)) => {
                let failing = self.failing(entries.len());
                cut.places = (0..entries.len()).collect();
                cut.failing = (0..entries.len()).filter(|index| failing[*index]).collect();
            }
            whole => {
                cut.places = (0..entries.len()).collect();
                cut.whole = whole;
            }
        }
        cut
    }
}
