//! The credentials of requests to a service.

use std::process::Command;

use aws_credential_types::provider::ProvideCredentials as _;
use mill_aws::{Connection, ConnectionSettings, Role};

use crate::canned_server::{answer, serve};

/// Runs a test in its own process with these variables, since all tests share the environment of this one.
fn pass(case: &str, variables: &[(&str, &str)]) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", case, "--ignored"]);
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
