//! The time as a service tells it with each answer: a clock that nobody sets together with this host's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{Monotonic, Timestamp};
use mill_ports::{Clock, ClockWitness};

use crate::connection::Connection;
use crate::request_stats::RequestStats;

/// A clock whose second clock is that of a service: the `Date` of its last answer, and the time since.
///
/// Hosts of one fleet share it, as they share no boot clock. As long as no answer came there is no second clock.
#[derive(Debug)]
pub struct ServiceClock {
    own: Arc<dyn Clock>,
    requests: Arc<RequestStats>,
    domain: String,
}

impl ServiceClock {
    /// This host's clock, beside that of the service that a connection leads to.
    pub fn new(own: Arc<dyn Clock>, connection: &Connection) -> Self {
        let domain = format!("service:{}", connection.tables());
        Self { own, requests: connection.requests().clone(), domain }
    }
}

#[async_trait]
impl Clock for ServiceClock {
    fn now(&self) -> Timestamp {
        self.own.now()
    }

    fn monotonic(&self) -> Monotonic {
        self.own.monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        self.own.sleep(duration).await;
    }

    fn witness(&self) -> Option<ClockWitness> {
        // Since the beginning of 1970.
        Some(ClockWitness { domain: self.domain.clone(), at: self.requests.service_time()? })
    }
}
