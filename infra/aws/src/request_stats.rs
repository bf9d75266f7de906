//! Counts the requests to the services: each attempt of each call. Notes the service's time too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;
use parking_lot::Mutex;

/// The requests of one connection since its beginning.
#[derive(Debug, Default)]
pub struct RequestStats {
    total: AtomicU64,
    by_operation: Mutex<BTreeMap<String, u64>>,
    /// By how much the service's clock is ahead of this machine's.
    skew_millis: AtomicI64,
    /// The time in the service's last response, since the start of 1970, and when that response came.
    service_time: Mutex<Option<(Duration, Instant)>>,
}

impl RequestStats {
    /// The number of requests.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The number of requests of each operation, by its name in the service's documentation.
    pub fn by_operation(&self) -> BTreeMap<String, u64> {
        self.by_operation.lock().clone()
    }

    /// By how much the service's clock is ahead of this machine's, in ms, according to its last response.
    pub(crate) fn skew_millis(&self) -> i64 {
        self.skew_millis.load(Ordering::Relaxed)
    }

    /// The time by the service's clock, since the start of 1970: that of its last response, plus the time since then.
    pub(crate) fn service_time(&self) -> Option<Duration> {
        let (time, at) = (*self.service_time.lock())?;
        Some(time + at.elapsed())
    }

    fn count(&self, operation: &str) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut by_operation = self.by_operation.lock();
        match by_operation.get_mut(operation) {
            Some(count) => *count += 1,
            None => _ = by_operation.insert(operation.to_owned(), 1),
        }
    }

    /// Notes the `Date` of a response; `own` if it surely comes from the service itself, now.
    fn note_date(&self, date: &str, own: bool) {
        let Ok(theirs) = DateTime::from_str(date, Format::HttpDate) else { return };
        let (Ok(theirs), Ok(ours)) = (theirs.to_millis(), DateTime::from(SystemTime::now()).to_millis()) else {
            return;
        };
        self.skew_millis.store(theirs - ours, Ordering::Relaxed);
        if let (true, Ok(theirs)) = (own, u64::try_from(theirs)) {
            let time = Some((Duration::from_millis(theirs), Instant::now()));
            *self.service_time.lock() = time;
        }
    }
}

/// An interceptor that counts each request.
#[derive(Debug, Clone)]
pub(crate) struct RequestCounter(pub(crate) Arc<RequestStats>);

#[dyn_dispatch_hint]
impl Intercept for RequestCounter {
    fn name(&self) -> &'static str {
        "mill-counting"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.count(config.load::<Metadata>().map_or("unknown", Metadata::name));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        // A proxy before the service may send its own response, or an old one from its cache.
        let own = headers.get("x-amzn-requestid").or(headers.get("x-amz-request-id")).is_some();
        if let Some(date) = headers.get("date") {
            self.0.note_date(date, own && headers.get("age").is_none());
        }
        Ok(())
    }
}

/// Counts the attempts of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttemptCounter(Arc<AtomicU32>);

impl AttemptCounter {
    /// Whether there was more than one attempt: an earlier one may have taken effect.
    pub(crate) fn was_retried(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

#[dyn_dispatch_hint]
impl Intercept for AttemptCounter {
    fn name(&self) -> &'static str {
        "mill-tries"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
