//! Retries a call within one attempt. A retry does not count as a failure of the task; the last error does.

use std::sync::Arc;
use std::time::Duration;

use backon::Retryable as _;
use futures::future::BoxFuture;
use mill_ports::{Attempt, Clock, DeedCheck, Rng, RngExt as _, StoreError, StoreErrorKind, with_deed_check};
use tracing::debug;

use crate::early_exit::EarlyExit;

/// An error that may contain the error of a store.
pub(crate) trait HasStoreError {
    fn store_error(&self) -> Option<&StoreError>;
}

impl HasStoreError for StoreError {
    fn store_error(&self) -> Option<&StoreError> {
        Some(self)
    }
}

/// Makes a call up to three times, for the kinds of failure that may pass.
#[derive(Debug, Clone)]
pub(crate) struct StoreRetry {
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Rng>,
}

impl StoreRetry {
    /// The longest delays before the second and the third try. The real delays are drawn from zero up to these ("full jitter"),
    /// so that many workers do not come back at one moment.
    const WAITS_MAX: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(2)];

    /// A longer `retry_after` of a store snoozes the task instead of delaying this attempt.
    const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

    pub(crate) fn new(clock: Arc<dyn Clock>, chance: Arc<dyn Rng>) -> Self {
        Self { clock, chance }
    }

    /// Calls until the call succeeds, fails for good, or the tries are used up. Returns the last error.
    pub(crate) async fn run<T, E, C, F>(&self, call: C) -> Result<T, E>
    where
        E: HasStoreError,
        C: FnMut() -> F,
        F: Future<Output = Result<T, E>>,
    {
        call.retry(RetryDelays { chance: &*self.chance, next: Self::WAITS_MAX.iter() })
            .sleep(ClockSleeper(self.clock.clone()))
            .when(may_pass::<E>)
            .adjust(respect_retry_after::<E>)
            .notify(log_retry::<E>)
            .await
    }

    /// As [`Self::run`], for a call with an effect: asks before each try whether it may begin, since the lease may be lost in a
    /// pause between two.
    pub(crate) async fn run_effect<T, C, F>(&self, attempt: &Attempt, mut call: C) -> Result<T, EarlyExit>
    where
        C: FnMut() -> F,
        F: Future<Output = Result<T, StoreError>>,
    {
        let check = lease_check(attempt);
        self.run(|| {
            let (may_act, call) = (attempt.may_act(), with_deed_check(check.clone(), call()));
            async move {
                may_act?;
                Ok(call.await?)
            }
        })
        .await
    }
}

/// The check that a store may ask right before a change: the lease still holds.
pub(crate) fn lease_check(attempt: &Attempt) -> DeedCheck {
    let (lease, cancelled) = (attempt.lease.clone(), attempt.cancelled.clone());
    Arc::new(move || {
        let holds = lease.holds() && !cancelled.is_cancelled();
        Box::pin(async move { holds })
    })
}

// The arguments of backon have named types here: the compiler cannot see that a future which holds closures over any reference
// can be sent to another thread.

/// The delays before further tries.
struct RetryDelays<'a> {
    chance: &'a dyn Rng,
    next: std::slice::Iter<'static, Duration>,
}

impl Iterator for RetryDelays<'_> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.next.next().map(|most| self.chance.jitter(*most))
    }
}

/// Sleeps by the clock of the port.
struct ClockSleeper(Arc<dyn Clock>);

impl backon::Sleeper for ClockSleeper {
    type Sleep = BoxFuture<'static, ()>;

    fn sleep(&self, wait: Duration) -> Self::Sleep {
        let clock = self.0.clone();
        Box::pin(async move { clock.sleep(wait).await })
    }
}

fn may_pass<E: HasStoreError>(error: &E) -> bool {
    error.store_error().is_some_and(|error| error.kind.is_retryable())
}

/// The delay, no shorter than the `retry_after` of the store; `None` when that is too long.
fn respect_retry_after<E: HasStoreError>(error: &E, wait: Option<Duration>) -> Option<Duration> {
    match error.store_error().map(|error| &error.kind) {
        Some(StoreErrorKind::Throttled { retry_after: Some(after) }) if *after > StoreRetry::RETRY_AFTER_MAX => None,
        Some(StoreErrorKind::Throttled { retry_after: Some(after) }) => wait.map(|wait| wait.max(*after)),
        _ => wait,
    }
}

fn log_retry<E: HasStoreError>(error: &E, wait: Duration) {
    if let Some(error) = error.store_error() {
        debug!(%error, ?wait, "calling the store once more");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use mill_ports::FailureClass;
    use mill_testkit::SeededRng;

    use super::*;
    use crate::fixture::{Fixture, store_address};

    #[tokio::test(start_paused = true)]
    async fn an_effect_is_not_tried_again_after_its_lease_was_lost() {
        let site = Fixture::new();
        let attempt = site.attempt();
        let calls = Cell::new(0);
        let delete = || async {
            calls.set(calls.get() + 1);
            attempt.cancelled.cancel();
            let (kind, store) = (StoreErrorKind::Throttled { retry_after: None }, store_address("d"));
            Err::<(), _>(StoreError { kind, op: "delete", store, subject: "x".into(), source: None })
        };
        let retry = StoreRetry::new(site.clock.clone(), Arc::new(SeededRng::new(1)));
        let ended = retry.run_effect(&attempt, delete).await;
        assert!(matches!(ended, Err(EarlyExit::Failed { class: FailureClass::LeaseLost, .. })), "{ended:?}");
        assert_eq!(calls.get(), 1);
    }
}
