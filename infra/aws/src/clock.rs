//! The time in a service's responses: a clock that is independent of this host's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{Monotonic, Timestamp};
use mill_ports::{Clock, SecondClockReading};

use crate::connection::Connection;
use crate::request_stats::RequestStats;

/// A clock whose witness is a service's clock: the `Date` of its last response, plus the time since.
///
/// Hosts of one fleet share this witness, while each has its own boot clock. There is no witness before the first response.
#[derive(Debug)]
pub struct ServiceClock {
    own: Arc<dyn Clock>,
    requests: Arc<RequestStats>,
    domain: String,
}

impl ServiceClock {
    /// This host's clock, with the connection's service as its witness.
    pub fn new(own: Arc<dyn Clock>, connection: &Connection) -> Self {
        let domain = format!("service:{}", connection.table_service());
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

    fn awake(&self) -> Monotonic {
        self.own.awake()
    }

    async fn sleep(&self, duration: Duration) {
        self.own.sleep(duration).await;
    }

    fn second_clock(&self) -> Option<SecondClockReading> {
        // Since the beginning of 1970.
        Some(SecondClockReading { domain: self.domain.clone(), at: self.requests.service_time()? })
    }
}
