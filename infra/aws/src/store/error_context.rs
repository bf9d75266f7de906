//! What Mill adds to the error of a whole store: the address, the credentials, and what to do.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use mill_ports::StoreErrorKind;
use parking_lot::Mutex;

use super::SpaceLayout;
use super::errors::displayable;
use crate::connection::Connection;
use crate::proxy::proxy_to;
use crate::sdk_error::{CallError, CallErrorCause, is_foreign_redirect};
use crate::wrong_address::{NO_SUCH_HOST, UNTRUSTED};

/// The address of a store, and the credentials for it.
#[derive(Debug)]
pub(super) struct StoreErrorContext {
    address: String,
    /// The proxy on the way to it, if any.
    proxy: Option<String>,
    bucket: String,
    region: Option<String>,
    profile: Option<String>,
    signer: SignerRecorder,
}

impl StoreErrorContext {
    pub(super) fn new(connection: &Connection, spaces: &SpaceLayout) -> Self {
        let bucket = match spaces {
            SpaceLayout::InBucket(bucket) | SpaceLayout::Single { bucket, .. } => {
                format!("bucket `{}`", displayable(bucket))
            }
            SpaceLayout::Buckets { prefix } => format!("buckets `{}*`", displayable(prefix)),
        };
        let address = connection.s3_endpoint();
        let amazons = || format!("https://s3.{}.amazonaws.com", connection.region().unwrap_or("us-east-1"));
        Self {
            proxy: proxy_to(&address.clone().unwrap_or_else(amazons)),
            address: address.map_or_else(|| "Amazon S3".to_owned(), |address| displayable(&address)),
            bucket,
            region: connection.region().map(str::to_owned),
            profile: connection.service.profile().map(str::to_owned),
            signer: SignerRecorder::default(),
        }
    }

    /// Reinterprets a failure after earlier success: a host name that worked before is not mistyped, and works again once
    /// the resolver or the tunnel does. The same holds for a service that is now replaced by a page, unless the page is a
    /// 403.
    pub(super) fn reinterpret(&self, mut failure: CallError) -> CallError {
        if self.signer.answered.load(Ordering::Relaxed) {
            failure.cause = match failure.cause {
                CallErrorCause::WrongAddress(NO_SUCH_HOST) => CallErrorCause::Unreachable,
                CallErrorCause::HtmlPage if failure.status != Some(403) => CallErrorCause::ServerError,
                cause => cause,
            };
        }
        failure
    }

    /// The interceptor that records the id of the signing key, and that responses come.
    pub(super) fn signer(&self) -> SignerRecorder {
        self.signer.clone()
    }

    /// Adds the address and the advice to the message of a failure that concerns the whole store, or whose response may come
    /// from a proxy. Other messages stay as they are.
    pub(super) fn with_context(&self, kind: &StoreErrorKind, failure: &CallError, words: String) -> String {
        let is_whole_store = matches!(
            kind,
            StoreErrorKind::Unavailable
                | StoreErrorKind::Unreachable
                | StoreErrorKind::NotConfigured
                | StoreErrorKind::SpaceAbsent
        );
        match self.advice(kind, failure) {
            Some(advice) if is_whole_store => format!("{words} ({self}); {advice}"),
            None if is_whole_store => format!("{words} ({self})"),
            Some(advice) if failure.is_from_intermediary() && may_be_intermediary(kind) => {
                format!("{words} ({self}); {advice}")
            }
            None if failure.is_from_intermediary() && may_be_intermediary(kind) => format!("{words} ({self})"),
            Some(advice) if is_other_checksum(failure) => format!("{words}; {advice}"),
            _ => words,
        }
    }

    fn advice(&self, kind: &StoreErrorKind, failure: &CallError) -> Option<String> {
        // Without a region no call is signed, so nothing more is known of the key.
        if self.region.is_none() && failure.status.is_none() && failure.cause == CallErrorCause::Credentials {
            let advice =
                "name the region by AWS_REGION, by a profile or by `region` of the store, and see that there is a key";
            return Some(advice.to_owned());
        }
        advice(kind, failure)
    }
}

impl fmt::Display for StoreErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}, ", self.address)?;
        if let Some(proxy) = &self.proxy {
            write!(f, "by {}, ", displayable(proxy))?;
        }
        f.write_str(&self.bucket)?;
        if let Some(region) = &self.region {
            write!(f, ", region `{}`", displayable(region))?;
        }
        match (self.signer.id(), &self.profile) {
            (Some(id), _) => write!(f, ", key id `{}`", displayable(&id)),
            (None, Some(profile)) => write!(f, ", profile `{}`", displayable(profile)),
            (None, None) => Ok(()),
        }
    }
}

/// Whether the server says that it has other bytes than the checksum of the request is of.
fn is_other_checksum(failure: &CallError) -> bool {
    failure.has_code(&["BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"])
}

/// How a person says that a server lacks something.
fn option(name: &str) -> String {
    format!("`--destination-option {name}=false`, or `\"{name}\": false` in its store,")
}

fn may_be_intermediary(kind: &StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Throttled { .. } | StoreErrorKind::Unexpected)
}

/// A short sentence of advice; `None` where there is none beyond the service's own message.
fn advice(kind: &StoreErrorKind, failure: &CallError) -> Option<String> {
    const ADDRESS: &str = "check `--source-endpoint`, `--destination-endpoint` or the `endpoint` of the store";
    if failure.has_code(&["NoSuchBucket"]) {
        return Some("make the bucket, or check its name".to_owned());
    }
    if failure.has_code(&["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"]) {
        return Some("give keys that have not expired".to_owned());
    }
    if failure.has_code(&["RequestTimeTooSkewed"]) {
        return Some("check the clock of this machine".to_owned());
    }
    if failure.has_code(&["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"])
        || matches!(failure.status, Some(301 | 307)) && failure.cause != CallErrorCause::HtmlPage
    {
        return Some("check the region".to_owned());
    }
    if is_other_checksum(failure) {
        let option = option("wholeChecksums");
        return Some(format!(
            "if this stays, the server computes no checksum of the whole of an item in parts: {option} says so"
        ));
    }
    match failure.cause {
        CallErrorCause::Credentials if failure.status.is_none() => {
            Some("give the key by a profile, by the environment or by `credentials` of the store".to_owned())
        }
        CallErrorCause::Credentials => Some("check the key id and its secret".to_owned()),
        CallErrorCause::Denied => Some("check what the key may do".to_owned()),
        CallErrorCause::WrongAddress(UNTRUSTED) => Some(format!(
            "{UNTRUSTED}: {ADDRESS}, and let AWS_CA_BUNDLE name a file with the certificate of its authority"
        )),
        CallErrorCause::WrongAddress(why) => Some(format!("{why}: {ADDRESS}")),
        CallErrorCause::StorageFull => Some("make room there, or raise its quota".to_owned()),
        CallErrorCause::Unsupported => Some(format!(
            "the server does not know this call, which mill needs: {ADDRESS}; if it knows no conditions of writes, {} says so",
            option("conditionalWrites")
        )),
        CallErrorCause::LoginRequired(why) => {
            Some(format!("{why}: check HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or log in there"))
        }
        CallErrorCause::HtmlPage => Some(format!("a proxy, a login page or another server answers there: {ADDRESS}")),
        CallErrorCause::Unreachable if failure.is_refused_tunnel() => Some(format!(
            "the proxy lets no call through to this address: check HTTPS_PROXY, HTTP_PROXY and NO_PROXY, and {ADDRESS}"
        )),
        CallErrorCause::Throttled { .. } if failure.is_from_intermediary() => Some(format!(
            "try again later; if it stays so, a proxy or another server may answer in its place: {ADDRESS}"
        )),
        CallErrorCause::Unreachable if *kind == StoreErrorKind::Unreachable => {
            Some(format!("if it stays so, {ADDRESS}"))
        }
        _ => None,
    }
}

/// Records the id of the key that signed the last request, from the request itself, and whether any response came.
#[derive(Debug, Clone, Default)]
pub(super) struct SignerRecorder {
    id: Arc<Mutex<Option<String>>>,
    answered: Arc<AtomicBool>,
}

impl SignerRecorder {
    fn id(&self) -> Option<String> {
        self.id.lock().clone()
    }
}

#[dyn_dispatch_hint]
impl Intercept for SignerRecorder {
    fn name(&self) -> &'static str {
        "SignedBy"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let signature = context.request().headers().get("authorization");
        let id =
            signature.and_then(|signature| signature.split_once("Credential=")?.1.split_once('/')).map(|(id, _)| id);
        let mut noted = self.id.lock();
        if noted.as_deref() != id {
            *noted = id.map(str::to_owned);
        }
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // A page comes from a proxy, or is an item's content: only a later response counts.
        let sort = context.response().headers().get("content-type").unwrap_or_default();
        if !sort.starts_with("text/html") && !is_foreign_redirect(context.response()) {
            self.answered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
