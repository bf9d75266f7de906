//! What records changes, made of an engine: the rows, the queue, the publisher of the logs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mill_local::process;
use mill_model::{QueueName, StoreAddress};
use mill_policy::{AccountPolicy, StoreSpec};
use mill_ports::{DeletableStore, Engine};
use mill_processors::{AuditDeps, NewSpaceListener};
use mill_records::audit_intents::Intents;
use mill_records::audit_log::AuditLog;
use mill_records::audit_log::publisher::LogPublisher;
use mill_records::audit_sender::AuditSender;
use mill_records::audited_store::AuditedStore;
use mill_records::content_index::ContentIndex;
use mill_records::delete_lists::DeleteThresholds;
use mill_records::policies::PolicyRepository;

use crate::new_space_command::NewSpaceCommand;
use crate::secrets::KeyReader;

/// How long changes wait for others where each checkpoint costs requests.
const PUBLISH_AFTER_SHARED: Duration = Duration::from_secs(10);

/// How long they wait on an engine of this host.
const PUBLISH_AFTER_LOCAL: Duration = Duration::from_secs(1);

/// What the processors of changes work with. Relative paths of keys are relative to `base`.
pub(crate) fn audit_deps(engine: &dyn Engine, base: &Path, new_space_command: Option<&str>) -> AuditDeps {
    let command =
        new_space_command.map(|program| NewSpaceCommand { program: base.join(program), clock: engine.clock() });
    let log = AuditLog::new(engine.table(AuditLog::TABLE));
    AuditDeps {
        publisher: LogPublisher::new(log.clone()),
        log,
        index: ContentIndex::new(engine.table(ContentIndex::TABLE)),
        keys: Arc::new(KeyReader { base: base.to_owned() }),
        thresholds: DeleteThresholds::default(),
        publish_after: if engine.is_shared_by_hosts() { PUBLISH_AFTER_SHARED } else { PUBLISH_AFTER_LOCAL },
        new_spaces: command.map(|command| Arc::new(command) as Arc<dyn NewSpaceListener>),
    }
}

/// What sends changes to the audit queue.
pub(crate) fn audit_sender(engine: &dyn Engine) -> AuditSender {
    AuditSender {
        queue: engine.queue(QueueName::Audit),
        log: AuditLog::new(engine.table(AuditLog::TABLE)),
        clock: engine.clock(),
        chance: engine.rng(),
    }
}

/// Asks for the logs to be published in which events wait for their places.
pub(crate) async fn publish_waiting(policies: &PolicyRepository, sender: &AuditSender) -> anyhow::Result<()> {
    for account in policies.account_ids().await? {
        let Ok(policy) = policies.account(&account).await else { continue };
        if policy.audit_log().is_some() && sender.publish_waiting(&account).await? {
            tracing::info!(%account, "changes wait for their places in the audit log; its publication is asked for");
        }
    }
    Ok(())
}

/// Makes stores record their changes.
#[derive(Debug)]
pub(crate) struct StoreAuditor {
    intents: Intents,
    sender: AuditSender,
}

impl StoreAuditor {
    pub(crate) fn of(engine: &dyn Engine) -> Self {
        let intents = Intents::new(engine.table(AuditLog::TABLE));
        let intents = intents.of_writer(process::this_process(), Arc::new(process::is_dead));
        Self { intents, sender: audit_sender(engine) }
    }

    /// The store, whose changes are recorded if its definition says so. The log does not record itself.
    pub(crate) fn audited(
        &self,
        store: Arc<dyn DeletableStore>,
        (address, spec, policy): (&StoreAddress, &StoreSpec, &AccountPolicy),
    ) -> Option<Arc<AuditedStore>> {
        let log = policy.audit_log().filter(|_| spec.audited)?;
        let of_log = log.stores.contains(&spec.id).then(|| log.space.clone());
        let (intents, sender) = (self.intents.clone(), self.sender.clone());
        Some(Arc::new(AuditedStore::new(store, address.clone(), of_log, (intents, sender))))
    }
}
