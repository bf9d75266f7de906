//! Converts properties to an object's headers and user metadata, and back, to the byte.
//!
//! `content-type` and five other HTTP headers stay headers, everything else becomes user metadata. A value that a header
//! would not keep (non-ASCII letters, blanks at an end, an empty text) is written as an encoded word of RFC 2047, as S3
//! itself returns non-ASCII metadata. A name that metadata cannot have is refused.

use std::collections::{BTreeMap, HashMap};

use aws_smithy_types::base64;
use mill_model::Properties;
use mill_ports::RefusalReason;

/// S3's default content type, which it reports for an object without one. Here it stands for none.
pub(super) const DEFAULT_TYPE: &str = "binary/octet-stream";

/// Most bytes of user metadata, names and values. Source: Amazon S3 user guide, *User-defined object metadata*.
const METADATA_BYTES_MAX: usize = 2048;

/// The headers that are properties.
pub(super) const HEADERS: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];

/// Properties in the form of an object's headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ObjectHeaders {
    /// Values of [`HEADERS`] that are set. The content type is always set.
    pub(super) headers: BTreeMap<&'static str, String>,
    /// User metadata.
    pub(super) metadata: HashMap<String, String>,
}

impl ObjectHeaders {
    /// Converts properties to headers.
    ///
    /// # Errors
    /// A name that metadata cannot have, or properties that are too large.
    pub(super) fn encode(decode: &Properties) -> Result<Self, RefusalReason> {
        let mut out = Self::default();
        out.headers.insert("content-type", DEFAULT_TYPE.to_owned());
        let mut bytes = 0;
        for (name, value) in &decode.0 {
            let header =
                HEADERS.into_iter().find(|header| *header == name).filter(|header| header_keeps(header, value));
            if let Some(header) = header {
                out.headers.insert(header, value.clone());
                continue;
            }
            if !is_metadata_name(name) {
                return Err(RefusalReason::UnrepresentableId(format!("a property cannot be named {name:?} there")));
            }
            let written = if is_plain_value(value) { value.clone() } else { encode_word(value) };
            bytes += name.len() + written.len();
            out.metadata.insert(name.clone(), written);
        }
        if bytes > METADATA_BYTES_MAX {
            let why = format!("its properties take {bytes} bytes there; at most {METADATA_BYTES_MAX} are taken");
            return Err(RefusalReason::UnrepresentableId(why));
        }
        Ok(out)
    }

    /// Converts headers back to properties.
    pub(super) fn decode(self) -> Properties {
        let headers =
            self.headers.into_iter().filter(|(name, value)| !(*name == "content-type" && is_default_type(value)));
        let mut out: BTreeMap<String, String> = headers.map(|(name, value)| (name.to_owned(), value)).collect();
        out.extend(self.metadata.into_iter().map(|(name, value)| match decode_word(&value) {
            Some(decode_word) => (name, decode_word),
            None => (name, value),
        }));
        Properties(out)
    }
}

fn is_default_type(value: &str) -> bool {
    value == DEFAULT_TYPE
}

/// Whether a header returns the same value when it is read back.
fn header_keeps(header: &str, value: &str) -> bool {
    use aws_smithy_types::DateTime;
    use aws_smithy_types::date_time::Format::HttpDate;
    if !is_plain_value(value) || value.is_empty() {
        return false;
    }
    match header {
        "content-type" => !is_default_type(value),
        // A word about the transfer of the request, which the service removes.
        "content-encoding" => !value.to_ascii_lowercase().contains("aws-chunked"),
        "expires" => {
            let read = DateTime::from_str(value, HttpDate);
            read.is_ok_and(|read| read.fmt(HttpDate).is_ok_and(|written| written == value))
        }
        _ => true,
    }
}

/// Whether metadata can have this name: lower case, since header names have no case, and characters that every server
/// accepts.
fn is_metadata_name(name: &str) -> bool {
    let header_keeps =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(header_keeps)
}

/// Whether a value needs no encoding.
fn is_plain_value(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !value.starts_with(' ')
        && !value.ends_with(' ')
        && !value.starts_with("=?")
        // Some stores return two blanks as one.
        && !value.contains("  ")
}

const WORD_BEGINS: &str = "=?UTF-8?B?";
const WORD_ENDS: &str = "?=";

fn encode_word(value: &str) -> String {
    format!("{WORD_BEGINS}{}{WORD_ENDS}", base64::encode(value))
}

/// Decodes a value that is one whole encoded word; `None` if it is not a valid one.
fn decode_word(value: &str) -> Option<String> {
    let word = value.strip_prefix(WORD_BEGINS)?.strip_suffix(WORD_ENDS)?;
    String::from_utf8(base64::decode(word).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pairs: &[(&str, &str)]) -> Properties {
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
                let written = decode(&[(name, value)]);
                let object_headers = ObjectHeaders::encode(&written).unwrap();
                assert!(
                    object_headers
                        .headers
                        .values()
                        .chain(object_headers.metadata.values())
                        .all(|value| is_plain_value(value) || value.starts_with("=?"))
                );
                assert_eq!(object_headers.decode(), written, "{name} {value:?}");
            }
        }
    }

    #[test]
    fn no_content_type_stays_none() {
        let object_headers = ObjectHeaders::encode(&Properties::default()).unwrap();
        assert_eq!(object_headers.headers["content-type"], DEFAULT_TYPE);
        assert_eq!(object_headers.decode(), Properties::default());
    }

    #[test]
    fn names_that_would_become_others_are_refused() {
        for name in ["", "K", "a b", "é", "a:b", "a\n"] {
            assert!(
                matches!(ObjectHeaders::encode(&decode(&[(name, "v")])), Err(RefusalReason::UnrepresentableId(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn more_than_an_object_bears_is_refused() {
        assert!(ObjectHeaders::encode(&decode(&[("k", &"v".repeat(2047))])).is_ok());
        assert!(ObjectHeaders::encode(&decode(&[("k", &"v".repeat(2048))])).is_err());
        // Headers are not counted among user metadata.
        assert!(ObjectHeaders::encode(&decode(&[("content-disposition", &"v".repeat(3000))])).is_ok());
    }
}
