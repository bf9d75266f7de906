//! The tree of a file against what is expected of it.

use std::fmt::Display;
use std::ops::RangeInclusive;

use mill_model::ids::escape_for_display;

use crate::diagnostic::{Diagnostics, Path};
use crate::folder::FILE_BYTES_MAX;
use crate::json::{self, Document, Malformed, Member, Node, Step, Value};

/// The text of a file, if it can be one: UTF-8, a byte order mark at its start left out.
///
/// # Errors
/// The readable part of the text, and what is wrong after it.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, (&str, String)> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(("", too_large(bytes.len() as u64)));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let readable = bytes.split_at_checked(error.valid_up_to()).map_or(&b""[..], |(readable, _)| readable);
        let message = "from here on the file is not UTF-8; save it with the encoding UTF-8".to_owned();
        (std::str::from_utf8(readable).unwrap_or_default(), message)
    })
}

/// What is said of a file that is larger than any may be.
pub(crate) fn too_large(bytes: u64) -> String {
    format!("the file is {bytes} bytes long, but at most {FILE_BYTES_MAX} are read; is it the right file?")
}

/// Reads a file's tree, its faults noted. `None` where nothing of it can be read.
pub(crate) fn open<'t>(file: &str, bytes: &'t [u8]) -> (Diagnostics<'t>, Option<Document>) {
    match text(bytes) {
        Ok(text) => {
            let mut faults = Diagnostics::new(file, text);
            let document = json::parse(text);
            for fault in &document.faults {
                malformed(&mut faults, fault, &fault.within, &Path::Root);
            }
            (faults, Some(document))
        }
        Err((readable, message)) => {
            let mut faults = Diagnostics::new(file, readable);
            if readable.is_empty() {
                faults.error_of_file(message);
            } else {
                faults.error(readable.len(), &Path::Root, message);
            }
            (faults, None)
        }
    }
}

/// Notes where a text is not JSON, with the path that the steps make below `path`.
fn malformed(faults: &mut Diagnostics<'_>, fault: &Malformed, steps: &[Step], path: &Path<'_>) {
    match steps {
        [] => faults.error(fault.at, path, format!("malformed JSON: {}", fault.message)),
        [Step::Member(name), rest @ ..] => malformed(faults, fault, rest, &path.member(name)),
        [Step::Index(index), rest @ ..] => malformed(faults, fault, rest, &path.index(*index)),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::Text(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        Value::Unreadable => "unreadable",
    }
}

/// An object's members, all of them known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members<'n> {
    pub(crate) at: usize,
    pub(crate) all: &'n [Member],
}

impl<'n> Members<'n> {
    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        self.all.iter().find(|member| member.name == name).map(|member| &member.value)
    }
}

impl Diagnostics<'_> {
    fn wrong_kind(&mut self, node: &Node, path: &Path<'_>, wanted: &str) {
        if !matches!(node.value, Value::Unreadable) {
            let instead = match &node.value {
                Value::Null => "null; to have it unset, remove the member",
                other => kind(other),
            };
            self.error(node.at, path, format!("this must be {wanted}, but is {instead}"));
        }
    }

    /// The members of an object, whatever their names.
    pub(crate) fn object<'n>(&mut self, node: &'n Node, path: &Path<'_>, wanted: &str) -> Option<Members<'n>> {
        let Value::Object(all) = &node.value else {
            self.wrong_kind(node, path, wanted);
            return None;
        };
        Some(Members { at: node.at, all })
    }

    /// Notes every member whose name is not in `known`.
    pub(crate) fn only_known(&mut self, members: Members<'_>, path: &Path<'_>, known: &[&str]) {
        for member in members.all {
            if !known.contains(&member.name.as_str()) {
                self.error(member.at, &path.member(&member.name), unknown_member(&member.name, known));
            }
        }
    }

    pub(crate) fn list<'n>(&mut self, node: &'n Node, path: &Path<'_>, wanted: &str) -> Option<&'n [Node]> {
        let Value::Array(items) = &node.value else {
            self.wrong_kind(node, path, wanted);
            return None;
        };
        Some(items)
    }

    pub(crate) fn text<'n>(&mut self, node: &'n Node, path: &Path<'_>, wanted: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => return Some(text),
            Value::Number(_) => {
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

    pub(crate) fn boolean(&mut self, node: &Node, path: &Path<'_>) -> Option<bool> {
        match &node.value {
            Value::Bool(value) => return Some(*value),
            Value::Text(text) if text == "true" || text == "false" => {
                self.error(node.at, path, "this must be true or false without the double quotes (\")");
            }
            _ => self.wrong_kind(node, path, "true or false"),
        }
        None
    }

    /// A whole number within `range`.
    pub(crate) fn whole(&mut self, node: &Node, path: &Path<'_>, range: &RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = (range.start(), range.end());
        let Value::Number(text) = &node.value else {
            self.wrong_kind(node, path, &format!("a whole number from {low} to {high}"));
            return None;
        };
        let value = text.parse().ok().filter(|value| range.contains(value));
        if value.is_none() {
            self.error(node.at, path, format!("this must be a whole number from {low} to {high}"));
        }
        value
    }

    /// A text that is an id.
    pub(crate) fn id<T, E: Display>(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        wanted: &str,
        read: impl FnOnce(String) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(node, path, wanted)?;
        read(text.to_owned()).map_err(|error| self.error(node.at, path, error.to_string())).ok()
    }

    /// A member that may not be left out. Of a text that was not read to its end, nothing is said to be left out.
    pub(crate) fn needed<'n>(
        &mut self,
        members: Members<'n>,
        path: &Path<'_>,
        name: &str,
        whole: bool,
    ) -> Option<&'n Node> {
        let found = members.get(name);
        if found.is_none() && whole {
            self.error(members.at, path, format!("the member `{name}` is missing; add it"));
        }
        found
    }
}

/// What is said of a member that is not known.
pub(crate) fn unknown_member(name: &str, known: &[&str]) -> String {
    let near = known.iter().find(|known| known.eq_ignore_ascii_case(name) || differ_by_one(known, name));
    match near {
        Some(near) => format!("unknown member; is `{near}` meant?"),
        None => format!("unknown member; remove it (known here: {})", known.join(", ")),
    }
}

/// Whether one character too many, too few or another one is all the difference.
fn differ_by_one(a: &str, b: &str) -> bool {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let (long, short) = (long.as_bytes(), short.as_bytes());
    let same = long.iter().zip(short).take_while(|(a, b)| a == b).count();
    match long.len() - short.len() {
        0 => long.get(same + 1..) == short.get(same + 1..),
        1 => long.get(same + 1..) == short.get(same..),
        _ => false,
    }
}

/// A short text for a message.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", escape_for_display(text))
}
