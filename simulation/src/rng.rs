//! The random numbers of a simulated world, all from one seed.

use std::time::Duration;

use mill_ports::Rng;
use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A random number generator that gives the same numbers for the same seed on every machine.
#[derive(Debug)]
pub(crate) struct SimRng(Mutex<ChaCha8Rng>);

impl SimRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// Forks off a generator, so that draws in one part of the world do not disturb another part.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.next())
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.lock().next_u64()
    }

    /// A number below `bound` (0 when the bound is 0).
    pub(crate) fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// Draws whether an event with this rate happens. A rate of zero draws no number.
    pub(crate) fn happens(&self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    pub(crate) fn duration(&self, least: Duration, most: Duration) -> Duration {
        Duration::from_millis(self.between(least.as_millis() as u64, most.as_millis() as u64))
    }
}

impl Rng for SimRng {
    fn next_u64(&self) -> u64 {
        self.next()
    }
}
