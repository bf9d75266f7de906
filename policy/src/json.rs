//! Parses JSON into a tree with the position of each value.
//!
//! In a text that is not JSON, every separate error is reported. After a small error (an extra comma, a comment, a name
//! without quotes) parsing goes on. After an error that hides what was meant it stops, and what was parsed so far is
//! still returned. No error message repeats any of the text, which might be a secret.

mod scalar;

use std::collections::BTreeSet;

/// How deep objects and arrays may be nested.
const DEPTH_MAX: usize = 64;
/// How many errors are recorded before parsing stops.
const FAULTS_MAX: usize = 50;

/// A value and the byte at which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonNode {
    pub(crate) at: usize,
    pub(crate) value: JsonValue,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JsonValue {
    Null,
    Bool(bool),
    /// The number as written.
    Number(String),
    Text(String),
    Array(Vec<JsonNode>),
    /// The members in the order of the text; each name once.
    Object(Vec<Member>),
    /// A value that could not be parsed; its error is recorded.
    Unreadable,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    /// Where the name begins.
    pub(crate) at: usize,
    pub(crate) name: String,
    pub(crate) value: JsonNode,
}

/// The parsed part of a text.
#[derive(Debug)]
pub(crate) struct JsonDocument {
    pub(crate) root: JsonNode,
    /// Whether the whole text was parsed. Then what is not in the tree is not in the text.
    pub(crate) whole: bool,
    pub(crate) faults: Vec<JsonSyntaxError>,
}

/// A place where a text is not JSON.
#[derive(Debug)]
pub(crate) struct JsonSyntaxError {
    pub(crate) at: usize,
    /// The path of the innermost member or item around it.
    pub(crate) within: Vec<JsonPathStep>,
    pub(crate) message: &'static str,
}

/// One step down the tree.
#[derive(Debug, Clone)]
pub(crate) enum JsonPathStep {
    Member(String),
    Index(usize),
}

/// Parses `text`.
pub(crate) fn parse(text: &str) -> JsonDocument {
    let mut parser =
        Parser { text, bytes: text.as_bytes(), at: 0, path: Vec::new(), faults: Vec::new(), stopped: false };
    parser.skip_blanks();
    if parser.peek().is_none() {
        parser.stop(0, "the file is empty; an empty policy is `{}`, an empty list `[]`");
    }
    let root = parser.value();
    parser.skip_blanks();
    if !parser.stopped && parser.peek().is_some() {
        parser.fault(parser.at, "something follows after the end of the JSON value; remove it");
    }
    JsonDocument { root, whole: !parser.stopped, faults: parser.faults }
}

struct Parser<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    path: Vec<JsonPathStep>,
    faults: Vec<JsonSyntaxError>,
    /// Set when the rest cannot be understood; every loop ends then.
    stopped: bool,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        if self.stopped { None } else { self.bytes.get(self.at).copied() }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.peek() == Some(byte);
        self.at += usize::from(eaten);
        eaten
    }

    fn fault(&mut self, at: usize, message: &'static str) {
        if self.stopped {
            return;
        }
        self.faults.push(JsonSyntaxError { at, within: self.path.clone(), message });
        if self.faults.len() >= FAULTS_MAX {
            let message = "this is hardly JSON; the rest of the file is not read";
            self.faults.push(JsonSyntaxError { at, within: Vec::new(), message });
            self.stopped = true;
        }
    }

    fn stop(&mut self, at: usize, message: &'static str) {
        self.fault(at, message);
        self.stopped = true;
    }

    /// Skips blanks and comments; each comment is an error.
    fn skip_blanks(&mut self) {
        loop {
            while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
                self.at += 1;
            }
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let (length, closed) = if self.stopped {
                return;
            } else if rest.starts_with(b"//") {
                (rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()), true)
            } else if rest.starts_with(b"/*") {
                match self.text.get(self.at + 2..).and_then(|inner| inner.find("*/")) {
                    Some(inner) => (inner + 4, true),
                    None => (rest.len(), false),
                }
            } else {
                return;
            };
            self.fault(self.at, "JSON has no comments; remove this one");
            if !closed {
                self.stop(self.at, "this comment never ends; close it with `*/` and remove it");
            }
            self.at += length;
        }
    }

    fn value(&mut self) -> JsonNode {
        self.skip_blanks();
        let at = self.at;
        let value = match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => JsonValue::Text(self.string()),
            Some(b'-' | b'+' | b'.' | b'0'..=b'9') => self.number(),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => self.word(),
            // Not consumed: the caller handles these.
            Some(b',' | b']' | b'}') => {
                self.fault(at, "a value is missing here");
                JsonValue::Unreadable
            }
            Some(b'\'') => {
                self.stop(at, "texts stand in double quotes (\"), not in single ones");
                JsonValue::Unreadable
            }
            Some(_) => {
                self.stop(at, "no value begins like this");
                JsonValue::Unreadable
            }
            None => {
                self.stop(at, "the file ends where a value is expected");
                JsonValue::Unreadable
            }
        };
        JsonNode { at, value }
    }

    fn nested(&mut self, read: fn(&mut Self) -> JsonValue) -> JsonValue {
        if self.path.len() >= DEPTH_MAX {
            self.stop(self.at, "more than 64 levels of `{` and `[` in one another");
            return JsonValue::Unreadable;
        }
        read(self)
    }

    /// Parses the value at `step`.
    fn value_of(&mut self, step: JsonPathStep) -> JsonNode {
        self.path.push(step);
        let value = self.value();
        self.path.pop();
        value
    }

    fn array(&mut self) -> JsonValue {
        let open = self.at;
        self.at += 1;
        let mut items = Vec::new();
        let mut comma = None;
        while !self.stopped {
            self.skip_blanks();
            match self.peek() {
                Some(b']') => {
                    self.reject_trailing_comma(comma);
                    self.at += 1;
                    break;
                }
                Some(b'}') => self.stop(self.at, "`}` where `]` is expected"),
                None => self.stop(open, "this `[` is never closed with `]`"),
                Some(_) => {
                    items.push(self.value_of(JsonPathStep::Index(items.len())));
                    comma = self.separator(b']');
                }
            }
        }
        JsonValue::Array(items)
    }

    fn object(&mut self) -> JsonValue {
        let open = self.at;
        self.at += 1;
        let mut members: Vec<Member> = Vec::new();
        let mut names = BTreeSet::new();
        let mut comma = None;
        while !self.stopped {
            self.skip_blanks();
            let at = self.at;
            match self.peek() {
                Some(b'}') => {
                    self.reject_trailing_comma(comma);
                    self.at += 1;
                    break;
                }
                Some(b']') => self.stop(at, "`]` where `}` is expected"),
                None => self.stop(open, "this `{` is never closed with `}`"),
                Some(b',') => {
                    self.fault(at, "a member is missing before this comma; remove the comma");
                    self.at += 1;
                }
                Some(_) => {
                    let Some(name) = self.name() else { break };
                    let value = self.value_of(JsonPathStep::Member(name.clone()));
                    if names.insert(name.clone()) {
                        members.push(Member { at, name, value });
                    } else {
                        self.path.push(JsonPathStep::Member(name));
                        self.fault(at, "a member of this name stands here already; remove one of the two");
                        self.path.pop();
                    }
                    comma = self.separator(b'}');
                }
            }
        }
        JsonValue::Object(members)
    }

    /// A member's name and the colon after it.
    fn name(&mut self) -> Option<String> {
        let at = self.at;
        let name = match self.peek() {
            Some(b'"') => self.string(),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => {
                self.fault(at, "the name of a member stands in double quotes (\")");
                self.bare_word().to_owned()
            }
            _ => {
                self.stop(at, "the name of a member, in double quotes (\"), is expected here");
                return None;
            }
        };
        self.skip_blanks();
        if !self.eat(b':') {
            self.stop(self.at, "a `:` is missing between a member's name and its value");
        }
        (!self.stopped).then_some(name)
    }

    /// Parses what follows an element: a comma (returns its offset), or nothing before the end.
    fn separator(&mut self, end: u8) -> Option<usize> {
        self.skip_blanks();
        let at = self.at;
        if self.eat(b',') {
            return Some(at);
        }
        match self.peek() {
            Some(byte) if byte == end => {}
            Some(b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_') => {
                self.fault(at, "a comma is missing before this");
            }
            // The calling loop reports a wrong bracket or the end of the text.
            Some(b']' | b'}') | None => {}
            Some(_) => self.stop(at, "a comma or the closing bracket is expected here"),
        }
        None
    }

    fn reject_trailing_comma(&mut self, comma: Option<usize>) {
        if let Some(at) = comma {
            self.fault(at, "nothing follows after this comma; remove it");
        }
    }
}

#[cfg(test)]
mod tests;
