//! DuraCloud's messages of type `AUDIT`: what DuraStore did for a user, sent after it was done.
//!
//! Sources: DuraCloud, `auditor/…/AuditTask.java` (members and actions), `AuditStorageProvider.java` (which action has which
//! members), `common-queue/…/SpaceCentricTypedTask.java`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::WireError;
use crate::audit_event::{AuditAction, AuditEvent, CopiedFrom, EventId, EventSource};
use crate::content::{Algorithm, Checksum, Properties};
use crate::ids::{AccountId, ContentId, ItemAddress, SpaceId, StoreId, shorten_for_display};
use crate::task::AuditTask;
use crate::time::Timestamp;

/// What DuraCloud writes for a value that there is none of. It should be left out of messages, and is not always.
const NOT_APPLICABLE: &str = "not-applicable";

/// What an audit message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DuraCloudAudit {
    /// Something was changed.
    Write(Box<AuditedWrite>),
    /// Something was read: the name of the action, such as `GET_CONTENT`. Nothing follows from it.
    Read(&'static str),
}

/// A change that DuraStore made. Texts are kept exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AuditedWrite {
    /// What was done.
    pub(super) action: AuditAction,
    /// The account.
    pub(super) account: AccountId,
    /// The store.
    pub(super) store: StoreId,
    /// The space; of a copy, where it was made.
    pub(super) space: SpaceId,
    /// The item; of a copy, the new one. Always there if the action is of an item.
    pub(super) item: Option<ContentId>,
    /// When it was done, by the clock of DuraStore's host. Never order events by it.
    pub(super) at: Timestamp,
    /// Who did it; `None` if nobody was logged in.
    pub(super) user: Option<String>,
    /// The checksum as the store gave it, usually MD5 in hexadecimal; of a deleted item, what it had.
    pub(super) checksum: Option<String>,
    /// The content type.
    pub(super) mimetype: Option<String>,
    /// The size in bytes.
    pub(super) size: Option<u64>,
    /// The properties of the item; of a copy, those of its source. `None` if the action is not about them.
    pub(super) properties: Option<Properties>,
    /// Who may do what in the space, as Java's text of a map: `{curator=WRITE, group-x=READ}`.
    pub(super) space_acls: Option<String>,
    /// The type of the store, such as `AMAZON_S3`.
    pub(super) store_type: Option<String>,
    /// What a copy was made of. Early versions of DuraCloud do not say it.
    pub(super) source: Option<ItemAddress>,
}

/// The actions that change nothing.
const READS: [&str; 7] = [
    "GET_SPACES",
    "GET_SPACE_CONTENTS",
    "GET_SPACE_CONTENTS_CHUNKED",
    "GET_SPACE_PROPERTIES",
    "GET_SPACE_ACLS",
    "GET_CONTENT",
    "GET_CONTENT_PROPERTIES",
];

/// Reads the members of an audit message. Unknown ones are passed over, and so are those of which DuraCloud says
/// `not-applicable`; an item of exactly this name cannot be told of.
///
/// # Errors
/// Another type, an unknown action, a missing or malformed member, or an invalid id.
pub(super) fn read_audit(properties: &BTreeMap<String, String>) -> Result<DuraCloudAudit, WireError> {
    let message = AuditMembers(properties);
    let kind = message.required("type")?;
    if kind != "AUDIT" {
        return Err(WireError::DuraCloudType(shorten_for_display(kind)));
    }
    let name = message.required("action")?;
    if let Some(read) = READS.into_iter().find(|read| *read == name) {
        return Ok(DuraCloudAudit::Read(read));
    }
    let action = AuditAction::ALL.into_iter().find(|action| action.duracloud_name() == name);
    let action = action.ok_or_else(|| malformed("action", name, "no action of DuraCloud"))?;
    let item = match message.get("contentId") {
        None if action.is_of_item() => return Err(missing("contentId")),
        found => found.map(ContentId::new).transpose()?,
    };
    Ok(DuraCloudAudit::Write(Box::new(AuditedWrite {
        action,
        account: AccountId::new(message.required("account")?)?,
        store: StoreId::new(message.required("storeId")?)?,
        space: SpaceId::new(message.required("spaceId")?)?,
        item,
        at: message.time("date-time")?,
        user: message.text("user-id"),
        checksum: message.text("content-checksum"),
        mimetype: message.text("content-mimetype"),
        size: message.size("content-size")?,
        properties: message.item_properties("content-properties")?,
        space_acls: message.text("space-acls"),
        store_type: message.text("store-type"),
        source: message.source()?,
    })))
}

/// Reads an audit message as a task. One that says that something was read makes a task without events.
///
/// # Errors
/// As [`read_audit`]; a checksum that is no MD5.
pub(super) fn read_audit_task(properties: &BTreeMap<String, String>) -> Result<AuditTask, WireError> {
    let (account, events) = match read_audit(properties)? {
        DuraCloudAudit::Read(_) => (AccountId::new(AuditMembers(properties).required("account")?)?, Vec::new()),
        DuraCloudAudit::Write(write) => (write.account.clone(), vec![write.into_event()?]),
    };
    Ok(AuditTask { account, events, stored: Vec::new() })
}

impl AuditedWrite {
    /// The event. The same message makes the same id, by the members that DuraCloud takes for its key.
    fn into_event(self) -> Result<AuditEvent, WireError> {
        let item = self.item.as_ref().map_or("", ContentId::as_str);
        let facts =
            [self.action.duracloud_name(), self.account.as_str(), self.store.as_str(), self.space.as_str(), item];
        let id = EventId::of_facts(self.at, &facts);
        let subject = (self.store, self.space, self.item);
        let event = AuditEvent::new(id, subject, self.action, self.at, EventSource::Duracloud);
        let md5 = |text: &String| {
            let value = hex::decode(text).ok().filter(|value| value.len() == Algorithm::Md5.value_bytes());
            let value = value.ok_or_else(|| malformed("content-checksum", text, "no MD5"))?;
            Ok::<_, WireError>(Checksum { algorithm: Algorithm::Md5, value: value.into() })
        };
        Ok(AuditEvent {
            user: self.user,
            size: self.size,
            checksums: self.checksum.as_ref().map(md5).transpose()?.into_iter().collect(),
            content_type: self.mimetype,
            properties: self.properties.map(|properties| properties.0),
            space_acls: self.space_acls,
            copied_from: self.source.map(|from| CopiedFrom { store: None, space: from.space, item: from.id }),
            ..event
        })
    }
}

/// The members of a message.
struct AuditMembers<'a>(&'a BTreeMap<String, String>);

impl<'a> AuditMembers<'a> {
    /// A value; `None` if it is missing, empty or not applicable.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty() && *value != NOT_APPLICABLE)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    fn required(&self, name: &str) -> Result<&'a str, WireError> {
        self.get(name).ok_or_else(|| missing(name))
    }

    fn time(&self, name: &str) -> Result<Timestamp, WireError> {
        let found = self.required(name)?;
        let millis = found.parse().map_err(|_| malformed(name, found, "no time in milliseconds"))?;
        Ok(Timestamp::from_millis(millis))
    }

    /// A size. DuraStore writes a negative one for a size that the client did not tell.
    fn size(&self, name: &str) -> Result<Option<u64>, WireError> {
        let Some(found) = self.get(name) else { return Ok(None) };
        match found.parse::<i64>() {
            Ok(size) => Ok(u64::try_from(size).ok()),
            Err(_) => Err(malformed(name, found, "no size")),
        }
    }

    /// The properties of an item: a JSON object of texts. Values of `null` are left out.
    fn item_properties(&self, name: &str) -> Result<Option<Properties>, WireError> {
        let Some(found) = self.get(name).filter(|json| !json.trim().is_empty()) else { return Ok(None) };
        let wrong = |_| malformed(name, found, "no JSON object of texts");
        let values: BTreeMap<String, Value> = serde_json::from_str(found).map_err(wrong)?;
        let mut properties = BTreeMap::new();
        for (property, value) in values {
            match value {
                Value::Null => {}
                Value::String(text) => drop(properties.insert(property, text)),
                Value::Bool(_) | Value::Number(_) => drop(properties.insert(property, value.to_string())),
                Value::Array(_) | Value::Object(_) => return Err(malformed(name, found, "no JSON object of texts")),
            }
        }
        Ok(Some(Properties(properties)))
    }

    /// What a copy was made of.
    fn source(&self) -> Result<Option<ItemAddress>, WireError> {
        match (self.get("source-space-id"), self.get("source-content-id")) {
            (None, None) => Ok(None),
            (Some(space), Some(id)) => Ok(Some(ItemAddress { space: SpaceId::new(space)?, id: ContentId::new(id)? })),
            (Some(_), None) => Err(missing("source-content-id")),
            (None, Some(_)) => Err(missing("source-space-id")),
        }
    }
}

fn missing(name: &str) -> WireError {
    WireError::Malformed(format!("it has no `{name}`"))
}

fn malformed(name: &str, found: &str, is: &str) -> WireError {
    WireError::Malformed(format!("its `{name}` is {is}: `{}`", shorten_for_display(found)))
}

#[cfg(test)]
mod tests;
