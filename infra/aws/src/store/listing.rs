//! Listings: page by page, in order of bytes, complete or failed.

use std::sync::Arc;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object, ObjectStorageClass};
use futures::stream::{self, StreamExt as _};
use mill_model::{ContentId, ItemFacts, ItemState, SpaceId};
use mill_ports::{ListPage, Listed, Listing, Refusal, StoreError, StoreErrorKind};

use super::Inner;
use super::facts::State;
use super::faults::{During, fit};
use super::places::{Place, blanks_alone};
use crate::trouble::Trouble;

const OP: &str = "listing";

/// Lists a space.
pub(super) fn list(inner: Arc<Inner>, space: SpaceId, after: Option<ContentId>) -> Listing {
    let walk = Walk { inner, space, after, token: None, last: None, first: true };
    stream::try_unfold(Some(walk), async |walk| match walk {
        None => Ok(None),
        Some(mut walk) => {
            let page = walk.page().await?;
            let rest = (!page.end).then_some(walk);
            Ok(Some((page, rest)))
        }
    })
    .boxed()
}

/// A listing on its way.
struct Walk {
    inner: Arc<Inner>,
    space: SpaceId,
    after: Option<ContentId>,
    token: Option<String>,
    /// The last key of the page before.
    last: Option<Vec<u8>>,
    first: bool,
}

impl Walk {
    async fn page(&mut self) -> Result<ListPage, StoreError> {
        let absent = || self.inner.of_space(OP, &self.space, StoreErrorKind::SpaceAbsent);
        let place = self.inner.place(&self.space).ok_or_else(absent)?;
        let answer = self.ask(&place).await?;
        if self.first && answer.contents().is_empty() && !self.inner.bucket_is_space() {
            // Nothing at all, not even its mark: is it there? What was seen before does not count here.
            self.inner.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.space);
            self.inner.confirm(OP, &self.space, &place).await?;
        }
        self.first = false;
        let more = answer.is_truncated().unwrap_or(false);
        self.token = answer.next_continuation_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if more && self.token.is_none() {
            return Err(self.wrong("there is more, but the answer does not tell where"));
        }
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let mut entries = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            entries.extend(self.entry(&place, object, encoded)?);
        }
        Ok(ListPage { entries, places: self.inner.places_of(&self.space), end: !more })
    }

    async fn ask(&self, place: &Place) -> Result<ListObjectsV2Output, StoreError> {
        let request = self.inner.client.list_objects_v2().bucket(&place.bucket).encoding_type(EncodingType::Url);
        let request = if place.prefix.is_empty() { request } else { request.prefix(&place.prefix) };
        let request = match (&self.token, &self.after) {
            (Some(token), _) => request.continuation_token(token),
            (None, Some(after)) => request.start_after(format!("{}{}", place.prefix, after.as_str())),
            (None, None) => request,
        };
        let answer = request.send().await;
        answer.map_err(|error| self.inner.meant(OP, self.space.to_string(), During::Reach, Trouble::of(error)))
    }

    /// One entry; the space's own mark is none.
    fn entry(&mut self, place: &Place, object: &Object, encoded: bool) -> Result<Option<Listed>, StoreError> {
        let Some(key) = object.key() else { return Err(self.wrong("an entry without a key")) };
        let key = if encoded { decoded(key).map_err(NotUtf8::into_bytes) } else { Ok(key.to_owned()) };
        let bytes = key.as_ref().map_or_else(Vec::as_slice, |text| text.as_bytes());
        if self.last.as_deref().is_some_and(|last| last >= bytes) {
            return Err(self.wrong(format!("`{}` stands out of order", fit(&String::from_utf8_lossy(bytes)))));
        }
        let Some(rest) = bytes.strip_prefix(place.prefix.as_bytes()) else {
            return Err(self.wrong("a key that does not begin as asked for"));
        };
        // Asked for what lies behind; a server that begins too early would have items looked at twice.
        let early = self.after.as_ref().is_some_and(|after| rest <= after.as_str().as_bytes());
        if early && !rest.is_empty() {
            return Err(self.wrong("a key that does not lie behind the one given"));
        }
        let (empty, rest) = (rest.is_empty(), String::from_utf8_lossy(rest).into_owned());
        let utf8 = key.is_ok();
        self.last = Some(bytes.to_vec());
        if empty {
            return Ok(None);
        }
        let refused = |reason| Ok(Some(Listed::Refused { shown: fit(&rest), reason }));
        if !utf8 {
            return refused(Refusal::NotUtf8);
        }
        if self.last.as_deref().is_some_and(|key| String::from_utf8_lossy(key).trim().is_empty()) {
            return refused(blanks_alone());
        }
        match ContentId::new(rest.as_str()) {
            Ok(id) => Ok(Some(Listed::Item(id, self.facts(object)?))),
            Err(_) => refused(Refusal::TooLong),
        }
    }

    fn facts(&self, object: &Object) -> Result<ItemFacts, StoreError> {
        let size = object.size().and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| self.wrong("an entry without a size"))?;
        let etag = object.e_tag().unwrap_or_default();
        let state = State { etag, size, modified: object.last_modified() };
        let sleeping =
            matches!(object.storage_class(), Some(ObjectStorageClass::Glacier | ObjectStorageClass::DeepArchive));
        Ok(ItemFacts {
            size,
            modified: state.modified_at(),
            version: self.inner.version(state),
            // A listing does not say whether the entity tag is that of encrypted bytes.
            checksums: Vec::new(),
            properties: None,
            state: if sleeping { ItemState::Archived } else { ItemState::Online },
        })
    }

    fn wrong(&self, why: impl Into<mill_ports::BoxError>) -> StoreError {
        StoreError { source: Some(why.into()), ..self.inner.of_space(OP, &self.space, StoreErrorKind::Unexpected) }
    }
}

/// Bytes that are no text.
#[derive(Debug)]
pub(super) struct NotUtf8(Vec<u8>);

impl NotUtf8 {
    fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A key as a listing encodes it: `%` and two digits for a byte, and `+` for a blank.
pub(super) fn decoded(text: &str) -> Result<String, NotUtf8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let rest = bytes.as_slice_hex();
        match (byte, rest) {
            (b'%', Some(value)) => {
                out.push(value);
                _ = bytes.nth(1);
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).map_err(|wrong| NotUtf8(wrong.into_bytes()))
}

/// The next two bytes as one written in hexadecimal.
trait Hex {
    fn as_slice_hex(&self) -> Option<u8>;
}

impl Hex for std::str::Bytes<'_> {
    fn as_slice_hex(&self) -> Option<u8> {
        let mut ahead = self.clone();
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(ahead.next())?, digit(ahead.next())?);
        u8::try_from(high * 16 + low).ok()
    }
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
            assert_eq!(decoded(text).unwrap(), key, "{text}");
        }
        assert!(decoded("%ff").is_err());
    }
}
