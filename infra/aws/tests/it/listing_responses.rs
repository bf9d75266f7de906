//! Responses that are truncated, contradict themselves, or do not come from S3: none is believed.
//!
//! The errors come from bug reports on servers and copy tools, and from each part of a response left out, doubled or
//! inverted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mill_aws::{Connection, S3Settings, S3Store, SpaceLayout};
use mill_model::{Properties, SpaceId};
use mill_ports::{
    ByteRange, DeletableStore, DestinationStore, ListEntry, Precondition, PutRequest, SourceStore, StoreError,
    StoreErrorKind,
};

use crate::canned_server::{answer, listing, not_there, serve};
use crate::stores::{MODIFIED, body, item, pattern, settings, space};

/// A connection without retries.
async fn connect(endpoint: &str) -> Connection {
    crate::servers::connect(endpoint).await.without_retries()
}

/// A store on a server with these responses.
async fn canned(endpoint: &str) -> S3Store {
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    S3Store::new(&connect(endpoint).await, S3Settings { part_bytes: 64 << 10, ..settings(single) })
}

/// A server with these listings, page by page, by the token of the request.
async fn lists(pages: Vec<(&'static str, String)>) -> S3Store {
    let endpoint = serve(move |request| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let token = query.split('&').find_map(|part| part.strip_prefix("continuation-token=")).unwrap_or_default();
        let behind = query.contains("start-after=");
        let page = pages.iter().find(|(asked, _)| if behind { *asked == "behind" } else { *asked == token });
        match (request.method().as_str(), page) {
            ("HEAD", _) => not_there(),
            (_, Some((_, page))) => answer(200, &[], page),
            (_, None) => answer(200, &[], &listing(&[], None)),
        }
    });
    canned(&endpoint).await
}

async fn listed(store: &S3Store) -> Result<Vec<String>, StoreError> {
    let pages: Vec<_> = store.list(&space(), None).try_collect().await?;
    let names = pages.into_iter().flat_map(|page| page.entries).map(|entry| match entry {
        ListEntry::Item(id, _) => id.as_str().to_owned(),
        ListEntry::Refused { shown, .. } => format!("refused {shown}"),
        ListEntry::Hidden { shown } => format!("hidden {shown}"),
    });
    Ok(names.collect())
}

/// The result of each of many bodies: one server returns the n-th for the bucket `bn`.
async fn each<T: Send + 'static>(bodies: Vec<String>, status: u16, what: impl AsyncFn(S3Store) -> T) -> Vec<T> {
    let bodies = Arc::new(bodies);
    let served = bodies.clone();
    let endpoint = serve(move |request| {
        let bucket = request.uri().path().split('/').nth(1).unwrap_or_default();
        let body = &served[bucket.trim_start_matches('b').parse::<usize>().unwrap()];
        answer(status, &[], body)
    });
    let connection = connect(&endpoint).await;
    let store = |at: usize| {
        let single = SpaceLayout::Single { space: space(), bucket: format!("b{at}"), prefix: String::new() };
        S3Store::new(&connection, settings(single))
    };
    stream::iter(0..bodies.len()).map(|at| what(store(at))).buffered(64).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_cut_at_any_byte_is_an_error() {
    let whole = listing(&["a", "c", "d%2Fe"], None).replace("<Name>bucket</Name>", "");
    let cuts = (0..whole.len()).map(|cut| whole[..cut].to_owned()).collect();
    for (cut, outcome) in each(cuts, 200, async |store| listed(&store).await).await.into_iter().enumerate() {
        assert!(outcome.is_err(), "cut at {cut}: {outcome:?}");
    }
}

/// Each response differs from a correct one in a single place.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_contradicts_itself_or_the_request_is_an_error() {
    let right = listing(&["a", "c"], None);
    let entry = "<Contents><Key>c</Key><LastModified>2026-11-21T07:28:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>\
        <Size>3</Size><StorageClass>STANDARD</StorageClass></Contents>";
    let end = "<IsTruncated>false</IsTruncated>";
    let wrong: Vec<(&str, &str, &str)> = vec![
        (end, "", "no word of the end"),
        (end, "<IsTruncated>true</IsTruncated>", "more, and no word of where"),
        (end, "<IsTruncated>true</IsTruncated><NextContinuationToken/>", "more, and an empty word of where"),
        (end, "<IsTruncated></IsTruncated>", "no word in it"),
        (end, "<IsTruncated>no</IsTruncated>", "another word"),
        (end, "<IsTruncated>false</IsTruncated><IsTruncated>false</IsTruncated>", "the end twice"),
        (end, "<IsTruncated>true</IsTruncated><IsTruncated>false</IsTruncated>", "more, and the end"),
        (end, "<IsTruncated>false</IsTruncated><NextContinuationToken>t</NextContinuationToken>", "the end, and more"),
        ("<KeyCount>2<", "<KeyCount>3<", "more counted than came"),
        ("<KeyCount>2<", "<KeyCount>1<", "fewer counted than came"),
        ("<KeyCount>2<", "<KeyCount>-2<", "a count of no sense"),
        (entry, "", "an entry left out"),
        ("<Name>bucket<", "<Name>another<", "another bucket's"),
        ("<MaxKeys>", "<Prefix>x/</Prefix><MaxKeys>", "another prefix's"),
        ("<MaxKeys>", "<Delimiter>/</Delimiter><MaxKeys>", "rolled up"),
        ("<MaxKeys>", "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes><MaxKeys>", "something rolled up"),
        ("<Key>c</Key>", "", "an entry without a key"),
        ("<Key>c</Key>", "<Key/>", "an entry of no key"),
        ("<Key>c</Key>", "<Key>c</Key><Key>d</Key>", "an entry of two keys"),
        ("<Key>c</Key>", "<Key>a</Key>", "a key twice"),
        ("<Key>c</Key>", "<Key>Z</Key>", "keys out of order"),
        ("<Size>3</Size>", "", "an entry without a size"),
        ("<Size>3</Size>", "<Size>-3</Size>", "an entry of no size"),
        ("<Size>3</Size>", "<Size>3</Size><Size>4</Size>", "an entry of two sizes"),
        ("<ETag>&quot;e&quot;</ETag>", "", "an entry without a tag"),
        ("<LastModified>2026-11-21T07:28:00.000Z</LastModified>", "", "an entry without a time"),
        ("<Key>c</Key>", "<Key>c<x/></Key>", "an element in a key"),
        ("<Key>c</Key>", "c<Key>d</Key>", "a text beside a key"),
        ("<Key>c</Key>", "<Key>c&nbsp;</Key>", "a reference that no XML has"),
        ("</ListBucketResult>", "</ListBucketResult><ListBucketResult/>", "two documents"),
    ];
    let answers = wrong.iter().map(|(part, other, what)| {
        let answer = right.replacen(part, other, 1);
        assert_ne!(answer, right, "{what}");
        answer.replace("<Name>bucket</Name>", "")
    });
    // The one about the bucket's name keeps it.
    let outcomes = each(answers.collect(), 200, async |store| listed(&store).await).await;
    for ((_, _, what), outcome) in wrong.iter().zip(outcomes) {
        assert!(outcome.is_err(), "{what}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_may_have_extra_members_and_lack_optional_ones() {
    let right = listing(&["a", "c"], None);
    for (part, other) in [
        ("<Name>bucket</Name>", ""),
        ("<KeyCount>2</KeyCount>", ""),
        ("<MaxKeys>", "<Prefix></Prefix><Delimiter/><StartAfter/><ContinuationToken/><New>x</New><MaxKeys>"),
        (
            "<IsTruncated>false</IsTruncated>",
            "<NextContinuationToken></NextContinuationToken><IsTruncated>false</IsTruncated>",
        ),
        (
            "<StorageClass>",
            "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumAlgorithm>SHA1</ChecksumAlgorithm><StorageClass>",
        ),
        ("</ListBucketResult>", "\n</ListBucketResult>\n"),
        // The SDK's own parser takes the first part of these for the whole.
        ("<Key>a</Key>", "<Key><![CDATA[a]]></Key>"),
        ("<Key>c</Key>", "<Key><!-- the last -->c</Key>"),
        ("<Key>c</Key>", "<Key>&#99;</Key>"),
    ] {
        let store = lists(vec![("", right.replace(part, other))]).await;
        assert_eq!(listed(&store).await.unwrap(), ["a", "c"], "{other}");
    }
}

/// A bug of several services: the token for a page is returned with that page again.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_goes_round_is_an_error() {
    let rounds = [
        vec![("", listing(&["a"], Some("t"))), ("t", listing(&[], Some("t")))],
        vec![("", listing(&["a"], Some("t"))), ("t", listing(&["a"], Some("t")))],
        vec![("", listing(&["a"], Some("t"))), ("t", listing(&[], Some("u"))), ("u", listing(&[], Some("t")))],
        vec![("", listing(&["b"], Some("t"))), ("t", listing(&["a"], None))],
    ];
    for pages in rounds {
        let shown = format!("{pages:?}");
        let outcome = listed(&lists(pages).await).await;
        assert_eq!(outcome.map_err(|error| error.kind), Err(StoreErrorKind::Unexpected), "{shown}");
    }
    // Services return empty pages where much was deleted.
    let pages = vec![("", listing(&[], Some("t"))), ("t", listing(&[], Some("u"))), ("u", listing(&["a"], None))];
    assert_eq!(listed(&lists(pages).await).await.unwrap(), ["a"]);
}

/// A bug of a server: it reported the end with a third of the keys still to come.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_behind_a_listing_that_is_said_to_end_is_listed() {
    let pages = [listing(&["a", "b"], None), listing(&["c"], None)];
    let behind = AtomicUsize::new(0);
    let endpoint = serve(move |request| {
        let query = request.uri().query().unwrap_or_default();
        let page = match query.split('&').find_map(|part| part.strip_prefix("start-after=")) {
            None => &pages[0],
            Some("b") => &pages[1],
            Some(_) => {
                behind.fetch_add(1, Ordering::Relaxed);
                return answer(200, &[], &listing(&[], None));
            }
        };
        answer(200, &[], page)
    });
    let store = canned(&endpoint).await;
    assert_eq!(listed(&store).await.unwrap(), ["a", "b", "c"]);
    // A server that ignores `start-after` cannot say so.
    let endpoint = serve(|_| answer(200, &[], &listing(&["a", "b"], None)));
    let store = canned(&endpoint).await;
    assert_eq!(listed(&store).await.unwrap_err().kind, StoreErrorKind::Unexpected);
}

/// Bugs of many services: keys are encoded without notice; they are not encoded despite the notice; a plus stands for
/// itself.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_never_confused_whatever_encoding_a_server_claims() {
    let said = "<EncodingType>url</EncodingType>";
    for (keys, listed_as, says, right) in [
        (&["a b", "c+d"][..], &["a+b", "c%2Bd"][..], said, true),
        (&["a b", "c+d"], &["a%20b", "c%2Bd"], said, true),
        (&["a b", "c+d", "e%41"], &["a b", "c+d", "e%41"], "", true),
        (&["a b", "c+d"], &["a+b", "c%2Bd"], "", false),
        (&["a b"], &["a%20b"], "", false),
        (&["c+d"], &["c+d"], said, false),
        (&["e%41"], &["e%41"], said, false),
        (&["a b", "c+d"], &["a%20b", "c+d"], said, false),
        // It lists a key that a HEAD does not find.
        (&[], &["x+y"], said, false),
    ] {
        let page = listing(listed_as, None).replace(said, says);
        let there: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let endpoint = serve(move |request| {
            if request.method() != "HEAD" {
                let behind = request.uri().query().unwrap_or_default().contains("start-after=");
                return answer(200, &[], if behind { listing(&[], None) } else { page.clone() }.as_str());
            }
            let key = percent(request.uri().path().trim_start_matches("/bucket/"));
            if there.contains(&key) {
                answer(200, &[("etag", "\"e\""), ("content-length", "3"), ("last-modified", MODIFIED)], "")
            } else {
                not_there()
            }
        });
        let store = canned(&endpoint).await;
        match listed(&store).await {
            Ok(found) => assert!(right && found == keys, "{listed_as:?} {says}: {found:?}"),
            Err(error) => {
                assert!(!right && error.kind == StoreErrorKind::Unexpected, "{listed_as:?} {says}: {error:?}");
            }
        }
    }
}

/// A path in a request: a plus stands for itself.
pub(crate) fn percent(path: &str) -> String {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let value = std::str::from_utf8(behind.get(..2).unwrap_or_default()).ok();
        let value = value.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *byte == b'%');
        out.push(value.unwrap_or(*byte));
        rest = if value.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(out).unwrap()
}

const BUCKETS: &str = "<ListAllMyBucketsResult><Owner><ID>i</ID></Owner><Buckets>\
    <Bucket><Name>mill-a</Name><CreationDate>2026-11-21T07:28:00.000Z</CreationDate></Bucket>\
    <Bucket><Name>mill-b</Name></Bucket><Bucket><Name>other</Name></Bucket></Buckets></ListAllMyBucketsResult>";

async fn buckets(pages: Vec<(&'static str, String)>) -> Result<Vec<String>, StoreError> {
    let endpoint = serve(move |request| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let token = query.split('&').find_map(|part| part.strip_prefix("continuation-token=")).unwrap_or_default();
        answer(200, &[], pages.iter().find(|(asked, _)| *asked == token).map_or("", |(_, page)| page))
    });
    let connection = connect(&endpoint).await;
    let store = S3Store::new(&connection, settings(SpaceLayout::Buckets { prefix: "mill-".into() }));
    Ok(store.spaces().await?.iter().map(ToString::to_string).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_buckets_is_whole_or_an_error() {
    assert_eq!(buckets(vec![("", BUCKETS.to_owned())]).await.unwrap(), ["a", "b"]);
    let empty = "<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>";
    assert_eq!(buckets(vec![("", empty.to_owned())]).await.unwrap(), [""; 0]);
    let more = |token: &str| {
        let end = format!("</Buckets><ContinuationToken>{token}</ContinuationToken>");
        BUCKETS.replace("mill-b", "mill-c").replace("</Buckets>", &end)
    };
    let second =
        "<ListAllMyBucketsResult><Buckets><Bucket><Name>mill-x</Name></Bucket></Buckets></ListAllMyBucketsResult>";
    let two = vec![("", more("t")), ("t", second.to_owned())];
    assert_eq!(buckets(two).await.unwrap(), ["a", "c", "x"]);
    let wrong = [
        vec![("", "<ListAllMyBucketsResult></ListAllMyBucketsResult>".to_owned())],
        vec![("", "<ListAllMyBucketsResult><Owner/></ListAllMyBucketsResult>".to_owned())],
        vec![("", BUCKETS.replace("<Name>mill-b</Name>", ""))],
        vec![("", BUCKETS.replace("mill-b", "mill-a"))],
        vec![("", BUCKETS.replace("<Buckets>", "<Buckets/><Buckets>"))],
        vec![("", BUCKETS.replace("<Buckets>", "<Prefix>x-</Prefix><Buckets>"))],
        vec![("", more("t")), ("t", more("t"))],
        vec![("", more("t")), ("t", second.replace("</ListAllMyBucketsResult>", ""))],
        vec![("", BUCKETS[..BUCKETS.len() - 30].to_owned())],
    ];
    for pages in wrong {
        let shown = format!("{pages:?}");
        assert_eq!(buckets(pages).await.map_err(|error| error.kind), Err(StoreErrorKind::Unexpected), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_spaces_in_a_bucket_is_whole_or_an_error() {
    let folder = |name: &str| format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>");
    let page = |folders: &[&str], next: Option<&str>| {
        let folders: String = folders.iter().map(|name| folder(name)).collect();
        listing(&[], next).replace("</ListBucketResult>", &format!("{folders}</ListBucketResult>"))
    };
    let counted = |page: String, count: usize| page.replace("<KeyCount>0<", &format!("<KeyCount>{count}<"));
    let spaces = async |pages: Vec<(&'static str, String)>| {
        let endpoint = serve(move |request| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let token = query.split('&').find_map(|part| part.strip_prefix("continuation-token=")).unwrap_or_default();
            answer(200, &[], pages.iter().find(|(asked, _)| *asked == token).map_or("", |(_, page)| page))
        });
        let connection = connect(&endpoint).await;
        let store = S3Store::new(&connection, settings(SpaceLayout::InBucket("bucket".into())));
        store.spaces().await.map(|spaces| spaces.iter().map(SpaceId::to_string).collect::<Vec<_>>())
    };
    let two = || vec![("", counted(page(&["a/", "b/"], Some("t")), 2)), ("t", page(&["c/"], None))];
    assert_eq!(spaces(two()).await.unwrap(), ["a", "b", "c"]);
    let wrong = [
        vec![("", page(&["a/", "b/"], None).replace("<IsTruncated>false</IsTruncated>", ""))],
        vec![("", page(&["b/", "a/"], None))],
        vec![("", page(&["a/", "a/"], None))],
        vec![("", page(&["a/b/"], None))],
        vec![("", page(&["a"], None))],
        vec![("", counted(page(&["a/"], None), 2))],
        vec![("", page(&["a/"], Some("t"))), ("t", page(&["a/"], None))],
        vec![("", page(&["a/"], Some("t"))), ("t", page(&["b/"], Some("t")))],
        vec![("", page(&["a/"], None).replace("<Prefix>a/</Prefix>", ""))],
        vec![("", page(&["a/"], None).replace("</ListBucketResult>", ""))],
    ];
    for pages in wrong {
        let shown = format!("{pages:?}");
        assert_eq!(spaces(pages).await.map_err(|error| error.kind), Err(StoreErrorKind::Unexpected), "{shown}");
    }
}

/// As behind a proxy or a login portal: each request gets an HTML page.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_something_else_is_neither_presence_nor_absence_nor_success() {
    let pages = [
        "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body><p>Log in<br></body></html>",
        "<html><body><h1>404 Not Found</h1></body></html>",
        "",
        "{\"message\":\"NoSuchKey\"}",
    ];
    for (status, page) in [200, 404].into_iter().flat_map(|status| pages.map(|page| (status, page))) {
        let endpoint = serve(move |request| {
            let page = if request.method() == "HEAD" { "" } else { page };
            answer(status, &[("content-type", "text/html"), ("etag", "\"5f-1\"")], page)
        });
        let store = canned(&endpoint).await;
        let what = format!("{status} {page}");
        let bytes = pattern(10);
        let content = |size| PutRequest::new(size, Properties::default());
        assert!(store.space(&space()).await.is_err(), "space: {what}");
        assert!(store.spaces().await.is_err(), "spaces: {what}");
        assert!(store.head(&item("a")).await.is_err(), "head: {what}");
        assert!(store.open(&item("a"), None, None).await.is_err(), "open: {what}");
        let part = ByteRange { offset: 0, length: 4 };
        assert!(store.open(&item("a"), Some(part), None).await.is_err(), "part: {what}");
        assert!(listed(&store).await.is_err(), "list: {what}");
        assert!(store.delete(&item("a"), &Precondition::Always).await.is_err(), "delete: {what}");
        let properties = store.put_properties(&item("a"), &Properties::default(), &Precondition::Always).await;
        assert!(properties.is_err(), "properties: {what}");
        let large = pattern(200_000);
        assert!(
            store.put(&item("a"), &content(200_000), &Precondition::Always, body(&large)).await.is_err(),
            "put in parts: {what}"
        );
        let whole = store.put(&item("a"), &content(10), &Precondition::Always, body(&bytes)).await;
        assert!(whole.is_err(), "put: {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_another_worker_made_meanwhile_is_no_strangers() {
    for (listed, is_ours) in [("bucket", true), ("bucket-of-ours", false)] {
        let endpoint = serve(move |request| match request.method().as_str() {
            "PUT" => answer(409, &[], "<Error><Code>BucketAlreadyExists</Code><Message>taken</Message></Error>"),
            _ => answer(
                200,
                &[],
                &format!(
                    "<ListAllMyBucketsResult><Buckets><Bucket><Name>{listed}</Name></Bucket></Buckets></ListAllMyBucketsResult>"
                ),
            ),
        });
        let made = canned(&endpoint).await.create_space(&space()).await;
        match made {
            Ok(()) => assert!(is_ours, "a stranger's bucket was taken for ours"),
            Err(error) => assert!(!is_ours && error.to_string().contains("somebody else"), "{error}"),
        }
    }
}
