//! The arguments of the kind `audit`.

use serde::{Deserialize, Serialize};

use super::{TaskArgs, TaskKind};
use crate::audit_event::{AuditEvent, EventId};
use crate::ids::{AccountId, StoreAddress};

/// Records changes: in the audit log, in the content index, and by duplicating them at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditTask {
    /// Whose content changed.
    pub account: AccountId,
    /// The changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<AuditEvent>,
    /// The ids of changes that are too large for a task. A table has them whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<EventId>,
}

impl AuditTask {
    /// The largest written form of the events in one task, in bytes. The rest of an envelope is for its history.
    pub const EVENT_BYTES_MAX: usize = 10 * 1024;
}

impl TaskArgs for AuditTask {
    const KIND: TaskKind = TaskKind::of("audit");

    fn account(&self) -> &AccountId {
        &self.account
    }

    fn subject(&self) -> String {
        match (&self.events[..], &self.stored[..]) {
            ([event], []) => format!("{}/{} ({})", self.account, event.subject(), event.action),
            (events, stored) => format!("{} ({} changes)", self.account, events.len() + stored.len()),
        }
    }

    /// None: a change is recorded while its store does not answer.
    fn stores(&self) -> Vec<StoreAddress> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit_event::{AuditAction, EventSource};
    use crate::time::Timestamp;

    #[test]
    fn version_1_is_opened_for_ever() {
        let golden = include_bytes!("../../testdata/wire/v1-audit.json");
        let mut event = AuditEvent::new(
            EventId::parse("019a0f00-0000-7000-8000-000000000003").unwrap(),
            ("1".parse().unwrap(), "space".parse().unwrap(), Some("a dir/x:1.txt".parse().unwrap())),
            AuditAction::AddContent,
            Timestamp::from_millis(1_795_249_800_000),
            EventSource::Store,
        );
        event.size = Some(9);
        event.checksums = vec!["md5:25f9e794323b453885f5181f1b624d0b".parse().unwrap()];
        event.order = Some("0055AED6DCD90281E5".into());
        let stored = vec![EventId::parse("019a0f00-0000-7000-8000-000000000004").unwrap()];
        let task = AuditTask { account: "acct".parse().unwrap(), events: vec![event], stored };
        crate::wire::assert_golden(golden, &task);
    }
}
