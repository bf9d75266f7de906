//! Answers: complete documents, or errors. The SDK itself believes XML that was cut, and takes no JSON for an empty object.

mod listing_parser;
mod xml_check;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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

pub(crate) use self::listing_parser::{ListObjectsResponse, ListedObject};
pub(crate) use self::xml_check::MalformedResponse;
use crate::wrong_address::{is_page, wants_tls};

/// Most bytes of an answer in XML: ten times the longest listing of a thousand keys.
const BYTES_MAX: usize = 64 << 20;

/// Holds back the body of each answer until it is known to be complete.
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
            // Without a body, with one whose length and checksum are compared while it is read, and with one that has a
            // reader of its own.
            ("S3", "HeadObject" | "HeadBucket", _) | ("S3", "GetObject" | LISTING, true) => return Ok(()),
            ("S3", _, false) => ExpectedBody::Error,
            ("S3", operation, true) => ExpectedBody::of(operation),
            _ => return Ok(()),
        };
        hold_back(response, expected);
        Ok(())
    }
}

const LISTING: &str = "ListObjectsV2";

/// Reads the listing that answers one request, in place of the SDK.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListingReader(Arc<Mutex<Option<ListObjectsResponse>>>);

impl ListingReader {
    /// What was read; `None` if no listing came.
    pub(crate) fn take(&self) -> Option<ListObjectsResponse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
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
            hold_back(response, ExpectedBody::Listing(self.clone()));
        }
        Ok(())
    }
}

fn hold_back(response: &mut HttpResponse, expected: ExpectedBody) {
    let body = std::mem::replace(response.body_mut(), SdkBody::taken());
    let held = BufferedBody { body, parts: Vec::new(), bytes: 0, expected: Some(expected) };
    *response.body_mut() = SdkBody::from_body_1_x(held);
}

/// What the body of an answer must be.
#[derive(Debug, Clone)]
enum ExpectedBody {
    /// A listing, which is read here; the SDK is given an empty one. Or an error.
    Listing(ListingReader),
    /// A document with this root, or an error.
    Root(&'static str),
    /// Nothing, or some document.
    Nothing,
    /// An object, which the SDK reads whole or not at all. Nothing at all it would take for an empty one.
    Json,
    /// An error. What is none is left out, so that the status alone tells: a page of whatever stands before the service
    /// must not pass for the service's own words. Of a page it is passed on that it is one.
    Error,
}

/// What stands for any page.
const A_PAGE: &[u8] = b"<html/>";

impl ExpectedBody {
    /// What a successful answer of an operation is. Source: Amazon S3 API reference.
    fn of(operation: &str) -> Self {
        match operation {
            "ListBuckets" => Self::Root("ListAllMyBucketsResult"),
            "CreateMultipartUpload" => Self::Root("InitiateMultipartUploadResult"),
            "CompleteMultipartUpload" => Self::Root("CompleteMultipartUploadResult"),
            "CopyObject" => Self::Root("CopyObjectResult"),
            "UploadPartCopy" => Self::Root("CopyPartResult"),
            _ => Self::Nothing,
        }
    }

    /// What of a body that came whole is passed on.
    fn judge(&self, body: Bytes) -> Result<Bytes, MalformedResponse> {
        let body = if let Self::Root(_) | Self::Error = self { with_characters_of_xml(body) } else { body };
        match self {
            Self::Listing(reader) => match listing_parser::read(&body) {
                Ok(listing) => {
                    *reader.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(listing);
                    Ok(Bytes::from_static(b"<ListBucketResult/>"))
                }
                Err(MalformedResponse::OtherRoot(_)) => Self::Root("ListBucketResult").judge(body),
                Err(_) if is_page(&body) => Err(MalformedResponse::HtmlPage),
                Err(why) => Err(why),
            },
            Self::Root(_) | Self::Nothing if is_page(&body) => Err(MalformedResponse::HtmlPage),
            Self::Json if body.trim_ascii().is_empty() => Err(MalformedResponse::Empty),
            Self::Json => Ok(body),
            Self::Root(expected) => match xml_check::root(&body)? {
                root if root == *expected || root == "Error" => Ok(body),
                other => Err(MalformedResponse::OtherRoot(other.to_owned())),
            },
            Self::Nothing => match xml_check::root(&body) {
                Err(MalformedResponse::Empty) => Ok(Bytes::new()),
                root => root.map(|_| ()).map(|()| body.clone()),
            },
            Self::Error if xml_check::root(&body) == Ok("Error") => Ok(body),
            Self::Error if wants_tls(&body) => Ok(body),
            Self::Error if is_page(&body) => Ok(Bytes::from_static(A_PAGE)),
            Self::Error => Ok(Bytes::new()),
        }
    }
}

/// A document without the characters that no XML may hold. Servers were seen that repeat a key as it is, and nothing is taken
/// from such an answer by its key.
fn with_characters_of_xml(body: Bytes) -> Bytes {
    match std::str::from_utf8(&body) {
        Ok(text) if !text.chars().all(is_of_xml) => text
            .chars()
            .map(|character| if is_of_xml(character) { character } else { char::REPLACEMENT_CHARACTER })
            .collect::<String>()
            .into(),
        _ => body,
    }
}

/// Whether XML may hold a character. Source: *Extensible Markup Language (XML) 1.0*, production 2.
pub(crate) fn is_of_xml(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r') || (character >= ' ' && !matches!(character, '\u{FFFE}' | '\u{FFFF}'))
}

/// A body that is given on only once all of it came, in one piece.
struct BufferedBody {
    body: SdkBody,
    parts: Vec<Bytes>,
    bytes: usize,
    /// `None` once it was given on.
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
        let held = &mut *self;
        loop {
            let frame = match ready!(Pin::new(&mut held.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => break,
            };
            // Trailers say nothing of a document.
            let Ok(part) = frame.into_data() else { continue };
            held.bytes = held.bytes.saturating_add(part.len());
            if held.bytes > BYTES_MAX {
                return Poll::Ready(Some(Err("the answer is longer than any answer of S3".into())));
            }
            held.parts.push(part);
        }
        let Some(expected) = held.expected.take() else { return Poll::Ready(None) };
        let whole = held.whole();
        Poll::Ready(match expected.judge(whole) {
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

    /// An answer to each operation that is answered with a document.
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

    fn judged(expected: &ExpectedBody, body: &str) -> Result<Bytes, MalformedResponse> {
        expected.judge(Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn an_answer_cut_at_any_byte_is_an_error() {
        for (operation, answer) in ANSWERS {
            let expected = ExpectedBody::of(operation);
            assert_eq!(judged(&expected, answer), Ok(Bytes::from_static(answer.as_bytes())), "{operation}");
            for cut in 0..answer.len() {
                assert!(judged(&expected, &answer[..cut]).is_err(), "{operation}, cut at {cut}");
            }
        }
    }

    #[test]
    fn an_answer_to_something_else_is_an_error() {
        for (operation, _) in ANSWERS {
            let expected = ExpectedBody::of(operation);
            for (other, answer) in ANSWERS {
                assert_eq!(judged(&expected, answer).is_ok(), other == operation, "{operation} {other}");
            }
            for page in ["<html><body>welcome</body></html>", "{}", "OK", " "] {
                assert!(judged(&expected, page).is_err(), "{operation}: {page}");
            }
            // What went wrong after the answer had begun is said in it; the SDK reads it.
            assert_eq!(judged(&expected, ERROR), Ok(Bytes::from_static(ERROR.as_bytes())), "{operation}");
        }
        assert_eq!(judged(&ExpectedBody::of("DeleteObject"), ""), Ok(Bytes::new()));
        assert!(judged(&ExpectedBody::of("DeleteObject"), "<html><p>welcome").is_err());
    }

    #[test]
    fn a_key_that_no_xml_may_hold_hides_no_answer() {
        let error = ERROR.replace("It is", "`a\u{FFFF}\u{1}b` is");
        let expected = ERROR.replace("It is", "`a\u{FFFD}\u{FFFD}b` is");
        assert_eq!(judged(&ExpectedBody::Error, &error), Ok(Bytes::from(expected)));
        let (_, begun) = ANSWERS[1];
        let begun = begun.replace("<UploadId>", "<Key>a\u{FFFF}</Key><UploadId>");
        assert!(judged(&ExpectedBody::of("CreateMultipartUpload"), &begun).is_ok());
    }

    #[test]
    fn an_error_says_only_what_it_says_whole() {
        assert_eq!(judged(&ExpectedBody::Error, ERROR), Ok(Bytes::from_static(ERROR.as_bytes())));
        for cut in 0..ERROR.len() {
            assert_eq!(judged(&ExpectedBody::Error, &ERROR[..cut]), Ok(Bytes::new()), "cut at {cut}");
        }
        for page in ["NoSuchKey", "{\"Code\":\"NoSuchKey\"}"] {
            assert_eq!(judged(&ExpectedBody::Error, page), Ok(Bytes::new()), "{page}");
        }
        for page in ["<html><h1>404 Not Found</h1></html>", "<!DOCTYPE html>\n<Error><Code>NoSuchKey</Code></Error>"] {
            assert_eq!(judged(&ExpectedBody::Error, page), Ok(Bytes::from_static(A_PAGE)), "{page}");
        }
    }
}
