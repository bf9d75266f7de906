//! Names of accounts, stores, spaces and content items. A name of these types is always valid.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::time::Timestamp;

/// Why a text cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is no {what}: {why}")]
pub struct IdError {
    /// What it was meant to be, such as "account id".
    pub what: &'static str,
    /// The text, escaped and cut to a length fit for a message.
    pub shown: String,
    /// The rule it breaks.
    pub why: &'static str,
}

/// Most characters of a text in a message.
const SHOWN_MAX: usize = 200;

/// Makes a name fit for a message: control characters are escaped. Different names stay different, so none is cut.
pub fn escape_for_display(name: &str) -> String {
    escaped(name).collect()
}

/// A text with its control characters and backslashes escaped. Quotes are no danger to a line, and stay as they are.
fn escaped(text: &str) -> impl Iterator<Item = char> {
    let quote = |character: char| matches!(character, '\'' | '"');
    text.split_inclusive(quote).flat_map(move |part| {
        let (part, quote) = part.strip_suffix(quote).map_or((part, ""), |before| part.split_at(before.len()));
        part.escape_debug().chain(quote.chars())
    })
}

/// Makes any text fit for one line of a message: control characters are escaped, and at most 200 characters are kept.
pub fn shorten_for_display(text: &str) -> String {
    let mut shown = escaped(text);
    let mut out: String = shown.by_ref().take(SHOWN_MAX).collect();
    if shown.next().is_some() {
        out.push('…');
    }
    out
}

/// The same as [`escape_for_display`] for a name that may not be UTF-8: each invalid byte is escaped by itself.
pub fn escape_bytes_for_display(name: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for chunk in name.utf8_chunks() {
        out.extend(escaped(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// The bytes of a name that was escaped by [`escape_for_display`] or [`escape_bytes_for_display`].
pub fn unescape_displayed(shown: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(shown.len());
    let mut rest = shown;
    while let Some(at) = rest.find('\\') {
        name.extend_from_slice(&rest.as_bytes()[..at]);
        let (bytes, read) = unescape_first(&rest[at..]);
        name.extend(bytes);
        rest = &rest[at + read..];
    }
    name.extend_from_slice(rest.as_bytes());
    name
}

/// The bytes that the escape at the beginning of `text` means, and its length. Anything that is no escape means itself.
fn unescape_first(text: &str) -> (Vec<u8>, usize) {
    let literal = || (text.as_bytes()[..1].to_vec(), 1);
    let plain = |byte: u8| (vec![byte], 2);
    match text.as_bytes().get(1) {
        Some(b'n') => plain(b'\n'),
        Some(b'r') => plain(b'\r'),
        Some(b't') => plain(b'\t'),
        Some(b'0') => plain(0),
        Some(&quoted @ (b'\\' | b'"' | b'\'')) => plain(quoted),
        Some(b'x') => {
            let byte = text.get(2..4).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            byte.map_or_else(literal, |byte| (vec![byte], 4))
        }
        Some(b'u') => {
            let digits = text.strip_prefix("\\u{").and_then(|rest| rest.split_once('}')).map(|(digits, _)| digits);
            let point =
                digits.and_then(|digits| Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, digits)));
            point.map_or_else(literal, |(point, digits)| (point.to_string().into_bytes(), digits.len() + 4))
        }
        _ => literal(),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text` and keeps it exactly.
            ///
            /// # Errors
            /// [`IdError`] naming the rule that `text` breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                match $check(&text) {
                    Ok(()) => Ok(Self(text.into_boxed_str())),
                    Err(why) => Err(IdError { what: $what, shown: shorten_for_display(&text), why }),
                }
            }

            /// The text, as given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&escape_for_display(&self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into_string()
            }
        }
    };
}

fn check_plain(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 128 {
        return Err("it must be 1 to 128 bytes long");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err("only letters, digits, `.`, `_` and `-` may stand in it");
    }
    if !text.as_bytes()[0].is_ascii_alphanumeric() {
        return Err("it must begin with a letter or a digit");
    }
    Ok(())
}

fn check_space(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 255 {
        return Err("it must be 1 to 255 bytes long");
    }
    if text == "." || text == ".." {
        return Err("`.` and `..` are not names");
    }
    if text.contains('/') || text.chars().any(char::is_control) {
        return Err("`/` and control characters may not stand in it");
    }
    Ok(())
}

fn check_content(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > ContentId::BYTES_MAX {
        return Err("it must be 1 to 1,024 bytes long");
    }
    Ok(())
}

text_id!(
    /// The owner of stores and policies: DuraCloud's "subdomain".
    AccountId, "account id", check_plain
);
text_id!(
    /// One storage provider instance of an account, such as `1`.
    StoreId, "store id", check_plain
);
text_id!(
    /// A container in a store. Ids that begin with `x-` are internal and never duplicated.
    SpaceId, "space id", check_space
);
text_id!(
    /// The id of a content item within its space: 1 to 1,024 bytes of UTF-8, kept exactly.
    ///
    /// No character is special to Mill: leading slashes, doubled slashes, blanks and control characters all count. The
    /// order is that of the bytes, as in listings of stores.
    ContentId, "content id", check_content
);

impl ContentId {
    /// The longest id, in bytes. Source: Amazon S3 user guide, *Naming objects*.
    pub const BYTES_MAX: usize = 1024;

    /// Whether the id names an empty directory, such as `photos/`.
    pub fn is_directory(&self) -> bool {
        self.as_str().ends_with('/')
    }
}

/// A content item's place within one store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemAddress {
    /// The space that holds it.
    pub space: SpaceId,
    /// Its id within the space.
    pub id: ContentId,
}

impl fmt::Display for ItemAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.id)
    }
}

/// A store and the account that owns it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreAddress {
    /// The owner.
    pub account: AccountId,
    /// The store.
    pub store: StoreId,
}

impl StoreAddress {
    /// The address of a store of an account.
    pub fn of(account: &AccountId, store: &StoreId) -> Self {
        Self { account: account.clone(), store: store.clone() }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.account, self.store)
    }
}

/// The id of a task: a UUID of version 7, so that ids sort by the time they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(uuid::Uuid);

impl TaskId {
    /// Makes an id from a time and 80 random bits of the caller (so that simulation replays).
    pub fn new(now: Timestamp, chance: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &chance).into_uuid())
    }

    /// The id of what is made with the same `facts` each time: so a repeat has the same id.
    pub fn of_facts(at: Timestamp, facts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for fact in facts {
            hash.update((fact.len() as u64).to_be_bytes());
            hash.update(fact);
        }
        let mut bits = [0; 10];
        bits.copy_from_slice(&hash.finalize()[..10]);
        Self::new(at, bits)
    }

    /// Reads an id as it was displayed.
    ///
    /// # Errors
    /// [`IdError`] when it is no UUID.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| IdError {
            what: "task id",
            shown: shorten_for_display(text),
            why: "it must be a UUID",
        })
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a delete list: a UUID of version 7, so that lists sort by the time they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeleteListId(uuid::Uuid);

impl DeleteListId {
    /// Makes an id from a time and 80 random bits of the caller.
    pub fn new(now: Timestamp, chance: [u8; 10]) -> Self {
        Self(TaskId::new(now, chance).0)
    }

    /// The id of the list that is made with the same `facts` each time.
    pub fn of_facts(at: Timestamp, facts: &[&str]) -> Self {
        Self(TaskId::of_facts(at, facts).0)
    }

    /// Reads an id as it was displayed.
    ///
    /// # Errors
    /// [`IdError`] when it is no UUID.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let wrong = |_| IdError { what: "delete list id", shown: shorten_for_display(text), why: "it must be a UUID" };
        uuid::Uuid::try_parse(text).map(Self).map_err(wrong)
    }
}

impl TryFrom<String> for DeleteListId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<DeleteListId> for String {
    fn from(id: DeleteListId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for DeleteListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_id_keeps_every_byte() {
        for text in [" a ", "/a", "a//b", "../a", "a\nb", "\u{1F600}", "."] {
            assert_eq!(ContentId::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn names_that_differ_at_their_ends_alone_are_shown_as_two() {
        for begin in ["a".repeat(1000), "\u{1}".repeat(1000)] {
            let shown = |end: &str| ContentId::new(format!("{begin}{end}")).unwrap().to_string();
            assert_ne!(shown("1"), shown("2"));
            let bytes = |end: &[u8]| escape_bytes_for_display(&[begin.as_bytes(), end].concat());
            assert_ne!(bytes(b"\xff"), bytes(b"\xfe"));
        }
    }

    #[test]
    fn a_name_that_was_escaped_is_read_back_whole() {
        let names: [&[u8]; 8] = [
            b"plain/name.txt",
            b"back\\slash \\x41 \\u{41} \\n",
            b"quote ' and \"",
            "tab\tline\n\r\0\u{7f}\u{301}e\u{202e}".as_bytes(),
            b"\xff\xfe/\xc3(",
            "\u{1F600}\u{200b}".as_bytes(),
            b"\\",
            b"",
        ];
        for name in names {
            assert_eq!(unescape_displayed(&escape_bytes_for_display(name)), name);
            if let Ok(text) = std::str::from_utf8(name) {
                assert_eq!(unescape_displayed(&escape_for_display(text)), name);
            }
        }
        assert_eq!(unescape_displayed("no escape: \\q \\xg \\u{zz} \\"), b"no escape: \\q \\xg \\u{zz} \\");
    }

    #[test]
    fn quotes_in_a_name_are_shown_as_they_are() {
        let name = "Zo\u{65}\u{301}'s \"letters\"\n'";
        let shown = "Zo\u{65}\u{301}'s \"letters\"\\n'";
        assert_eq!(escape_for_display(name), shown);
        assert_eq!(escape_bytes_for_display(name.as_bytes()), shown);
        assert_eq!(unescape_displayed("an older line\\'s quote"), b"an older line's quote");
    }

    #[test]
    fn a_text_of_any_length_fits_a_line_of_a_message() {
        assert_eq!(shorten_for_display(&"a".repeat(200)), "a".repeat(200));
        assert_eq!(shorten_for_display(&"a".repeat(201)), format!("{}…", "a".repeat(200)));
        assert_eq!(shorten_for_display(&"\n".repeat(150)).chars().count(), 201);
    }

    #[test]
    fn a_content_id_has_limits() {
        assert!(ContentId::new("").is_err());
        assert!(ContentId::new("a".repeat(1024)).is_ok());
        assert!(ContentId::new("a".repeat(1025)).is_err());
    }

    #[test]
    fn a_space_cannot_leave_its_store() {
        for text in ["", ".", "..", "a/b", "a\0b", "a\nb"] {
            assert!(SpaceId::new(text).is_err(), "{text:?}");
        }
        assert!(SpaceId::new("Fotos & Briefe").is_ok());
    }

    #[test]
    fn an_account_is_a_plain_word() {
        assert!(AccountId::new("../x").is_err());
        assert!(AccountId::new("-x").is_err());
        assert!(AccountId::new("my-archive.2").is_ok());
    }
}
