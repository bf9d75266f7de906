//! The calls that set an object's headers all set the same ones.

/// Sets what a [`ObjectHeaders`](super::properties::Borne) holds on a request of any of those calls.
macro_rules! with_headers {
    ($request:expr, $borne:expr) => {{
        let borne = $borne;
        let header = |name: &str| borne.headers.get(name).cloned();
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
            .set_metadata(Some(borne.metadata.clone()))
    }};
}

pub(super) use with_headers;
