//! Waits that double, with jitter that can be replayed.

use std::time::Duration;

/// The wait before an item is tried again.
const RETRY_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait before an item is tried again.
const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(5);

/// Returns how long an item waits before its execution number `attempt`, from 2.
pub(crate) fn retry_backoff(attempt: u32, rng: &mut Rng) -> Duration {
    rng.jitter(exponential(RETRY_BACKOFF, attempt.saturating_sub(2), MAX_RETRY_BACKOFF))
}

/// Returns `base` doubled so many times, at most `longest`.
pub(crate) fn exponential(base: Duration, doublings: u32, longest: Duration) -> Duration {
    base.saturating_mul(1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX)).min(longest)
}

/// A small deterministic source of jitter (the finaliser of `SplitMix64`), so that a run can be replayed from its seed.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which must not be 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Returns the duration, up to 20 % shorter or longer.
    pub(crate) fn jitter(&mut self, duration: Duration) -> Duration {
        let permille = u32::try_from(800 + self.below(401)).expect("it is at most 1200");
        duration.saturating_mul(permille) / 1000
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{Rng, retry_backoff};

    const MS: Duration = Duration::from_millis(1);

    /// Checks that each wait is what it should be, give or take a fifth, and that not all are exactly that.
    pub(crate) fn check(waits: &[Duration], expected: &[u32]) {
        assert_eq!(waits.len(), expected.len());
        for (&wait, &expected) in waits.iter().zip(expected) {
            let expected = MS * expected;
            assert!(wait >= expected * 4 / 5 && wait <= expected * 6 / 5, "{wait:?} instead of about {expected:?}");
        }
        assert!(waits.iter().zip(expected).any(|(&wait, &expected)| wait != MS * expected), "{waits:?} has no jitter");
    }

    #[test]
    fn an_item_waits_longer_before_each_attempt_up_to_a_limit_and_never_just_as_long() {
        let mut rng = Rng::new(1);
        let waits: Vec<_> = (2..12).map(|attempt| retry_backoff(attempt, &mut rng)).collect();
        check(&waits, &[50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert!(retry_backoff(u32::MAX, &mut rng) <= MS * 6000);
        let firsts: BTreeSet<_> = (0..100).map(|seed| retry_backoff(2, &mut Rng::new(seed))).collect();
        assert!(firsts.len() > 50, "items that failed together are not tried again together: {firsts:?}");
        assert!(firsts.last().unwrap().saturating_sub(*firsts.first().unwrap()) > 15 * MS, "{firsts:?}");
    }
}
