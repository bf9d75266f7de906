//! Mill on a fleet: queues in SQS, books in DynamoDB, stores in S3, or whatever speaks as they do.
//!
//! Reading order: [`connection`] (how a service is reached, and as whom), [`S3Service`] (which one it is), [`requests`] (what
//! it costs), `trouble` (what a failed call means), [`ServiceClock`] (what time the service says it is), `answer` (what an
//! answer of S3 must be to be believed), [`contract`] (names, settings and keys that a deployment must have, and the comparison
//! with one), [`queue`], [`table`], [`store`].
//!
//! **Invariant:** a request that failed is never read as "not there", and no entry of a batch that failed is ever
//! forgotten. Keys are bytes: nothing is trimmed, collapsed or folded between an id and its key.

mod answer;
mod clock;
pub mod connection;
pub mod contract;
mod heads;
mod proxies;
pub mod queue;
pub mod requests;
mod service;
pub mod store;
pub mod table;
mod trouble;
mod wrong_address;

pub use clock::ServiceClock;
pub use connection::{Access, BadAddress, Connection, KeySource, Keys, Role};
pub use queue::{QueueSettings, SqsQueue};
pub use requests::Requests;
pub use service::S3Service;
pub use store::{S3Extent, S3Ground, S3Overlap, S3Settings, S3Store, Spaces, Witnessed};
pub use table::DynamoTable;
