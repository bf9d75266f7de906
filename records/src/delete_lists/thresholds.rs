//! The rule: how many deletes are granted without asking a person.

use mill_hooks::{PlantedBug, is_planted};

/// How many deletes of a pair the rule grants within 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteThresholds {
    /// More deletes than this are held, whatever their share.
    pub unasked_max: u64,
    /// So few deletes are not held, unless they are half of the space, or all of it.
    pub few: u64,
    /// A larger share of the destination's items than this, in per cent, is held, if it is more than `few` items.
    pub share_percent: u64,
    /// Half of a space is held, however few that is, if it has so many items: of fewer, one item may be half.
    pub half_from: u64,
}

impl Default for DeleteThresholds {
    fn default() -> Self {
        Self { unasked_max: 1_000, few: 20, share_percent: 1, half_from: 4 }
    }
}

impl DeleteThresholds {
    /// Whether a person must confirm `count` deletes out of `items_total` items, after `unasked_today` unasked ones within 24
    /// hours.
    pub fn are_exceeded(&self, count: u64, unasked_today: u64, items_total: u64) -> bool {
        if is_planted(PlantedBug::DeleteThresholdOff) {
            return false;
        }
        let all = count.saturating_add(unasked_today);
        let of = items_total.saturating_add(unasked_today);
        let large_share = all.saturating_mul(100) > of.saturating_mul(self.share_percent);
        let half = of >= self.half_from && all.saturating_mul(2) >= of;
        count > 0 && (all > self.unasked_max || (all > self.few && large_share) || half || count >= items_total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thresholds_count_what_was_deleted_unasked_today() {
        let thresholds = DeleteThresholds::default();
        for (count, unasked, items, held) in [
            (20, 0, 1_000, false),
            (21, 0, 1_000, true),
            (10, 0, 10, true),
            (10, 0, 21, false),
            (10, 0, 20, true),
            (1, 0, 3, false),
            (2, 0, 4, true),
            (1, 0, 1, true),
            (3, 3, 9, true),
            (10, 11, 1_000, true),
            (10, 10, 1_000, false),
            (600, 0, 60_600, false),
            (600, 401, 200_000, true),
            (1_000, 0, 200_000, false),
            (1_001, 0, 2_000_000, true),
            (0, 5_000, 10, false),
        ] {
            assert_eq!(thresholds.are_exceeded(count, unasked, items), held, "{count} after {unasked} of {items}");
        }
    }
}
