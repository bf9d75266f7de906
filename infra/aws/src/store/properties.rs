//! Converts properties to an object's headers and user metadata, and back.
//!
//! What a client sees at the copy is what it sees at the original: a header keeps its text, whatever form that has, and
//! metadata stays metadata. What an object cannot bear so is refused by name; nothing is written in a form that only Mill
//! could read.
//!
//! A header is a property of the same name. So is metadata, without `x-amz-meta-`, unless a header has that name: then the
//! prefix stays. Text beyond ASCII is one encoded word of RFC 2047 in metadata, as S3 itself returns it. An encoded word is
//! read as its text only if the text would be written as the same word; any other stays as it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_smithy_types::base64;
use mill_model::Properties;
use mill_model::encoded_words::decoded;
use mill_ports::RefusalReason;

/// S3's default content type, which it reports for an object without one. Here it stands for none.
pub(super) const DEFAULT_TYPE: &str = "binary/octet-stream";

/// Most bytes of user metadata, names and values. Source: Amazon S3 user guide, *User-defined object metadata*.
const METADATA_BYTES_MAX: usize = 2048;

const METADATA_PREFIX: &str = "x-amz-meta-";

/// The header that makes a page of a website lead elsewhere.
pub(super) const REDIRECT: &str = "x-amz-website-redirect-location";

/// The headers that are properties.
pub(super) const HEADERS: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    REDIRECT,
];

/// Whether a header of a response is one of the object's properties.
pub(super) fn is_property(header: &str) -> bool {
    HEADERS.contains(&header) || header.starts_with(METADATA_PREFIX)
}

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
    /// A property that an object cannot bear, or properties that are too large.
    pub(super) fn encode(properties: &Properties) -> Result<Self, RefusalReason> {
        let mut out = Self::default();
        out.headers.insert("content-type", DEFAULT_TYPE.to_owned());
        let mut bytes = 0;
        for (name, value) in &properties.0 {
            if let Some(header) = HEADERS.into_iter().find(|header| *header == name) {
                if !is_header_value(value) {
                    return Err(unrepresentable(format!("the header `{header}` cannot be {value:?}")));
                }
                out.headers.insert(header, value.clone());
                continue;
            }
            let name = metadata_name(name);
            if !is_metadata_name(name) {
                return Err(unrepresentable(format!("no metadata can be named {name:?}")));
            }
            let written = match () {
                () if is_plain_value(value) => value.clone(),
                () if is_text(value) => encode_word(value),
                () => return Err(unrepresentable(format!("the metadata `{name}` cannot be {value:?}"))),
            };
            // S3 counts the text, not its encoded form.
            bytes += name.len() + value.len();
            out.metadata.insert(name.to_owned(), written);
        }
        if bytes > METADATA_BYTES_MAX {
            return Err(unrepresentable(format!(
                "they take {bytes} bytes, and at most {METADATA_BYTES_MAX} are taken"
            )));
        }
        Ok(out)
    }

    /// Converts headers back to properties.
    pub(super) fn decode(self) -> Properties {
        let headers =
            self.headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), stated(name, value)?)));
        let metadata = self.metadata.into_iter().map(|(name, value)| (property_name(name), decode_value(value)));
        Properties(headers.chain(metadata).collect())
    }

    /// Whether not every store keeps these properties, or takes them at all.
    pub(super) fn has_unusual_property(properties: &Properties) -> bool {
        properties.0.iter().any(|(name, value)| is_unusual(name, value))
    }
}

/// How the properties of an object compare with those that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeptProperties {
    /// They are the same. One text may have another form.
    All,
    /// The store has changed or dropped this one, the first by name. Only properties differ that not every store keeps.
    AllBut(String),
    /// A property differs that every store keeps, so they are of another writer.
    OfAnotherWriter,
}

impl KeptProperties {
    pub(super) fn of(written: &Properties, found: &Properties) -> Self {
        let names: BTreeSet<&String> = written.0.keys().chain(found.0.keys()).collect();
        let differs = |name: &&String| written.get(name).map(decoded) != found.get(name).map(decoded);
        let mut kept = Self::All;
        for name in names.into_iter().filter(differs) {
            if !written.get(name).is_some_and(|value| is_unusual(name, value)) {
                return Self::OfAnotherWriter;
            }
            if kept == Self::All {
                kept = Self::AllBut(name.clone());
            }
        }
        kept
    }
}

fn unrepresentable(why: String) -> RefusalReason {
    RefusalReason::UnrepresentableProperties(why)
}

/// What a header says of an object; `None` where that is what every object says.
fn stated(name: &str, value: String) -> Option<String> {
    let value = match name {
        // A word about the transfer of the request. Some clients leave it, and some stores keep it.
        "content-encoding" => without_transfer(&value),
        _ => value,
    };
    let is_default = value.is_empty() || name == "content-type" && value == DEFAULT_TYPE;
    (!is_default).then_some(value)
}

/// The content encodings without that of the transfer.
fn without_transfer(value: &str) -> String {
    let is_transfer = |word: &str| word.trim().eq_ignore_ascii_case("aws-chunked");
    if !value.split(',').any(is_transfer) {
        return value.to_owned();
    }
    let kept: Vec<&str> = value.split(',').filter(|word| !is_transfer(word)).map(str::trim).collect();
    kept.join(",")
}

/// The name of the metadata that a property is.
fn metadata_name(property: &str) -> &str {
    match property.strip_prefix(METADATA_PREFIX) {
        Some(name) if keeps_prefix(name) => name,
        _ => property,
    }
}

/// The property that metadata of this name is.
fn property_name(metadata: String) -> String {
    if keeps_prefix(&metadata) { format!("{METADATA_PREFIX}{metadata}") } else { metadata }
}

/// Whether the property of metadata with this name keeps the prefix: without it, it would be that of a header.
fn keeps_prefix(name: &str) -> bool {
    HEADERS.contains(&name) || name.starts_with(METADATA_PREFIX)
}

/// Whether a header can have this value.
fn is_header_value(value: &str) -> bool {
    !value.is_empty() && is_plain_value(value)
}

/// Whether metadata can have this name: a token of HTTP, in lower case, since header names have no case.
fn is_metadata_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

/// Whether a value needs no encoding: HTTP takes blanks from both ends.
fn is_plain_value(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && value.trim_matches(' ') == value
}

/// Whether a value is text with letters beyond ASCII, and nothing that a header's text cannot mean.
fn is_text(value: &str) -> bool {
    !value.is_ascii() && !value.chars().any(char::is_control) && value.trim() == value
}

/// Whether not every store keeps such a property.
fn is_unusual(name: &str, value: &str) -> bool {
    let usual_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let own_rules = ["content-encoding", "expires", REDIRECT].contains(&name);
    own_rules
        || !name.bytes().all(usual_name)
        || name.starts_with(METADATA_PREFIX)
        || value.is_empty()
        || value.contains("  ")
        || value.contains("=?")
        || !value.is_ascii()
}

const WORD_BEGINS: &str = "=?UTF-8?B?";
const WORD_ENDS: &str = "?=";

fn encode_word(value: &str) -> String {
    format!("{WORD_BEGINS}{}{WORD_ENDS}", base64::encode(value))
}

/// The text of metadata, if it would be written so again; else the metadata as it is.
fn decode_value(value: String) -> String {
    let word = value.strip_prefix(WORD_BEGINS).and_then(|word| word.strip_suffix(WORD_ENDS));
    let text = word.and_then(|word| String::from_utf8(base64::decode(word).ok()?).ok());
    text.filter(|text| is_text(text) && encode_word(text) == value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        Properties(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// What a client sees of an object: its headers and its metadata.
    fn seen(headers: &[(&'static str, &str)], metadata: &[(&str, &str)]) -> ObjectHeaders {
        ObjectHeaders {
            headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            metadata: metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn a_client_sees_at_the_copy_what_it_sees_at_the_original() {
        const VALUES: [&str; 16] = [
            "a  b",
            "=?UTF-8?B?YQ==?=",
            "=?UTF-8?B?w6k=?=",
            "=?UTF-8?Q?=C3=A9?=",
            "=?utf-8?b?w6k=?=",
            "=?",
            "=?x?=",
            "k=v",
            "\"q\"",
            "0",
            "-1",
            "gzip, br",
            "Wed, 21 Oct 2026 07:28:00 GMT",
            "Wednesday, 21-Oct-26 07:28:00 GMT",
            "2026-10-21T07:28:00Z",
            "text/plain; charset=x",
        ];
        for value in VALUES {
            for name in HEADERS {
                let original = seen(&[("content-type", DEFAULT_TYPE), (name, value)], &[]);
                assert_eq!(ObjectHeaders::encode(&original.clone().decode()).unwrap(), original, "{name} {value:?}");
            }
            for name in ["note", "x-amz-meta-x", "content-type", "expires", "user+tag", "a_b.c", "x-amz-meta-expires"] {
                let original = seen(&[("content-type", "text/plain")], &[(name, value), ("empty", "")]);
                assert_eq!(ObjectHeaders::encode(&original.clone().decode()).unwrap(), original, "{name} {value:?}");
            }
        }
    }

    #[test]
    fn a_header_and_metadata_of_one_name_are_two_properties() {
        let original =
            seen(&[("content-type", "text/plain"), ("expires", "0")], &[("content-type", "x"), ("expires", "1")]);
        let properties = original.clone().decode();
        assert_eq!(properties.get("content-type"), Some("text/plain"));
        assert_eq!(properties.get("x-amz-meta-content-type"), Some("x"));
        assert_eq!(ObjectHeaders::encode(&properties).unwrap(), original);
    }

    #[test]
    fn text_beyond_ascii_comes_back_as_it_was() {
        for value in ["é", "日本 \u{1F600}", "a é"] {
            let written = ObjectHeaders::encode(&properties(&[("note", value)])).unwrap();
            assert!(written.metadata["note"].is_ascii());
            assert_eq!(written.decode(), properties(&[("note", value)]));
        }
    }

    #[test]
    fn the_word_of_a_transfer_is_no_encoding_of_the_content() {
        for (found, encoding) in [
            ("aws-chunked", None),
            ("gzip,aws-chunked", Some("gzip")),
            ("AWS-Chunked, gzip, br", Some("gzip,br")),
            ("gzip, br", Some("gzip, br")),
        ] {
            let read = seen(&[("content-encoding", found)], &[]).decode();
            assert_eq!(read.get("content-encoding"), encoding, "{found}");
        }
    }

    #[test]
    fn what_an_object_cannot_bear_is_refused_by_name() {
        let refused = |name: &str, value: &str| match ObjectHeaders::encode(&properties(&[(name, value)])) {
            Err(RefusalReason::UnrepresentableProperties(why)) => why.contains(name),
            _ => false,
        };
        for value in [" v", "v ", "a\nb", "a\0b", " é", "é\n"] {
            assert!(refused("note", value) && refused("content-disposition", value), "{value:?}");
        }
        // A header has no form for letters beyond ASCII that every client reads alike.
        assert!(refused("content-disposition", "é") && refused("cache-control", ""));
        for name in ["K", "a b", "a:b", "a/b", "é"] {
            assert!(refused(name, "v"), "{name:?}");
        }
        assert!(ObjectHeaders::encode(&properties(&[("", "v")])).is_err());
    }

    #[test]
    fn no_content_type_stays_none() {
        let object_headers = ObjectHeaders::encode(&Properties::default()).unwrap();
        assert_eq!(object_headers.headers["content-type"], DEFAULT_TYPE);
        assert_eq!(object_headers.decode(), Properties::default());
    }

    #[test]
    fn more_than_an_object_bears_is_refused() {
        assert!(ObjectHeaders::encode(&properties(&[("k", &"v".repeat(2047))])).is_ok());
        assert!(ObjectHeaders::encode(&properties(&[("k", &"v".repeat(2048))])).is_err());
        // Headers are not counted among user metadata.
        assert!(ObjectHeaders::encode(&properties(&[("content-disposition", &"v".repeat(3000))])).is_ok());
    }

    #[test]
    fn only_what_a_store_may_not_keep_tells_that_it_did_not() {
        let written = properties(&[("note", "a"), ("user+tag", "b"), ("content-disposition", "a  b")]);
        let kept = |found: &[(&str, &str)]| KeptProperties::of(&written, &properties(found));
        let all_but = |name: &str| KeptProperties::AllBut(name.to_owned());
        let disposition = ("content-disposition", "a  b");
        assert_eq!(kept(&[("note", "a"), ("user+tag", "b"), disposition]), KeptProperties::All);
        assert_eq!(kept(&[("note", "a"), ("content-disposition", "a b")]), all_but("content-disposition"));
        assert_eq!(kept(&[("note", "a"), disposition]), all_but("user+tag"));
        assert_eq!(kept(&[("note", "c"), disposition]), KeptProperties::OfAnotherWriter);
        assert_eq!(
            kept(&[("note", "a"), ("user+tag", "b"), disposition, ("new", "")]),
            KeptProperties::OfAnotherWriter
        );
    }
}
