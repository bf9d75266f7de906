//! JSON with its members as they were written, so that one that occurs twice is noticed where it matters.

use std::fmt;

use mill_model::ids::shorten_for_display;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::error::EventFault;

/// Most members that a message names.
const NAMED_MAX: usize = 8;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool,
    /// A number without sign and fraction.
    Whole(u64),
    /// Any other number.
    Number,
    Text(String),
    List(Vec<Json>),
    /// The members in order, each as often as it occurs.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a text that is one value.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The kind of value, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Whole(_) | Self::Number => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The first member of this name that is not `null`.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(member, value)| member == name && *value != Self::Null).map(|(_, value)| value)
    }

    /// The member at a path such as `s3.object.key`; `None` if it, or what it is in, is missing or `null`.
    ///
    /// # Errors
    /// It occurs twice, or what it is in is no object.
    pub(super) fn at(&self, path: &'static str) -> Result<Option<&Self>, EventFault> {
        let mut value = self;
        for name in path.split('.') {
            let members = match value {
                Self::Object(members) => members,
                Self::Null => return Ok(None),
                other => {
                    return Err(EventFault::Kind { member: path, found: other.kind(), expected: "within an object" });
                }
            };
            let mut named = members.iter().filter(|(member, _)| member == name).map(|(_, value)| value);
            value = match (named.next(), named.next()) {
                (Some(_), Some(_)) => return Err(EventFault::Twice(path)),
                (Some(value), None) => value,
                (None, _) => return Ok(None),
            };
        }
        Ok((*value != Self::Null).then_some(value))
    }

    /// A text that is not empty; `None` if it is missing, `null` or empty.
    pub(super) fn text(&self, path: &'static str) -> Result<Option<&str>, EventFault> {
        match self.at(path)? {
            None => Ok(None),
            Some(Self::Text(text)) => Ok((!text.is_empty()).then_some(text.as_str())),
            Some(other) => Err(EventFault::Kind { member: path, found: other.kind(), expected: "a text" }),
        }
    }

    /// A text that must be there.
    pub(super) fn required_text(&self, path: &'static str) -> Result<&str, EventFault> {
        self.text(path)?.ok_or(EventFault::Missing(path))
    }

    /// A whole number, which some servers write as a text.
    pub(super) fn whole(&self, path: &'static str) -> Result<Option<u64>, EventFault> {
        let wrong = |found| EventFault::Kind { member: path, found, expected: "a whole number" };
        match self.at(path)? {
            None => Ok(None),
            Some(Self::Whole(number)) => Ok(Some(*number)),
            Some(Self::Text(text)) if text.is_empty() => Ok(None),
            Some(Self::Text(text)) => {
                let plain = text.bytes().all(|byte| byte.is_ascii_digit());
                plain.then(|| text.parse().ok()).flatten().map(Some).ok_or_else(|| wrong("another text"))
            }
            Some(Self::Number) => Err(wrong("another number")),
            Some(other) => Err(wrong(other.kind())),
        }
    }
}

/// The names of members, for messages.
pub(super) fn describe_members(members: &[(String, Json)]) -> String {
    if members.is_empty() {
        return "it has no members".to_owned();
    }
    let names: Vec<String> =
        members.iter().take(NAMED_MAX).map(|(name, _)| format!("`{}`", shorten_for_display(name))).collect();
    let more = if members.len() > NAMED_MAX { ", …" } else { "" };
    format!("its members are {}{more}", names.join(", "))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(u64::try_from(number).map_or(Json::Number, Json::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}
