//! Random numbers from a seed.

use parking_lot::Mutex;

use mill_ports::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Returns the same numbers for the same seed, on every machine.
#[derive(Debug)]
pub struct SeededRng(Mutex<ChaCha8Rng>);

impl SeededRng {
    /// Random numbers from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}

/// A number below `bound` (0 when the bound is 0).
pub(crate) fn below(chance: &dyn Rng, bound: u64) -> u64 {
    if bound == 0 { 0 } else { chance.next_u64() % bound }
}

/// Returns `true` `per_mille` times in a thousand. Draws no number if `per_mille` is 0.
pub(crate) fn happens(chance: &dyn Rng, per_mille: u32) -> bool {
    per_mille > 0 && below(chance, 1000) < u64::from(per_mille)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let draw = |seed| {
            let chance = SeededRng::new(seed);
            [chance.next_u64(), chance.next_u64(), chance.next_u64()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn what_never_happens_draws_nothing_and_what_always_happens_does() {
        let chance = SeededRng::new(1);
        assert!(!happens(&chance, 0));
        assert!((0..100).all(|_| happens(&chance, 1000)));
    }
}
