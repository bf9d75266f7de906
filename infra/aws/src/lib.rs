//! Mill on a fleet: queues in SQS, tables in DynamoDB, stores in S3, or in services that speak the same protocols.
//!
//! Reading order: [`connection`] (how Mill reaches a service, and as whom), `ca_bundle` (whose certificates it trusts),
//! [`S3Service`] (which service it is), [`request_stats`] (what it costs), `sdk_error` (what a failed call means),
//! [`ServiceClock`] (the time that the service reports), `response` (what makes a response of S3 credible),
//! [`deployment`] (the names, settings and keys that a deployment must have, and the check of one), [`queue`],
//! [`table`], [`FleetEngine`] (all of them), [`store`], [`notifications`] (what a bucket reports of its objects).
//!
//! **Invariant:** a request that failed is never read as "not there", and no entry of a batch that failed is ever
//! forgotten. Keys are bytes: nothing is trimmed, collapsed or folded between an id and its key.

mod ca_bundle;
mod clock;
pub mod connection;
pub mod deployment;
mod engine;
mod many_headers;
pub mod notifications;
mod proxy;
pub mod queue;
pub mod request_stats;
mod response;
mod sdk_error;
mod service;
pub mod store;
pub mod table;
mod wrong_address;

pub use ca_bundle::CaBundleError;
pub use clock::ServiceClock;
pub use connection::{
    AccessKeys, Connection, ConnectionError, ConnectionSettings, EndpointError, KeySource, MissingAccess, Role,
};
pub use engine::{FleetEngine, FleetSettings};
pub use queue::{QueueSettings, SqsQueue};
pub use request_stats::RequestStats;
pub use service::S3Service;
pub use store::{OverlapResult, S3Extent, S3Overlap, S3Settings, S3Store, SpaceLayout};
pub use table::DynamoTable;
