//! Failures that waiting does not fix. Their messages say where, as whom, in whose words, and what to do.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use futures::TryStreamExt as _;
use mill_aws::{AccessKeys, Connection, ConnectionSettings, KeySource, S3Store, SpaceLayout};
use mill_ports::{SourceStore, StoreErrorKind, error_chain};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::canned_server::{answer, serve};
use crate::failure_scope::well;
use crate::servers::ministack;
use crate::signature_server;
use crate::stores::{item, settings, space};

const KEY: &str = "AKIAPHOTOS";
const SECRET: &str = "kept-to-itself";

async fn store(endpoint: &str, bucket: &str) -> S3Store {
    store_over(&connection(endpoint).await, bucket)
}

async fn connection(endpoint: &str) -> Connection {
    let keys = AccessKeys { id: KEY.into(), secret: SECRET.into(), token: None };
    let access = ConnectionSettings {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".into()),
        keys: Some(KeySource::fixed(keys)),
        ..ConnectionSettings::default()
    };
    Connection::open(access).await.unwrap()
}

fn store_over(connection: &Connection, bucket: &str) -> S3Store {
    let single = SpaceLayout::Single { space: space(), bucket: bucket.into(), prefix: String::new() };
    S3Store::new(connection, settings(single))
}

/// A server that sends these bytes to each client. Returns its port.
fn says(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut line in listener.incoming().flatten() {
            // A client that disconnects is no failure of this server.
            _ = line.read(&mut [0; 4096]).and_then(|_| line.write_all(bytes));
        }
    });
    port
}

/// A server with an untrusted certificate. Returns its port.
fn self_signed() -> u16 {
    const PEM: &[u8] = include_bytes!("../../testdata/self-signed.pem");
    let certificate = CertificateDer::from_pem_slice(PEM).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(PEM).unwrap());
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut line in listener.incoming().flatten() {
            let mut tls = ServerConnection::new(config.clone()).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut line).is_ok() {}
        }
    });
    port
}

#[tokio::test]
async fn an_error_for_a_person_says_where_whom_and_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("photos")).unwrap();
    let other_secret = signature_server::serve(root.path(), KEY, "another");
    let other_key = signature_server::serve(root.path(), "AKIAOTHER", SECRET);
    let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region 'us-east-1' is wrong; \
                     expecting 'eu-central-1'</Message><Region>eu-central-1</Region></Error>";
    let elsewhere = serve(move |_| answer(400, &[("x-amz-bucket-region", "eu-central-1")], malformed));
    let moved = "<Error><Code>PermanentRedirect</Code><Message>Elsewhere.</Message></Error>";
    let moved = serve(move |_| answer(301, &[("x-amz-bucket-region", "eu-central-1")], moved));
    let page = "<html><center>The plain HTTP request was sent to HTTPS port</center></html>";
    let page = serve(move |_| answer(400, &[], page));
    let plain = serve(well).replace("http:", "https:");
    let alert = format!("http://127.0.0.1:{}", says(b"\x15\x03\x01\x00\x02\x02\x46"));
    let refuses = format!("https://127.0.0.1:{}", says(b"\x15\x03\x01\x00\x02\x02\x28"));
    let self_signed = format!("https://127.0.0.1:{}", self_signed());
    let of_proxy = "<html><body>Authenticate first.</body></html>";
    let wants_login = serve(move |_| answer(407, &[("proxy-authenticate", "Basic realm=\"all\"")], of_proxy));
    let portal = serve(move |_| answer(511, &[], of_proxy));
    let console = serve(move |_| answer(200, &[("content-type", "text/html")], "<!DOCTYPE html><html>Log in</html>"));
    let unavailable = StoreErrorKind::Unavailable;
    for (endpoint, bucket, kind, words) in [
        (
            other_secret.as_str(),
            "photos",
            &unavailable,
            &["SignatureDoesNotMatch", "check the key id and its secret"][..],
        ),
        (&other_key, "photos", &unavailable, &["check the key id and its secret"]),
        (
            &elsewhere,
            "photos",
            &unavailable,
            &["expecting 'eu-central-1'", "check the region", "bucket in region eu-central-1"],
        ),
        (&moved, "photos", &StoreErrorKind::NotConfigured, &["PermanentRedirect", "check the region"]),
        (
            ministack(),
            "no-such-bucket",
            &StoreErrorKind::SpaceAbsent,
            &["NoSuchBucket", "make the bucket, or check its name"],
        ),
        (
            // This form needs no resolver, which a machine may lack.
            "http://-no-such-host.invalid",
            "photos",
            &unavailable,
            &["dns error", "no host has this name", "--source-endpoint"],
        ),
        (
            &plain,
            "photos",
            &unavailable,
            &["no TLS is spoken there", "begins with `https:`", "the `endpoint` of the store"],
        ),
        (&wants_login, "photos", &unavailable, &["HTTP 407", "the proxy wants a name and a password", "HTTPS_PROXY"]),
        (&portal, "photos", &unavailable, &["HTTP 511", "the network wants a login"]),
        (&console, "photos", &unavailable, &["an HTML page", "HTTP 200", "another server answers there"]),
        (&alert, "photos", &unavailable, &["no plain HTTP is spoken there", "begins with `http:`"]),
        (&page, "photos", &unavailable, &["no plain HTTP is spoken there", "begins with `http:`"]),
        (&self_signed, "photos", &unavailable, &["its certificate is not trusted", "invalid peer certificate"]),
        (&refuses, "photos", &unavailable, &["no TLS can be agreed on", "HandshakeFailure"]),
    ] {
        let error = match store(endpoint, bucket).await.list(&space(), None).try_next().await {
            Err(error) => error,
            Ok(found) => panic!("{endpoint}: {found:?}"),
        };
        let told = error_chain(&error);
        assert_eq!(error.kind, *kind, "{endpoint}: {told}");
        let place = format!("(at {endpoint}, bucket `{bucket}`, region `us-east-1`, key id `{KEY}`)");
        assert_eq!(told.matches(&place).count(), 1, "{place}: {told}");
        for words in words {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert!(!told.contains(SECRET) && !format!("{error:?}").contains(SECRET), "{told}");
    }
}

#[tokio::test]
async fn a_server_other_than_s3_is_named_with_address_and_response() {
    const PAGE: &str = "<!DOCTYPE html><html><body>Come back later.</body></html>";
    let html = ("content-type", "text/html; charset=utf-8");
    let elsewhere = ("location", "https://anna:pass@login.test:8443/enter?ticket=not-for-logs");
    let sends_on = "sends on to `https://login.test:8443`";
    let (later, in_its_place) = ("try again later", "a proxy or another server may answer in its place");
    for (status, headers, body, came) in [
        (301, vec![elsewhere], "", &["an empty answer", sends_on, "another server answers there"][..]),
        (302, vec![elsewhere, html], PAGE, &["an HTML page", sends_on, "another server answers there"]),
        (307, vec![elsewhere], "", &["an empty answer", sends_on, "another server answers there"]),
        (429, vec![html], PAGE, &["an HTML page", later, in_its_place]),
        (429, vec![("content-type", "application/json")], "{}", &["an answer of type `application/json`", later]),
        (503, vec![html], PAGE, &["an HTML page", later, in_its_place]),
        (503, vec![], "", &["an empty answer", later, in_its_place]),
        (418, vec![("content-type", "text/plain")], "tea", &["an answer of type `text/plain`"]),
        (200, vec![("content-type", "application/json")], "{}", &["no XML document of S3"]),
    ] {
        let endpoint = serve(move |_| answer(status, &headers, body));
        let store = store_over(&connection(&endpoint).await.without_retries(), "photos");
        let error = match store.list(&space(), None).try_next().await {
            Err(error) => error,
            Ok(found) => panic!("{status}: {found:?}"),
        };
        let told = error_chain(&error);
        let place = format!("(at {endpoint}, bucket `photos`");
        for words in [place.as_str(), &format!("(HTTP {status}")].iter().chain(came) {
            assert_eq!(told.matches(words).count(), 1, "{status}: {words}: {told}");
        }
        for secret in ["anna", "pass@", "not-for-logs", SECRET] {
            assert!(!told.contains(secret), "{status}: {told}");
        }
        assert!(!told.contains("check the region"), "{status}: {told}");
    }
}

#[tokio::test]
async fn a_failure_of_one_item_does_not_say_where_its_store_is() {
    let denied = "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>";
    let endpoint = serve(
        move |request| if request.uri().path().ends_with("/a") { answer(403, &[], denied) } else { well(request) },
    );
    let error = store(&endpoint, "bucket").await.open(&item("a"), None, None).await.unwrap_err();
    assert!(matches!(error.kind, StoreErrorKind::Refused(_)), "{error:?}");
    assert!(!error_chain(&error).contains("(at "), "{}", error_chain(&error));
}
