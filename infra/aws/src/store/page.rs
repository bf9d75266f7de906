//! One page of a listing: a complete response that matches the request, or an error.
//!
//! A response does not show what it omits. So it must say whether it is the last (`IsTruncated`), and nothing in it may
//! contradict that or the request. Source: Amazon S3 API reference, *ListObjectsV2*.

use aws_sdk_s3::types::EncodingType;

use super::StoreInner;
use super::directory_walk::compare_by_directory;
use super::errors::displayable;
use super::keys::BucketPrefix;
use crate::response::{ListObjectsResponse, ListedObject, ListingReader, is_xml_character};
use crate::sdk_error::CallError;

/// A request for a page.
#[derive(Debug, Clone)]
pub(super) struct PageRequest<'a> {
    pub(super) place: &'a BucketPrefix,
    pub(super) from: PageStart<'a>,
    /// Whether keys are rolled up at the next slash.
    pub(super) with_delimiter: bool,
    /// Most entries; `None` for the service's default.
    pub(super) max: Option<i32>,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum PageStart<'a> {
    Beginning,
    /// After this key.
    After(&'a str),
    /// At this token of the previous page.
    Token(&'a str),
}

/// A page.
#[derive(Debug)]
pub(super) struct ObjectPage {
    /// In ascending order of keys.
    pub(super) objects: Vec<(ListedKey, ListedObject)>,
    /// What was rolled up, in ascending byte order.
    pub(super) common_prefixes: Vec<ListedKey>,
    /// Whether the objects came in the order of a server that lists directory by directory, and not in byte order.
    pub(super) lists_by_directory: bool,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<String>,
}

/// A key from a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedKey {
    pub(super) bytes: Vec<u8>,
    /// Its written form in the response.
    pub(super) written: String,
    /// Whether the response claims to be url-encoded.
    pub(super) encoded: bool,
}

impl ListedKey {
    pub(super) fn read(written: String, encoded: bool) -> Self {
        let bytes = if encoded { url_decode(&written) } else { written.as_bytes().to_vec() };
        Self { bytes, written, encoded }
    }

    /// The key as text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// Why a page is not available.
#[derive(Debug)]
pub(super) enum PageError {
    /// The call failed.
    Failed(CallError),
    /// The response contradicts itself or the request.
    Contradiction(String),
}

impl StoreInner {
    /// Requests a page.
    pub(super) async fn page(&self, asked: PageRequest<'_>) -> Result<ObjectPage, PageError> {
        let request = self.client.list_objects_v2().bucket(&asked.place.bucket).encoding_type(EncodingType::Url);
        let request = if asked.place.prefix.is_empty() { request } else { request.prefix(&asked.place.prefix) };
        let request = if asked.with_delimiter { request.delimiter("/") } else { request };
        let request = match asked.from {
            PageStart::Beginning => request,
            PageStart::After(key) => request.start_after(key),
            PageStart::Token(token) => request.continuation_token(token),
        };
        let reader = ListingReader::default();
        let answer = request.set_max_keys(asked.max).customize().interceptor(reader.clone()).send().await;
        answer.map_err(|error| PageError::Failed(CallError::from_sdk(error)))?;
        let listing = reader.take().ok_or_else(|| PageError::Contradiction("no listing came".to_owned()))?;
        asked.check_page(listing).map_err(PageError::Contradiction)
    }
}

/// A text with a replacement for each character that XML forbids, as some servers write it.
fn with_replacement_characters(text: &str) -> String {
    text.chars()
        .map(|character| if is_xml_character(character) { character } else { char::REPLACEMENT_CHARACTER })
        .collect()
}

impl PageRequest<'_> {
    fn check_page(&self, answer: ListObjectsResponse) -> Result<ObjectPage, String> {
        let encoded = answer.encoding.as_deref() == Some("url");
        let next = next_token(answer.truncated, answer.next_token.as_deref())?;
        if let (Some(next), PageStart::Token(token)) = (&next, self.from)
            && next == token
        {
            return Err("the page behind this one is said to be this one again".to_owned());
        }
        self.check_echo(&answer, encoded)?;
        let mut common_prefixes: Vec<ListedKey> =
            answer.common_prefixes.into_iter().map(|name| ListedKey::read(name, encoded)).collect();
        let objects = answer.objects.into_iter().map(|mut object| {
            let key = ListedKey::read(std::mem::take(&mut object.key), encoded);
            (key, object)
        });
        let mut objects: Vec<(ListedKey, ListedObject)> = objects.collect();
        check_count(answer.count, objects.len(), common_prefixes.len())?;
        let lists_by_directory = is_directory_order(&objects, |(key, _)| key)?;
        if lists_by_directory {
            objects.sort_by(|(a, _), (b, _)| a.bytes.cmp(&b.bytes));
        }
        if is_directory_order(&common_prefixes, |key| key)? {
            common_prefixes.sort_by(|a, b| a.bytes.cmp(&b.bytes));
        }
        let prefix = self.place.prefix.as_bytes();
        if let Some(other) =
            objects.iter().map(|(key, _)| key).chain(&common_prefixes).find(|key| !key.bytes.starts_with(prefix))
        {
            return Err(format!(
                "`{}` does not begin with `{}`, as was asked",
                display_key(other),
                displayable(&self.place.prefix)
            ));
        }
        for common_prefix in &common_prefixes {
            let ends = common_prefix.bytes.iter().skip(prefix.len()).position(|byte| *byte == b'/');
            if !self.with_delimiter || ends != Some(common_prefix.bytes.len() - prefix.len() - 1) {
                return Err(format!("`{}` is rolled up, which was not asked", display_key(common_prefix)));
            }
        }
        Ok(ObjectPage { objects, common_prefixes, lists_by_directory, next })
    }

    /// Checks that the parts of the request that the response repeats are those of this request. Not every server repeats
    /// all.
    fn check_echo(&self, answer: &ListObjectsResponse, encoded: bool) -> Result<(), String> {
        let differs = |asked: &str, echo: Option<&str>, may_be_encoded: bool| {
            let same = |echo: &str| {
                let encoded = may_be_encoded && url_decode(echo) == asked.as_bytes();
                // Servers replace characters that XML forbids.
                encoded || (echo.contains(char::REPLACEMENT_CHARACTER) && *echo == with_replacement_characters(asked))
            };
            echo.filter(|echo| *echo != asked && !same(echo)).map(displayable)
        };
        let wrong =
            |what: &str, other: String| Err(format!("it answers for the {what} `{other}`, which was not asked"));
        // A request may name a bucket by an alias.
        let bucket = &self.place.bucket;
        let other_name = bucket.contains(':') || bucket.ends_with("-s3alias");
        let name = answer.bucket.as_deref().filter(|name| !name.is_empty() && !other_name);
        if let Some(other) = differs(bucket, name, false) {
            return wrong("bucket", other);
        }
        if let Some(other) = differs(&self.place.prefix, answer.prefix.as_deref(), encoded) {
            return wrong("prefix", other);
        }
        let delimiter = if self.with_delimiter { "/" } else { "" };
        if let Some(other) = differs(delimiter, answer.delimiter.as_deref(), encoded) {
            return wrong("delimiter", other);
        }
        // A later page may repeat the start of the first.
        if let PageStart::After(key) = self.from
            && let Some(other) = differs(key, answer.start_after.as_deref().filter(|echo| !echo.is_empty()), encoded)
        {
            return wrong("place behind", other);
        }
        let token = answer.token.as_deref().filter(|echo| !echo.is_empty());
        match (self.from, token) {
            (PageStart::Token(asked), Some(echo)) if asked != echo => Err("it answers for another page".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The token of the next page. A response must say whether it is the last, and must not contradict that.
pub(super) fn next_token(truncated: Option<bool>, token: Option<&str>) -> Result<Option<String>, String> {
    match (truncated, token.filter(|token| !token.is_empty())) {
        (Some(true), Some(token)) => Ok(Some(token.to_owned())),
        (Some(false), None) => Ok(None),
        (None, _) => Err("it does not say whether there is more".to_owned()),
        (Some(true), None) => Err("there is more, but it does not say where".to_owned()),
        (Some(false), Some(_)) => Err("it says that there is no more, and where more begins".to_owned()),
    }
}

/// Compares the response's count with the entries that came. Some servers do not count what they rolled up.
fn check_count(count: Option<i64>, objects: usize, common_prefixes: usize) -> Result<(), String> {
    let Some(count) = count else { return Ok(()) };
    if usize::try_from(count).is_ok_and(|count| count == objects + common_prefixes || count == objects) {
        return Ok(());
    }
    Err(format!("it tells of {count} entries, and {} came", objects + common_prefixes))
}

/// Whether keys ascend in the order of a server that lists directory by directory, and not in byte order.
///
/// # Errors
/// The keys ascend in neither order.
fn is_directory_order<T>(entries: &[T], key: impl Fn(&T) -> &ListedKey) -> Result<bool, String> {
    let pairs = || entries.iter().map(&key).zip(entries.iter().skip(1).map(&key));
    if pairs().all(|(last, key)| last.bytes < key.bytes) {
        return Ok(false);
    }
    match pairs().find(|(last, key)| compare_by_directory(&last.bytes, &key.bytes).is_ge()) {
        None => Ok(true),
        Some((_, key)) => Err(format!("`{}` stands out of order", display_key(key))),
    }
}

/// Escapes a key for a message.
pub(super) fn display_key(key: &ListedKey) -> String {
    displayable(&String::from_utf8_lossy(&key.bytes))
}

/// Decodes a key of a listing: `%` and two digits stand for a byte, and `+` for a blank.
pub(super) fn url_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, hex_byte(behind)) {
            (b'%', Some(value)) => {
                out.push(value);
                rest = &behind[2..];
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
    }
    out
}

/// The byte of two hexadecimal digits.
pub(crate) fn hex_byte(text: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (high, low) = (digit(text.first()?)?, digit(text.get(1)?)?);
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_to_the_byte() {
        for (text, key) in [
            ("a/b", "a/b"),
            ("a%2Fb", "a/b"),
            ("a+b", "a b"),
            ("a%2Bb", "a+b"),
            ("%20a%0A%00", " a\n\0"),
            ("%C3%A9%f0%9f%98%80", "é\u{1F600}"),
            ("100%", "100%"),
            ("%zz%2", "%zz%2"),
            ("%25", "%"),
        ] {
            assert_eq!(url_decode(text), key.as_bytes(), "{text}");
        }
        assert_eq!(url_decode("%ff"), [255]);
    }

    #[test]
    fn the_end_of_a_listing_is_said_or_it_is_none() {
        assert_eq!(next_token(Some(false), None), Ok(None));
        assert_eq!(next_token(Some(false), Some("")), Ok(None));
        assert_eq!(next_token(Some(true), Some("t")), Ok(Some("t".to_owned())));
        for (truncated, token) in
            [(None, None), (None, Some("t")), (Some(true), None), (Some(true), Some("")), (Some(false), Some("t"))]
        {
            assert!(next_token(truncated, token).is_err(), "{truncated:?} {token:?}");
        }
    }
}
