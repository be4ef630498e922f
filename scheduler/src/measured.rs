//! What the items of a function usually take, by the latest measurements: for saying "this cannot be done in time".
//!
//! Chunks and shares are cut by a moving average ([`crate::chunk`]), which one long item spoils for a while. A refusal
//! must not hang on one item, so it goes by the median of the latest reports, and only while they are many enough and
//! new enough: a function that is refused is not measured any more, and must not be refused for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::FunctionId;
use crate::time::{Time, saturating_nanos};

/// How many reports are remembered, and needed.
const NUM_SAMPLES: usize = 16;
/// Measurements that are older than this say nothing.
const MAX_AGE: Duration = Duration::from_secs(30);

/// The latest measurements of every function.
#[derive(Debug, Default)]
pub(crate) struct Measurements {
    functions: BTreeMap<FunctionId, Samples>,
}

/// The mean run time of an item in each of the latest reports, in nanoseconds.
#[derive(Debug, Default)]
struct Samples {
    nanos: [u64; NUM_SAMPLES],
    count: usize,
    median: u64,
    last_at: Time,
}

impl Measurements {
    /// Learns that `count` items ran for `busy` together.
    pub(crate) fn record(&mut self, now: Time, function: FunctionId, count: u32, busy: Duration) {
        if count == 0 || busy.is_zero() {
            return;
        }
        let samples = self.functions.entry(function).or_default();
        samples.nanos[samples.count % NUM_SAMPLES] = saturating_nanos(busy) / u64::from(count);
        samples.count += 1;
        samples.last_at = now;
        let mut sorted = samples.nanos;
        samples.median = *sorted.select_nth_unstable(NUM_SAMPLES / 2).1;
    }

    /// Forgets the functions that are not needed any more.
    pub(crate) fn retain(&mut self, is_needed: impl Fn(FunctionId) -> bool) {
        self.functions.retain(|&function, _| is_needed(function));
    }

    /// Returns what an item usually takes; `None` if that is not known well enough.
    pub(crate) fn of(&self, now: Time, function: FunctionId) -> Option<Duration> {
        let samples = self.functions.get(&function)?;
        let is_founded = samples.count >= NUM_SAMPLES && now.since(samples.last_at) <= MAX_AGE;
        is_founded.then(|| Duration::from_nanos(samples.median))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: FunctionId = FunctionId(1);
    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn little_is_known_of_a_function_until_it_was_measured_often_and_lately() {
        let mut measured = Measurements::default();
        for _ in 0..NUM_SAMPLES - 1 {
            measured.record(Time::ZERO, FUNCTION, 10, 10 * MILLISECOND);
        }
        measured.record(Time::ZERO, FUNCTION, 10, Duration::ZERO);
        assert_eq!(measured.of(Time::ZERO, FUNCTION), None);
        measured.record(Time::ZERO, FUNCTION, 10, 10 * MILLISECOND);
        assert_eq!(measured.of(Time::ZERO.after(MAX_AGE), FUNCTION), Some(MILLISECOND));
        assert_eq!(measured.of(Time::ZERO.after(MAX_AGE + MILLISECOND), FUNCTION), None);
        assert_eq!(measured.of(Time::ZERO, FunctionId(2)), None);
    }

    #[test]
    fn long_items_among_short_ones_change_nothing_and_a_function_that_became_slow_is_found_out() {
        let mut measured = Measurements::default();
        let long = Duration::from_secs(10);
        for round in 0..40 {
            measured.record(Time::ZERO, FUNCTION, 1, if round % 3 == 0 { long } else { MILLISECOND });
        }
        assert_eq!(measured.of(Time::ZERO, FUNCTION), Some(MILLISECOND));
        for _ in 0..NUM_SAMPLES {
            measured.record(Time::ZERO, FUNCTION, 1, long);
        }
        assert_eq!(measured.of(Time::ZERO, FUNCTION), Some(long));
    }
}
