//! Receives from the queues, and the accounts that they exclude, since enough of their tasks wait here.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use mill_model::{AccountId, Monotonic};
use mill_ports::{Delivery, ExcludedAccounts, QueueError};
use tokio_util::sync::CancellationToken;

use super::RunLoop;
use crate::poller::PollRequest;

/// What came of the receives of a request.
pub(super) struct ReceiveResult {
    pub(super) receives: Vec<Result<Vec<Delivery>, QueueError>>,
    /// Whether accounts were excluded.
    pub(super) excluded_any: bool,
    /// Whether the receives ended early, since other accounts are to be excluded.
    pub(super) woken: bool,
}

/// The accounts that receives exclude.
#[derive(Debug)]
pub(super) struct ExclusionState {
    /// By queue: the accounts that its last receive excluded.
    by_queue: Vec<BTreeSet<AccountId>>,
    /// Ends waiting receives.
    over: CancellationToken,
}

impl ExclusionState {
    pub(super) fn new(queues: usize) -> Self {
        Self { by_queue: vec![BTreeSet::new(); queues], over: CancellationToken::new() }
    }
}

impl RunLoop {
    pub(super) fn receive(&mut self, request: &PollRequest) -> BoxFuture<'static, ReceiveResult> {
        let queue = self.shared.input_queues[request.queue_index].clone();
        let excluded = self.excluded_accounts(request);
        let (visibility, wait, mut left) = (self.visibility(request.queue_index), request.wait, request.max);
        async move {
            let batch_max = queue.limits().batch_max;
            let mut receives = Vec::new();
            while let Some(max) = NonZeroU32::new(left) {
                let max = max.min(batch_max);
                left -= max.get();
                receives.push(queue.receive_excluding(&excluded, max, visibility, wait));
            }
            let receives = join_all(receives).await;
            let woken = !wait.is_zero() && excluded.over.is_cancelled();
            ReceiveResult { receives, excluded_any: !excluded.accounts.is_empty(), woken }
        }
        .boxed()
    }

    /// The accounts that a request must exclude.
    fn excluded_accounts(&mut self, request: &PollRequest) -> ExcludedAccounts {
        let accounts = if self.shared.input_queues[request.queue_index].limits().can_exclude_accounts {
            self.admission.excluded_accounts(request.queue_index, self.shared.clock.monotonic())
        } else {
            BTreeSet::new()
        };
        self.exclusion.by_queue[request.queue_index].clone_from(&accounts);
        ExcludedAccounts { accounts, over: self.exclusion.over.clone() }
    }

    /// Ends waiting receives once an account is no longer excluded, in any queue: there is room for its tasks.
    pub(super) fn wake_if_exclusions_end(&mut self, now: Monotonic) {
        for queue_index in 0..self.exclusion.by_queue.len() {
            let excluded = &self.exclusion.by_queue[queue_index];
            if !excluded.is_empty() && !excluded.is_subset(&self.admission.excluded_accounts(queue_index, now)) {
                std::mem::replace(&mut self.exclusion, ExclusionState::new(self.shared.input_queues.len()))
                    .over
                    .cancel();
                return;
            }
        }
    }
}
