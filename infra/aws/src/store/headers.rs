//! Sets an object's headers on the requests that can set them.

/// Sets [`ObjectHeaders`](super::properties::ObjectHeaders) on a request of any of these calls.
macro_rules! with_headers {
    ($request:expr, $object_headers:expr) => {{
        let object_headers = $object_headers;
        let header = |name: &str| object_headers.headers.get(name).cloned();
        let expires = header("expires").and_then(|text| {
            aws_smithy_types::DateTime::from_str(&text, aws_smithy_types::date_time::Format::HttpDate).ok()
        });
        $request
            .set_cache_control(header("cache-control"))
            .set_content_disposition(header("content-disposition"))
            .set_content_encoding(header("content-encoding"))
            .set_content_language(header("content-language"))
            .set_content_type(header("content-type"))
            .set_expires(expires)
            .set_metadata(Some(object_headers.metadata.clone()))
    }};
}

pub(super) use with_headers;
