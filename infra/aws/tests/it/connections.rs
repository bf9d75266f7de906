//! The credentials of requests to a service, and whose certificate it is believed by.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use aws_credential_types::provider::ProvideCredentials as _;
use mill_aws::{Connection, ConnectionSettings, Role, S3Store, SpaceLayout};
use mill_ports::{SourceStore as _, StoreErrorKind, error_chain};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::canned_server::{answer, serve};
use crate::stores::{item, settings, space};

/// Runs a test in its own process with these variables, since all tests share the environment of this one.
fn pass(case: &str, variables: &[(&str, &str)]) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", case, "--ignored"]).env_remove("AWS_CA_BUNDLE");
    for (name, value) in variables {
        child.env(name, value);
    }
    let done = child.output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && told.contains("1 passed"), "{told}");
}

const OTHERS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ENVIRONMENT"), ("AWS_SECRET_ACCESS_KEY", "x")];

async fn key_id(connection: &Connection) -> String {
    let provider = connection.config().credentials_provider().unwrap();
    provider.provide_credentials().await.unwrap().access_key_id().to_owned()
}

#[test]
fn a_profile_goes_before_keys_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, config) = (folder.path().join("credentials"), folder.path().join("config"));
    std::fs::write(&keys, "[archive]\naws_access_key_id = PROFILE\naws_secret_access_key = y\n").unwrap();
    std::fs::write(&config, "[profile archive]\nregion = eu-central-1\n").unwrap();
    let files =
        [("AWS_SHARED_CREDENTIALS_FILE", keys.to_str().unwrap()), ("AWS_CONFIG_FILE", config.to_str().unwrap())];
    pass("connections::with_a_profile_and_keys_of_the_environment", &[&OTHERS[..], &files].concat());
}

#[tokio::test]
#[ignore = "passed in a process of its own"]
async fn with_a_profile_and_keys_of_the_environment() {
    let connection =
        Connection::open(ConnectionSettings { profile: Some("archive".into()), ..ConnectionSettings::default() })
            .await
            .unwrap();
    assert_eq!(connection.region(), Some("eu-central-1"));
    assert_eq!(key_id(&connection).await, "PROFILE");
    assert_eq!(key_id(&Connection::open(ConnectionSettings::default()).await.unwrap()).await, "ENVIRONMENT");
}

const ASSUMED: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ROLE</AccessKeyId>\
    <SecretAccessKey>z</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2199-01-01T00:00:00Z</Expiration>\
    </Credentials></AssumeRoleResult></AssumeRoleResponse>";

#[test]
fn a_role_is_not_asked_of_a_stores_own_address() {
    let roles = serve(|request| {
        assert!(String::from_utf8_lossy(request.body()).contains("Action=AssumeRole&"));
        answer(200, &[("content-type", "text/xml")], ASSUMED)
    });
    pass("connections::with_a_role_and_an_endpoint", &[&OTHERS[..], &[("AWS_ENDPOINT_URL_STS", &roles)]].concat());
}

#[tokio::test]
#[ignore = "passed in a process of its own"]
async fn with_a_role_and_an_endpoint() {
    let endpoint = serve(|_| answer(400, &[], "<Error><Code>InvalidRequest</Code></Error>"));
    let role = Some(Role { arn: "arn:aws:iam::123456789012:role/copies".into(), external_id: None });
    let access = ConnectionSettings { endpoint: Some(endpoint.clone()), role, ..ConnectionSettings::default() };
    let connection = Connection::open(access).await.unwrap();
    assert_eq!(connection.config().endpoint_url(), Some(&*endpoint));
    assert_eq!(key_id(&connection).await, "ROLE");
}

/// A server whose certificate an authority has signed that no host knows. It answers each request as a HEAD of an object with many
/// headers, or with few. Returns its port.
fn of_own_authority(headers: usize) -> u16 {
    const PEM: &[u8] = include_bytes!("../../testdata/of-authority.pem");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let certificate = CertificateDer::from_pem_slice(PEM).unwrap();
    let config = config.with_no_client_auth();
    let config =
        Arc::new(config.with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(PEM).unwrap()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let more = (0..headers).map(|n| format!("x-amz-meta-n{n}: x\r\n")).collect::<Vec<_>>().concat();
    let text = format!(
        "HTTP/1.1 200 OK\r\netag: \"e\"\r\nlast-modified: Sat, 21 Nov 2026 07:28:00 GMT\r\ncontent-length: 10\r\n\
         x-amz-request-id: 1\r\nconnection: close\r\n{more}\r\n"
    );
    std::thread::spawn(move || {
        for line in listener.incoming().flatten() {
            let mut line = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), line);
            // A client that does not trust it disconnects.
            let _ = line.read(&mut [0; 4096]).and_then(|_| line.write_all(text.as_bytes()));
            line.conn.send_close_notify();
            let _ = line.flush();
        }
    });
    port
}

async fn store_with_tls(headers: usize) -> S3Store {
    let endpoint = Some(format!("https://127.0.0.1:{}", of_own_authority(headers)));
    let connection = Connection::open(ConnectionSettings { endpoint, ..ConnectionSettings::default() }).await.unwrap();
    let single = SpaceLayout::Single { space: space(), bucket: "bucket".into(), prefix: String::new() };
    S3Store::new(&connection.without_retries(), settings(single))
}

const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/authority.pem");

#[test]
fn the_authority_that_the_environment_names_is_trusted_alone() {
    let trusted = [&OTHERS[..], &[("AWS_CA_BUNDLE", AUTHORITY)]].concat();
    pass("connections::with_an_authority_of_its_own", &trusted);
    pass("connections::without_an_authority_of_its_own", &OTHERS);
    let another = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/self-signed.pem");
    pass("connections::without_an_authority_of_its_own", &[&OTHERS[..], &[("AWS_CA_BUNDLE", another)]].concat());
}

#[tokio::test]
#[ignore = "passed in a process of its own"]
async fn with_an_authority_of_its_own() {
    for headers in [0, 200] {
        let found = store_with_tls(headers).await.head(&item("a")).await.unwrap().present().unwrap();
        assert_eq!(found.properties.unwrap().0.len(), headers);
    }
}

#[tokio::test]
#[ignore = "passed in a process of its own"]
async fn without_an_authority_of_its_own() {
    let refused = store_with_tls(0).await.head(&item("a")).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Unavailable);
    let words = error_chain(&refused);
    assert!(words.contains("certificate is not trusted") && words.contains("let AWS_CA_BUNDLE name"), "{words}");
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_an_error_that_names_the_variable() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, broken) = (folder.path().join("empty.pem"), folder.path().join("broken.pem"));
    std::fs::write(&empty, "no certificate\n").unwrap();
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for file in [folder.path().join("missing.pem"), folder.path().to_owned(), empty, broken] {
        let named = [("AWS_CA_BUNDLE", file.to_str().unwrap())];
        pass("connections::with_authorities_that_cannot_be_used", &[&OTHERS[..], &named].concat());
    }
}

#[tokio::test]
#[ignore = "passed in a process of its own"]
async fn with_authorities_that_cannot_be_used() {
    let error = Connection::open(ConnectionSettings::default()).await.unwrap_err().to_string();
    assert!(error.starts_with("AWS_CA_BUNDLE names `/") && error.contains("PEM form"), "{error}");
}
