//! The servers of the tests: ministack, started once for this process and ended with it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use mill_aws::deployment::{self, ResourceNames};
use mill_aws::{AccessKeys, Connection, ConnectionSettings, KeySource};
use mill_local::OsClock;
use mill_records::tables::table_names;

use crate::ministack::start;

/// The address of ministack.
pub(crate) fn ministack() -> &'static str {
    static STARTED: OnceLock<String> = OnceLock::new();
    STARTED.get_or_init(start)
}

/// The address of a second server, for queues: their tests run in real time, and a busy server would be late.
pub(crate) fn punctual() -> &'static str {
    static STARTED: OnceLock<String> = OnceLock::new();
    STARTED.get_or_init(start)
}

/// How a server is reached.
pub(crate) fn access(endpoint: &str) -> ConnectionSettings {
    ConnectionSettings {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".into()),
        keys: Some(KeySource::fixed(AccessKeys { id: "test".into(), secret: "test".into(), token: None })),
        ..ConnectionSettings::default()
    }
}

/// A connection to a server.
pub(crate) async fn connect(endpoint: &str) -> Connection {
    Connection::open(access(endpoint)).await.unwrap()
}

/// A name that is not in use on the servers.
pub(crate) fn fresh(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A new installation.
pub(crate) async fn installation(server: &str) -> (Connection, ResourceNames) {
    let connection = connect(server).await;
    let names = ResourceNames::new(fresh("mill"), table_names());
    deployment::provision(&connection, &names, &OsClock).await.unwrap();
    (connection, names)
}

pub(crate) fn clock() -> Arc<OsClock> {
    Arc::new(OsClock)
}
