//! What the queues are asked for, and whose tasks they are to pass over, since enough of them wait here.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use mill_model::{AccountId, Monotonic};
use mill_ports::{Delivery, ExcludedAccounts, QueueError};
use tokio_util::sync::CancellationToken;

use super::RunLoop;
use crate::poller::ReceiveRequest;

/// What came of the receives of an ask.
pub(super) struct ReceiveResult {
    pub(super) answers: Vec<Result<Vec<Delivery>, QueueError>>,
    /// Whether accounts were passed over.
    pub(super) passed_over: bool,
    /// Whether they ended early, since others are to be.
    pub(super) woken: bool,
}

/// Who is passed over by what is asked.
#[derive(Debug)]
pub(super) struct ExclusionState {
    /// By queue: who was, when it was last asked.
    asked: Vec<BTreeSet<AccountId>>,
    /// Ends the receives that wait.
    over: CancellationToken,
}

impl ExclusionState {
    pub(super) fn new(queues: usize) -> Self {
        Self { asked: vec![BTreeSet::new(); queues], over: CancellationToken::new() }
    }
}

impl RunLoop {
    pub(super) fn ask(&mut self, ask: &ReceiveRequest) -> BoxFuture<'static, ReceiveResult> {
        let queue = self.shared.lanes[ask.lane].clone();
        let passed_over = self.pass_over(ask);
        let (visibility, wait, mut left) = (self.visibility(ask.lane), ask.wait, ask.max);
        async move {
            let batch_max = queue.limits().batch_max;
            let mut receives = Vec::new();
            while let Some(max) = NonZeroU32::new(left) {
                let max = max.min(batch_max);
                left -= max.get();
                receives.push(queue.receive_but(&passed_over, max, visibility, wait));
            }
            let answers = join_all(receives).await;
            let woken = !wait.is_zero() && passed_over.over.is_cancelled();
            ReceiveResult { answers, passed_over: !passed_over.accounts.is_empty(), woken }
        }
        .boxed()
    }

    /// Whom an ask is to pass over.
    fn pass_over(&mut self, ask: &ReceiveRequest) -> ExcludedAccounts {
        let accounts = if self.shared.lanes[ask.lane].limits().passes_over_accounts {
            self.admission.passed_over(ask.lane, self.shared.clock.monotonic())
        } else {
            BTreeSet::new()
        };
        self.passing.asked[ask.lane].clone_from(&accounts);
        ExcludedAccounts { accounts, over: self.passing.over.clone() }
    }

    /// Ends the receives that wait once somebody is passed over no more, in whatever queue: there is room for its tasks.
    pub(super) fn wake_if_others_are_passed_over(&mut self, now: Monotonic) {
        for lane in 0..self.passing.asked.len() {
            let asked = &self.passing.asked[lane];
            if !asked.is_empty() && !asked.is_subset(&self.admission.passed_over(lane, now)) {
                std::mem::replace(&mut self.passing, ExclusionState::new(self.shared.lanes.len())).over.cancel();
                return;
            }
        }
    }
}
