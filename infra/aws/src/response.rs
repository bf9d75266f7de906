//! Responses must be complete documents, or they are errors. The SDK itself accepts truncated XML, and an empty body as an
//! empty JSON object.

mod listing_parser;
mod xml_check;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use parking_lot::Mutex;

pub(crate) use self::listing_parser::{ListObjectsResponse, ListedObject};
pub(crate) use self::xml_check::MalformedResponse;
use crate::wrong_address::{asks_for_tls, is_html_page};

/// Most bytes of an XML response: ten times the longest listing of a thousand keys.
const BYTES_MAX: usize = 64 << 20;

/// An interceptor that buffers the body of each response until it is known to be complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CompleteResponses;

#[dyn_dispatch_hint]
impl Intercept for CompleteResponses {
    fn name(&self) -> &'static str {
        "mill-complete-answers"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (service, operation) = config.load::<Metadata>().map_or(("", ""), |call| (call.service(), call.name()));
        let response = context.response_mut();
        let expected = match (service, operation, response.status().is_success()) {
            ("DynamoDB", _, true) => ExpectedBody::Json,
            // No body; a body whose length and checksum are verified while it is read; a body with its own parser.
            ("S3", "HeadObject" | "HeadBucket", _) | ("S3", "GetObject" | LISTING, true) => return Ok(()),
            ("S3", _, false) => ExpectedBody::Error,
            ("S3", operation, true) => ExpectedBody::of(operation),
            _ => return Ok(()),
        };
        buffer_until_complete(response, expected);
        Ok(())
    }
}

const LISTING: &str = "ListObjectsV2";

/// An interceptor that parses the listing of one response, in place of the SDK.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListingReader(Arc<Mutex<Option<ListObjectsResponse>>>);

impl ListingReader {
    /// The parsed listing; `None` if none came.
    pub(crate) fn take(&self) -> Option<ListObjectsResponse> {
        self.0.lock().take()
    }
}

#[dyn_dispatch_hint]
impl Intercept for ListingReader {
    fn name(&self) -> &'static str {
        "mill-listing-reader"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            buffer_until_complete(response, ExpectedBody::Listing(self.clone()));
        }
        Ok(())
    }
}

fn buffer_until_complete(response: &mut HttpResponse, expected: ExpectedBody) {
    let body = std::mem::replace(response.body_mut(), SdkBody::taken());
    let buffered = BufferedBody { body, parts: Vec::new(), bytes: 0, expected: Some(expected) };
    *response.body_mut() = SdkBody::from_body_1_x(buffered);
}

/// What the body of a response must be.
#[derive(Debug, Clone)]
enum ExpectedBody {
    /// A listing, or an error. The listing is parsed here, and the SDK receives an empty one.
    Listing(ListingReader),
    /// A document with this root, or an error.
    Root(&'static str),
    /// Empty, or any document.
    Nothing,
    /// A JSON object. The SDK rejects a truncated one, but accepts an empty body as an empty object.
    Json,
    /// An error document. Any other body is dropped, so that only the status counts: a page of a proxy must not pass for an
    /// error of the service. An HTML page is replaced by a placeholder.
    Error,
}

/// The placeholder for any HTML page.
const AN_HTML_PAGE: &[u8] = b"<html/>";

impl ExpectedBody {
    /// The body of a successful response to an operation. Source: Amazon S3 API reference.
    fn of(operation: &str) -> Self {
        match operation {
            "ListBuckets" => Self::Root("ListAllMyBucketsResult"),
            "CreateMultipartUpload" => Self::Root("InitiateMultipartUploadResult"),
            "CompleteMultipartUpload" => Self::Root("CompleteMultipartUploadResult"),
            "CopyObject" => Self::Root("CopyObjectResult"),
            "GetObjectTagging" => Self::Root("Tagging"),
            "UploadPartCopy" => Self::Root("CopyPartResult"),
            _ => Self::Nothing,
        }
    }

    /// Checks a complete body, and returns what the SDK receives.
    fn check(&self, body: Bytes) -> Result<Bytes, MalformedResponse> {
        let body = if let Self::Root(_) | Self::Error = self { replace_non_xml_characters(body) } else { body };
        match self {
            Self::Listing(reader) => match listing_parser::read(&body) {
                Ok(listing) => {
                    *reader.0.lock() = Some(listing);
                    Ok(Bytes::from_static(b"<ListBucketResult/>"))
                }
                Err(MalformedResponse::OtherRoot(_)) => Self::Root("ListBucketResult").check(body),
                Err(_) if is_html_page(&body) => Err(MalformedResponse::HtmlPage),
                Err(why) => Err(why),
            },
            Self::Root(_) | Self::Nothing if is_html_page(&body) => Err(MalformedResponse::HtmlPage),
            Self::Json if body.trim_ascii().is_empty() => Err(MalformedResponse::Empty),
            Self::Json => Ok(body),
            Self::Root(expected) => match xml_check::root_element(&body)? {
                root if root == *expected || root == "Error" => Ok(body),
                other => Err(MalformedResponse::OtherRoot(other.to_owned())),
            },
            Self::Nothing => match xml_check::root_element(&body) {
                Err(MalformedResponse::Empty) => Ok(Bytes::new()),
                root => root.map(|_| ()).map(|()| body.clone()),
            },
            Self::Error if xml_check::root_element(&body) == Ok("Error") => Ok(body),
            Self::Error if asks_for_tls(&body) => Ok(body),
            Self::Error if is_html_page(&body) => Ok(Bytes::from_static(AN_HTML_PAGE)),
            Self::Error => Ok(Bytes::new()),
        }
    }
}

/// Replaces the characters that XML forbids. Some servers repeat a key unescaped, and nothing is read from such a response
/// by its key.
fn replace_non_xml_characters(body: Bytes) -> Bytes {
    match std::str::from_utf8(&body) {
        Ok(text) if !text.chars().all(is_xml_character) => text
            .chars()
            .map(|character| if is_xml_character(character) { character } else { char::REPLACEMENT_CHARACTER })
            .collect::<String>()
            .into(),
        _ => body,
    }
}

/// Whether XML allows a character. Source: *Extensible Markup Language (XML) 1.0*, production 2.
pub(crate) fn is_xml_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r') || (character >= ' ' && !matches!(character, '\u{FFFE}' | '\u{FFFF}'))
}

/// A body that is passed on only once it is complete, in one piece.
struct BufferedBody {
    body: SdkBody,
    parts: Vec<Bytes>,
    bytes: usize,
    /// `None` once the body was passed on.
    expected: Option<ExpectedBody>,
}

impl BufferedBody {
    fn whole(&mut self) -> Bytes {
        if self.parts.len() == 1 {
            return self.parts.remove(0);
        }
        let mut whole = BytesMut::with_capacity(self.bytes);
        for part in self.parts.drain(..) {
            whole.extend_from_slice(&part);
        }
        whole.freeze()
    }
}

impl Body for BufferedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let buffered = &mut *self;
        loop {
            let frame = match ready!(Pin::new(&mut buffered.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => break,
            };
            // Trailers are not part of the document.
            let Ok(part) = frame.into_data() else { continue };
            buffered.bytes = buffered.bytes.saturating_add(part.len());
            if buffered.bytes > BYTES_MAX {
                return Poll::Ready(Some(Err("the answer is longer than any answer of S3".into())));
            }
            buffered.parts.push(part);
        }
        let Some(expected) = buffered.expected.take() else { return Poll::Ready(None) };
        let whole = buffered.whole();
        Poll::Ready(match expected.check(whole) {
            Ok(body) if body.is_empty() => None,
            Ok(body) => Some(Ok(Frame::data(body))),
            Err(why) => Some(Err(why.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: &str = "<Error><Code>NoSuchKey</Code><Message>It is not there.</Message></Error>";

    /// A response to each operation that returns a document.
    const ANSWERS: [(&str, &str); 5] = [
        (
            "ListBuckets",
            "<ListAllMyBucketsResult><Owner><ID>i</ID></Owner><Buckets><Bucket><Name>a</Name></Bucket>\
             <Bucket><Name>b</Name></Bucket></Buckets></ListAllMyBucketsResult>",
        ),
        (
            "CreateMultipartUpload",
            "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>",
        ),
        (
            "CompleteMultipartUpload",
            "<?xml version=\"1.0\"?>\n   \n  <CompleteMultipartUploadResult><ETag>&quot;e-2&quot;</ETag>\
             </CompleteMultipartUploadResult>",
        ),
        ("CopyObject", "<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>"),
        ("UploadPartCopy", "<CopyPartResult><ETag>\"e\"</ETag></CopyPartResult>"),
    ];

    fn checked(expected: &ExpectedBody, body: &str) -> Result<Bytes, MalformedResponse> {
        expected.check(Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn an_answer_cut_at_any_byte_is_an_error() {
        for (operation, answer) in ANSWERS {
            let expected = ExpectedBody::of(operation);
            assert_eq!(checked(&expected, answer), Ok(Bytes::from_static(answer.as_bytes())), "{operation}");
            for cut in 0..answer.len() {
                assert!(checked(&expected, &answer[..cut]).is_err(), "{operation}, cut at {cut}");
            }
        }
    }

    #[test]
    fn an_answer_to_something_else_is_an_error() {
        for (operation, _) in ANSWERS {
            let expected = ExpectedBody::of(operation);
            for (other, answer) in ANSWERS {
                assert_eq!(checked(&expected, answer).is_ok(), other == operation, "{operation} {other}");
            }
            for page in ["<html><body>welcome</body></html>", "{}", "OK", " "] {
                assert!(checked(&expected, page).is_err(), "{operation}: {page}");
            }
            // A 200 response may contain an error that occurred after it had begun; the SDK reads it.
            assert_eq!(checked(&expected, ERROR), Ok(Bytes::from_static(ERROR.as_bytes())), "{operation}");
        }
        assert_eq!(checked(&ExpectedBody::of("DeleteObject"), ""), Ok(Bytes::new()));
        assert!(checked(&ExpectedBody::of("DeleteObject"), "<html><p>welcome").is_err());
    }

    #[test]
    fn a_key_that_no_xml_may_hold_hides_no_answer() {
        let error = ERROR.replace("It is", "`a\u{FFFF}\u{1}b` is");
        let expected = ERROR.replace("It is", "`a\u{FFFD}\u{FFFD}b` is");
        assert_eq!(checked(&ExpectedBody::Error, &error), Ok(Bytes::from(expected)));
        let (_, begun) = ANSWERS[1];
        let begun = begun.replace("<UploadId>", "<Key>a\u{FFFF}</Key><UploadId>");
        assert!(checked(&ExpectedBody::of("CreateMultipartUpload"), &begun).is_ok());
    }

    #[test]
    fn an_error_says_only_what_it_says_whole() {
        assert_eq!(checked(&ExpectedBody::Error, ERROR), Ok(Bytes::from_static(ERROR.as_bytes())));
        for cut in 0..ERROR.len() {
            assert_eq!(checked(&ExpectedBody::Error, &ERROR[..cut]), Ok(Bytes::new()), "cut at {cut}");
        }
        for page in ["NoSuchKey", "{\"Code\":\"NoSuchKey\"}"] {
            assert_eq!(checked(&ExpectedBody::Error, page), Ok(Bytes::new()), "{page}");
        }
        for page in ["<html><h1>404 Not Found</h1></html>", "<!DOCTYPE html>\n<Error><Code>NoSuchKey</Code></Error>"] {
            assert_eq!(checked(&ExpectedBody::Error, page), Ok(Bytes::from_static(AN_HTML_PAGE)), "{page}");
        }
    }
}
