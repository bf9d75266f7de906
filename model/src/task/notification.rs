//! The arguments of the kind `notification`.

use serde::{Deserialize, Serialize};

use super::{TaskArgs, TaskKind};
use crate::ids::{AccountId, IdError, StoreAddress};

/// Reads what a store's service reports of its objects, and sends the changes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationTask {
    /// No account of the policies: whose objects they are is not known yet.
    pub account: AccountId,
    /// The message, as it was received.
    pub body: String,
}

impl NotificationTask {
    /// The largest message, in bytes. A larger one would leave no room for the history of its failures.
    pub const BODY_BYTES_MAX: usize = 12 * 1024;

    /// The task of a message.
    ///
    /// # Errors
    /// None in practice: the name of the account is valid.
    pub fn of(body: &str) -> Result<Self, IdError> {
        Ok(Self { account: AccountId::new("mill.notifications")?, body: body.to_owned() })
    }
}

impl TaskArgs for NotificationTask {
    const KIND: TaskKind = TaskKind::of("notification");

    fn account(&self) -> &AccountId {
        &self.account
    }

    fn subject(&self) -> String {
        format!("a notification of {} bytes", self.body.len())
    }

    /// None: a change is recorded while its store does not answer.
    fn stores(&self) -> Vec<StoreAddress> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;
    use crate::ids::TaskId;
    use crate::queue::QueueName;
    use crate::time::Timestamp;
    use crate::wire::{self, ReceiveContext, WireError};

    fn decode(body: &[u8], queue: QueueName) -> Result<Envelope, WireError> {
        let id = TaskId::new(Timestamp::default(), [0; 10]);
        wire::decode(body, ReceiveContext { id, queue, sent_at: Timestamp::from_millis(7) })
    }

    #[test]
    fn version_1_is_opened_for_ever() {
        let golden = include_bytes!("../../testdata/wire/v1-notification.json");
        wire::assert_golden(golden, &NotificationTask::of("{\"Records\":[]}").unwrap());
    }

    #[test]
    fn json_of_another_system_in_the_audit_queue_is_a_notification_and_nowhere_else() {
        let body = b"{\"Records\":[{\"eventVersion\":\"2.1\"}]}";
        let envelope = decode(body, QueueName::Audit).unwrap();
        assert_eq!((envelope.failures, envelope.first_sent), (0, Timestamp::from_millis(7)));
        let task = NotificationTask::from_task(&envelope.task).unwrap();
        assert_eq!(task.body.as_bytes(), body);
        assert!(matches!(decode(body, QueueName::DuplicationHigh), Err(WireError::Malformed(_))));
        assert!(matches!(decode(b"{\"v\":7}", QueueName::Audit), Err(WireError::Version(7))));
        let large = format!("{{\"Records\":\"{}\"}}", "x".repeat(NotificationTask::BODY_BYTES_MAX));
        assert!(matches!(decode(large.as_bytes(), QueueName::Audit), Err(WireError::TooLarge(_))));
    }
}
