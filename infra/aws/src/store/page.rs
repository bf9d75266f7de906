//! One page of a listing: an answer that is complete and answers what was asked, or an error.
//!
//! What an answer leaves out cannot be seen in what it holds. So its end must be said (`IsTruncated`), and nothing in it may
//! contradict that, or the request. Source: Amazon S3 API reference, *ListObjectsV2*.

use aws_sdk_s3::types::EncodingType;

use super::StoreInner;
use super::directory_walk::by_directories;
use super::errors::fit;
use super::keys::BucketPrefix;
use crate::response::{ListObjectsResponse, ListedObject, ListingReader, is_of_xml};
use crate::sdk_error::CallError;

/// What a page is asked for.
#[derive(Debug, Clone)]
pub(super) struct PageRequest<'a> {
    pub(super) place: &'a BucketPrefix,
    pub(super) from: PageStart<'a>,
    /// Whether what lies behind the next slash is rolled up.
    pub(super) by_folder: bool,
    /// Most entries; `None` for as many as the service gives.
    pub(super) max: Option<i32>,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum PageStart<'a> {
    Beginning,
    /// Behind this key.
    After(&'a str),
    /// Where the page before said.
    Token(&'a str),
}

/// A page.
#[derive(Debug)]
pub(super) struct ObjectPage {
    /// In ascending order of keys.
    pub(super) objects: Vec<(ListedKey, ListedObject)>,
    /// What was rolled up, in ascending order.
    pub(super) folders: Vec<ListedKey>,
    /// Whether the objects came in the order of a server that lists directory by directory, which is another.
    pub(super) by_directories: bool,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<String>,
}

/// A key, as it was read from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedKey {
    pub(super) bytes: Vec<u8>,
    /// How it is written in the answer.
    pub(super) written: String,
    /// Whether the answer says that it is url-encoded.
    pub(super) encoded: bool,
}

impl ListedKey {
    pub(super) fn read(written: String, encoded: bool) -> Self {
        let bytes = if encoded { decoded(&written) } else { written.as_bytes().to_vec() };
        Self { bytes, written, encoded }
    }

    /// The key as text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// Why a page could not be had.
#[derive(Debug)]
pub(super) enum PageError {
    /// The call failed.
    Failed(CallError),
    /// The answer contradicts itself, or what was asked.
    Contradiction(String),
}

impl StoreInner {
    /// Asks for a page.
    pub(super) async fn page(&self, asked: PageRequest<'_>) -> Result<ObjectPage, PageError> {
        let request = self.client.list_objects_v2().bucket(&asked.place.bucket).encoding_type(EncodingType::Url);
        let request = if asked.place.prefix.is_empty() { request } else { request.prefix(&asked.place.prefix) };
        let request = if asked.by_folder { request.delimiter("/") } else { request };
        let request = match asked.from {
            PageStart::Beginning => request,
            PageStart::After(key) => request.start_after(key),
            PageStart::Token(token) => request.continuation_token(token),
        };
        let reader = ListingReader::default();
        let answer = request.set_max_keys(asked.max).customize().interceptor(reader.clone()).send().await;
        answer.map_err(|error| PageError::Failed(CallError::of(error)))?;
        let listing = reader.take().ok_or_else(|| PageError::Contradiction("no listing came".to_owned()))?;
        asked.judge(listing).map_err(PageError::Contradiction)
    }
}

/// A text as a server writes it that has a sign for each character which no XML may hold.
fn as_xml_has_it(text: &str) -> String {
    text.chars().map(|character| if is_of_xml(character) { character } else { char::REPLACEMENT_CHARACTER }).collect()
}

impl PageRequest<'_> {
    fn judge(&self, answer: ListObjectsResponse) -> Result<ObjectPage, String> {
        let encoded = answer.encoding.as_deref() == Some("url");
        let next = next(answer.truncated, answer.next_token.as_deref())?;
        if let (Some(next), PageStart::Token(token)) = (&next, self.from)
            && next == token
        {
            return Err("the page behind this one is said to be this one again".to_owned());
        }
        self.echoed(&answer, encoded)?;
        let mut folders: Vec<ListedKey> =
            answer.folders.into_iter().map(|name| ListedKey::read(name, encoded)).collect();
        let objects = answer.objects.into_iter().map(|mut object| {
            let key = ListedKey::read(std::mem::take(&mut object.key), encoded);
            (key, object)
        });
        let mut objects: Vec<(ListedKey, ListedObject)> = objects.collect();
        counted(answer.count, objects.len(), folders.len())?;
        let by_directories = by_directories_only(&objects, |(key, _)| key)?;
        if by_directories {
            objects.sort_by(|(a, _), (b, _)| a.bytes.cmp(&b.bytes));
        }
        if by_directories_only(&folders, |key| key)? {
            folders.sort_by(|a, b| a.bytes.cmp(&b.bytes));
        }
        let prefix = self.place.prefix.as_bytes();
        if let Some(other) =
            objects.iter().map(|(key, _)| key).chain(&folders).find(|key| !key.bytes.starts_with(prefix))
        {
            return Err(format!("`{}` does not begin with `{}`, as was asked", shown(other), fit(&self.place.prefix)));
        }
        for folder in &folders {
            let ends = folder.bytes.iter().skip(prefix.len()).position(|byte| *byte == b'/');
            if !self.by_folder || ends != Some(folder.bytes.len() - prefix.len() - 1) {
                return Err(format!("`{}` is rolled up, which was not asked", shown(folder)));
            }
        }
        Ok(ObjectPage { objects, folders, by_directories, next })
    }

    /// What an answer repeats of the request must be what was asked. Not every server repeats everything.
    fn echoed(&self, answer: &ListObjectsResponse, encoded: bool) -> Result<(), String> {
        let differs = |asked: &str, echo: Option<&str>, may_be_encoded: bool| {
            let same = |echo: &str| {
                let encoded = may_be_encoded && decoded(echo) == asked.as_bytes();
                // What no XML may hold, servers put another character for.
                encoded || (echo.contains(char::REPLACEMENT_CHARACTER) && *echo == as_xml_has_it(asked))
            };
            echo.filter(|echo| *echo != asked && !same(echo)).map(fit)
        };
        let wrong =
            |what: &str, other: String| Err(format!("it answers for the {what} `{other}`, which was not asked"));
        // A bucket may be asked for by another name of it.
        let bucket = &self.place.bucket;
        let other_name = bucket.contains(':') || bucket.ends_with("-s3alias");
        let name = answer.bucket.as_deref().filter(|name| !name.is_empty() && !other_name);
        if let Some(other) = differs(bucket, name, false) {
            return wrong("bucket", other);
        }
        if let Some(other) = differs(&self.place.prefix, answer.prefix.as_deref(), encoded) {
            return wrong("prefix", other);
        }
        let delimiter = if self.by_folder { "/" } else { "" };
        if let Some(other) = differs(delimiter, answer.delimiter.as_deref(), encoded) {
            return wrong("delimiter", other);
        }
        // A page behind the first may repeat where the first began.
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

/// Where the next page begins, by what an answer says of it. Its end must be said, and nothing may contradict it.
pub(super) fn next(truncated: Option<bool>, token: Option<&str>) -> Result<Option<String>, String> {
    match (truncated, token.filter(|token| !token.is_empty())) {
        (Some(true), Some(token)) => Ok(Some(token.to_owned())),
        (Some(false), None) => Ok(None),
        (None, _) => Err("it does not say whether there is more".to_owned()),
        (Some(true), None) => Err("there is more, but it does not say where".to_owned()),
        (Some(false), Some(_)) => Err("it says that there is no more, and where more begins".to_owned()),
    }
}

/// Compares the count that an answer tells with what came. Some servers leave out of it what they rolled up.
fn counted(told: Option<i64>, objects: usize, folders: usize) -> Result<(), String> {
    let Some(told) = told else { return Ok(()) };
    if usize::try_from(told).is_ok_and(|told| told == objects + folders || told == objects) {
        return Ok(());
    }
    Err(format!("it tells of {told} entries, and {} came", objects + folders))
}

/// Whether keys ascend as a server lists them that goes directory by directory, and not by their bytes.
///
/// # Errors
/// They ascend in neither order.
fn by_directories_only<T>(entries: &[T], key: impl Fn(&T) -> &ListedKey) -> Result<bool, String> {
    let pairs = || entries.iter().map(&key).zip(entries.iter().skip(1).map(&key));
    if pairs().all(|(last, key)| last.bytes < key.bytes) {
        return Ok(false);
    }
    match pairs().find(|(last, key)| by_directories(&last.bytes, &key.bytes).is_ge()) {
        None => Ok(true),
        Some((_, key)) => Err(format!("`{}` stands out of order", shown(key))),
    }
}

/// A key, fit for a message.
pub(super) fn shown(key: &ListedKey) -> String {
    fit(&String::from_utf8_lossy(&key.bytes))
}

/// A key as a listing encodes it: `%` and two digits for a byte, and `+` for a blank.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, hex(behind)) {
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

/// The byte that the first two digits tell.
pub(super) fn hex(text: &[u8]) -> Option<u8> {
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
            assert_eq!(decoded(text), key.as_bytes(), "{text}");
        }
        assert_eq!(decoded("%ff"), [255]);
    }

    #[test]
    fn the_end_of_a_listing_is_said_or_it_is_none() {
        assert_eq!(next(Some(false), None), Ok(None));
        assert_eq!(next(Some(false), Some("")), Ok(None));
        assert_eq!(next(Some(true), Some("t")), Ok(Some("t".to_owned())));
        for (truncated, token) in
            [(None, None), (None, Some("t")), (Some(true), None), (Some(true), Some("")), (Some(false), Some("t"))]
        {
            assert!(next(truncated, token).is_err(), "{truncated:?} {token:?}");
        }
    }
}
