//! Properties as an object's headers and user metadata, and back, to the byte.
//!
//! `content-type` and the five HTTP headers go as themselves, everything else as user metadata. What a header would not
//! keep (letters beyond ASCII, blanks at an end, no text at all) is written as an encoded word of RFC 2047, which is
//! also how S3 itself tells metadata that is no ASCII. A name that metadata cannot bear is refused.

use std::collections::{BTreeMap, HashMap};

use aws_smithy_types::base64;
use mill_model::Properties;
use mill_ports::RefusalReason;

/// What an object without a content type is said to have: S3's own default. It stands for none.
pub(super) const NO_TYPE: &str = "binary/octet-stream";

/// Most bytes of user metadata, names and values. Source: Amazon S3 user guide, *User-defined object metadata*.
const METADATA_BYTES_MAX: usize = 2048;

/// The headers that are properties.
pub(super) const HEADERS: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];

/// Properties as an object bears them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ObjectHeaders {
    /// Of [`HEADERS`], those there are. There is always a content type.
    pub(super) headers: BTreeMap<&'static str, String>,
    /// User metadata.
    pub(super) metadata: HashMap<String, String>,
}

impl ObjectHeaders {
    /// As an object bears them.
    ///
    /// # Errors
    /// What it cannot bear.
    pub(super) fn of(properties: &Properties) -> Result<Self, RefusalReason> {
        let mut out = Self::default();
        out.headers.insert("content-type", NO_TYPE.to_owned());
        let mut bytes = 0;
        for (name, value) in &properties.0 {
            let header = HEADERS.into_iter().find(|header| *header == name).filter(|header| goes(header, value));
            if let Some(header) = header {
                out.headers.insert(header, value.clone());
                continue;
            }
            if !name_goes(name) {
                return Err(RefusalReason::UnrepresentableId(format!("a property cannot be named {name:?} there")));
            }
            let written = if plain(value) { value.clone() } else { encoded(value) };
            bytes += name.len() + written.len();
            out.metadata.insert(name.clone(), written);
        }
        if bytes > METADATA_BYTES_MAX {
            let why = format!("its properties take {bytes} bytes there; at most {METADATA_BYTES_MAX} are taken");
            return Err(RefusalReason::UnrepresentableId(why));
        }
        Ok(out)
    }

    /// Back again.
    pub(super) fn properties(self) -> Properties {
        let headers = self.headers.into_iter().filter(|(name, value)| !(*name == "content-type" && is_no_type(value)));
        let mut out: BTreeMap<String, String> = headers.map(|(name, value)| (name.to_owned(), value)).collect();
        out.extend(self.metadata.into_iter().map(|(name, value)| match decoded(&value) {
            Some(decoded) => (name, decoded),
            None => (name, value),
        }));
        Properties(out)
    }
}

fn is_no_type(value: &str) -> bool {
    value == NO_TYPE
}

/// Whether a header keeps the value, and is not read back as something else.
fn goes(header: &str, value: &str) -> bool {
    use aws_smithy_types::DateTime;
    use aws_smithy_types::date_time::Format::HttpDate;
    if !plain(value) || value.is_empty() {
        return false;
    }
    match header {
        "content-type" => !is_no_type(value),
        // A word that tells how a request was sent, and is taken off again.
        "content-encoding" => !value.to_ascii_lowercase().contains("aws-chunked"),
        "expires" => {
            let read = DateTime::from_str(value, HttpDate);
            read.is_ok_and(|read| read.fmt(HttpDate).is_ok_and(|written| written == value))
        }
        _ => true,
    }
}

/// Names that go as they are: small letters, since headers have no others, and what every server takes.
fn name_goes(name: &str) -> bool {
    let goes = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(goes)
}

/// Values that go as they are.
fn plain(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !value.starts_with(' ')
        && !value.ends_with(' ')
        && !value.starts_with("=?")
        // Some stores give two blanks back as one.
        && !value.contains("  ")
}

const WORD_BEGINS: &str = "=?UTF-8?B?";
const WORD_ENDS: &str = "?=";

fn encoded(value: &str) -> String {
    format!("{WORD_BEGINS}{}{WORD_ENDS}", base64::encode(value))
}

/// A value that is one whole encoded word. One that is not right is no word, and is given as it stands.
fn decoded(value: &str) -> Option<String> {
    let word = value.strip_prefix(WORD_BEGINS)?.strip_suffix(WORD_ENDS)?;
    String::from_utf8(base64::decode(word).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        Properties(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn every_value_comes_back_as_it_was() {
        for value in [
            "",
            " ",
            " v ",
            "a  b",
            "a\nb",
            "a\0b",
            "é 日本 \u{1F600}",
            "=?UTF-8?B?YQ==?=",
            "=?",
            "=?x?=",
            "k=v",
            "\"q\"",
            "binary/octet-stream",
            "aws-chunked",
            "Wed, 21 Oct 2026 07:28:00 GMT",
            "yesterday",
            "text/plain; charset=x",
        ] {
            for name in HEADERS.into_iter().chain(["note", "x-amz-meta-x"]) {
                let written = properties(&[(name, value)]);
                let borne = ObjectHeaders::of(&written).unwrap();
                assert!(
                    borne
                        .headers
                        .values()
                        .chain(borne.metadata.values())
                        .all(|value| plain(value) || value.starts_with("=?"))
                );
                assert_eq!(borne.properties(), written, "{name} {value:?}");
            }
        }
    }

    #[test]
    fn no_content_type_stays_none() {
        let borne = ObjectHeaders::of(&Properties::default()).unwrap();
        assert_eq!(borne.headers["content-type"], NO_TYPE);
        assert_eq!(borne.properties(), Properties::default());
    }

    #[test]
    fn names_that_would_become_others_are_refused() {
        for name in ["", "K", "a b", "é", "a:b", "a\n"] {
            assert!(
                matches!(ObjectHeaders::of(&properties(&[(name, "v")])), Err(RefusalReason::UnrepresentableId(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn more_than_an_object_bears_is_refused() {
        assert!(ObjectHeaders::of(&properties(&[("k", &"v".repeat(2047))])).is_ok());
        assert!(ObjectHeaders::of(&properties(&[("k", &"v".repeat(2048))])).is_err());
        // Headers are not counted among user metadata.
        assert!(ObjectHeaders::of(&properties(&[("content-disposition", &"v".repeat(3000))])).is_ok());
    }
}
