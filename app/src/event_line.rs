//! The written form of an event: a line of a report, or of what a worker process tells.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mill_model::ids::escape_bytes_for_display;
use mill_model::{AccountId, EntryFate, EventSubject, ItemEvent, SpaceId, StoreId, SubjectSort, UpdatedPart};
use serde::{Deserialize, Serialize};

use crate::subject_names::SubjectNames;

/// An event as a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// What became of it.
    pub what: String,
    /// The name of the entry; escaped where its bytes are no text.
    pub item: String,
    /// The bytes of the name where they are no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_base64: Option<String>,
    /// The account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// The store that is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The store that is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Where it is, if it is no entry of a source: `destination` or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Cow<'static, str>>,
    /// What was updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Cow<'static, str>>,
    /// The content bytes that were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether an earlier run had sent its task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_earlier_run: bool,
}

impl EventLine {
    /// Whether the line is about a space, a task or an entry beside the spaces, not about an entry of a space.
    const OTHER: &str = "other";
    const DESTINATION: &str = "destination";

    /// The line of an event.
    pub fn of(event: &ItemEvent) -> Self {
        let EventSubject { account, source, destination, space, name, sort } = &*event.subject;
        let text = std::str::from_utf8(name);
        Self {
            what: event.fate.as_str().to_owned(),
            item: text.map_or_else(|_| escape_bytes_for_display(name), str::to_owned),
            item_base64: text.is_err().then(|| BASE64_STANDARD.encode(name)),
            account: account.as_ref().map(|id| id.as_str().to_owned()),
            space: space.as_ref().map(|id| id.as_str().to_owned()),
            source: source.as_ref().map(|id| id.as_str().to_owned()),
            destination: destination.as_ref().map(|id| id.as_str().to_owned()),
            at: match sort {
                SubjectSort::Source => None,
                SubjectSort::Destination => Some(Self::DESTINATION.into()),
                SubjectSort::Other => Some(Self::OTHER.into()),
            },
            part: event.part.map(|part| part.as_str().into()),
            bytes: event.bytes,
            reason: event.reason.clone(),
            of_earlier_run: event.of_earlier_run,
        }
    }

    /// The same in words that the person knows.
    #[must_use]
    pub fn in_words(mut self, names: &SubjectNames) -> Self {
        self.reason = self.reason.map(|reason| names.text(&reason));
        if matches!(names, SubjectNames::Mirror { .. }) {
            // They are the same for all, and no words of the person's.
            (self.account, self.space, self.source, self.destination) = (None, None, None, None);
            if self.at.as_deref() == Some(Self::OTHER) {
                self.item = names.text(&self.item);
            }
        }
        self
    }

    /// The event of a line; `None` for a line that no version of this program wrote.
    pub fn event(self) -> Option<ItemEvent> {
        let name = match &self.item_base64 {
            Some(coded) => BASE64_STANDARD.decode(coded).ok()?,
            None => self.item.into_bytes(),
        };
        let sort = match self.at.as_deref() {
            None => SubjectSort::Source,
            Some(Self::DESTINATION) => SubjectSort::Destination,
            Some(_) => SubjectSort::Other,
        };
        let parts = [UpdatedPart::Bytes, UpdatedPart::Properties, UpdatedPart::Spelling];
        let part = self.part.and_then(|name| parts.into_iter().find(|part| part.as_str() == name));
        let subject = EventSubject {
            account: self.account.and_then(|id| AccountId::new(id).ok()),
            source: self.source.and_then(|id| StoreId::new(id).ok()),
            destination: self.destination.and_then(|id| StoreId::new(id).ok()),
            space: self.space.and_then(|id| SpaceId::new(id).ok()),
            name,
            sort,
        };
        let fate: EntryFate = self.what.parse().ok()?;
        let (bytes, reason, of_earlier_run) = (self.bytes, self.reason, self.of_earlier_run);
        Some(ItemEvent { subject: subject.into(), fate, of_earlier_run, part, bytes, reason })
    }
}

#[cfg(test)]
mod tests {
    use mill_model::SpacePair;

    use super::*;

    #[test]
    fn a_line_holds_the_whole_event() {
        let pair = SpacePair {
            account: AccountId::new("a").unwrap(),
            source: StoreId::new("1").unwrap(),
            destination: StoreId::new("2").unwrap(),
            space: SpaceId::new("s").unwrap(),
        };
        let named = |name: &[u8]| EventSubject::of(&pair, name, SubjectSort::Source);
        let copied = ItemEvent {
            bytes: Some(7),
            part: Some(UpdatedPart::Properties),
            of_earlier_run: true,
            ..ItemEvent::new(named(b"d/\xff\n"), EntryFate::Updated)
        };
        let refused = ItemEvent::new(named("é \\ \"".as_bytes()), EntryFate::Refused).because("a link");
        let other = ItemEvent::new(EventSubject::other("a task"), EntryFate::DeadLettered);
        for event in [copied, refused, other] {
            let text = serde_json::to_string(&EventLine::of(&event)).unwrap();
            assert_eq!(serde_json::from_str::<EventLine>(&text).unwrap().event(), Some(event), "{text}");
        }
    }
}
