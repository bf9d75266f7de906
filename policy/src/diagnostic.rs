//! Errors and warnings about a file: what is wrong, where, and what to do about it.

use std::fmt;

/// The severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It stops the account, or the space that it names.
    Error,
    /// It stops nothing, but is probably a mistake.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One error or warning about one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic {
    /// The file's name.
    pub file: String,
    /// The line, from 1; 0 if it is about the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 if it is about the file as a whole.
    pub column: u32,
    /// The member, such as `spaceDuplicationStorePolicies.photos[1].srcStoreId`; empty if there is none.
    pub member: String,
    /// The severity.
    pub severity: Severity,
    /// What is wrong and what to do.
    pub message: String,
}

impl Diagnostic {
    /// The error of a file larger than [`FILE_BYTES_MAX`](crate::FILE_BYTES_MAX), which need not be read.
    pub fn of_large_file(file: impl Into<String>, bytes: u64) -> Self {
        Self::of_file(file, crate::json_schema::too_large(bytes))
    }

    /// An error of a file as a whole.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            member: String::new(),
            severity: Severity::Error,
            message: message.into(),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `alice-stores.json:4:7: error: stores[0].root: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: ", self.severity)?;
        if !self.member.is_empty() {
            write!(f, "{}: ", self.member)?;
        }
        f.write_str(&self.message)
    }
}

/// The path of a member within its file, built while the file is read and formatted only for a diagnostic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MemberPath<'a> {
    Root,
    Member(&'a MemberPath<'a>, &'a str),
    Index(&'a MemberPath<'a>, usize),
}

impl<'a> MemberPath<'a> {
    pub(crate) fn member(&'a self, name: &'a str) -> MemberPath<'a> {
        MemberPath::Member(self, name)
    }

    pub(crate) fn index(&'a self, index: usize) -> MemberPath<'a> {
        MemberPath::Index(self, index)
    }
}

impl fmt::Display for MemberPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Member(parent, name) => {
                let plain = !name.is_empty()
                    && name.len() <= 128
                    && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
                match (plain, parent) {
                    (true, MemberPath::Root) => f.write_str(name),
                    (true, _) => write!(f, "{parent}.{name}"),
                    // Dots are common in space ids; within quotes a dot cannot be mistaken for a separator.
                    (false, _) => write!(f, "{parent}[\"{}\"]", mill_model::ids::shorten_for_display(name)),
                }
            }
        }
    }
}

/// The diagnostics of one file, with their offsets in its text.
#[derive(Debug)]
pub(crate) struct Diagnostics<'t> {
    file: String,
    text: &'t str,
    found: Vec<PendingDiagnostic>,
    left_out: usize,
    left_out_severity: Severity,
    broken: bool,
}

#[derive(Debug)]
struct PendingDiagnostic {
    at: Option<usize>,
    member: String,
    severity: Severity,
    message: String,
}

impl<'t> Diagnostics<'t> {
    /// The most diagnostics that are kept for one file. Further ones are only counted, so that no file can fill the
    /// memory.
    const FOUND_MAX: usize = 1_000;

    pub(crate) fn new(file: impl Into<String>, text: &'t str) -> Self {
        Self {
            file: file.into(),
            text,
            found: Vec::new(),
            left_out: 0,
            left_out_severity: Severity::Warning,
            broken: false,
        }
    }

    /// An error that makes the file unusable.
    pub(crate) fn error(&mut self, at: usize, path: &MemberPath<'_>, message: impl Into<String>) {
        self.broken = true;
        self.add(Some(at), path, Severity::Error, message.into());
    }

    /// An error of the file as a whole, which makes it unusable.
    pub(crate) fn error_of_file(&mut self, message: impl Into<String>) {
        self.broken = true;
        self.add(None, &MemberPath::Root, Severity::Error, message.into());
    }

    /// An error that stops a space only.
    pub(crate) fn error_of_space(&mut self, at: usize, path: &MemberPath<'_>, message: impl Into<String>) {
        self.add(Some(at), path, Severity::Error, message.into());
    }

    pub(crate) fn warn(&mut self, at: usize, path: &MemberPath<'_>, message: impl Into<String>) {
        self.add(Some(at), path, Severity::Warning, message.into());
    }

    /// Whether the file cannot be used.
    pub(crate) fn broken(&self) -> bool {
        self.broken
    }

    fn add(&mut self, at: Option<usize>, path: &MemberPath<'_>, severity: Severity, message: String) {
        if self.found.len() < Self::FOUND_MAX {
            self.found.push(PendingDiagnostic { at, member: path.to_string(), severity, message });
        } else {
            self.left_out += 1;
            self.left_out_severity = self.left_out_severity.min(severity);
        }
    }

    /// The diagnostics in the order of the text, those of the file as a whole first.
    pub(crate) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|found| found.at);
        let mut position = TextPosition { rest: self.text, at: 0, line: 1, column: 1 };
        let mut out = Vec::with_capacity(self.found.len());
        for found in self.found {
            let (line, column) = found.at.map_or((0, 0), |at| position.advance(at));
            out.push(Diagnostic {
                file: self.file.clone(),
                line,
                column,
                member: found.member,
                severity: found.severity,
                message: found.message,
            });
        }
        if self.left_out > 0 {
            let message = format!("{} further faults are left out; correct those above first", self.left_out);
            let severity = self.left_out_severity;
            out.push(Diagnostic { severity, ..Diagnostic::of_file(self.file, message) });
        }
        out
    }
}

/// A position that only advances, so that one pass over the file gives the positions of all diagnostics.
struct TextPosition<'t> {
    rest: &'t str,
    at: usize,
    line: u32,
    column: u32,
}

impl TextPosition<'_> {
    fn advance(&mut self, to: usize) -> (u32, u32) {
        let mut chars = self.rest.chars();
        while self.at < to {
            let Some(c) = chars.next() else { break };
            self.at += c.len_utf8();
            (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        self.rest = chars.as_str();
        (self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters() {
        let text = "{\r\n  \"Größe\": x\n}";
        let mut faults = Diagnostics::new("f", text);
        faults.warn(text.find('}').unwrap(), &MemberPath::Root, "end");
        faults.warn(text.find('x').unwrap(), &MemberPath::Root, "x");
        let places: Vec<_> = faults.into_diagnostics().iter().map(|f| (f.line, f.column)).collect();
        assert_eq!(places, [(2, 12), (3, 1)]);
    }

    #[test]
    fn a_member_with_a_dot_stands_in_quotes() {
        let (root, outer) = (MemberPath::Root, "spaces");
        let outer = root.member(outer);
        let (plain, dotted) = (outer.member("a-b"), outer.member("a.b"));
        assert_eq!(plain.index(1).to_string(), "spaces.a-b[1]");
        assert_eq!(dotted.index(0).to_string(), "spaces[\"a.b\"][0]");
    }

    #[test]
    fn more_faults_than_fit_are_counted() {
        let mut faults = Diagnostics::new("f", "");
        for _ in 0..1_002 {
            faults.error(0, &MemberPath::Root, "x");
        }
        let faults = faults.into_diagnostics();
        assert_eq!(faults.len(), 1_001);
        assert_eq!(faults[1_000].to_string(), "f: error: 2 further faults are left out; correct those above first");
    }
}
