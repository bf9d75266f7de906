//! Batches, some entries of which fail.

use std::borrow::Cow;

use super::{FaultKind, FaultPlan, InjectedFault};
use crate::port_call::PortCall;

/// A batch, and the faults planned for it.
#[derive(Debug)]
pub(super) struct BatchPlan<'a, E: Clone> {
    /// The fault of the call as a whole.
    pub(super) call_fault: Option<InjectedFault>,
    /// The entries that reach the back end.
    pub(super) entries: Cow<'a, [E]>,
    /// The index of each of these entries in the caller's batch.
    pub(super) places: Vec<usize>,
    /// The indexes in the caller's batch of the entries that the plan reports as failed.
    pub(super) pick_failing: Vec<usize>,
    /// How they fail.
    pub(super) kind: FaultKind,
}

impl FaultPlan {
    /// Decides which entries of a batch fail.
    pub(super) async fn batch<'a, E: Clone>(&self, op: PortCall, entries: &'a [E]) -> BatchPlan<'a, E> {
        let fault = self.next_fault(op).await;
        let mut batch = BatchPlan {
            call_fault: None,
            entries: Cow::Borrowed(entries),
            places: Vec::new(),
            pick_failing: Vec::new(),
            kind: fault.map_or(FaultKind::Unexpected, InjectedFault::kind),
        };
        match fault {
            Some(InjectedFault::Partial(_)) => {
                let pick_failing = self.pick_failing(entries.len());
                let (failed, kept): (Vec<usize>, Vec<usize>) =
                    (0..entries.len()).partition(|index| pick_failing[*index]);
                batch.entries = Cow::Owned(kept.iter().map(|index| entries[*index].clone()).collect());
                (batch.places, batch.pick_failing) = (kept, failed);
            }
            Some(InjectedFault::PartialAfter(_)) => {
                let pick_failing = self.pick_failing(entries.len());
                batch.places = (0..entries.len()).collect();
                batch.pick_failing = (0..entries.len()).filter(|index| pick_failing[*index]).collect();
            }
            call_fault => {
                batch.places = (0..entries.len()).collect();
                batch.call_fault = call_fault;
            }
        }
        batch
    }
}
