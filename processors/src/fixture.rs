//! Two memory stores, the tables and one policy, for the tests of all kinds of task.

mod guarded;
mod policy_files;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{
    AccountId, Algorithm, ContentId, DuplicateTask, Envelope, ItemAddress, ItemOutcomes, Monotonic, Properties,
    QueueName, SpaceId, SpacePair, StoreAddress, StoreId, Task, TaskArgs as _, TaskId, Timestamp, WorkCounts,
};
use mill_policy::{AccountPolicy, Compare, SecretReference};
use mill_ports::{
    Attempt, BoxError, Clock as _, DeliveryLease, EndedTask, FailureClass, ItemOutcomeNote, ProcessorError,
    RefusalReason, Registry, Statistics, StoreErrorKind, Stores, TaskOutcome,
};
use mill_records::audit_log::AuditLog;
use mill_records::audit_log::opening::SigningKeys;
use mill_records::audit_log::publisher::LogPublisher;
use mill_records::content_index::ContentIndex;
use mill_records::delete_lists::{DeleteLists, DeleteThresholds};
use mill_records::owners::{DestinationSpace, Owners};
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;
use mill_testkit::{MemoryStore, MemoryStores, MemoryTable, SeededRng, SimClock, StoreBehavior};
use mill_transparency::LogSigner;
use tokio_util::sync::CancellationToken;

pub(crate) use self::guarded::{GuardedStores, Guards};
pub(crate) use self::policy_files::PolicyFilesFixture;
pub(crate) use self::probe::{Probe, ProbeFault, archived, without_properties};
use crate::refusals::Refusals;
use crate::{AuditDeps, ProcessorDeps};

pub(crate) struct Fixture {
    pub(crate) clock: Arc<SimClock>,
    pub(crate) source: MemoryStore,
    pub(crate) destination: MemoryStore,
    pub(crate) source_port: Probe,
    pub(crate) destination_port: Probe,
    pub(crate) sync_proofs: SyncProofs,
    pub(crate) owners: Owners,
    pub(crate) delete_lists: DeleteLists,
    /// The table of the delete lists.
    pub(crate) lists_table: Arc<MemoryTable>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) stores: Arc<dyn Stores>,
    pub(crate) another_source: bool,
    /// The content index.
    pub(crate) index: ContentIndex,
    pub(crate) audit_table: Arc<MemoryTable>,
}

pub(crate) fn store_address(id: &str) -> StoreAddress {
    StoreAddress { account: account(), store: StoreId::new(id).unwrap() }
}

pub(crate) fn account() -> AccountId {
    AccountId::new("a").unwrap()
}

pub(crate) fn space() -> SpaceId {
    SpaceId::new("p").unwrap()
}

pub(crate) fn at(id: &str) -> ItemAddress {
    ItemAddress { space: space(), id: ContentId::new(id).unwrap() }
}

pub(crate) fn noted(note: &str) -> Properties {
    let pairs = [("note", note)].into_iter().filter(|(_, value)| !value.is_empty());
    Properties(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Stores that report no checksums, like plain folders.
pub(crate) fn plain() -> StoreBehavior {
    StoreBehavior { checksums: Vec::new(), ..StoreBehavior::default() }
}

pub(crate) fn telling(algorithm: Algorithm) -> StoreBehavior {
    StoreBehavior { checksums: vec![algorithm], ..StoreBehavior::default() }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::of(StoreBehavior::default(), StoreBehavior::default())
    }

    pub(crate) fn of(source: StoreBehavior, destination: StoreBehavior) -> Self {
        let clock = Arc::new(SimClock::new());
        let source = MemoryStore::new(store_address("s"), source, clock.clone());
        let destination = MemoryStore::new(store_address("d"), destination, clock.clone());
        let source_port = Probe::new(source.clone(), store_address("s"));
        let destination_port = Probe::new(destination.clone(), store_address("d"));
        let stores = MemoryStores::default();
        stores.add(store_address("s"), Arc::new(source_port.clone()));
        stores.add(store_address("d"), Arc::new(destination_port.clone()));
        source.insert_space(&space());
        destination.insert_space(&space());
        let lists_table = Arc::new(MemoryTable::new(DeleteLists::TABLE));
        Self {
            source,
            destination,
            source_port,
            destination_port,
            sync_proofs: SyncProofs::new(Arc::new(MemoryTable::new("seals"))),
            owners: Owners::new(Arc::new(MemoryTable::new("owners"))),
            delete_lists: DeleteLists::new(lists_table.clone()),
            lists_table,
            statistics: Arc::default(),
            refusals: Arc::default(),
            stores: Arc::new(stores),
            another_source: false,
            index: ContentIndex::new(Arc::new(MemoryTable::new(ContentIndex::TABLE))),
            audit_table: Arc::new(MemoryTable::new(AuditLog::TABLE)),
            clock,
        }
    }

    fn audit(&self) -> AuditDeps {
        let log = AuditLog::new(self.audit_table.clone());
        AuditDeps {
            publisher: LogPublisher::new(log.clone()),
            log,
            index: self.index.clone(),
            keys: Arc::new(FixedKey),
            thresholds: DeleteThresholds::default(),
            publish_after: Duration::from_secs(1),
            new_spaces: None,
        }
    }

    pub(crate) fn registry(&self, policies: PolicyRepository) -> Registry {
        crate::registry(&ProcessorDeps {
            policies: Arc::new(policies),
            stores: self.stores.clone(),
            delete_lists: self.delete_lists.clone(),
            sync_proofs: self.sync_proofs.clone(),
            owners: self.owners.clone(),
            clock: self.clock.clone(),
            chance: Arc::new(SeededRng::new(1)),
            statistics: self.statistics.clone(),
            refusals: self.refusals.clone(),
            dry_run: false,
            another_source: self.another_source,
            give_up_after: Duration::MAX,
            audit: Some(self.audit()),
        })
    }

    pub(crate) fn pair() -> SpacePair {
        SpacePair {
            account: account(),
            source: store_address("s").store,
            destination: store_address("d").store,
            space: space(),
        }
    }

    /// The `duplicate` task of an item, or of the space.
    pub(crate) fn task(item: Option<&ItemAddress>) -> Task {
        DuplicateTask::of(Self::pair(), item.map(|item| item.id.clone())).to_task().unwrap()
    }

    /// From now on the stores are guarded with these answers.
    pub(crate) fn guard(&mut self, guards: Guards) -> Arc<GuardedStores> {
        let guarded = Arc::new(GuardedStores::new(self.stores.clone(), guards));
        self.stores = guarded.clone();
        guarded
    }

    /// Records that the source owns the destination space.
    pub(crate) async fn own(&self) {
        self.owners.claim(&Self::place(), &store_address("s")).await.unwrap();
    }

    pub(crate) fn place() -> DestinationSpace {
        DestinationSpace { store: store_address("d"), space: space() }
    }

    pub(crate) fn attempt(&self) -> Attempt {
        let id = TaskId::new(Timestamp::from_millis(0), [0; 10]);
        Attempt {
            envelope: Envelope::new(id, QueueName::DuplicationLow, Timestamp::from_millis(0), Self::task(None)),
            failures_max: 3,
            receive_count: 1,
            cancelled: CancellationToken::new(),
            lease: DeliveryLease::until(self.clock.clone(), Monotonic::from_origin(Duration::from_hours(1_000))),
            outcome: ItemOutcomeNote::default(),
        }
    }

    /// An attempt after so many failures.
    pub(crate) fn attempt_after(&self, failures: u32) -> Attempt {
        let mut attempt = self.attempt();
        attempt.envelope.failures = failures;
        attempt
    }

    /// Runs the task of an item under a policy that removes what vanished.
    pub(crate) async fn run(&self, item: &str) -> Result<TaskOutcome, ProcessorError> {
        self.run_under(policy(true), &Self::task(Some(&at(item)))).await
    }

    pub(crate) async fn run_under(
        &self,
        policies: PolicyRepository,
        task: &Task,
    ) -> Result<TaskOutcome, ProcessorError> {
        self.attempted(&self.registry(policies), task, &self.attempt()).await
    }

    /// Runs a task, and counts what became of its item.
    pub(crate) async fn attempted(
        &self,
        registry: &Registry,
        task: &Task,
        attempt: &Attempt,
    ) -> Result<TaskOutcome, ProcessorError> {
        let answer = registry.processor(task.clone())?.run(attempt).await;
        if let Ok(TaskOutcome::Done { .. } | TaskOutcome::Discard { .. }) = &answer {
            // As a workman does once the task is acknowledged.
            let (id, outcome) = (attempt.envelope.id, attempt.outcome.get());
            self.statistics.end_tasks([EndedTask { id, outcome, subject: None }]);
        }
        answer
    }

    /// Runs it, and lets time pass until all versions are settled.
    pub(crate) async fn settle(&self, item: &str) {
        self.run(item).await.unwrap();
        self.clock.sleep(Duration::from_mins(1)).await;
        self.run(item).await.unwrap();
        self.forget_counts();
    }

    pub(crate) fn forget_counts(&self) {
        for port in [&self.source_port, &self.destination_port] {
            port.calls();
            port.bytes_read();
        }
    }

    pub(crate) async fn has_sync_proof(&self, item: &str) -> bool {
        self.sync_proofs.get(&Self::pair(), &at(item).id).await.unwrap().is_some()
    }

    pub(crate) fn in_sync(&self) -> bool {
        self.source.contents(&space()) == self.destination.contents(&space())
    }

    pub(crate) fn totals(&self) -> Totals {
        let totals = self.statistics.totals();
        let ItemOutcomes { copied, updated, unchanged, refused, vanished, .. } = totals.sum.outcomes;
        let WorkCounts { deleted, bytes, .. } = totals.work;
        Totals { examined: totals.examined(), copied, updated, deleted, unchanged, refused, vanished, bytes }
    }
}

/// The counts that these tests check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) examined: u64,
    pub(crate) copied: u64,
    pub(crate) updated: u64,
    pub(crate) deleted: u64,
    pub(crate) unchanged: u64,
    pub(crate) refused: u64,
    pub(crate) vanished: u64,
    pub(crate) bytes: u64,
}

/// The signing key of the log in tests.
pub(crate) fn audit_signer() -> LogSigner {
    LogSigner::generate("example.org/log", [7; 32]).unwrap()
}

#[derive(Debug)]
struct FixedKey;

#[async_trait]
impl SigningKeys for FixedKey {
    async fn read(&self, _: &SecretReference) -> Result<String, BoxError> {
        Ok(audit_signer().to_secret())
    }
}

/// A policy as [`policy`], of an account with an audit log in its destination.
pub(crate) fn audited_policy(remove_vanished: bool) -> PolicyRepository {
    let policy = format!(
        r#"{{ "spaceDuplicationStorePolicies": {{ "p": [{{ "srcStoreId": "s", "destStoreId": "d" }}] }},
            "compare": "differences", "removeVanished": {remove_vanished} }}"#
    );
    let stores = r#"{ "stores": [
        { "id": "s", "type": "folder", "root": "/s", "primary": true }, { "id": "d", "type": "folder", "root": "/d" } ],
        "auditLog": { "stores": ["d"], "origin": "example.org/log", "signingKeyEnv": "KEY" } }"#;
    let policy = AccountPolicy::parse(account(), policy.as_bytes(), stores.as_bytes());
    PolicyRepository::fixed(vec![policy.unwrap_or_else(|faults| panic!("{faults:?}"))])
}

pub(crate) fn policy(remove_vanished: bool) -> PolicyRepository {
    policy_of(Fixture::pair(), remove_vanished)
}

pub(crate) fn policy_of(pair: SpacePair, remove_vanished: bool) -> PolicyRepository {
    let SpacePair { account, source, destination, space } = pair;
    let compare = Compare::Differences;
    PolicyRepository::fixed(vec![AccountPolicy::mirror(account, space, source, destination, compare, remove_vanished)])
}

/// Ways in which the policy of a task is missing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NoPolicy {
    CoversNothing,
    NotListed,
    ContradictsItself,
}

impl NoPolicy {
    pub(crate) fn repository(self) -> PolicyRepository {
        let SpacePair { account, source, destination, space } = Fixture::pair();
        let of = |space, source: &StoreId, destination| {
            let compare = Compare::Everything;
            vec![AccountPolicy::mirror(account, space, source.clone(), destination, compare, true)]
        };
        PolicyRepository::fixed(match self {
            Self::NotListed => Vec::new(),
            Self::ContradictsItself => of(space, &source, source.clone()),
            Self::CoversNothing => {
                let other = SpaceId::new("other").unwrap();
                assert_ne!(space, other);
                of(other, &source, destination)
            }
        })
    }
}

/// Each kind of store failure.
pub(crate) fn every_error() -> Vec<StoreErrorKind> {
    // A new kind does not compile until it is added below.
    let _ = |kind: StoreErrorKind| match kind {
        StoreErrorKind::Throttled { .. }
        | StoreErrorKind::Unavailable
        | StoreErrorKind::Unreachable
        | StoreErrorKind::SpaceAbsent
        | StoreErrorKind::Refused(_)
        | StoreErrorKind::Precondition
        | StoreErrorKind::Changed
        | StoreErrorKind::Damaged
        | StoreErrorKind::OnlyCached
        | StoreErrorKind::NotConfigured
        | StoreErrorKind::Unexpected => {}
    };
    vec![
        StoreErrorKind::Throttled { retry_after: None },
        StoreErrorKind::Unavailable,
        StoreErrorKind::Unreachable,
        StoreErrorKind::SpaceAbsent,
        StoreErrorKind::Refused(RefusalReason::Unreadable),
        StoreErrorKind::Precondition,
        StoreErrorKind::Changed,
        StoreErrorKind::Damaged,
        StoreErrorKind::OnlyCached,
        StoreErrorKind::NotConfigured,
        StoreErrorKind::Unexpected,
    ]
}

pub(crate) fn fails(kind: &StoreErrorKind, times: usize) -> Vec<ProbeFault> {
    std::iter::repeat_with(|| ProbeFault::Fails(kind.clone())).take(times).collect()
}

pub(crate) fn class(result: Result<TaskOutcome, ProcessorError>) -> FailureClass {
    result.unwrap_err().class
}

pub(crate) fn is_discard(outcome: &TaskOutcome, with: &str) -> bool {
    matches!(outcome, TaskOutcome::Discard { reason } if reason.contains(with))
}
