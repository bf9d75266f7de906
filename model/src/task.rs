//! Work to be looked into, and the kinds of it that Mill knows.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use crate::ids::{AccountId, ContentId, DeleteListId, IdError, SpaceId, StoreId};

/// The sort of a task. A processor factory recognises a task by it; new kinds need no change here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKind(Cow<'static, str>);

impl TaskKind {
    /// Bring one space or content item of a destination in sync with its source.
    pub const DUPLICATE: Self = Self(Cow::Borrowed("duplicate"));

    /// Delete what a granted delete list names, as far as it is still gone.
    pub const REMOVE: Self = Self(Cow::Borrowed("remove"));

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

impl Task {
    /// A member of the detail that must be a text.
    ///
    /// # Errors
    /// [`TaskError`] when it is absent or no text.
    pub fn text(&self, member: &'static str) -> Result<&str, TaskError> {
        self.optional_text(member)?.ok_or_else(|| TaskError::Member { kind: self.kind.clone(), member })
    }

    /// A member of the detail that may be absent but is a text otherwise.
    ///
    /// # Errors
    /// [`TaskError`] when it is there and no text.
    pub fn optional_text(&self, member: &'static str) -> Result<Option<&str>, TaskError> {
        match self.detail.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(TaskError::Member { kind: self.kind.clone(), member }),
        }
    }

    /// A member of the detail that may be absent but is a whole number otherwise.
    ///
    /// # Errors
    /// [`TaskError`] when it is there and no such number.
    pub fn optional_number(&self, member: &'static str) -> Result<Option<u32>, TaskError> {
        match self.detail.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) => Ok(Some(number)),
                None => Err(TaskError::Number { kind: self.kind.clone(), member }),
            },
        }
    }
}

/// Why a task of a known kind cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A member is absent or of the wrong sort.
    #[error("a `{kind}` task needs the member `{member}` as a text")]
    Member {
        /// The kind.
        kind: TaskKind,
        /// The member.
        member: &'static str,
    },
    /// A member is no whole number.
    #[error("in a `{kind}` task the member `{member}` is a whole number or absent")]
    Number {
        /// The kind.
        kind: TaskKind,
        /// The member.
        member: &'static str,
    },
    /// A member is no valid id.
    #[error(transparent)]
    Id(#[from] IdError),
}

/// Look at a space, or one item of it, at both ends of a store policy, and bring the destination in sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateTask {
    /// The owner of both stores.
    pub account: AccountId,
    /// The store that is read.
    pub source: StoreId,
    /// The store that is written.
    pub destination: StoreId,
    /// The space, of one id at both ends.
    pub space: SpaceId,
    /// The item, or `None` for the space itself.
    pub item: Option<ContentId>,
}

impl DuplicateTask {
    /// The task to send.
    pub fn into_task(self) -> Task {
        let mut detail = Map::new();
        detail.insert("source".into(), self.source.as_str().into());
        detail.insert("destination".into(), self.destination.as_str().into());
        detail.insert("space".into(), self.space.as_str().into());
        if let Some(item) = self.item {
            detail.insert("item".into(), item.as_str().into());
        }
        Task { kind: TaskKind::DUPLICATE, account: self.account, detail }
    }

    /// Reads a task of kind [`TaskKind::DUPLICATE`].
    ///
    /// # Errors
    /// [`TaskError`] naming the member that is absent or wrong.
    pub fn from_task(task: &Task) -> Result<Self, TaskError> {
        Ok(Self {
            account: task.account.clone(),
            source: StoreId::new(task.text("source")?)?,
            destination: StoreId::new(task.text("destination")?)?,
            space: SpaceId::new(task.text("space")?)?,
            item: task.optional_text("item")?.map(ContentId::new).transpose()?,
        })
    }
}

/// Delete at a destination what one row of a delete list names, or the space itself once its items are gone.
///
/// The list says what may go, and whether it may: a task alone deletes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveTask {
    /// The owner of both stores.
    pub account: AccountId,
    /// The store from which it is gone.
    pub source: StoreId,
    /// The store in which it is deleted.
    pub destination: StoreId,
    /// The space, of one id at both ends.
    pub space: SpaceId,
    /// The delete list.
    pub list: DeleteListId,
    /// The row of the list, or `None` for the space itself.
    pub row: Option<u32>,
}

impl RemoveTask {
    /// The task to send.
    pub fn into_task(self) -> Task {
        let mut detail = Map::new();
        detail.insert("source".into(), self.source.as_str().into());
        detail.insert("destination".into(), self.destination.as_str().into());
        detail.insert("space".into(), self.space.as_str().into());
        detail.insert("list".into(), self.list.to_string().into());
        if let Some(row) = self.row {
            detail.insert("row".into(), row.into());
        }
        Task { kind: TaskKind::REMOVE, account: self.account, detail }
    }

    /// Reads a task of kind [`TaskKind::REMOVE`].
    ///
    /// # Errors
    /// [`TaskError`] naming the member that is absent or wrong.
    pub fn from_task(task: &Task) -> Result<Self, TaskError> {
        Ok(Self {
            account: task.account.clone(),
            source: StoreId::new(task.text("source")?)?,
            destination: StoreId::new(task.text("destination")?)?,
            space: SpaceId::new(task.text("space")?)?,
            list: DeleteListId::parse(task.text("list")?)?,
            row: task.optional_number("row")?,
        })
    }
}
