//! The permissions that a call needs.

use hyper::Method;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::Value;

/// An action, its ARN, and the partition of the row if a role's permission may depend on it.
pub(crate) type Permission = (String, String, Option<&'static str>);

/// Partitions on which permissions depend: the rows with the installation's id, and the runs.
const PARTITIONS: [&str; 2] = ["installation", "runs"];

/// The permissions that a call needs, as AWS documents them for each operation.
pub(crate) fn permissions(parts: &Parts, body: &Bytes) -> Vec<Permission> {
    match parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok()?.split_once('.')) {
        Some(("AmazonSQS", operation)) => of_queue(operation, &read(body)),
        Some((_, operation)) => of_table(operation, &read(body)),
        None => of_store(parts),
    }
}

fn read(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

fn of_queue(operation: &str, body: &Value) -> Vec<Permission> {
    let queue = body["QueueName"].as_str().or_else(|| body["QueueUrl"].as_str()?.rsplit('/').next());
    let action = operation.strip_suffix("Batch").unwrap_or(operation);
    vec![(format!("sqs:{action}"), format!("arn:aws:sqs:us-east-1:000000000000:{}", queue.unwrap()), None)]
}

fn of_table(operation: &str, body: &Value) -> Vec<Permission> {
    let tables: Vec<&str> = match body["RequestItems"].as_object() {
        Some(items) => items.keys().map(String::as_str).collect(),
        None => vec![body["TableName"].as_str().unwrap()],
    };
    let arn = |table: &str| format!("arn:aws:dynamodb:us-east-1:000000000000:table/{table}");
    let partition = ["Key", "Item"].iter().find_map(|row| body[row]["p"]["S"].as_str());
    let partition = partition.and_then(|partition| PARTITIONS.into_iter().find(|of| *of == partition));
    tables.into_iter().map(|table| (format!("dynamodb:{operation}"), arn(table), partition)).collect()
}

fn of_store(parts: &Parts) -> Vec<Permission> {
    let place = parts.uri.path().trim_start_matches('/');
    let query = parts.uri.query().unwrap_or_default();
    let asks = |what: &str| query.split('&').any(|one| one.split('=').next() == Some(what));
    let of_item = place.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    let reads = [Method::GET, Method::HEAD].contains(&parts.method);
    let action = match &parts.method {
        _ if place.is_empty() => return vec![("s3:ListAllMyBuckets".into(), "*".into(), None)],
        _ if of_item && reads => "GetObject",
        &Method::PUT | &Method::POST if of_item => "PutObject",
        &Method::DELETE if of_item && asks("uploadId") => "AbortMultipartUpload",
        &Method::DELETE if of_item => "DeleteObject",
        &Method::PUT => "CreateBucket",
        &Method::DELETE => "DeleteBucket",
        _ if asks("versioning") => "GetBucketVersioning",
        _ if asks("publicAccessBlock") => "GetBucketPublicAccessBlock",
        _ if asks("encryption") => "GetEncryptionConfiguration",
        _ => "ListBucket",
    };
    let arn = |place: &str| format!("arn:aws:s3:::{}", place.trim_matches('/'));
    let copied = parts.headers.get("x-amz-copy-source");
    let copied = copied.map(|from| ("s3:GetObject".into(), arn(from.to_str().unwrap()), None));
    copied.into_iter().chain([(format!("s3:{action}"), arn(place), None)]).collect()
}
