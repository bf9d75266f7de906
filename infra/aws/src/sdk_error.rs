//! What a failed call means, whatever the service: the one place that knows the services' codes.

use std::error::Error;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use mill_model::ids::escape_for_display;
use mill_ports::error_chain;

use crate::many_headers;
use crate::response::MalformedResponse;
use crate::wrong_address::{SPEAKS_TLS, find, is_page, wants_tls, wrong_address};

/// A call that failed, told without its request or the body of its answer.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub(crate) struct CallError {
    pub(crate) cause: CallErrorCause,
    /// The service's code, if it gave one.
    pub(crate) code: Option<String>,
    /// The status of its answer, if one came.
    pub(crate) status: Option<u16>,
    /// Whether the answer bears the id that the service gives to each request: whatever stands before it gives none.
    pub(crate) own_answer: bool,
    /// The archive tier that its answer names.
    pub(crate) tier: Option<String>,
    words: Box<str>,
}

/// Why, as far as any port tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallErrorCause {
    /// Asked too often, or too much at once.
    Throttled {
        /// The service's own wish.
        retry_after: Option<Duration>,
    },
    /// No credentials, or they are wrong or have expired: nothing is known of what was asked for.
    Credentials,
    /// These credentials are known, and may not do it.
    Denied,
    /// No answer came.
    Unreachable,
    /// Nothing at the address can be the service, for this reason: a person must set it right.
    WrongAddress(&'static str),
    /// The service is in trouble of its own.
    ServerError,
    /// There is no room: the disks of the service are full, or a quota is used up. Waiting makes none.
    StorageFull,
    /// The service does not know this call, or not in this form: it never will.
    Unsupported,
    /// What stands before the service answers in its stead and lets nobody through, for this reason: a person must act.
    LoginRequired(&'static str),
    /// A page for people came where the service's answer should be, or something that is no service of this sort sends on.
    HtmlPage,
    /// Any other answer; its code and status tell.
    OtherResponse,
    /// What came is no answer, or the call could not be made.
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

const NO_ROOM: [&str; 6] = [
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
    "InsufficientStorage",
    "InsufficientStorageSpace",
    "StorageFull",
];

/// Of a proxy, or of a network that is entered by a page.
const WANTS_LOGIN: &str = "the proxy wants a name and a password, or others";
const WANTS_LOGIN_BY_PAGE: &str = "the network wants a login, as public ones do by a page in a browser";

/// What the library says of a proxy that refuses a tunnel; by which status, it does not tell. That may pass: proxies answer so as
/// well while the service behind them is away.
const NO_TUNNEL: &str = "tunnel error: unsuccessful";

/// The cause that an answer's code and status tell. The code is asked first: a status says less.
fn of_answer(code: Option<&str>, status: u16, retry_after: Option<Duration>) -> CallErrorCause {
    match (code, status) {
        (Some(code), _) if THROTTLED.contains(&code) => CallErrorCause::Throttled { retry_after },
        (Some(code), _) if CREDENTIALS.contains(&code) => CallErrorCause::Credentials,
        (Some(code), _) if DENIED.contains(&code) => CallErrorCause::Denied,
        (Some(code), _) if NO_ROOM.contains(&code) => CallErrorCause::StorageFull,
        (Some("NotImplemented"), _) | (_, 501 | 505) => CallErrorCause::Unsupported,
        // "Service unavailable" without a code is how many a store says "slow down".
        (_, 429) | (None, 503) => CallErrorCause::Throttled { retry_after },
        (Some(_), 503) if retry_after.is_some() => CallErrorCause::Throttled { retry_after },
        (_, 407) => CallErrorCause::LoginRequired(WANTS_LOGIN),
        (_, 511) => CallErrorCause::LoginRequired(WANTS_LOGIN_BY_PAGE),
        (_, 507) => CallErrorCause::StorageFull,
        (_, 500..) => CallErrorCause::ServerError,
        (_, 401) => CallErrorCause::Credentials,
        _ => CallErrorCause::OtherResponse,
    }
}

const A_PAGE: &str = "an HTML page, and no answer of the service";

/// What came in place of an answer that bears a code, by its body and by what its headers say of that.
fn nameless(answer: &HttpResponse) -> String {
    let header = |name| answer.headers().get(name).unwrap_or_default();
    let sort = header("content-type").split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if bears_page(answer) || sort == "text/html" {
        return A_PAGE.to_owned();
    }
    match (sort.as_str(), header("content-length")) {
        (_, "0") => "an empty answer without a code".to_owned(),
        ("" | "application/xml" | "text/xml", _) => "an answer without a code".to_owned(),
        (sort, _) => format!("an answer of type `{}` without a code", escape_for_display(sort)),
    }
}

/// Where an answer sends to, without what may be secret there.
fn sends_on(answer: &HttpResponse) -> Option<String> {
    let to: hyper::Uri = answer.headers().get("location")?.parse().ok()?;
    let (scheme, host) = (to.scheme_str()?, to.host()?);
    let port = to.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{scheme}://{}{port}", escape_for_display(host)))
}

fn bears_page(answer: &HttpResponse) -> bool {
    answer.body().bytes().is_some_and(is_page)
}

/// Whether something else than the service sends on to somewhere else: the service itself names the region of the bucket.
pub(crate) fn sends_elsewhere(answer: &HttpResponse) -> bool {
    let of_service = request_id(answer).is_some() || answer.headers().get("x-amz-bucket-region").is_some();
    !of_service && [301, 302, 303, 307, 308].contains(&answer.status().as_u16())
}

fn request_id(answer: &HttpResponse) -> Option<&str> {
    ["x-amz-request-id", "x-amzn-requestid"].iter().find_map(|name| answer.headers().get(name))
}

/// The archive tier that an answer names, of an item that lies in one. The library gives it for one call of several.
fn tier(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok().filter(|text| text.contains("InvalidObjectState"))?;
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned()).filter(|tier| !tier.is_empty())
    };
    element("AccessTier").or_else(|| element("StorageClass"))
}

impl CallError {
    /// What became of a call.
    pub(crate) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                let (told, raw) = (answer.err(), answer.raw());
                let retry_after = raw.headers().get("retry-after").and_then(|after| after.parse().ok());
                let status = raw.status().as_u16();
                let cause = match of_answer(told.code(), status, retry_after.map(Duration::from_secs)) {
                    CallErrorCause::OtherResponse if status == 400 && raw.body().bytes().is_some_and(wants_tls) => {
                        CallErrorCause::WrongAddress(SPEAKS_TLS)
                    }
                    CallErrorCause::OtherResponse
                        if told.code().is_none() && (bears_page(raw) || sends_elsewhere(raw)) =>
                    {
                        CallErrorCause::HtmlPage
                    }
                    cause => cause,
                };
                let mut words = told.code().map_or_else(|| nameless(raw), str::to_owned);
                match told.message() {
                    Some(message) => words.extend([": ", message]),
                    // Why the library took it for no answer.
                    None if told.code().is_none() && status < 300 && !bears_page(raw) => {
                        words.extend([": ", &error_chain(told)]);
                    }
                    None => {}
                }
                words.extend([" (HTTP ", status.to_string().as_str()]);
                let id = request_id(raw);
                if let Some(id) = id {
                    words.extend([", request ", id]);
                }
                if let Some(to) = sends_on(raw).filter(|_| told.code().is_none()) {
                    words.extend([", sends on to `", &to, "`"]);
                }
                if let Some(region) = raw.headers().get("x-amz-bucket-region") {
                    words.extend([", bucket in region ", region]);
                }
                words.push(')');
                let own_answer = id.is_some();
                let tier = raw.body().bytes().and_then(tier);
                Self {
                    cause,
                    code: told.code().map(str::to_owned),
                    status: Some(status),
                    own_answer,
                    tier,
                    words: words.into(),
                }
            }
            SdkError::TimeoutError(_) => Self::plain(CallErrorCause::Unreachable, "no answer came in time"),
            SdkError::ResponseError(ref answer) => {
                let status = answer.raw().status().as_u16();
                // Not the service's own words, such as a page of what stands before it: the status still tells.
                let page =
                    bears_page(answer.raw()) || find::<MalformedResponse>(&error) == Some(&MalformedResponse::HtmlPage);
                let cause = match of_answer(None, status, None) {
                    CallErrorCause::OtherResponse if page => CallErrorCause::HtmlPage,
                    CallErrorCause::OtherResponse => CallErrorCause::Malformed,
                    cause => cause,
                };
                let words = if page { A_PAGE.to_owned() } else { error_chain(&error) };
                let words = format!("{words} (HTTP {status})");
                Self { status: Some(status), ..Self::plain(cause, words) }
            }
            // It came, and cannot be read: that says nothing of the next, unless another protocol is spoken there.
            SdkError::DispatchFailure(_) if many_headers::is_unreadable_response(&error) => {
                let cause = wrong_address(&error).map_or(CallErrorCause::Malformed, CallErrorCause::WrongAddress);
                Self::plain(cause, error_chain(&error))
            }
            // The library gives missing credentials as a failure of no sort at all.
            SdkError::DispatchFailure(ref failure) if failure.is_other() && failure.as_other().is_none() => {
                Self::plain(CallErrorCause::Credentials, error_chain(&error))
            }
            SdkError::DispatchFailure(_) if let Some(why) = wrong_address(&error) => {
                Self::plain(CallErrorCause::WrongAddress(why), error_chain(&error))
            }
            SdkError::DispatchFailure(_) => {
                let words = error_chain(&error);
                // The library tells in words alone what a proxy said that was asked for a way through.
                if words.contains("tunnel error: proxy authorization required") {
                    return Self::plain(CallErrorCause::LoginRequired(WANTS_LOGIN), format!("{words} (HTTP 407)"));
                }
                if words.contains(NO_TUNNEL) {
                    let words = format!("{words}: the proxy answers CONNECT with another status than 200 or 407");
                    return Self::plain(CallErrorCause::Unreachable, words);
                }
                Self::plain(CallErrorCause::Unreachable, words)
            }
            error => Self::plain(CallErrorCause::Malformed, error_chain(&error)),
        }
    }

    pub(crate) fn plain(cause: CallErrorCause, words: impl Into<Box<str>>) -> Self {
        Self { cause, code: None, status: None, own_answer: false, tier: None, words: words.into() }
    }

    /// Whether something came that bears no sign of the service: no code of its, and no id.
    pub(crate) fn is_anothers(&self) -> bool {
        let came = self.status.is_some() || self.cause == CallErrorCause::Malformed;
        came && self.code.is_none() && !self.own_answer
    }

    /// Whether a proxy refused the way to the service.
    pub(crate) fn no_tunnel(&self) -> bool {
        self.words.contains(NO_TUNNEL)
    }

    /// Whether it is about an item that only its owner's own key opens, which no service keeps.
    pub(crate) fn wants_owners_key(&self) -> bool {
        let told = self.words.to_ascii_lowercase();
        self.is(&["InvalidRequest", "InvalidArgument"])
            && ["server side encryption", "server-side encryption", "customer"].iter().any(|word| told.contains(word))
    }

    pub(crate) fn is(&self, codes: &[&str]) -> bool {
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
            (None, 407, CallErrorCause::LoginRequired(WANTS_LOGIN)),
            (None, 511, CallErrorCause::LoginRequired(WANTS_LOGIN_BY_PAGE)),
            // Without a code, a 403 may be either: its caller asks on.
            (None, 403, CallErrorCause::OtherResponse),
            (Some("NoSuchKey"), 404, CallErrorCause::OtherResponse),
            (Some("NoSuchTagSet"), 404, CallErrorCause::OtherResponse),
        ] {
            assert_eq!(of_answer(code, status, None), expected, "{code:?} {status}");
        }
    }
}
