//! What a failed call means, for every service: the one place that knows the services' error codes.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use mill_model::ids::shorten_for_display;
use mill_ports::error_chain;

use crate::many_headers;
use crate::response::MalformedResponse;
use crate::store::UnreadableHeader;
use crate::wrong_address::{TLS_EXPECTED, asks_for_tls, find_source, is_html_page, wrong_address_reason};

/// A call that failed, without its request and the body of its response.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct CallError {
    pub(crate) cause: CallErrorCause,
    /// The service's error code, if the response has one.
    pub(crate) code: Option<String>,
    /// The HTTP status, if a response came.
    pub(crate) status: Option<u16>,
    /// Whether the response has the request id that the service sets. Proxies and gateways before the service set none.
    pub(crate) has_request_id: bool,
    /// The archive tier that the response names.
    pub(crate) archive_tier: Option<String>,
    text: Box<str>,
}

/// Why a call failed, in the classes that some port distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallErrorCause {
    /// Too many requests, or too much at once.
    Throttled {
        /// The delay that the service asks for.
        retry_after: Option<Duration>,
    },
    /// No credentials, or wrong or expired ones: the response says nothing about the object of the call.
    Credentials,
    /// The credentials are valid, but do not permit the call.
    Denied,
    /// No response came.
    Unreachable,
    /// Nothing at the address can be the service, for this reason: a person must correct it.
    WrongAddress(&'static str),
    /// The service has an internal error.
    ServerError,
    /// The disks of the service are full, or a quota is used up. Waiting does not help.
    StorageFull,
    /// The service does not support this call, or not in this form. A retry does not help.
    Unsupported,
    /// A proxy or the network wants a login before it lets a request through: a person must act.
    LoginRequired(&'static str),
    /// An HTML page came in place of the service's response, or a redirect that is not the service's own.
    HtmlPage,
    /// The object has a header that is no text.
    UnreadableHeader,
    /// Any other response: see its code and status.
    OtherResponse,
    /// What came is not a valid response, or the call could not be made.
    Malformed,
}

const THROTTLED: [&str; 16] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "SlowDown",
    "OverLimit",
    "AWS.SimpleQueueService.OverLimit",
    "KmsThrottled",
    "KMS.ThrottlingException",
];

const CREDENTIALS: [&str; 18] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "MissingSecurityHeader",
    "UnrecognizedClientException",
    "AuthFailure",
    "AuthorizationHeaderMalformed",
    "RequestTimeTooSkewed",
    "NotSignedUp",
];

const DENIED: [&str; 12] = [
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "AllAccessDisabled",
    "AccountProblem",
    "KmsAccessDenied",
    "KMS.AccessDeniedException",
    "OptInRequired",
    "UnauthorizedAccess",
    "KMS.DisabledException",
    "KMS.InvalidStateException",
    "KMS.NotFoundException",
];

const STORAGE_FULL: [&str; 6] = [
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
    "InsufficientStorage",
    "InsufficientStorageSpace",
    "StorageFull",
];

/// Reasons of [`CallErrorCause::LoginRequired`]: a proxy, or a network with a login page.
const PROXY_LOGIN: &str = "the proxy wants a name and a password, or others";
const NETWORK_LOGIN: &str = "the network wants a login, as public ones do by a page in a browser";

/// The SDK's words for a proxy that refuses a tunnel; it does not say with which status. This may pass by itself: proxies
/// answer the same while the service behind them is down.
const NO_TUNNEL: &str = "tunnel error: unsuccessful";

/// The cause of a response. The code decides before the status, which says less.
fn cause_of_response(code: Option<&str>, status: u16, retry_after: Option<Duration>) -> CallErrorCause {
    match (code, status) {
        (Some(code), _) if THROTTLED.contains(&code) => CallErrorCause::Throttled { retry_after },
        (Some(code), _) if CREDENTIALS.contains(&code) => CallErrorCause::Credentials,
        (Some(code), _) if DENIED.contains(&code) => CallErrorCause::Denied,
        (Some(code), _) if STORAGE_FULL.contains(&code) => CallErrorCause::StorageFull,
        (Some("NotImplemented"), _) | (_, 501 | 505) => CallErrorCause::Unsupported,
        // "Service unavailable" without a code is how many a store says "slow down".
        (_, 429) | (None, 503) => CallErrorCause::Throttled { retry_after },
        (Some(_), 503) if retry_after.is_some() => CallErrorCause::Throttled { retry_after },
        (_, 407) => CallErrorCause::LoginRequired(PROXY_LOGIN),
        (_, 511) => CallErrorCause::LoginRequired(NETWORK_LOGIN),
        (_, 507) => CallErrorCause::StorageFull,
        (_, 500..) => CallErrorCause::ServerError,
        (_, 401) => CallErrorCause::Credentials,
        _ => CallErrorCause::OtherResponse,
    }
}

const AN_HTML_PAGE: &str = "an HTML page, and no answer of the service";

/// Describes a response without an error code, by its body and by the headers that describe the body.
fn describe_uncoded_response(answer: &HttpResponse) -> String {
    let header = |name| answer.headers().get(name).unwrap_or_default();
    let sort = header("content-type").split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if has_html_body(answer) || sort == "text/html" {
        return AN_HTML_PAGE.to_owned();
    }
    match (sort.as_str(), header("content-length")) {
        (_, "0") => "an empty answer without a code".to_owned(),
        ("" | "application/xml" | "text/xml", _) => "an answer without a code".to_owned(),
        (sort, _) => format!("an answer of type `{}` without a code", shorten_for_display(sort)),
    }
}

/// The target of a redirect, without parts that may be secret.
fn redirect_target(answer: &HttpResponse) -> Option<String> {
    let to: hyper::Uri = answer.headers().get("location")?.parse().ok()?;
    let (scheme, host) = (to.scheme_str()?, to.host()?);
    let port = to.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{scheme}://{}{port}", shorten_for_display(host)))
}

fn has_html_body(answer: &HttpResponse) -> bool {
    answer.body().bytes().is_some_and(is_html_page)
}

/// Whether a response is a redirect that the service did not send. The service's own redirects name the region of the
/// bucket.
pub(crate) fn is_foreign_redirect(answer: &HttpResponse) -> bool {
    let of_service = request_id(answer).is_some() || answer.headers().get("x-amz-bucket-region").is_some();
    !of_service && [301, 302, 303, 307, 308].contains(&answer.status().as_u16())
}

fn request_id(answer: &HttpResponse) -> Option<&str> {
    ["x-amz-request-id", "x-amzn-requestid"].iter().find_map(|name| answer.headers().get(name))
}

/// The archive tier that a response names for an archived item. The SDK parses it for only some of the calls.
fn archive_tier(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok().filter(|text| text.contains("InvalidObjectState"))?;
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned()).filter(|tier| !tier.is_empty())
    };
    element("AccessTier").or_else(|| element("StorageClass"))
}

/// Why a request could not be signed. The SDK lists every place in which it found no key, or none of its settings.
fn describe_credentials(error: &(dyn Error + 'static)) -> String {
    match find_source::<CredentialsError>(error) {
        Some(CredentialsError::CredentialsNotLoaded(_)) => "there is no access key".to_owned(),
        _ => error_chain(error),
    }
}

impl CallError {
    /// Classifies the error of a call.
    pub(crate) fn from_sdk<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                let (service_error, raw) = (answer.err(), answer.raw());
                let retry_after = raw.headers().get("retry-after").and_then(|after| after.parse().ok());
                let status = raw.status().as_u16();
                let cause = match cause_of_response(service_error.code(), status, retry_after.map(Duration::from_secs))
                {
                    CallErrorCause::OtherResponse if status == 400 && raw.body().bytes().is_some_and(asks_for_tls) => {
                        CallErrorCause::WrongAddress(TLS_EXPECTED)
                    }
                    CallErrorCause::OtherResponse
                        if service_error.code().is_none() && (has_html_body(raw) || is_foreign_redirect(raw)) =>
                    {
                        CallErrorCause::HtmlPage
                    }
                    cause => cause,
                };
                let mut text = service_error.code().map_or_else(|| describe_uncoded_response(raw), str::to_owned);
                match service_error.message() {
                    Some(message) => text.extend([": ", message]),
                    // Why the SDK did not accept it as a response.
                    None if service_error.code().is_none() && status < 300 && !has_html_body(raw) => {
                        text.extend([": ", &error_chain(service_error)]);
                    }
                    None => {}
                }
                text.extend([" (HTTP ", status.to_string().as_str()]);
                let id = request_id(raw);
                if let Some(id) = id {
                    text.extend([", request ", id]);
                }
                if let Some(to) = redirect_target(raw).filter(|_| service_error.code().is_none()) {
                    text.extend([", sends on to `", &to, "`"]);
                }
                if let Some(region) = raw.headers().get("x-amz-bucket-region") {
                    text.extend([", bucket in region ", region]);
                }
                text.push(')');
                let has_request_id = id.is_some();
                let archive_tier = raw.body().bytes().and_then(archive_tier);
                Self {
                    cause,
                    code: service_error.code().map(str::to_owned),
                    status: Some(status),
                    has_request_id,
                    archive_tier,
                    text: text.into(),
                }
            }
            SdkError::TimeoutError(_) => Self::new(CallErrorCause::Unreachable, "no answer came in time"),
            SdkError::ResponseError(ref answer) if let Some(header) = find_source::<UnreadableHeader>(&error) => {
                let status = Some(answer.raw().status().as_u16());
                Self { status, has_request_id: true, ..Self::new(CallErrorCause::UnreadableHeader, header.to_string()) }
            }
            SdkError::ResponseError(ref answer) => {
                let status = answer.raw().status().as_u16();
                // Not a response of the service, but perhaps a page of a proxy before it. The status still counts.
                let page = has_html_body(answer.raw())
                    || find_source::<MalformedResponse>(&error) == Some(&MalformedResponse::HtmlPage);
                let cause = match cause_of_response(None, status, None) {
                    CallErrorCause::OtherResponse if page => CallErrorCause::HtmlPage,
                    CallErrorCause::OtherResponse => CallErrorCause::Malformed,
                    cause => cause,
                };
                let text = if page { AN_HTML_PAGE.to_owned() } else { error_chain(&error) };
                let text = format!("{text} (HTTP {status})");
                Self { status: Some(status), ..Self::new(cause, text) }
            }
            // A response came and cannot be parsed. The next one may be fine, unless the server speaks another protocol.
            SdkError::DispatchFailure(_) if many_headers::is_unreadable_response(&error) => {
                let cause =
                    wrong_address_reason(&error).map_or(CallErrorCause::Malformed, CallErrorCause::WrongAddress);
                Self::new(cause, error_chain(&error))
            }
            // The SDK reports missing credentials as a failure without a kind.
            SdkError::DispatchFailure(ref failure) if failure.is_other() && failure.as_other().is_none() => {
                Self::new(CallErrorCause::Credentials, describe_credentials(&error))
            }
            SdkError::DispatchFailure(_) if let Some(why) = wrong_address_reason(&error) => {
                Self::new(CallErrorCause::WrongAddress(why), error_chain(&error))
            }
            SdkError::DispatchFailure(_) => {
                let text = error_chain(&error);
                // The SDK reports a proxy's response to CONNECT only in its message.
                if text.contains("tunnel error: proxy authorization required") {
                    return Self::new(CallErrorCause::LoginRequired(PROXY_LOGIN), format!("{text} (HTTP 407)"));
                }
                if text.contains(NO_TUNNEL) {
                    let text = format!("{text}: the proxy answers CONNECT with another status than 200 or 407");
                    return Self::new(CallErrorCause::Unreachable, text);
                }
                Self::new(CallErrorCause::Unreachable, text)
            }
            error => Self::new(CallErrorCause::Malformed, error_chain(&error)),
        }
    }

    pub(crate) fn new(cause: CallErrorCause, text: impl Into<Box<str>>) -> Self {
        Self { cause, code: None, status: None, has_request_id: false, archive_tier: None, text: text.into() }
    }

    /// Whether a response came that has no sign of the service: neither an error code nor a request id.
    pub(crate) fn is_from_intermediary(&self) -> bool {
        let came = self.status.is_some() || self.cause == CallErrorCause::Malformed;
        came && self.code.is_none() && !self.has_request_id
    }

    /// Whether a proxy refused a tunnel to the service.
    pub(crate) fn is_refused_tunnel(&self) -> bool {
        self.text.contains(NO_TUNNEL)
    }

    /// Whether the item is encrypted with a key that only its owner has.
    pub(crate) fn needs_customer_key(&self) -> bool {
        let text = self.text.to_ascii_lowercase();
        self.has_code(&["InvalidRequest", "InvalidArgument"])
            && ["server side encryption", "server-side encryption", "customer"].iter().any(|word| text.contains(word))
    }

    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_the_cause_that_callers_act_on() {
        let throttled = CallErrorCause::Throttled { retry_after: None };
        for (code, status, expected) in [
            (Some("SlowDown"), 503, throttled),
            (Some("ThrottlingException"), 400, throttled),
            (Some("ProvisionedThroughputExceededException"), 400, throttled),
            (Some("OverLimit"), 403, throttled),
            (None, 503, throttled),
            (None, 429, throttled),
            (Some("ExpiredToken"), 400, CallErrorCause::Credentials),
            (Some("ExpiredTokenException"), 403, CallErrorCause::Credentials),
            (Some("InvalidClientTokenId"), 403, CallErrorCause::Credentials),
            (Some("SignatureDoesNotMatch"), 403, CallErrorCause::Credentials),
            (None, 401, CallErrorCause::Credentials),
            (Some("AccessDenied"), 403, CallErrorCause::Denied),
            (Some("AccessDeniedException"), 400, CallErrorCause::Denied),
            (Some("InternalError"), 500, CallErrorCause::ServerError),
            (Some("ServiceUnavailable"), 503, CallErrorCause::ServerError),
            (None, 502, CallErrorCause::ServerError),
            (Some("XMinioStorageFull"), 507, CallErrorCause::StorageFull),
            (Some("InsufficientStorage"), 500, CallErrorCause::StorageFull),
            (Some("XMinioAdminBucketQuotaExceeded"), 400, CallErrorCause::StorageFull),
            (Some("QuotaExceeded"), 403, CallErrorCause::StorageFull),
            (None, 507, CallErrorCause::StorageFull),
            (Some("NotImplemented"), 501, CallErrorCause::Unsupported),
            (Some("NotImplemented"), 400, CallErrorCause::Unsupported),
            (None, 505, CallErrorCause::Unsupported),
            (None, 407, CallErrorCause::LoginRequired(PROXY_LOGIN)),
            (None, 511, CallErrorCause::LoginRequired(NETWORK_LOGIN)),
            // Without a code, a 403 may mean either: the caller finds out by another request.
            (None, 403, CallErrorCause::OtherResponse),
            (Some("NoSuchKey"), 404, CallErrorCause::OtherResponse),
            (Some("NoSuchTagSet"), 404, CallErrorCause::OtherResponse),
        ] {
            assert_eq!(cause_of_response(code, status, None), expected, "{code:?} {status}");
        }
    }
}
