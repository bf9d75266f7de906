//! Tags go along with an item.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Request;
use mill_aws::{S3Settings, S3Store, SpaceLayout};
use mill_model::Properties;
use mill_ports::{DestinationStore as _, Precondition, PutRequest, SourceStore as _, TagsWritten};
use parking_lot::Mutex;

use crate::canned_server::{Answer, answer, serve};
use crate::failure_scope::{key_of, well};
use crate::servers::connect;
use crate::stores::{body, item, pattern, settings, space};

const TAGS: &str = "<Tagging><TagSet><Tag><Key>a b</Key><Value>x&amp;y</Value></Tag><Tag><Key>c</Key><Value/></Tag></TagSet></Tagging>";

/// A store whose items have a tag, and what was asked of it: each request, and the tags that it sets.
async fn tagged(
    other: impl Fn(&Request<Bytes>) -> Option<Answer> + Send + Sync + 'static,
) -> (S3Store, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let endpoint = serve(move |request: &Request<Bytes>| {
        let sets = request.headers().get("x-amz-tagging").map(|tags| format!(" {}", tags.to_str().unwrap()));
        let asks = if asks_tags(request) { " tags" } else { "" };
        noted.lock().push(format!("{} {}{asks}{}", request.method(), key_of(request), sets.unwrap_or_default()));
        if let Some(other) = other(request) {
            return other;
        }
        if asks_tags(request) {
            return answer(200, &[], TAGS);
        }
        let mut answer = well(request);
        if request.method() == "GET" && key_of(request) == "tagged" {
            answer.headers_mut().insert("x-amz-tagging-count", "2".parse().unwrap());
        }
        answer
    });
    let connection = connect(&endpoint).await.without_retries();
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    (S3Store::new(&connection, S3Settings { part_bytes: 64 << 10, ..settings(single) }), asked)
}

fn asks_tags(request: &Request<Bytes>) -> bool {
    request.method() == "GET" && request.uri().query().unwrap_or_default().contains("tagging")
}

fn denied() -> Answer {
    answer(403, &[("x-amz-request-id", "7")], "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>")
}

async fn copy(store: &S3Store, from: &str) -> TagsWritten {
    let opened = store.open(&item(from), None, None).await.unwrap().present().unwrap();
    let content = PutRequest { size: 10, properties: Properties::default(), attachments: opened.attachments };
    store.put(&item("copy"), &content, &Precondition::Always, body(&pattern(10))).await.unwrap().tags
}

#[tokio::test]
async fn tags_cost_one_request_and_an_item_without_any_costs_none() {
    let (store, asked) = tagged(|_| None).await;
    assert_eq!(copy(&store, "tagged").await, TagsWritten::All);
    // This store does not tell how many tags the copy has: once they are read again.
    let sent = "PUT copy a%20b=x%26y&c=";
    assert_eq!(
        std::mem::take(&mut *asked.lock()),
        ["GET tagged", "GET tagged tags", sent, "HEAD copy", "GET copy tags"]
    );
    assert_eq!(copy(&store, "tagged").await, TagsWritten::All);
    assert_eq!(std::mem::take(&mut *asked.lock()), ["GET tagged", "GET tagged tags", sent, "HEAD copy"]);
    copy(&store, "plain").await;
    assert_eq!(*asked.lock(), ["GET plain", "PUT copy", "HEAD copy"]);
}

#[tokio::test]
async fn without_the_right_to_read_tags_the_bytes_go_without_them() {
    let (store, asked) = tagged(|request| asks_tags(request).then(denied)).await;
    let TagsWritten::Refused(why) = copy(&store, "tagged").await else { panic!("they cannot be read") };
    assert!(why.starts_with("its tags could not be read: AccessDenied"), "{why}");
    assert_eq!(*asked.lock(), ["GET tagged", "GET tagged tags", "PUT copy", "HEAD copy"]);
}

#[tokio::test]
async fn a_store_that_takes_no_tags_gets_the_bytes_without_them() {
    let not_implemented = || answer(501, &[], "<Error><Code>NotImplemented</Code><Message>No.</Message></Error>");
    for (says, code) in [(denied as fn() -> Answer, "AccessDenied"), (not_implemented, "NotImplemented")] {
        let (store, asked) = tagged(move |request| request.headers().contains_key("x-amz-tagging").then(says)).await;
        let TagsWritten::Refused(why) = copy(&store, "tagged").await else { panic!("they cannot be written") };
        assert!(why.starts_with(&format!("its tags could not be written: {code}")), "{why}");
        assert_eq!(asked.lock()[2..], ["PUT copy a%20b=x%26y&c=", "PUT copy", "HEAD copy"]);
    }
}

/// Some services take the header and keep nothing.
#[tokio::test]
async fn tags_that_a_store_drops_are_named() {
    let dropped = |request: &Request<Bytes>| {
        (asks_tags(request) && key_of(request) == "copy").then(|| answer(200, &[], "<Tagging><TagSet/></Tagging>"))
    };
    let (store, asked) = tagged(dropped).await;
    let lost = TagsWritten::Refused("the store takes its tags and does not keep them".to_owned());
    assert_eq!((copy(&store, "tagged").await, copy(&store, "tagged").await), (lost.clone(), lost));
    // The store is asked once.
    assert_eq!(asked.lock().iter().filter(|asked| *asked == "GET copy tags").count(), 1);
}

#[tokio::test]
async fn a_copy_with_fewer_tags_than_were_written_is_named() {
    let counted = |request: &Request<Bytes>| {
        (request.method() == "HEAD").then(|| {
            let mut answer = well(request);
            answer.headers_mut().insert("x-amz-tagging-count", "0".parse().unwrap());
            answer
        })
    };
    let (store, asked) = tagged(counted).await;
    assert!(matches!(copy(&store, "tagged").await, TagsWritten::Refused(_)));
    assert_eq!(asked.lock().last().unwrap(), "HEAD copy");
}
