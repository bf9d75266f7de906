//! The events of a world, recorded by its back ends. Invariants judge by nothing else.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mill_model::wire::{self, ReceiveContext};
use mill_model::{
    AccountId, AuditAction, AuditEvent, AuditTask, ContentId, DuplicateTask, Envelope, ItemAddress, Monotonic,
    Properties, PublishLogTask, QueueName, RemoveTask, SpaceId, SpacePair, StoreAddress, TaskArgs, TaskId, Timestamp,
};
use mill_producer::SessionReport;

use super::probe_task::ProbeTask;
use super::sim_run::EndedRun;
use super::trace::Hash;

/// The name under which users act.
pub(crate) const USERS: &str = "people";
/// The name under which the operator acts.
pub(crate) const OPERATOR: &str = "operator";

/// An item's content in a few bytes: two hashes and the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ContentFingerprint {
    pub(crate) bytes: u64,
    pub(crate) properties: u64,
    pub(crate) size: u64,
}

impl ContentFingerprint {
    /// Hashes with code of the checker's own, which shares nothing with the digests of Mill.
    pub(crate) fn of(bytes: &[u8], properties: &Properties) -> Self {
        let mut hash = Hash::default();
        for (name, value) in &properties.0 {
            hash.add(name.as_bytes());
            hash.add(b"=");
            hash.add(value.as_bytes());
            hash.add(b"\n");
        }
        Self { bytes: Hash::of(bytes), properties: hash.value(), size: bytes.len() as u64 }
    }
}

impl fmt::Display for ContentFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}.{:04x}/{}", self.bytes & 0xffff, self.properties & 0xffff, self.size)
    }
}

/// The body of a message, decoded as far as possible.
#[derive(Debug, Clone)]
pub(crate) struct DecodedBody {
    /// Identifies the task: its id, or a hash of a body that nobody can decode.
    pub(crate) key: String,
    /// The envelope, if the body is one or a dead letter with one.
    pub(crate) envelope: Option<Envelope>,
    /// Whether it is a dead letter.
    pub(crate) is_dead_letter: bool,
}

impl DecodedBody {
    pub(crate) fn of(body: &Bytes) -> Arc<Self> {
        let arrival = ReceiveContext {
            id: TaskId::new(Timestamp::default(), [0; 10]),
            queue: QueueName::DeadLetter,
            sent_at: Timestamp::default(),
        };
        let letter = wire::decode_dead_letter(body).ok();
        let inner = letter.as_ref().map_or(body, |letter| &letter.body);
        let envelope = wire::decode(inner, arrival).ok();
        let key = match &envelope {
            Some(envelope) => envelope.id.to_string(),
            None => format!("body-{:016x}", Hash::of(inner)),
        };
        Arc::new(Self { key, envelope, is_dead_letter: letter.is_some() })
    }

    /// Whether it is a task that no processor understands.
    pub(crate) fn is_hopeless(&self) -> bool {
        let understood = |envelope: &Envelope| {
            envelope.task.kind == ProbeTask::KIND
                || self.is_of_log()
                || self.duplicate().is_some()
                || self.remove().is_some()
        };
        self.envelope.as_ref().is_some_and(|envelope| !understood(envelope))
    }

    /// Its duplicate task, if it is one.
    pub(crate) fn duplicate(&self) -> Option<DuplicateTask> {
        DuplicateTask::from_task(&self.envelope.as_ref()?.task).ok()
    }

    /// Whether it is a task about changes or the log of them.
    pub(crate) fn is_of_log(&self) -> bool {
        let of_log = |envelope: &Envelope| {
            AuditTask::from_task(&envelope.task).is_ok() || PublishLogTask::from_task(&envelope.task).is_ok()
        };
        self.envelope.as_ref().is_some_and(of_log)
    }

    /// Its audit task, if it is one.
    pub(crate) fn changes(&self) -> Option<AuditTask> {
        AuditTask::from_task(&self.envelope.as_ref()?.task).ok()
    }

    /// Its remove task, if it is one.
    pub(crate) fn remove(&self) -> Option<RemoveTask> {
        RemoveTask::from_task(&self.envelope.as_ref()?.task).ok()
    }
}

impl fmt::Display for DecodedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.get(self.key.len().saturating_sub(8)..).unwrap_or(&self.key);
        write!(f, "{}{key}", if self.is_dead_letter { "letter of " } else { "" })?;
        if let Some(envelope) = &self.envelope {
            write!(f, " f{} s{}", envelope.failures, envelope.snoozes)?;
        }
        if let Some(task) = self.duplicate() {
            let ids: Vec<&str> = task.items().iter().map(ContentId::as_str).collect();
            let SpacePair { account, source, destination, space } = &task.pair;
            write!(f, " {account} {source}→{destination} {space}/{}", ids.join(" "))?;
        }
        if let Some(AuditTask { account, events, .. }) = self.changes() {
            for event in &events {
                write!(f, " {account} {} {} {} event {}", event.store, event.action, event.subject(), event.id)?;
            }
        }
        if let Some(RemoveTask { pair, list, row }) = self.remove() {
            let SpacePair { account, source, destination, space } = pair;
            write!(f, " remove {account} {source}→{destination} {space} list {list} row {row:?}")?;
        }
        Ok(())
    }
}

/// How one execution of a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExecutionResult {
    Done { follow_ups: Vec<String> },
    Snoozed,
    Discarded,
    Retryable,
    Panicked,
    Throttled,
    Unavailable,
    Permanent,
    Fatal,
    LeaseLost,
}

/// What happened. `by` names the process, or [`USERS`], or [`OPERATOR`].
pub(crate) enum Event<'a> {
    /// A writing call on a store begins. `leased`: whether the task's lease holds, if a task runs.
    Calls {
        by: &'a str,
        op: &'static str,
        store: &'a StoreAddress,
        subject: &'a dyn fmt::Display,
        leased: Option<bool>,
    },
    /// An item of a store was written or deleted.
    Item {
        by: &'a str,
        store: &'a StoreAddress,
        item: &'a ItemAddress,
        holds: Option<ContentFingerprint>,
        /// When the call began.
        called: Monotonic,
        /// Whether it is the attempt's first call of its kind: then no retry pause came before it.
        first: bool,
        /// Whether the world damaged the body in transfer.
        damaged: bool,
    },
    /// An item of a store was respelled, by a call that respelled `path`.
    Respelled {
        by: &'a str,
        store: &'a StoreAddress,
        item: &'a ItemAddress,
        from: &'a ContentId,
        path: &'a str,
        holds: ContentFingerprint,
        called: Monotonic,
    },
    /// Mill made a change that is to be recorded.
    Changed {
        by: &'a str,
        store: &'a StoreAddress,
        space: &'a SpaceId,
        item: Option<&'a ContentId>,
        action: AuditAction,
    },
    /// A store reports, perhaps late, what people did there.
    Reported { store: &'a StoreAddress, event: &'a AuditEvent },
    /// A file of an audit log was written.
    LogFile { by: &'a str, store: &'a StoreAddress, path: &'a str, bytes: &'a [u8] },
    /// A space was created or removed.
    Space { by: &'a str, store: &'a StoreAddress, space: &'a SpaceId, here: bool },
    /// A disk beneath a space was mounted or unmounted.
    Mounted { store: &'a StoreAddress, space: &'a SpaceId, path: &'a str, here: bool },
    /// A body was sent to a queue. It can be received from `due` on.
    Sent { by: &'a str, queue: QueueName, decoded: &'a DecodedBody, due: Monotonic },
    /// A body was delivered.
    Received { by: &'a str, queue: QueueName, decoded: &'a DecodedBody, count: u32 },
    /// A body was acknowledged and left its queue.
    Acknowledged { by: &'a str, queue: QueueName, decoded: &'a DecodedBody },
    /// The operator purged a body.
    Purged { queue: QueueName, decoded: &'a DecodedBody },
    /// A row of a table was written or deleted.
    Row { by: &'a str, table: &'a str, partition: &'a str, sort: &'a str, value: Option<&'a [u8]> },
    /// An execution of a task ended.
    Ran { by: &'a str, key: &'a str, execution_result: &'a ExecutionResult },
    /// A producer's session ended with a report.
    Session { by: &'a str, report: &'a SessionReport },
    /// A run that ends by itself came to its end.
    RunEnded { run: &'a EndedRun },
    /// A process was killed or ended.
    Ended { by: &'a str, killed: bool },
    /// Other policies hold from now on.
    Policies { what: &'static str, account: &'a AccountId },
    /// The operator is about to confirm a delete list.
    Confirming { list: &'a dyn fmt::Display },
    /// The operator confirmed so many deletes.
    Confirmed { deletes: u64 },
    /// A note for readers of the trace.
    Note { by: &'a str, what: &'a dyn fmt::Display },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls { by, op, store, subject, leased } => {
                write!(f, "{by}: {op} {store} {subject}")?;
                if *leased == Some(false) { f.write_str(" WITHOUT LEASE") } else { Ok(()) }
            }
            Self::Item { by, store, item, holds: Some(fingerprint), damaged, .. } => {
                write!(f, "{by}: {store} {item} = {fingerprint}")?;
                if *damaged { f.write_str(" (damaged on its way)") } else { Ok(()) }
            }
            Self::Item { by, store, item, holds: None, .. } => write!(f, "{by}: {store} {item} deleted"),
            Self::Respelled { by, store, item, from, holds, .. } => {
                write!(f, "{by}: {store} {item} = {holds}, spelled {from} before")
            }
            Self::Space { by, store, space, here, .. } => {
                write!(f, "{by}: {store} space {space} {}", if *here { "made" } else { "removed" })
            }
            Self::Changed { by, store, space, item, action } => {
                let item = item.map(ContentId::as_str).unwrap_or_default();
                write!(f, "{by}: {store} {action} {space}/{item} is to be recorded")
            }
            Self::Reported { store, event } => {
                write!(f, "{store} reports {} {} as event {}", event.action, event.subject(), event.id)
            }
            Self::LogFile { by, store, path, bytes } => {
                write!(f, "{by}: {store} log file {path} = {:016x}", Hash::of(bytes))
            }
            Self::Mounted { store, space, path, here } => {
                write!(f, "{USERS}: {store} {space}/{path} {}", if *here { "mounted" } else { "unmounted" })
            }
            Self::Sent { by, queue, decoded, .. } => write!(f, "{by}: {queue} + {decoded}"),
            Self::Received { by, queue, decoded, count } => write!(f, "{by}: {queue} > {decoded} (receive {count})"),
            Self::Acknowledged { by, queue, decoded } => write!(f, "{by}: {queue} - {decoded}"),
            Self::Purged { queue, decoded } => write!(f, "{OPERATOR}: {queue} purged of {decoded}"),
            Self::Row { by, table, sort, value, .. } => match value {
                Some(value) => write!(f, "{by}: {table} {sort} = {}", String::from_utf8_lossy(value)),
                None => write!(f, "{by}: {table} {sort} removed"),
            },
            Self::Ran { by, key, execution_result } => {
                write!(f, "{by}: ran {} {execution_result:?}", key.get(key.len().saturating_sub(8)..).unwrap_or(key))
            }
            Self::Session { by, report } => {
                write!(f, "{by}: session {:?}, {} queued", report.ended, report.queued)?;
                for failed in &report.spaces_failed {
                    write!(f, "; {}/{:?} failed: {}", failed.account, failed.space, failed.reason)?;
                }
                for (account, why) in &report.accounts_failed {
                    write!(f, "; {account} failed: {why}")?;
                }
                for held in &report.findings.held {
                    write!(f, "; {} of {}/{} held ({:?})", held.count, held.account, held.space, held.reason)?;
                }
                Ok(())
            }
            Self::RunEnded { run: EndedRun { by, report, in_sync, .. } } => {
                write!(f, "{by}: run ended, in sync {in_sync:?}, {:?}, cut short {:?}", report.remedy, report.cut_short)
            }
            Self::Ended { by, killed } => write!(f, "{by}: {}", if *killed { "dies" } else { "ends" }),
            Self::Policies { what, account } => write!(f, "{USERS}: policy of {account} {what}"),
            Self::Confirming { list } => write!(f, "{OPERATOR}: is about to confirm the list {list}"),
            Self::Confirmed { deletes } => write!(f, "{OPERATOR}: confirms {deletes} deletes"),
            Self::Note { by, what } => write!(f, "{by}: {what}"),
        }
    }
}
