//! What a failure of a whole store says beside the service's own words: where it was asked, as whom, and what to do.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use mill_ports::StoreErrorKind;

use super::SpaceLayout;
use super::errors::fit;
use crate::connection::Connection;
use crate::proxy::proxy_to;
use crate::sdk_error::{CallError, CallErrorCause, sends_elsewhere};
use crate::wrong_address::NO_SUCH_HOST;

/// Where a store is asked, and as whom.
#[derive(Debug)]
pub(super) struct ErrorContext {
    address: String,
    /// The proxy by which it is asked, if any.
    proxy: Option<String>,
    bucket: String,
    region: Option<String>,
    profile: Option<String>,
    signed_by: SignerRecorder,
}

impl ErrorContext {
    pub(super) fn new(connection: &Connection, spaces: &SpaceLayout) -> Self {
        let bucket = match spaces {
            SpaceLayout::InBucket(bucket) | SpaceLayout::Single { bucket, .. } => format!("bucket `{}`", fit(bucket)),
            SpaceLayout::Buckets { prefix } => format!("buckets `{}*`", fit(prefix)),
        };
        let address = connection.s3_endpoint();
        let amazons = || format!("https://s3.{}.amazonaws.com", connection.region().unwrap_or("us-east-1"));
        Self {
            proxy: proxy_to(&address.clone().unwrap_or_else(amazons)),
            address: address.map_or_else(|| "Amazon S3".to_owned(), |address| fit(&address)),
            bucket,
            region: connection.region().map(str::to_owned),
            profile: connection.service.profile().map(str::to_owned),
            signed_by: SignerRecorder::default(),
        }
    }

    /// The failure as it is meant here: a host name by which the service has answered already is no mistyped one, and is back
    /// when the resolver, or the tunnel that it needs, is. So is a service in whose stead a page comes by now; but one that
    /// forbids is meant.
    pub(super) fn judged(&self, mut trouble: CallError) -> CallError {
        if self.signed_by.answered.load(Ordering::Relaxed) {
            trouble.cause = match trouble.cause {
                CallErrorCause::WrongAddress(NO_SUCH_HOST) => CallErrorCause::Unreachable,
                CallErrorCause::HtmlPage if trouble.status != Some(403) => CallErrorCause::ServerError,
                cause => cause,
            };
        }
        trouble
    }

    /// What notes the id of the key that signs, and that answers come.
    pub(super) fn signed_by(&self) -> SignerRecorder {
        self.signed_by.clone()
    }

    /// The words of a failure of this kind with where and what to do, also where something answers that does not speak as the
    /// service does; of other kinds as they are.
    pub(super) fn told(&self, kind: &StoreErrorKind, trouble: &CallError, words: String) -> String {
        let of_all = matches!(
            kind,
            StoreErrorKind::Unavailable
                | StoreErrorKind::Unreachable
                | StoreErrorKind::NotConfigured
                | StoreErrorKind::SpaceAbsent
        );
        match advice(kind, trouble) {
            Some(advice) if of_all => format!("{words} ({self}); {advice}"),
            None if of_all => format!("{words} ({self})"),
            Some(advice) if trouble.is_anothers() && tells_nothing_of_items(kind) => {
                format!("{words} ({self}); {advice}")
            }
            None if trouble.is_anothers() && tells_nothing_of_items(kind) => format!("{words} ({self})"),
            _ => words,
        }
    }
}

impl fmt::Display for ErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}, ", self.address)?;
        if let Some(proxy) = &self.proxy {
            write!(f, "by {}, ", fit(proxy))?;
        }
        f.write_str(&self.bucket)?;
        if let Some(region) = &self.region {
            write!(f, ", region `{}`", fit(region))?;
        }
        match (self.signed_by.id(), &self.profile) {
            (Some(id), _) => write!(f, ", key id `{}`", fit(&id)),
            (None, Some(profile)) => write!(f, ", profile `{}`", fit(profile)),
            (None, None) => Ok(()),
        }
    }
}

fn tells_nothing_of_items(kind: &StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Throttled { .. } | StoreErrorKind::Unexpected)
}

/// One short sentence of what to do; `None` where the service's own words are all that is known.
fn advice(kind: &StoreErrorKind, trouble: &CallError) -> Option<String> {
    const ADDRESS: &str = "check `--source-endpoint`, `--destination-endpoint` or the `endpoint` of the store";
    if trouble.is(&["NoSuchBucket"]) {
        return Some("make the bucket, or check its name".to_owned());
    }
    if trouble.is(&["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"]) {
        return Some("give keys that have not expired".to_owned());
    }
    if trouble.is(&["RequestTimeTooSkewed"]) {
        return Some("check the clock of this machine".to_owned());
    }
    if trouble.is(&["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"])
        || matches!(trouble.status, Some(301 | 307)) && trouble.cause != CallErrorCause::HtmlPage
    {
        return Some("check the region".to_owned());
    }
    match trouble.cause {
        CallErrorCause::Credentials if trouble.status.is_none() => {
            Some("give the key by a profile, by the environment or by `credentials` of the store".to_owned())
        }
        CallErrorCause::Credentials => Some("check the key id and its secret".to_owned()),
        CallErrorCause::Denied => Some("check what the key may do".to_owned()),
        CallErrorCause::WrongAddress(why) => Some(format!("{why}: {ADDRESS}")),
        CallErrorCause::StorageFull => Some("make room there, or raise its quota".to_owned()),
        CallErrorCause::Unsupported => Some(format!("the server does not know this call, which mill needs: {ADDRESS}")),
        CallErrorCause::LoginRequired(why) => {
            Some(format!("{why}: check HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or log in there"))
        }
        CallErrorCause::HtmlPage => Some(format!("a proxy, a login page or another server answers there: {ADDRESS}")),
        CallErrorCause::Unreachable if trouble.no_tunnel() => Some(format!(
            "the proxy lets no call through to this address: check HTTPS_PROXY, HTTP_PROXY and NO_PROXY, and {ADDRESS}"
        )),
        CallErrorCause::Throttled { .. } if trouble.is_anothers() => Some(format!(
            "try again later; if it stays so, a proxy or another server may answer in its place: {ADDRESS}"
        )),
        CallErrorCause::Unreachable if *kind == StoreErrorKind::Unreachable => {
            Some(format!("if it stays so, {ADDRESS}"))
        }
        _ => None,
    }
}

/// The id of the key that signed the last request, as the request itself bears it, and whether any was answered.
#[derive(Debug, Clone, Default)]
pub(super) struct SignerRecorder {
    id: Arc<Mutex<Option<String>>>,
    answered: Arc<AtomicBool>,
}

impl SignerRecorder {
    fn id(&self) -> Option<String> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let mut noted = self.id.lock().unwrap_or_else(PoisonError::into_inner);
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
        // Pages are what others answer with, or what an item is; the next answer tells.
        let sort = context.response().headers().get("content-type").unwrap_or_default();
        if !sort.starts_with("text/html") && !sends_elsewhere(context.response()) {
            self.answered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
