//! What happened to content: one change to a space or an item of a store, as the audit log keeps it.
//!
//! Its serde form is the written form, in tasks and in the log. Its members never change their names or meanings, and a
//! new member has a default.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::content::{Checksum, Properties};
use crate::ids::{ContentId, IdError, SpaceId, StoreId, TaskId, shorten_for_display};
use crate::time::Timestamp;

/// One change to a space or an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Its id, made once by whoever saw the change. All that a repeat of the event writes has keys that follow from it.
    pub id: EventId,
    /// The store.
    pub store: StoreId,
    /// The space.
    pub space: SpaceId,
    /// The item; `None` if the change is one of the space itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ContentId>,
    /// What was done.
    pub action: AuditAction,
    /// When, in milliseconds since 1970, by the clock of [`source`](Self::source).
    pub at: u64,
    /// Who reported it.
    pub source: EventSource,
    /// Whether it is known to have happened.
    #[serde(default, skip_serializing_if = "EventCertainty::is_certain")]
    pub certainty: EventCertainty,
    /// Who did it, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The size of the content afterwards, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Checksums of the content afterwards, such as `md5:…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    /// The content type afterwards, if it is known apart from the properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// All properties afterwards, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
    /// The access lists of the space afterwards, as their store writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_acls: Option<String>,
    /// The item that a copy was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<CopiedFrom>,
    /// The store's token for the state afterwards; of a deleted item, for the state that was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The store's own order of the changes to one item: the greater text is the later change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// The item that a copy was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFrom {
    /// The store, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreId>,
    /// The space.
    pub space: SpaceId,
    /// The item.
    pub item: ContentId,
}

/// The actions of which there are events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditAction {
    /// An item's content was written.
    AddContent,
    /// An item was made as a copy of another one.
    CopyContent,
    /// An item's properties were replaced; its content stayed.
    UpdateContentProperties,
    /// An item was deleted.
    DeleteContent,
    /// A space was created.
    CreateSpace,
    /// A space was deleted.
    DeleteSpace,
    /// The properties or access lists of a space were replaced.
    UpdateSpaceProperties,
}

impl AuditAction {
    /// All seven.
    pub const ALL: [Self; 7] = [
        Self::AddContent,
        Self::CopyContent,
        Self::UpdateContentProperties,
        Self::DeleteContent,
        Self::CreateSpace,
        Self::DeleteSpace,
        Self::UpdateSpaceProperties,
    ];

    /// The name in messages and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddContent => "add-content",
            Self::CopyContent => "copy-content",
            Self::UpdateContentProperties => "update-content-properties",
            Self::DeleteContent => "delete-content",
            Self::CreateSpace => "create-space",
            Self::DeleteSpace => "delete-space",
            Self::UpdateSpaceProperties => "update-space-properties",
        }
    }

    /// DuraCloud's name for it.
    pub const fn duracloud_name(self) -> &'static str {
        match self {
            Self::AddContent => "ADD_CONTENT",
            Self::CopyContent => "COPY_CONTENT",
            Self::UpdateContentProperties => "SET_CONTENT_PROPERTIES",
            Self::DeleteContent => "DELETE_CONTENT",
            Self::CreateSpace => "CREATE_SPACE",
            Self::DeleteSpace => "DELETE_SPACE",
            Self::UpdateSpaceProperties => "SET_SPACE_ACLS",
        }
    }

    /// Whether it is done to an item, rather than to a space.
    pub const fn is_of_item(self) -> bool {
        match self {
            Self::AddContent | Self::CopyContent | Self::UpdateContentProperties | Self::DeleteContent => true,
            Self::CreateSpace | Self::DeleteSpace | Self::UpdateSpaceProperties => false,
        }
    }
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for AuditAction {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or_else(|| IdError {
            what: "action",
            shown: shorten_for_display(text),
            why: "the actions are add-content, copy-content, update-content-properties, delete-content, create-space, \
                  delete-space and update-space-properties",
        })
    }
}

/// Who reported an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventSource {
    /// Mill, which made the change.
    Mill,
    /// The store's service, by a notification.
    Store,
    /// A DuraStore.
    Duracloud,
    /// Mill, which watches a folder.
    Watch,
}

/// Whether an event is known to have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventCertainty {
    /// It is.
    #[default]
    Certain,
    /// Its writer was lost, and what stands there does not tell whether it was made: mostly something else stands there since.
    Superseded,
}

impl EventCertainty {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    fn is_certain(&self) -> bool {
        *self == Self::Certain
    }
}

impl AuditEvent {
    /// An event of which nothing more is known than what was done where and when.
    pub fn new(
        id: EventId,
        (store, space, item): (StoreId, SpaceId, Option<ContentId>),
        action: AuditAction,
        at: Timestamp,
        source: EventSource,
    ) -> Self {
        Self {
            id,
            store,
            space,
            item,
            action,
            at: at.as_millis(),
            source,
            certainty: EventCertainty::Certain,
            user: None,
            size: None,
            checksums: Vec::new(),
            content_type: None,
            properties: None,
            space_acls: None,
            copied_from: None,
            version: None,
            order: None,
        }
    }

    /// When it happened, by the clock of its source.
    pub fn happened_at(&self) -> Timestamp {
        Timestamp::from_millis(self.at)
    }

    /// The properties afterwards, if they are known.
    pub fn properties(&self) -> Option<Properties> {
        self.properties.clone().map(Properties)
    }

    /// What it is about: `space/item`, or the space.
    pub fn subject(&self) -> String {
        match &self.item {
            Some(item) => format!("{}/{item}", self.space),
            None => self.space.to_string(),
        }
    }
}

/// The id of an event: a UUID of version 7, so that ids sort by the time of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(TaskId);

impl EventId {
    /// Makes an id from a time and 80 random bits of the caller.
    pub fn new(now: Timestamp, chance: [u8; 10]) -> Self {
        Self(TaskId::new(now, chance))
    }

    /// The id of an event that is reported with the same `facts` each time: so repeats have the same id.
    pub fn of_facts(at: Timestamp, facts: &[&str]) -> Self {
        Self(TaskId::of_facts(at, facts))
    }

    /// Reads an id as it was displayed.
    ///
    /// # Errors
    /// [`IdError`] when it is no UUID.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        TaskId::parse(text).map(Self).map_err(|error| IdError { what: "event id", ..error })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for EventId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_of_a_report_have_one_id_and_other_facts_another() {
        let at = Timestamp::from_millis(1_795_249_800_007);
        let id = EventId::of_facts(at, &["bucket", "key", "1"]);
        assert_eq!(id, EventId::of_facts(at, &["bucket", "key", "1"]));
        assert_ne!(id, EventId::of_facts(at, &["bucketkey", "", "1"]));
        assert!(id < EventId::of_facts(at.plus(std::time::Duration::from_millis(1)), &["bucket", "key", "0"]));
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let mut event = AuditEvent::new(
            EventId::of_facts(Timestamp::default(), &[]),
            ("1".parse().unwrap(), "s".parse().unwrap(), Some("tab\tline\n\u{1F600}".parse().unwrap())),
            AuditAction::AddContent,
            Timestamp::from_millis(7),
            EventSource::Mill,
        );
        event.checksums = vec!["md5:25f9e794323b453885f5181f1b624d0b".parse().unwrap()];
        event.certainty = EventCertainty::Superseded;
        event.properties = Some([("k".to_owned(), "v\t\n".to_owned())].into());
        let written = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<AuditEvent>(&written).unwrap(), event);
        assert!(written.contains("\"checksums\":[\"md5:25f9e794323b453885f5181f1b624d0b\"]"), "{written}");
    }

    #[test]
    fn actions_are_read_by_the_names_that_messages_give() {
        for action in AuditAction::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        }
    }
}
