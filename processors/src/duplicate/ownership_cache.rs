//! What is known of destination spaces: claims that hold, so that the book of owners is not asked for each item, and which
//! spaces were made, so that one task makes a space for all that are under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mill_model::Monotonic;
use mill_records::sync_proofs::SpacePair;
use tokio::sync::OwnedMutexGuard;

/// What is known of each pair's destination space.
#[derive(Debug, Default)]
pub(super) struct OwnershipCache(Mutex<BTreeMap<SpacePair, CachedSpace>>);

#[derive(Debug, Default)]
struct CachedSpace {
    /// Until when the claim is taken to hold; `None` where it never was.
    until: Option<Monotonic>,
    made: CreationCount,
    /// Held by the task that claims or makes the space.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// How often this process made a space: a space that is missing was, or was not, made since somebody looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CreationCount(u64);

impl OwnershipCache {
    /// How long a space that was released by a person may still be written by its former owner: as long as any
    /// policy may be out of date.
    const HELD_FOR: Duration = Duration::from_secs(30);

    /// Most pairs kept; more than any fleet has in hand at once.
    const KEPT_MAX: usize = 100_000;

    fn known(&self) -> MutexGuard<'_, BTreeMap<SpacePair, CachedSpace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn holds(&self, pair: &SpacePair, now: Monotonic) -> bool {
        self.known().get(pair).and_then(|known| known.until).is_some_and(|until| now < until)
    }

    /// Whether a claim was ever noted. The space was there then.
    pub(super) fn held_before(&self, pair: &SpacePair) -> bool {
        self.known().get(pair).is_some_and(|known| known.until.is_some())
    }

    /// `asked` is when the book was asked, not when it answered.
    pub(super) fn note(&self, pair: &SpacePair, asked: Monotonic) {
        self.known().entry(pair.clone()).or_default().until = Some(asked.plus(Self::HELD_FOR));
    }

    pub(super) fn made(&self, pair: &SpacePair) -> CreationCount {
        self.known().get(pair).map_or(CreationCount::default(), |known| known.made)
    }

    pub(super) fn note_made(&self, pair: &SpacePair) {
        self.known().entry(pair.clone()).or_default().made.0 += 1;
    }

    /// Waits until no other task claims or makes the pair's space. The turn ends with what is given.
    pub(super) async fn turn(&self, pair: &SpacePair) -> OwnedMutexGuard<()> {
        let turn = {
            let mut known = self.known();
            if known.len() >= Self::KEPT_MAX {
                known.clear();
            }
            known.entry(pair.clone()).or_default().turn.clone()
        };
        turn.lock_owned().await
    }
}
