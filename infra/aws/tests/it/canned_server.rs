//! A server in this process that returns the responses of a test and records the requests.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::listener::listen;

pub(crate) type Answer = Response<Full<Bytes>>;

/// A response with a status, headers and a body.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

/// The response of S3 to a HEAD of a missing object: the status, and a request id.
pub(crate) fn not_there() -> Answer {
    answer(404, &[("x-amz-request-id", "1")], "")
}

/// A listing of these keys in the bucket `bucket`, as the last page or with a token for the next.
pub(crate) fn listing(keys: &[&str], next: Option<&str>) -> String {
    let entry = |key: &&str| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-21T07:28:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>\
             <Size>3</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    };
    let next = next.map_or_else(
        || "<IsTruncated>false</IsTruncated>".to_owned(),
        |next| format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>"),
    );
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Name>bucket</Name><KeyCount>{}</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>{next}{}\
         </ListBucketResult>",
        keys.len(),
        keys.iter().map(entry).collect::<String>(),
    )
}

/// Serves as long as the process lives, and returns the address. Where `answers` returns none, the request hangs.
pub(crate) fn serve<A>(answers: impl Fn(&Request<Bytes>) -> A + Send + Sync + 'static) -> String
where
    A: Into<Option<Answer>> + 'static,
{
    let answers = Arc::new(answers);
    listen(service_fn(move |request: Request<Incoming>| {
        let answers = answers.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
            let Some(answer) = answers(&Request::from_parts(parts, body)).into() else {
                return std::future::pending().await;
            };
            Ok::<_, Infallible>(answer)
        }
    }))
}
