//! Checks the tree of a file against its schema.

use std::fmt::Display;
use std::ops::RangeInclusive;

use mill_model::ids::shorten_for_display;

use crate::diagnostic::{Diagnostics, MemberPath};
use crate::file_content::{FILE_BYTES_MAX, FileContent};
use crate::json::{self, JsonDocument, JsonNode, JsonPathStep, JsonSyntaxError, JsonValue, Member};

/// The text of a file: UTF-8, without a byte order mark at its start.
///
/// # Errors
/// The readable part of the text, and what is wrong after it.
pub(crate) fn file_text(content: FileContent<&[u8]>) -> Result<&str, (&str, String)> {
    let bytes = match content {
        FileContent::Whole(bytes) if bytes.len() > FILE_BYTES_MAX => return Err(("", too_large(bytes.len() as u64))),
        FileContent::Whole(bytes) => bytes,
        FileContent::TooLarge { bytes } => return Err(("", too_large(bytes))),
    };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let readable = bytes.split_at_checked(error.valid_up_to()).map_or(&b""[..], |(readable, _)| readable);
        let message = "from here on the file is not UTF-8; save it with the encoding UTF-8".to_owned();
        (std::str::from_utf8(readable).unwrap_or_default(), message)
    })
}

/// The message for a file that is too large.
pub(crate) fn too_large(bytes: u64) -> String {
    format!("the file is {bytes} bytes long, but at most {FILE_BYTES_MAX} are read; is it the right file?")
}

/// Parses a file and records its errors. `None` if nothing of it can be read.
pub(crate) fn open<'t>(file: &str, content: FileContent<&'t [u8]>) -> (Diagnostics<'t>, Option<JsonDocument>) {
    match file_text(content) {
        Ok(text) => {
            let mut faults = Diagnostics::new(file, text);
            let document = json::parse(text);
            for fault in &document.faults {
                note_syntax_error(&mut faults, fault, &fault.within, &MemberPath::Root);
            }
            (faults, Some(document))
        }
        Err((readable, message)) => {
            let mut faults = Diagnostics::new(file, readable);
            if readable.is_empty() {
                faults.error_of_file(message);
            } else {
                faults.error(readable.len(), &MemberPath::Root, message);
            }
            (faults, None)
        }
    }
}

/// Records a syntax error, with the path of its steps below `path`.
fn note_syntax_error(
    faults: &mut Diagnostics<'_>,
    fault: &JsonSyntaxError,
    steps: &[JsonPathStep],
    path: &MemberPath<'_>,
) {
    match steps {
        [] => faults.error(fault.at, path, format!("malformed JSON: {}", fault.message)),
        [JsonPathStep::Member(name), rest @ ..] => note_syntax_error(faults, fault, rest, &path.member(name)),
        [JsonPathStep::Index(index), rest @ ..] => note_syntax_error(faults, fault, rest, &path.index(*index)),
    }
}

fn kind(value: &JsonValue) -> &'static str {
    match value {
        JsonValue::Null => "null",
        JsonValue::Bool(_) => "true or false",
        JsonValue::Number(_) => "a number",
        JsonValue::Text(_) => "a text",
        JsonValue::Array(_) => "a list",
        JsonValue::Object(_) => "an object",
        JsonValue::Unreadable => "unreadable",
    }
}

/// An object's members.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members<'n> {
    pub(crate) at: usize,
    pub(crate) all: &'n [Member],
}

impl<'n> Members<'n> {
    pub(crate) fn get(&self, name: &str) -> Option<&'n JsonNode> {
        self.all.iter().find(|member| member.name == name).map(|member| &member.value)
    }
}

impl Diagnostics<'_> {
    fn wrong_kind(&mut self, node: &JsonNode, path: &MemberPath<'_>, wanted: &str) {
        if !matches!(node.value, JsonValue::Unreadable) {
            let instead = match &node.value {
                JsonValue::Null => "null; to have it unset, remove the member",
                other => kind(other),
            };
            self.error(node.at, path, format!("this must be {wanted}, but is {instead}"));
        }
    }

    /// The members of an object, of any name.
    pub(crate) fn object<'n>(
        &mut self,
        node: &'n JsonNode,
        path: &MemberPath<'_>,
        wanted: &str,
    ) -> Option<Members<'n>> {
        let JsonValue::Object(all) = &node.value else {
            self.wrong_kind(node, path, wanted);
            return None;
        };
        Some(Members { at: node.at, all })
    }

    /// Records every member whose name is not in `known`.
    pub(crate) fn only_known(&mut self, members: Members<'_>, path: &MemberPath<'_>, known: &[&str]) {
        for member in members.all {
            if !known.contains(&member.name.as_str()) {
                self.error(member.at, &path.member(&member.name), unknown_member(&member.name, known));
            }
        }
    }

    pub(crate) fn list<'n>(
        &mut self,
        node: &'n JsonNode,
        path: &MemberPath<'_>,
        wanted: &str,
    ) -> Option<&'n [JsonNode]> {
        let JsonValue::Array(items) = &node.value else {
            self.wrong_kind(node, path, wanted);
            return None;
        };
        Some(items)
    }

    pub(crate) fn text<'n>(&mut self, node: &'n JsonNode, path: &MemberPath<'_>, wanted: &str) -> Option<&'n str> {
        match &node.value {
            JsonValue::Text(text) => return Some(text),
            JsonValue::Number(_) => {
                self.error(
                    node.at,
                    path,
                    format!("this must be {wanted}, but is a number; put it in double quotes (\")"),
                );
            }
            _ => self.wrong_kind(node, path, wanted),
        }
        None
    }

    pub(crate) fn boolean(&mut self, node: &JsonNode, path: &MemberPath<'_>) -> Option<bool> {
        match &node.value {
            JsonValue::Bool(value) => return Some(*value),
            JsonValue::Text(text) if text == "true" || text == "false" => {
                self.error(node.at, path, "this must be true or false without the double quotes (\")");
            }
            _ => self.wrong_kind(node, path, "true or false"),
        }
        None
    }

    /// A whole number within `range`.
    pub(crate) fn whole_number(
        &mut self,
        node: &JsonNode,
        path: &MemberPath<'_>,
        range: &RangeInclusive<u32>,
    ) -> Option<u32> {
        let (low, high) = (range.start(), range.end());
        let JsonValue::Number(text) = &node.value else {
            self.wrong_kind(node, path, &format!("a whole number from {low} to {high}"));
            return None;
        };
        let value = text.parse().ok().filter(|value| range.contains(value));
        if value.is_none() {
            self.error(node.at, path, format!("this must be a whole number from {low} to {high}"));
        }
        value
    }

    /// Reads an id.
    pub(crate) fn id<T, E: Display>(
        &mut self,
        node: &JsonNode,
        path: &MemberPath<'_>,
        wanted: &str,
        read: impl FnOnce(String) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(node, path, wanted)?;
        read(text.to_owned()).map_err(|error| self.error(node.at, path, error.to_string())).ok()
    }

    /// A required member. If the text was not parsed to its end, no member is reported as missing.
    pub(crate) fn required<'n>(
        &mut self,
        members: Members<'n>,
        path: &MemberPath<'_>,
        name: &str,
        whole: bool,
    ) -> Option<&'n JsonNode> {
        let found = members.get(name);
        if found.is_none() && whole {
            self.error(members.at, path, format!("the member `{name}` is missing; add it"));
        }
        found
    }
}

/// The message for an unknown member.
pub(crate) fn unknown_member(name: &str, known: &[&str]) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &name.to_ascii_lowercase());
    let near = known.iter().map(|known| (distance(known), known)).min_by_key(|(distance, _)| *distance);
    // Two letters of a short name are most of it.
    match near.filter(|(distance, near)| *distance <= near.len() / 3) {
        Some((_, near)) => format!("unknown member; is `{near}` meant?"),
        None => format!("unknown member; correct its name or remove it (known here: {})", known.join(", ")),
    }
}

/// A short text for a message.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", shorten_for_display(text))
}
