//! The kind `duplicate`: bring one space, or one item of it, of a destination in sync with its source.
//!
//! What is done with an item, by what both sides say when the task runs (an error of either side ends the attempt):
//!
//! | source | destination | done |
//! |---|---|---|
//! | absent | absent | nothing |
//! | here | absent | copied, if there is still none |
//! | here | here, of another size | copied, if the destination is still as seen |
//! | here | here, both as sealed | nothing |
//! | here | here, other bytes | copied, if the destination is still as seen |
//! | here | here, same bytes, other properties | the source's properties set, if the destination is still as seen |
//! | here | here, same bytes and properties | sealed |
//! | absent | here | nothing: only a task of the kind [`remove`](crate::remove) deletes |
//! | its space absent | any | nothing, discarded |
//!
//! A space that is at the source is owned by it and created at the destination, if there is none.
//!
//! Where another item stands in the place of one at the destination (`a` is in the way of `a/b`), and policy removes what
//! vanished, the task fails and is tried again, since the other's delete may be on its way; on its last attempt the item
//! is refused by name.
//!
//! Where the destination takes the item's name for another's that stands there (`readme` finds `README`), that one is never
//! replaced: if it is gone at the source and holds the same bytes, it is given the new spelling; else the item is refused by
//! name (see `respelling`).
//!
//! Whether bytes are the same is answered by a checksum that both stores hold, or that the seal remembers of the side
//! that did not change, and else by reading what is not known. What was proven alike is sealed where both states can
//! prove that nothing changed since; where they are too young for that, a seal on bytes that were replaced is forgotten.
//!
//! Reading order: this file (factory and processor), `item` and `space` (the tables), `compare` (the comparison),
//! `respelling` (names taken for one another), `transfer`, `verified_body` and `checksum_capabilities` (the copy), `context`
//! (the calls), `ownership_cache` (the owner).
//!
//! **Invariant:** the destination is held by a type that has no method that deletes.

mod checksum_capabilities;
mod compare;
mod context;
mod item;
mod ownership_cache;
mod respelling;
mod space;
mod transfer;
mod verified_body;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, Duplicate, ItemAddress, ItemOutcome, SpaceId, StoreAddress, StoreId, Task, TaskKind};
use mill_ports::{
    Attempt, Clock, FailureClass, ProcessorError, Rng, Statistics, StoreError, StoreErrorKind, Stores, TaskOutcome,
    TaskProcessor, TaskProcessorFactory, error_chain,
};
use mill_records::owners::Owners;
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::{SpacePair, SyncProofs};
use tracing::warn;

use self::checksum_capabilities::ChecksumCapabilities;
use self::context::AttemptContext;
use self::ownership_cache::OwnershipCache;
use crate::current_policy::{self, CurrentPolicy};
use crate::early_exit::EarlyExit;
use crate::failure::{self, ErrorMeaning};
use crate::rate_limited_log::RateLimitedLog;
use crate::refusals::{Refusal, Refusals};
use crate::retry::StoreRetry;
use crate::slow_items::SlowItems;

/// What the kind works with.
#[derive(Debug)]
pub struct DuplicateDeps {
    /// Today's policies.
    pub policies: Arc<PolicyRepository>,
    /// All accounts' stores.
    pub stores: Arc<dyn Stores>,
    /// What was proven in sync.
    pub seals: SyncProofs,
    /// Which source a destination space belongs to.
    pub owners: Owners,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub chance: Arc<dyn Rng>,
    /// Counts bytes and what is under way. What became of an item is noted in the attempt, and counted by the workman.
    pub statistics: Arc<Statistics>,
    /// Takes the names of what cannot be copied.
    pub refusals: Arc<Refusals>,
}

/// Makes the processors of `duplicate` tasks.
#[derive(Debug, Clone)]
pub struct DuplicateFactory {
    room: Arc<DuplicateShared>,
}

/// What all processors of one factory share.
#[derive(Debug)]
struct DuplicateShared {
    deps: DuplicateDeps,
    tries: StoreRetry,
    claims: OwnershipCache,
    told: ChecksumCapabilities,
    seal_warnings: RateLimitedLog,
    slow_items: SlowItems,
}

impl DuplicateFactory {
    /// A factory whose processors work with `deps`, and wait for throttling stores without end.
    pub fn new(deps: DuplicateDeps) -> Self {
        Self::patient(deps, Duration::MAX)
    }

    /// The same; an item at which its store asks to slow down for so long, while it serves others, is refused by name.
    pub fn patient(deps: DuplicateDeps, give_up_after: Duration) -> Self {
        let tries = StoreRetry::new(deps.clock.clone(), deps.chance.clone());
        Self {
            room: Arc::new(DuplicateShared {
                deps,
                tries,
                claims: OwnershipCache::default(),
                told: ChecksumCapabilities::default(),
                seal_warnings: RateLimitedLog::default(),
                slow_items: SlowItems::new(give_up_after),
            }),
        }
    }
}

impl TaskProcessorFactory for DuplicateFactory {
    fn recognises(&self, task: &Task) -> bool {
        task.kind == TaskKind::DUPLICATE
    }

    fn processor(&self, task: Task) -> Result<Box<dyn TaskProcessor>, ProcessorError> {
        let Duplicate { account, source, destination, space, item } =
            Duplicate::from_task(&task).map_err(|error| ProcessorError {
                class: FailureClass::Permanent,
                message: "the task cannot be understood".into(),
                source: Some(error.into()),
            })?;
        Ok(Box::new(DuplicateProcessor {
            room: self.room.clone(),
            item: item.map(|id| ItemAddress { space: space.clone(), id }),
            pair: SpacePair { account, source, destination, space },
        }))
    }
}

/// Does one `duplicate` task.
#[derive(Debug)]
pub struct DuplicateProcessor {
    room: Arc<DuplicateShared>,
    pair: SpacePair,
    /// The item, or `None` for the space itself.
    item: Option<ItemAddress>,
}

#[async_trait]
impl TaskProcessor for DuplicateProcessor {
    fn stores(&self) -> Vec<StoreAddress> {
        let SpacePair { account, source, destination, .. } = &self.pair;
        vec![address(account, source), address(account, destination)]
    }

    fn space(&self) -> Option<SpaceId> {
        Some(self.pair.space.clone())
    }

    fn subject(&self) -> String {
        match &self.item {
            Some(item) => format!("{}/{item}", self.pair.account),
            None => format!("{}/{}", self.pair.account, self.pair.space),
        }
    }

    async fn run(self: Box<Self>, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        let outcome = match self.look(attempt).await {
            Ok(()) => {
                let now = self.room.deps.clock.monotonic();
                self.room.slow_items.served((&self.stores(), &self.pair.space), &self.subject(), now);
                TaskOutcome::done()
            }
            Err(EarlyExit::TaskOutcome(outcome)) => outcome,
            Err(EarlyExit::Refused { reason }) => self.refused(attempt, reason),
            Err(EarlyExit::Failed { class, source }) => return Err(failure::failed(class, &self.subject(), source)),
            Err(EarlyExit::Store(error)) => {
                // What a store answered after the lease was lost is no news of that store.
                attempt.may_act()?;
                if let Some(reason) = self.always_throttled(&error) {
                    return Ok(self.refused(attempt, reason));
                }
                match ErrorMeaning::of(error, &self.subject()) {
                    ErrorMeaning::Refused { reason } => self.refused(attempt, reason),
                    ErrorMeaning::Failed(failure) => return Err(failure),
                }
            }
        };
        Ok(outcome)
    }
}

impl DuplicateProcessor {
    async fn look(&self, attempt: &Attempt) -> Result<(), EarlyExit> {
        let policy = match current_policy::ask(&self.room.deps.policies, &self.pair).await {
            CurrentPolicy::Covers(policy) => policy,
            CurrentPolicy::Discard { reason } => {
                attempt.fate.note(ItemOutcome::Dropped);
                return Err(EarlyExit::discard(reason));
            }
            CurrentPolicy::Unknown { reason } => return Err(current_policy::waits(&self.subject(), &reason)),
        };
        let SpacePair { account, source, destination, .. } = &self.pair;
        // Before the destination is opened: what is refused is not tidied either.
        self.room.deps.stores.ensure_apart(account, source, destination).await?;
        let sides = AttemptContext {
            room: &self.room,
            pair: &self.pair,
            attempt,
            policy,
            source: self.room.deps.stores.source(account, source).await?,
            destination: self.room.deps.stores.destination(account, destination).await?,
        };
        let done = match &self.item {
            Some(item) => sides.item(item).await,
            None => sides.space().await,
        };
        let waits = sides.policy.remove_vanished && !attempt.is_last();
        done.map_err(|stop| match stop {
            EarlyExit::Store(error) if waits && error.store.store == *destination && failure::may_give_way(&error) => {
                EarlyExit::Failed { class: FailureClass::Retryable, source: error.into() }
            }
            other => other,
        })
    }

    /// Why the item is given up, if its store has asked to slow down at it for long enough while it served others.
    fn always_throttled(&self, error: &StoreError) -> Option<String> {
        let StoreErrorKind::Throttled { .. } = error.kind else { return None };
        let now = self.room.deps.clock.monotonic();
        let waited =
            self.room.slow_items.told_to_wait((&error.store, &self.pair.space), &self.subject(), now)?.as_secs();
        let said = error.source.as_ref().map_or_else(String::new, |source| format!(": {}", error_chain(&**source)));
        Some(format!("for {waited} s store `{}` asked to slow down at each try, and served others{said}", error.store))
    }

    fn refused(&self, attempt: &Attempt, reason: String) -> TaskOutcome {
        let subject = self.subject();
        warn!(reason, "refused");
        attempt.fate.note(ItemOutcome::Refused);
        self.room.deps.refusals.note(Refusal { subject, reason: reason.clone() });
        TaskOutcome::Discard { reason }
    }
}

fn address(account: &AccountId, store: &StoreId) -> StoreAddress {
    StoreAddress { account: account.clone(), store: store.clone() }
}

#[cfg(test)]
mod tests;
