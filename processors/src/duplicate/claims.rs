//! Claims known to hold, so that the book of owners is not asked for each item.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mill_model::Monotonic;
use mill_records::seals::Pair;

/// Until when each pair's claim is taken to hold.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<BTreeMap<Pair, Monotonic>>);

impl Claims {
    /// How long a space that was released by a person may still be written by its former owner: as long as any
    /// policy may be out of date.
    const HELD_FOR: Duration = Duration::from_secs(30);

    /// Most pairs kept; more than any fleet has in hand at once.
    const KEPT_MAX: usize = 100_000;

    pub(super) fn holds(&self, pair: &Pair, now: Monotonic) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(pair).is_some_and(|until| now < *until)
    }

    /// `asked` is when the book was asked, not when it answered.
    pub(super) fn note(&self, pair: &Pair, asked: Monotonic) {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.len() >= Self::KEPT_MAX {
            claims.clear();
        }
        claims.insert(pair.clone(), asked.plus(Self::HELD_FOR));
    }
}
