//! Parses a response to ListObjectsV2, completely or not at all.
//!
//! It replaces the SDK's parser, which is several times slower and accepts truncated responses. A duplicate member is an
//! error; an unknown one is ignored. Source: Amazon S3 API reference, *ListObjectsV2*.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

use super::xml_check::MalformedResponse;

/// Most levels of nesting: more than any listing has.
const DEPTH_MAX: usize = 16;

/// The members of a response; `None` for a missing one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ListObjectsResponse {
    pub(crate) bucket: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) delimiter: Option<String>,
    pub(crate) start_after: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) next_token: Option<String>,
    pub(crate) truncated: Option<bool>,
    pub(crate) count: Option<i64>,
    pub(crate) encoding: Option<String>,
    pub(crate) objects: Vec<ListedObject>,
    /// The common prefixes: what is rolled up at the delimiter.
    pub(crate) common_prefixes: Vec<String>,
}

/// One object of the listing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ListedObject {
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) modified: DateTime,
    pub(crate) storage_class: Option<String>,
}

/// Parses a response.
///
/// # Errors
/// The response is truncated, has a member twice, or lacks a member that every object has.
pub(crate) fn read(answer: &[u8]) -> Result<ListObjectsResponse, MalformedResponse> {
    let text = std::str::from_utf8(answer).map_err(|_| form_error("its text is not UTF-8"))?;
    let mut reader = Reader::from_str(text);
    let mut state = ListingParser::default();
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => {
                attributes(&element)?;
                state.start(element.local_name().into_inner())?;
            }
            Ok(Event::Empty(element)) => {
                attributes(&element)?;
                state.start(element.local_name().into_inner())?;
                state.end()?;
            }
            // The reader has verified that this closes the open element.
            Ok(Event::End(_)) => state.end()?,
            Ok(Event::Text(part)) => state.text(&part)?,
            Ok(Event::CData(part)) => state.text(&part)?,
            Ok(Event::GeneralRef(reference)) => {
                let character = reference.resolve_char_ref().map_err(|_| form_error("a reference to no character"))?;
                let named = || std::str::from_utf8(&reference).ok().and_then(resolve_xml_entity);
                match character {
                    Some(character) => state.text(character.encode_utf8(&mut [0; 4]).as_bytes())?,
                    None => state.text(named().ok_or_else(|| form_error("a reference that no XML has"))?.as_bytes())?,
                }
            }
            Ok(Event::Comment(_) | Event::PI(_)) => {}
            Ok(Event::Decl(_)) if state.depth == 0 && !state.over => {}
            Ok(Event::Decl(_)) => return Err(form_error("an XML declaration in its midst")),
            Ok(Event::DocType(_)) => return Err(form_error("a document type declaration")),
            Ok(Event::Eof) => return state.finish(),
            Err(error) if state.depth > 0 => {
                return Err(MalformedResponse::Form(format!("{error}, in the midst of it")));
            }
            Err(error) => return Err(MalformedResponse::Form(error.to_string())),
        }
    }
}

fn form_error(why: &str) -> MalformedResponse {
    MalformedResponse::Form(why.to_owned())
}

fn attributes(element: &quick_xml::events::BytesStart<'_>) -> Result<(), MalformedResponse> {
    // Objects have no attributes, and most elements belong to objects.
    if element.attributes_raw().is_empty() || element.attributes().all(|attribute| attribute.is_ok()) {
        return Ok(());
    }
    Err(form_error("an attribute of no form"))
}

/// The members of a listing and of its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Element {
    #[default]
    Unknown,
    Bucket,
    Prefix,
    Delimiter,
    StartAfter,
    Token,
    NextToken,
    Truncated,
    Count,
    Encoding,
    Contents,
    CommonPrefixes,
    Key,
    Size,
    Etag,
    Modified,
    StorageClass,
}

impl Element {
    fn of_listing(name: &[u8]) -> Self {
        match name {
            b"Contents" => Self::Contents,
            b"CommonPrefixes" => Self::CommonPrefixes,
            b"IsTruncated" => Self::Truncated,
            b"NextContinuationToken" => Self::NextToken,
            b"ContinuationToken" => Self::Token,
            b"KeyCount" => Self::Count,
            b"EncodingType" => Self::Encoding,
            b"Name" => Self::Bucket,
            b"Prefix" => Self::Prefix,
            b"Delimiter" => Self::Delimiter,
            b"StartAfter" => Self::StartAfter,
            _ => Self::Unknown,
        }
    }

    fn of_entry(name: &[u8]) -> Self {
        match name {
            b"Key" => Self::Key,
            b"LastModified" => Self::Modified,
            b"ETag" => Self::Etag,
            b"Size" => Self::Size,
            b"StorageClass" => Self::StorageClass,
            _ => Self::Unknown,
        }
    }

    /// The bit that marks a member as seen; 0 for a repeatable member.
    fn bit(self) -> u32 {
        match self {
            Self::Unknown | Self::Contents | Self::CommonPrefixes => 0,
            field => 1 << field as u32,
        }
    }
}

/// The part of a response that was read so far.
#[derive(Debug, Default)]
struct ListingParser {
    listing: ListObjectsResponse,
    depth: usize,
    over: bool,
    /// The open member of the listing, and the open member inside it.
    outer: Element,
    inner: Element,
    /// The members seen so far: of the listing, and of the open object.
    seen: u32,
    seen_in_entry: u32,
    /// The text of the innermost element, as long as that holds no elements.
    text: String,
    has_text: bool,
    is_leaf: bool,
    entry: ObjectFields,
}

#[derive(Debug, Default)]
struct ObjectFields {
    key: Option<String>,
    size: Option<u64>,
    etag: Option<String>,
    modified: Option<DateTime>,
    storage_class: Option<String>,
}

impl ListingParser {
    fn start(&mut self, name: &[u8]) -> Result<(), MalformedResponse> {
        if self.has_text {
            return Err(form_error("an element in the midst of a text"));
        }
        if self.over || self.depth >= DEPTH_MAX {
            return Err(form_error("more than one document, or elements nested too deep"));
        }
        match self.depth {
            0 if name != b"ListBucketResult" => {
                return Err(MalformedResponse::OtherRoot(String::from_utf8_lossy(name).into_owned()));
            }
            1 => {
                self.outer = Element::of_listing(name);
                Self::note_once(&mut self.seen, self.outer, name)?;
            }
            2 => {
                self.inner = match self.outer {
                    Element::Contents => Element::of_entry(name),
                    Element::CommonPrefixes if name == b"Prefix" => Element::Prefix,
                    _ => Element::Unknown,
                };
                Self::note_once(&mut self.seen_in_entry, self.inner, name)?;
            }
            _ => {}
        }
        self.depth += 1;
        self.is_leaf = true;
        self.text.clear();
        Ok(())
    }

    fn note_once(seen: &mut u32, field: Element, name: &[u8]) -> Result<(), MalformedResponse> {
        if *seen & field.bit() != 0 {
            return Err(MalformedResponse::Doubled(String::from_utf8_lossy(name).into_owned()));
        }
        *seen |= field.bit();
        Ok(())
    }

    fn text(&mut self, part: &[u8]) -> Result<(), MalformedResponse> {
        let blank = part.iter().all(u8::is_ascii_whitespace);
        if self.is_leaf {
            self.has_text |= !blank;
            self.text.push_str(std::str::from_utf8(part).map_err(|_| form_error("its text is not UTF-8"))?);
            return Ok(());
        }
        if blank { Ok(()) } else { Err(form_error("a text in the midst of elements, or beside the document")) }
    }

    fn end(&mut self) -> Result<(), MalformedResponse> {
        let leaf = std::mem::take(&mut self.is_leaf);
        self.has_text = false;
        let text = if leaf { self.text.as_str() } else { "" };
        match (self.depth, self.outer) {
            (3, Element::Contents) => self.entry.take(self.inner, leaf, text)?,
            (3, Element::CommonPrefixes) if self.inner == Element::Prefix && leaf => {
                self.listing.common_prefixes.push(text.to_owned());
            }
            (2, Element::Contents) => {
                self.seen_in_entry = 0;
                self.listing.objects.push(std::mem::take(&mut self.entry).into_object()?);
            }
            (2, Element::CommonPrefixes) if self.seen_in_entry == 0 => {
                return Err(form_error("a folder without a name"));
            }
            (2, Element::CommonPrefixes) => self.seen_in_entry = 0,
            (2, field) => self.listing.take(field, leaf, text)?,
            (1, _) => self.over = true,
            _ => {}
        }
        self.depth -= 1;
        Ok(())
    }

    fn finish(self) -> Result<ListObjectsResponse, MalformedResponse> {
        match (self.over, self.depth) {
            (true, _) => Ok(self.listing),
            (false, 0) => Err(MalformedResponse::Empty),
            (false, _) => Err(MalformedResponse::Cut("ListBucketResult".to_owned())),
        }
    }
}

impl ListObjectsResponse {
    fn take(&mut self, field: Element, leaf: bool, text: &str) -> Result<(), MalformedResponse> {
        if !leaf && field != Element::Unknown {
            return Err(form_error("elements where a text was due"));
        }
        let some_text = || Some(text.to_owned());
        match field {
            Element::Bucket => self.bucket = some_text(),
            Element::Prefix => self.prefix = some_text(),
            Element::Delimiter => self.delimiter = some_text(),
            Element::StartAfter => self.start_after = some_text(),
            Element::Token => self.token = some_text(),
            Element::NextToken => self.next_token = some_text(),
            Element::Encoding => self.encoding = some_text(),
            Element::Truncated => {
                self.truncated = match text.trim() {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => return Err(form_error("`IsTruncated` is neither true nor false")),
                }
            }
            Element::Count => {
                self.count = Some(text.trim().parse().map_err(|_| form_error("`KeyCount` is no number"))?);
            }
            _ => {}
        }
        Ok(())
    }
}

impl ObjectFields {
    fn take(&mut self, field: Element, leaf: bool, text: &str) -> Result<(), MalformedResponse> {
        if !leaf && field != Element::Unknown {
            return Err(form_error("elements where a text was due"));
        }
        match field {
            Element::Key => self.key = Some(text.to_owned()),
            Element::Size => self.size = Some(text.trim().parse().map_err(|_| form_error("a size that is no number"))?),
            Element::Etag => self.etag = Some(text.to_owned()),
            Element::StorageClass => self.storage_class = Some(text.to_owned()),
            Element::Modified => {
                let time = DateTime::from_str(text.trim(), Format::DateTimeWithOffset);
                self.modified = Some(time.map_err(|_| form_error("a time of change that is no time"))?);
            }
            _ => {}
        }
        Ok(())
    }

    fn into_object(self) -> Result<ListedObject, MalformedResponse> {
        let Self { key, size, etag, modified, storage_class } = self;
        let key = key.filter(|key| !key.is_empty()).ok_or_else(|| form_error("an entry without a key"))?;
        let lacks = |what: &str| MalformedResponse::Form(format!("entry `{}` has no {what}", key.escape_debug()));
        let size = size.ok_or_else(|| lacks("size"))?;
        // Some servers list without entity tags. Such a version proves nothing, so the caller requests the object's headers.
        let etag = etag.unwrap_or_default();
        let modified = modified.ok_or_else(|| lacks("time of change"))?;
        Ok(ListedObject { key, size, etag, modified, storage_class })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix>p/</Prefix>\
        <StartAfter>p/0</StartAfter><ContinuationToken>t</ContinuationToken><KeyCount>3</KeyCount><MaxKeys>3</MaxKeys>\
        <Delimiter>/</Delimiter><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
        <NextContinuationToken>u&amp;v</NextContinuationToken><Contents><Key>p/a&#38;&lt;</Key>\
        <LastModified>2026-11-21T07:28:00.500Z</LastModified><ETag>&quot;e&quot;</ETag>\
        <ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumAlgorithm>SHA1</ChecksumAlgorithm><Size>5368709120</Size>\
        <Owner><ID>i</ID><Key>of another</Key></Owner><StorageClass>GLACIER</StorageClass></Contents>\
        <Contents><Key>p/b</Key><LastModified>2026-11-21T07:28:00Z</LastModified><ETag>f</ETag><Size>0</Size></Contents>\
        <CommonPrefixes><Prefix>p/c/</Prefix></CommonPrefixes></ListBucketResult>\n";

    #[test]
    fn all_of_an_answer_is_read() {
        let text = |text: &str| Some(text.to_owned());
        let object = |key: &str, size, etag: &str, class| ListedObject {
            key: key.to_owned(),
            size,
            etag: etag.to_owned(),
            modified: DateTime::from_secs(1_795_246_080),
            storage_class: class,
        };
        let mut listing = read(WHOLE.as_bytes()).unwrap();
        assert_eq!(listing.objects[0].modified.subsec_nanos(), 500_000_000);
        listing.objects[0].modified = DateTime::from_secs(1_795_246_080);
        let expected = ListObjectsResponse {
            bucket: text("b"),
            prefix: text("p/"),
            delimiter: text("/"),
            start_after: text("p/0"),
            token: text("t"),
            next_token: text("u&v"),
            truncated: Some(true),
            count: Some(3),
            encoding: text("url"),
            objects: vec![object("p/a&<", 5_368_709_120, "\"e\"", text("GLACIER")), object("p/b", 0, "f", None)],
            common_prefixes: vec!["p/c/".to_owned()],
        };
        assert_eq!(listing, expected);
        assert_eq!(read(b"<ListBucketResult/>").unwrap(), ListObjectsResponse::default());
    }

    #[test]
    fn an_answer_cut_at_any_byte_is_an_error() {
        let end = WHOLE.trim_end().len();
        for cut in 0..end {
            assert!(read(&WHOLE.as_bytes()[..cut]).is_err(), "cut at {cut}: {}", &WHOLE[..cut]);
        }
        assert!(read(&WHOLE.as_bytes()[..end]).is_ok());
    }

    /// Each element is left out, doubled, and left open.
    #[test]
    fn a_missing_doubled_or_open_element_is_noticed_or_harmless() {
        let whole = read(WHOLE.as_bytes()).unwrap();
        let may_be_missing =
            ["ChecksumAlgorithm", "Owner", "ID", "MaxKeys", "StorageClass", "CommonPrefixes", "Contents"];
        for name in [
            "Name",
            "StartAfter",
            "ContinuationToken",
            "KeyCount",
            "MaxKeys",
            "Delimiter",
            "EncodingType",
            "IsTruncated",
            "NextContinuationToken",
            "LastModified",
            "ETag",
            "ChecksumAlgorithm",
            "Size",
            "Owner",
            "ID",
            "StorageClass",
            "Contents",
            "CommonPrefixes",
        ] {
            let (open, close) = (format!("<{name}>"), format!("</{name}>"));
            let (from, to) = (WHOLE.find(&open).unwrap(), WHOLE.find(&close).unwrap() + close.len());
            let (before, element, behind) = (&WHOLE[..from], &WHOLE[from..to], &WHOLE[to..]);
            let missing = read(format!("{before}{behind}").as_bytes());
            assert!(
                missing.as_ref().is_ok_and(|found| *found != whole)
                    || missing.is_err()
                    || may_be_missing.contains(&name),
                "{name}"
            );
            let doubled = read(format!("{before}{element}{element}{behind}").as_bytes());
            let unknown = ["ChecksumAlgorithm", "Owner", "ID", "MaxKeys"].contains(&name);
            let listed = doubled.as_ref().is_ok_and(|found| found.objects.len() + found.common_prefixes.len() == 4);
            assert!(doubled.is_err() || (unknown && doubled == Ok(whole.clone())) || listed, "{name}: {doubled:?}");
            assert!(read(format!("{before}{}{behind}", element.replace(&close, "")).as_bytes()).is_err(), "{name}");
            assert!(read(format!("{before}{}{behind}", element.replace(&open, "")).as_bytes()).is_err(), "{name}");
        }
    }
}
