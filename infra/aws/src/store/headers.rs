//! Sets an object's headers on the requests that can set them.

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

use super::properties::ObjectHeaders;

/// Sets [`ObjectHeaders`](super::properties::ObjectHeaders) on a request of any of these calls. Gives the customizable request.
macro_rules! with_headers {
    ($request:expr, $object_headers:expr) => {{
        let object_headers = $object_headers;
        let header = |name: &str| object_headers.headers.get(name).cloned();
        $request
            .set_cache_control(header("cache-control"))
            .set_content_disposition(header("content-disposition"))
            .set_content_encoding(header("content-encoding"))
            .set_content_language(header("content-language"))
            .set_content_type(header("content-type"))
            .set_website_redirect_location(header($crate::store::properties::REDIRECT))
            .set_metadata(Some(object_headers.metadata.clone()))
            .customize()
            .mutate_request($crate::store::headers::expires(object_headers))
    }};
}

pub(super) use with_headers;

/// Sets `Expires` as the text that it is: the library takes only a time, and writes that in a form of its own.
pub(super) fn expires(object_headers: &ObjectHeaders) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static {
    let text = object_headers.headers.get("expires").cloned();
    move |request| {
        if let Some(text) = text.clone() {
            // It is visible ASCII (`ObjectHeaders::encode`), which every header can be.
            request.headers_mut().insert("expires", text);
        }
    }
}
