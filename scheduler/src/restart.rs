//! When a slot whose worker was lost may start another, and when the pool counts as degraded: the figures. What they
//! are for is in `pool/starts`.
//!
//! The wording (intensity in a period) is that of Erlang's supervisors.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// A worker that has finished nothing has proved itself all the same when it has lived for this long after Ready.
pub(crate) const PROOF_TIME: Duration = Duration::from_secs(1);
/// The wait after a worker failed to start; each further failure doubles it.
const START_BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait after a worker failed to start.
const MAX_START_BACKOFF: Duration = Duration::from_secs(30);
/// The wait after the system had nothing to start a worker with, doubled likewise.
const SHORTAGE_BACKOFF: Duration = Duration::from_millis(50);
/// The longest such wait: under half a second with the jitter, since it ends as suddenly as it begins.
const MAX_SHORTAGE_BACKOFF: Duration = Duration::from_millis(400);
/// The wait after a worker was lost, twice in a row, before it finished any item.
const CRASH_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait after workers that had been ready were lost: the user's items crash them, and callers wait.
const MAX_CRASH_BACKOFF: Duration = Duration::from_secs(1);
/// A slot is held back when it loses this many workers in a row that finished nothing, and no other slot loses any.
const HOLD_AFTER: u32 = 3;
/// For how long a slot is held back; doubled each time that its next worker finishes nothing, either.
const HOLD: Duration = Duration::from_secs(30);
/// The longest that a slot is held back.
const MAX_HOLD: Duration = Duration::from_secs(300);
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
    /// Since when its starts have been failing.
    pub(crate) failing: Option<Time>,
    /// How often in a row the system had nothing to start a worker with.
    shortages: u32,
    /// Its last worker was lost soon after it was ready, with nothing to show for it.
    died_young: bool,
    /// How many workers it lost in a row that had been ready and finished nothing.
    fruitless: u32,
    /// How many of these for no reason that another slot would have had as well, since any other lost one.
    alone: u32,
    /// How often in a row it has been held back.
    holds: u32,
}

impl Restarts {
    /// There was nothing to start a worker with. Returns how long to wait.
    pub(crate) fn went_short(&mut self, rng: &mut Rng) -> Duration {
        self.shortages += 1;
        rng.jitter(exponential(SHORTAGE_BACKOFF, self.shortages - 1, MAX_SHORTAGE_BACKOFF))
    }

    /// A worker could be started.
    pub(crate) fn started(&mut self) {
        self.shortages = 0;
    }

    /// A worker was lost that had been ready and finished nothing. `is_slots_fault`: as far as is known.
    pub(crate) fn lost_a_worker(&mut self, died_young: bool, is_slots_fault: bool) {
        self.died_young = died_young;
        self.fruitless += 1;
        self.alone += u32::from(is_slots_fault);
    }

    /// Another slot lost a worker: it may not be the fault of this one.
    pub(crate) fn another_lost_a_worker(&mut self) {
        self.alone = 0;
    }

    /// Tells whether it has lost so many workers that it should be held back, if others can do its work.
    pub(crate) fn is_bad(&self) -> bool {
        self.alone >= HOLD_AFTER || self.holds > 0
    }

    /// The slot is held back. Returns for how long.
    pub(crate) fn hold(&mut self, rng: &mut Rng) -> Duration {
        self.holds += 1;
        rng.jitter(exponential(HOLD, self.holds - 1, MAX_HOLD))
    }

    /// Returns how long to wait after [`Restarts::lost_a_worker`]: nothing the first time.
    pub(crate) fn crash_backoff(&self, rng: &mut Rng) -> Duration {
        match self.fruitless.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => rng.jitter(exponential(CRASH_BACKOFF, doublings, MAX_CRASH_BACKOFF)),
        }
    }

    /// Tells whether that a worker is ready says something: not if the one before it was ready, too, and died young.
    pub(crate) fn trusts_ready(&self) -> bool {
        !self.died_young
    }

    /// Its worker has proved itself.
    pub(crate) fn proved_itself(&mut self) {
        self.died_young = false;
    }

    /// Tells whether it has lost a worker and its next one has yet to finish an item; it is given one at a time.
    pub(crate) fn is_on_probation(&self) -> bool {
        self.fruitless > 0
    }

    /// Tells whether it has been held back, and no worker has finished an item since.
    pub(crate) fn was_held(&self) -> bool {
        self.holds > 0
    }

    /// Its worker finished an item.
    pub(crate) fn finished_an_item(&mut self) {
        (self.fruitless, self.alone, self.holds) = (0, 0, 0);
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
    /// How often in a row the one slot that tries has failed.
    tries: u32,
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

    /// Some worker has proved itself.
    pub(crate) fn forget(&mut self) {
        self.recent.clear();
    }

    /// The slot that tries for all that fail has failed again.
    pub(crate) fn tried_in_vain(&mut self) {
        self.tries += 1;
    }

    /// No slot tries any more, since it has worked or since there is none.
    pub(crate) fn end_tries(&mut self) {
        self.tries = 0;
    }

    /// Returns how long the next slot waits before it tries.
    pub(crate) fn backoff(&self, rng: &mut Rng) -> Duration {
        rng.jitter(exponential(START_BACKOFF, self.tries, MAX_START_BACKOFF))
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
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{Restarts, Rng, StartFailures, retry_backoff};
    use crate::time::Time;

    const MS: Duration = Duration::from_millis(1);

    /// Checks that each wait is what it should be, give or take a fifth, and that not all are exactly that.
    fn check(waits: &[Duration], expected: &[u32]) {
        assert_eq!(waits.len(), expected.len());
        for (&wait, &expected) in waits.iter().zip(expected) {
            let expected = MS * expected;
            assert!(wait >= expected * 4 / 5 && wait <= expected * 6 / 5, "{wait:?} instead of about {expected:?}");
        }
        assert!(waits.iter().zip(expected).any(|(&wait, &expected)| wait != MS * expected), "{waits:?} has no jitter");
    }

    #[test]
    fn failed_starts_wait_longer_and_longer_up_to_a_limit() {
        let (mut failures, mut rng) = (StartFailures::default(), Rng::new(1));
        let mut next = || {
            let wait = failures.backoff(&mut rng);
            failures.tried_in_vain();
            wait
        };
        let waits: Vec<_> = (0..11).map(|_| next()).collect();
        check(&waits, &[100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        failures.end_tries();
        check(&[failures.backoff(&mut rng)], &[100]);
    }

    #[test]
    fn a_shortage_is_looked_at_twice_a_second() {
        let (mut restarts, mut rng) = (Restarts::default(), Rng::new(1));
        let waits: Vec<_> = (0..20).map(|_| restarts.went_short(&mut rng)).collect();
        check(&waits[..5], &[50, 100, 200, 400, 400]);
        assert!(waits.iter().all(|&wait| wait <= 500 * MS));
        restarts.started();
        check(&[restarts.went_short(&mut rng)], &[50]);
    }

    #[test]
    fn the_first_crash_after_work_is_replaced_at_once() {
        let (mut restarts, mut rng) = (Restarts::default(), Rng::new(1));
        let mut next = || {
            restarts.lost_a_worker(false, true);
            restarts.crash_backoff(&mut rng)
        };
        assert_eq!(next(), Duration::ZERO);
        let waits: Vec<_> = (0..7).map(|_| next()).collect();
        check(&waits, &[50, 100, 200, 400, 800, 1000, 1000]);
        restarts.finished_an_item();
        restarts.lost_a_worker(false, true);
        assert_eq!(restarts.crash_backoff(&mut rng), Duration::ZERO);
    }

    #[test]
    fn a_slot_is_held_back_for_ever_longer_up_to_a_limit_until_it_finishes_an_item() {
        let (mut restarts, mut rng) = (Restarts::default(), Rng::new(1));
        for _ in 0..2 {
            restarts.lost_a_worker(false, true);
            assert!(!restarts.is_bad());
        }
        restarts.another_lost_a_worker();
        restarts.lost_a_worker(false, true);
        assert!(!restarts.is_bad(), "workers die elsewhere, too");
        (0..2).for_each(|_| restarts.lost_a_worker(false, true));
        assert!(restarts.is_bad());
        let waits: Vec<_> = (0..6).map(|_| restarts.hold(&mut rng)).collect();
        check(&waits, &[30_000, 60_000, 120_000, 240_000, 300_000, 300_000]);
        restarts.another_lost_a_worker();
        assert!(restarts.is_bad() && restarts.was_held(), "one that was held has yet to show that it works");
        restarts.finished_an_item();
        assert!(!restarts.is_bad() && !restarts.was_held() && !restarts.is_on_probation());
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

    #[test]
    fn five_failed_starts_in_thirty_seconds_are_too_many() {
        let mut failures = StartFailures::default();
        let at = |seconds| Time::from_start(Duration::from_secs(seconds));
        assert!([0, 8, 16, 24].iter().all(|&second| !failures.record(at(second))));
        assert!(!failures.record(at(32)), "five in 32 seconds");
        assert!(failures.record(at(33)), "five in 25 seconds");
    }
}
