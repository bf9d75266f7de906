//! Remembers of destination spaces which claims hold, so that the repository of owners is not called for each item, and which
//! spaces were created, so that one task creates a space for all tasks under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{Monotonic, SpacePair};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OwnedMutexGuard;

/// The destination space of each pair, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct OwnershipCache(Mutex<BTreeMap<SpacePair, CachedSpace>>);

#[derive(Debug, Default)]
struct CachedSpace {
    /// Until when the claim is taken to hold; `None` before the first claim.
    until: Option<Monotonic>,
    creations: CreationCount,
    /// Held by the task that claims or creates the space.
    lock: Arc<tokio::sync::Mutex<()>>,
}

/// How often this process created a space. It tells whether a missing space was created since a task looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CreationCount(u64);

impl OwnershipCache {
    /// How long a space that a person released may still be written by its former owner: as long as a policy may be out of
    /// date.
    const CLAIM_HOLDS_FOR: Duration = Duration::from_secs(30);

    /// The most pairs kept; more than any fleet has in flight at once.
    const NAMED_MAX: usize = 100_000;

    fn spaces(&self) -> MutexGuard<'_, BTreeMap<SpacePair, CachedSpace>> {
        self.0.lock()
    }

    pub(super) fn holds(&self, pair: &SpacePair, now: Monotonic) -> bool {
        self.spaces().get(pair).and_then(|known| known.until).is_some_and(|until| now < until)
    }

    /// Whether a claim was ever noted. The space existed then.
    pub(super) fn was_claimed(&self, pair: &SpacePair) -> bool {
        self.spaces().get(pair).is_some_and(|known| known.until.is_some())
    }

    /// Notes a claim. `asked` is when the repository was called, not when it answered.
    pub(super) fn note(&self, pair: &SpacePair, asked: Monotonic) {
        self.spaces().entry(pair.clone()).or_default().until = Some(asked.plus(Self::CLAIM_HOLDS_FOR));
    }

    pub(super) fn creations(&self, pair: &SpacePair) -> CreationCount {
        self.spaces().get(pair).map_or(CreationCount::default(), |known| known.creations)
    }

    pub(super) fn note_created(&self, pair: &SpacePair) {
        self.spaces().entry(pair.clone()).or_default().creations.0 += 1;
    }

    /// Waits until no other task claims or creates the pair's space, and locks it until the returned guard is dropped.
    pub(super) async fn lock_space(&self, pair: &SpacePair) -> OwnedMutexGuard<()> {
        let lock = {
            let mut known = self.spaces();
            if known.len() >= Self::NAMED_MAX {
                known.clear();
            }
            known.entry(pair.clone()).or_default().lock.clone()
        };
        lock.lock_owned().await
    }
}
