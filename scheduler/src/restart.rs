//! When a slot whose worker was lost may start another, and when the pool counts as degraded.
//!
//! The wording (intensity in a period) is that of Erlang's supervisors.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// The first wait after a worker failed to start; each further failure doubles it.
const START_BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait after a worker failed to start.
const MAX_START_BACKOFF: Duration = Duration::from_secs(30);
/// The wait after a worker that had been ready was lost, twice in a row, before it finished any item.
const CRASH_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait after workers that had been ready were lost: the user's items crash them, and callers wait.
const MAX_CRASH_BACKOFF: Duration = Duration::from_secs(1);
/// The wait before an item is tried again.
const RETRY_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait before an item is tried again.
const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(5);
/// This many failed starts ...
const INTENSITY: usize = 5;
/// ... within this time, and no worker is left: the pool is degraded.
const PERIOD: Duration = Duration::from_secs(30);

/// How a slot has been losing its workers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Restarts {
    failed_starts: u32,
    crashes: u32,
}

impl Restarts {
    /// A worker was lost before it was ready. Returns how long to wait.
    pub(crate) fn start_failed(&mut self, rng: &mut Rng) -> Duration {
        self.failed_starts += 1;
        rng.jitter(exponential(START_BACKOFF, self.failed_starts - 1, MAX_START_BACKOFF))
    }

    /// A worker that had been ready was lost, and not because we stopped it. Returns how long to wait.
    pub(crate) fn crashed(&mut self, finished_an_item: bool, rng: &mut Rng) -> Duration {
        if finished_an_item {
            self.crashes = 0;
        }
        self.crashes += 1;
        if self.crashes == 1 {
            return Duration::ZERO;
        }
        rng.jitter(exponential(CRASH_BACKOFF, self.crashes - 2, MAX_CRASH_BACKOFF))
    }

    /// A worker became ready.
    pub(crate) fn ready(&mut self) {
        self.failed_starts = 0;
    }

    /// A worker finished an item.
    pub(crate) fn finished_an_item(&mut self) {
        self.crashes = 0;
    }
}

/// Returns how long an item waits before its execution number `attempt`, from 2.
pub(crate) fn retry_backoff(attempt: u32, rng: &mut Rng) -> Duration {
    rng.jitter(exponential(RETRY_BACKOFF, attempt.saturating_sub(2), MAX_RETRY_BACKOFF))
}

fn exponential(base: Duration, doublings: u32, longest: Duration) -> Duration {
    base.saturating_mul(1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX)).min(longest)
}

/// The failed starts of all slots, lately.
#[derive(Debug, Default)]
pub(crate) struct StartFailures {
    recent: VecDeque<Time>,
}

impl StartFailures {
    /// Remembers a failed start; returns whether there have been too many lately.
    pub(crate) fn record(&mut self, now: Time) -> bool {
        self.recent.push_back(now);
        while self.recent.len() > INTENSITY {
            self.recent.pop_front();
        }
        let oldest = *self.recent.front().expect("one was just added");
        self.recent.len() == INTENSITY && now.since(oldest) <= PERIOD
    }

    /// A worker became ready.
    pub(crate) fn forget(&mut self) {
        self.recent.clear();
    }
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
mod tests {
    use std::time::Duration;

    use super::{Restarts, Rng, StartFailures};
    use crate::time::Time;

    #[test]
    fn failed_starts_wait_longer_and_longer_up_to_a_limit() {
        let (mut restarts, mut rng) = (Restarts::default(), Rng::new(1));
        let waits: Vec<_> = (0..40).map(|_| restarts.start_failed(&mut rng)).collect();
        assert!(waits[0] >= Duration::from_millis(80) && waits[0] <= Duration::from_millis(120));
        assert!(waits[3] > waits[0]);
        assert!(waits[39] >= Duration::from_secs(24) && waits[39] <= Duration::from_secs(36));
        restarts.ready();
        assert!(restarts.start_failed(&mut rng) <= Duration::from_millis(120));
    }

    #[test]
    fn the_first_crash_after_work_is_replaced_at_once() {
        let (mut restarts, mut rng) = (Restarts::default(), Rng::new(1));
        assert_eq!(restarts.crashed(false, &mut rng), Duration::ZERO);
        assert!(restarts.crashed(false, &mut rng) > Duration::ZERO);
        assert_eq!(restarts.crashed(true, &mut rng), Duration::ZERO);
    }

    #[test]
    fn five_failed_starts_in_thirty_seconds_are_too_many() {
        let mut failures = StartFailures::default();
        let at = |seconds| Time::from_start(Duration::from_secs(seconds));
        assert!([0, 8, 16, 24].iter().all(|&second| !failures.record(at(second))));
        assert!(!failures.record(at(32)), "five in 32 seconds");
        assert!(failures.record(at(33)), "five in 25 seconds");
    }
}
