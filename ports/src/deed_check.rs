//! A last check right before a change, for stores that do something else first.
//!
//! A processor checks that it may act, and then calls a store. A store that writes something down before it changes anything leaves
//! time between the two, in which the lease may end or a source may go away. Such a store asks again right before the change.

use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use mill_hooks::{PlantedBug, is_planted};

/// Finds out whether a change may still be made. In any doubt it may not.
pub type DeedCheck = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

tokio::task_local! {
    static CHECK: DeedCheck;
}

/// Makes a call, in which a store may ask `check` once more.
pub async fn with_deed_check<F: Future>(check: DeedCheck, call: F) -> F::Output {
    CHECK.scope(check, call).await
}

/// Whether the caller's change may still be made. Whoever gave no check may go on.
pub async fn may_still_change() -> bool {
    match CHECK.try_with(Clone::clone) {
        Ok(check) => is_planted(PlantedBug::DeedUnchecked) || check().await,
        Err(_) => true,
    }
}
