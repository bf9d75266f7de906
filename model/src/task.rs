//! Work to be looked into. Each kind of task has a type of its own, which is a [`TaskArgs`]: [`DuplicateTask`], [`RemoveTask`].

mod duplicate;
mod remove;

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use self::duplicate::{DuplicateScope, DuplicateTask};
pub use self::remove::RemoveTask;
use crate::ids::{AccountId, ContentId, SpaceId, StoreAddress};

/// The sort of a task. A processor factory recognises a task by it; new kinds need no change here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKind(Cow<'static, str>);

impl TaskKind {
    /// A kind known when Mill is compiled.
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
        f.write_str(&crate::ids::escape_for_display(&self.0))
    }
}

/// A reason to look, never an order: whoever runs it decides by what it finds then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its sort.
    pub kind: TaskKind,
    /// Whose work it is.
    pub account: AccountId,
    /// What the kind needs to know; only that kind's type reads it.
    pub detail: Map<String, Value>,
}

/// What a kind of task needs to know, and what every room may ask of it.
///
/// The type's serde form is the written form of [`Task::detail`], but for the member `account`, which the envelope bears. So
/// it is a struct with the member `account`, and its other members never change their names or meanings; a new one has a
/// default. A golden file keeps each kind (`testdata/wire`).
pub trait TaskArgs: Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static {
    /// The kind's name.
    const KIND: TaskKind;

    /// Whose work it is.
    fn account(&self) -> &AccountId;

    /// What it works on, for logs and dead letters: `account/space/item`.
    fn subject(&self) -> String;

    /// The stores it uses, so that tasks for a store that is paused are not begun.
    fn stores(&self) -> Vec<StoreAddress>;

    /// The space of these stores that it is about, if it is about one: they may have trouble with that space alone.
    fn space(&self) -> Option<&SpaceId>;

    /// The items whose outcomes it notes; empty for a task that is not about items.
    fn items(&self) -> &[ContentId];

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

    /// Reads a task of this kind. Members that the type does not know are passed over.
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

/// The member of the arguments that the envelope bears.
const ACCOUNT: &str = "account";

/// Why a task cannot be understood, or not be written.
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
