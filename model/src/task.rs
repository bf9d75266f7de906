//! Tasks. Each kind of task has a type of its own, which is a [`TaskArgs`]: [`DuplicateTask`], [`RemoveTask`], [`AuditTask`],
//! [`PublishLogTask`], [`NotificationTask`].

mod audit;
mod duplicate;
mod notification;
mod publish_log;
mod remove;

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use self::audit::AuditTask;
pub use self::duplicate::{DuplicateScope, DuplicateTask};
pub use self::notification::NotificationTask;
pub use self::publish_log::PublishLogTask;
pub use self::remove::RemoveTask;
use crate::ids::{AccountId, ContentId, SpaceId, StoreAddress};

/// The kind of a task. A processor factory recognises a task by it. A new kind needs no change here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKind(Cow<'static, str>);

impl TaskKind {
    /// A kind that is known at compile time.
    pub const fn of(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A kind by name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::ids::shorten_for_display(&self.0))
    }
}

/// A task: a reason to look, never an order. Its processor decides by what it finds when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its kind.
    pub kind: TaskKind,
    /// Whose work it is.
    pub account: AccountId,
    /// The arguments. Only the type of this kind reads them.
    pub detail: Map<String, Value>,
}

/// The arguments of a kind of task, and what every room may ask of them.
///
/// The type's serde form is the written form of [`Task::detail`], except for the member `account`, which the envelope
/// holds. So the type is a struct with a member `account`. Its other members never change their names or meanings, and
/// a new member has a default. A golden file checks the written form of each kind (`testdata/wire`).
pub trait TaskArgs: Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static {
    /// The kind's name.
    const KIND: TaskKind;

    /// Whose work it is.
    fn account(&self) -> &AccountId;

    /// What the task works on, for logs and dead letters: `account/space/item`.
    fn subject(&self) -> String;

    /// The stores it uses, so that tasks for a paused store are not begun.
    fn stores(&self) -> Vec<StoreAddress>;

    /// The space that it is about, if it is about one: a store may fail for that space alone.
    fn space(&self) -> Option<&SpaceId> {
        None
    }

    /// The items whose outcomes it records; empty for a task that is not about items.
    fn items(&self) -> &[ContentId] {
        &[]
    }

    /// The task to send.
    ///
    /// # Errors
    /// [`TaskError::Unwritable`] when the type is no struct with the member `account`.
    fn to_task(&self) -> Result<Task, TaskError> {
        let unwritable = |why: String| TaskError::Unwritable { kind: Self::KIND, why };
        match serde_json::to_value(self) {
            Ok(Value::Object(mut detail)) => {
                detail.remove(ACCOUNT).ok_or_else(|| unwritable(format!("it has no `{ACCOUNT}`")))?;
                Ok(Task { kind: Self::KIND, account: self.account().clone(), detail })
            }
            Ok(_) => Err(unwritable("it is no struct".into())),
            Err(error) => Err(unwritable(error.to_string())),
        }
    }

    /// Reads a task of this kind. Unknown members are ignored.
    ///
    /// # Errors
    /// [`TaskError`] when it is of another kind, or a member is absent or wrong.
    fn from_task(task: &Task) -> Result<Self, TaskError> {
        if task.kind != Self::KIND {
            return Err(TaskError::Kind { expected: Self::KIND, found: task.kind.clone() });
        }
        let mut members = task.detail.clone();
        members.insert(ACCOUNT.into(), task.account.as_str().into());
        Self::deserialize(Value::Object(members))
            .map_err(|error| TaskError::Unreadable { kind: Self::KIND, why: error.to_string() })
    }
}

/// The member of the arguments that the envelope holds.
const ACCOUNT: &str = "account";

/// Why a task cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It is a task of another kind.
    #[error("it is a `{found}` task, not a `{expected}` task")]
    Kind {
        /// The kind that was asked for.
        expected: TaskKind,
        /// Its kind.
        found: TaskKind,
    },
    /// A member is absent or wrong.
    #[error("`{kind}` task: {why}")]
    Unreadable {
        /// The kind.
        kind: TaskKind,
        /// Which member, and what is wrong with it.
        why: String,
    },
    /// The kind's type has no written form.
    #[error("a `{kind}` task cannot be written: {why}")]
    Unwritable {
        /// The kind.
        kind: TaskKind,
        /// What is wrong with the type.
        why: String,
    },
}

#[cfg(test)]
mod tests;
