//! Checks that an XML response is complete, and that the SDK's parser reads it correctly.
//!
//! The SDK's parser takes any end of tokens for the end of the document, even a truncation or an invalid byte. Of a
//! duplicate member it takes the last, and of a text only the part before a comment or a CDATA section. So a truncated
//! response passes for a short one. This check walks over the same tokens first (with the SDK's tokenizer, so that the two
//! never differ) and refuses all of these.

use xmlparser::{ElementEnd, StrSpan, Token, Tokenizer};

/// Members that an element may hold more than once. Source: Amazon S3 API reference.
const REPEATED: [&str; 10] = [
    "Contents",
    "CommonPrefixes",
    "Bucket",
    "Upload",
    "Part",
    "Version",
    "DeleteMarker",
    "ChecksumAlgorithm",
    "Error",
    "Tag",
];

/// Most levels of nesting: more than any response of S3 has.
const DEPTH_MAX: usize = 16;
/// Most different members of one element: more than any response of S3 has.
const MEMBERS_MAX: usize = 64;

/// What is wrong with a response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MalformedResponse {
    /// The body is empty or blank.
    #[error("the answer is empty")]
    Empty,
    /// The document ends before its root element is closed.
    #[error("the answer is cut: element `{0}` is not closed")]
    Cut(String),
    /// An element holds a member twice that it may hold once.
    #[error("the answer contradicts itself: `{0}` stands twice in one element")]
    Doubled(String),
    /// The root element belongs to another operation.
    #[error("the answer is a `{0}`, which does not answer this request")]
    OtherRoot(String),
    /// An HTML page.
    #[error("the answer is an HTML page")]
    HtmlPage,
    /// Anything else that is not XML, or is XML of a form that no S3 service sends.
    #[error("the answer is no XML document of S3: {0}")]
    Form(String),
}

/// Returns the name of the root element of a complete document.
///
/// # Errors
/// Why the document is not complete or not valid.
pub(crate) fn root_element(answer: &[u8]) -> Result<&str, MalformedResponse> {
    let text = std::str::from_utf8(answer).map_err(|_| form_error("its text is not UTF-8"))?;
    let mut document = DocumentChecker { open: Vec::with_capacity(4), members: Vec::with_capacity(16), root: None };
    for token in Tokenizer::from(text) {
        match token {
            Ok(token) => document.take(token)?,
            Err(error) => return Err(document.tokenizer_error(&error)),
        }
    }
    document.end()
}

fn form_error(why: &str) -> MalformedResponse {
    MalformedResponse::Form(why.to_owned())
}

/// An element that is not closed yet.
struct OpenElement<'a> {
    prefix: &'a str,
    name: &'a str,
    /// The index of its first member in `members`.
    members_from: usize,
    has_members: bool,
    has_text: bool,
}

/// The part of a document that was read so far.
struct DocumentChecker<'a> {
    open: Vec<OpenElement<'a>>,
    /// The names of the members of all open elements, except for repeatable ones.
    members: Vec<&'a str>,
    root: Option<&'a str>,
}

impl<'a> DocumentChecker<'a> {
    fn take(&mut self, token: Token<'a>) -> Result<(), MalformedResponse> {
        match token {
            Token::ElementStart { prefix, local, .. } => self.start(prefix, local),
            Token::ElementEnd { end: ElementEnd::Close(prefix, local), .. } => {
                self.close(|open| (open.prefix, open.name) == (prefix.as_str(), local.as_str()))
            }
            Token::ElementEnd { end: ElementEnd::Empty, .. } => self.close(|_| true),
            Token::Text { text } => self.text(text.as_str()),
            // The SDK stops, without an error, at an attribute with an unknown reference.
            Token::Attribute { value, .. } if value.as_str().contains('&') => {
                Err(form_error("a reference in an attribute"))
            }
            Token::ElementEnd { end: ElementEnd::Open, .. } | Token::Attribute { .. } | Token::Declaration { .. } => {
                Ok(())
            }
            Token::Comment { .. } | Token::ProcessingInstruction { .. } if self.open.is_empty() => Ok(()),
            Token::Comment { .. } | Token::ProcessingInstruction { .. } | Token::Cdata { .. } => {
                Err(form_error("a text in several parts"))
            }
            Token::DtdStart { .. }
            | Token::EmptyDtd { .. }
            | Token::DtdEnd { .. }
            | Token::EntityDeclaration { .. } => Err(form_error("a document type declaration")),
        }
    }

    fn start(&mut self, prefix: StrSpan<'a>, local: StrSpan<'a>) -> Result<(), MalformedResponse> {
        let name = local.as_str();
        match self.open.last_mut() {
            None => self.root = Some(name),
            Some(parent) if parent.has_text => return Err(form_error("an element in the midst of a text")),
            Some(parent) => {
                parent.has_members = true;
                let from = parent.members_from;
                self.member(from, name)?;
            }
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(form_error("elements nested too deep"));
        }
        let members_from = self.members.len();
        self.open.push(OpenElement {
            prefix: prefix.as_str(),
            name,
            members_from,
            has_members: false,
            has_text: false,
        });
        Ok(())
    }

    fn member(&mut self, from: usize, name: &'a str) -> Result<(), MalformedResponse> {
        if REPEATED.contains(&name) {
            return Ok(());
        }
        let before = &self.members[from..];
        if before.contains(&name) {
            return Err(MalformedResponse::Doubled(name.to_owned()));
        }
        if before.len() >= MEMBERS_MAX {
            return Err(form_error("an element of too many members"));
        }
        self.members.push(name);
        Ok(())
    }

    fn close(&mut self, is: impl FnOnce(&OpenElement<'a>) -> bool) -> Result<(), MalformedResponse> {
        match self.open.pop() {
            Some(open) if is(&open) => {
                self.members.truncate(open.members_from);
                Ok(())
            }
            Some(open) => Err(MalformedResponse::Cut(open.name.to_owned())),
            None => Err(form_error("an element is closed that was never opened")),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), MalformedResponse> {
        match self.open.last_mut() {
            _ if text.bytes().all(|byte| byte.is_ascii_whitespace()) => Ok(()),
            Some(element) if element.has_members => Err(form_error("a text in the midst of elements")),
            Some(element) => {
                element.has_text = true;
                Ok(())
            }
            None => Err(form_error("a text beside the document")),
        }
    }

    fn end(self) -> Result<&'a str, MalformedResponse> {
        match (self.root, self.open.last()) {
            (_, Some(open)) => Err(MalformedResponse::Cut(open.name.to_owned())),
            (Some(root), None) => Ok(root),
            (None, None) => Err(MalformedResponse::Empty),
        }
    }

    /// The error of the tokenizer. Within an element it is mostly a truncation inside a tag.
    fn tokenizer_error(&self, error: &xmlparser::Error) -> MalformedResponse {
        MalformedResponse::Form(match self.open.last() {
            Some(open) => format!("{error}, in element `{}`", open.name),
            None => error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_document_is_known_by_its_root() {
        for (document, expected) in [
            ("<Error><Code>NoSuchKey</Code></Error>", "Error"),
            ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\n <a xmlns=\"http://x/\">\n <b/> <b2>t</b2>\n</a>\n", "a"),
            ("<n:a xmlns:n='http://x/'><n:b>&quot;&#x1;</n:b></n:a>", "a"),
            ("<a/>", "a"),
            ("<!-- of a server that likes to talk --><a></a><!-- and again -->", "a"),
            ("<L><Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents></L>", "L"),
        ] {
            assert_eq!(root_element(document.as_bytes()), Ok(expected), "{document}");
        }
    }

    #[test]
    fn what_is_cut_doubled_or_mixed_is_no_document() {
        for document in [
            "",
            " \n",
            "no document",
            "<a>",
            "<a><b></b>",
            "<a><b></a></b>",
            "<a></b>",
            "</a>",
            "<a></a><a></a>",
            "<a></a>more",
            "<a><b>1</b><b>2</b></a>",
            "<a><Contents><Key>a</Key><Key>b</Key></Contents></a>",
            "<a><b>t<c/></b></a>",
            "<a><b/>t</a>",
            "<a><b>t<!-- -->u</b></a>",
            "<a><b><![CDATA[t]]></b></a>",
            "<a><b>t\u{1}</b></a>",
            "<!DOCTYPE html><html></html>",
            "<a b='&x;'></a>",
            "<html><p>one<br>two</p></html>",
        ] {
            assert!(root_element(document.as_bytes()).is_err(), "{document}");
        }
        assert!(root_element(b"<a>\xff</a>").is_err());
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        assert!(root_element(deep.as_bytes()).is_err());
    }
}
