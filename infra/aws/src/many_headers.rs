//! Responses with more headers than the SDK's HTTP client reads.
//!
//! Each property of an object is a header, and a service accepts hundreds of them. The SDK's client reads a hundred headers,
//! and that limit cannot be set. So a request whose response has too many headers is sent again through a client that reads
//! them all.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::ca_bundle::CaBundle;

/// Most headers: 2 KB of metadata in pairs of two bytes, and the usual headers.
const HEADERS_MAX: usize = 2_048;

/// How long a connection is kept for the next such request.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Whether a response could not be read because it has too many headers.
pub(crate) fn has_too_many_headers(error: &(dyn Error + 'static)) -> bool {
    http_error(error).is_some_and(hyper::Error::is_parse_too_large)
}

/// Whether what came is not an HTTP response.
pub(crate) fn is_unreadable_response(error: &(dyn Error + 'static)) -> bool {
    http_error(error).is_some_and(hyper::Error::is_parse)
}

fn http_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e hyper::Error> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// A client that reads them all. It uses no proxy: where a proxy is needed, such an object stays unread and is reported.
pub(crate) fn many_headers_client(ca_bundle: Option<CaBundle>) -> SharedHttpClient {
    http_client_fn(move |settings, _| match ManyHeadersConnector::new(settings, ca_bundle.as_ref()) {
        Ok(many_headers_client) => SharedHttpConnector::new(many_headers_client),
        Err(why) => SharedHttpConnector::new(FailingConnector(why.to_string().into())),
    })
}

#[derive(Debug)]
struct ManyHeadersConnector {
    client: Client<HttpsConnector<Tcp>, SdkBody>,
    answer_max: Option<Duration>,
}

impl ManyHeadersConnector {
    fn new(settings: &HttpConnectorSettings, ca_bundle: Option<&CaBundle>) -> std::io::Result<Self> {
        let mut tcp = Tcp::new();
        tcp.set_connect_timeout(settings.connect_timeout());
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new();
        let tls = match ca_bundle {
            Some(trusted) => tls.with_tls_config(trusted.tls_config().map_err(std::io::Error::other)?),
            None => tls.with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())?,
        };
        let tls = tls.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .http1_max_headers(HEADERS_MAX)
            .build(tls);
        Ok(Self { client, answer_max: settings.read_timeout() })
    }
}

impl HttpConnector for ManyHeadersConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let (answer, most) = (self.client.request(request), self.answer_max.unwrap_or(Duration::MAX));
        HttpConnectorFuture::new(async move {
            let answer = tokio::time::timeout(most, answer).await;
            let answer = answer.map_err(|late| ConnectorError::timeout(late.into()))?;
            let answer = answer.map_err(|error| ConnectorError::io(error.into()))?;
            let answer = HttpResponse::try_from(answer.map(SdkBody::from_body_1_x));
            answer.map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Fails each request, for this reason.
#[derive(Debug)]
struct FailingConnector(Arc<str>);

impl HttpConnector for FailingConnector {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Err(ConnectorError::other(self.0.to_string().into(), None)))
    }
}
