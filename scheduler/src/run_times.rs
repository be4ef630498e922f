//! What the items of each function have been costing.
//!
//! Two statistics of the same reports, since one cannot answer both questions. Chunks and shares are cut by a moving
//! average: it is there after the first report, and one long item makes the next chunk small at once. A refusal ("this
//! cannot be done in time") must not hang on one item, so it goes by the median of the latest reports, and only while
//! they are many enough and new enough: a function that is refused is not measured any more, and must not be refused for
//! ever.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chunk::CHUNK_TARGET;
use crate::id::FunctionId;
use crate::time::{Time, saturating_nanos};

/// How many reports the median is of.
const NUM_SAMPLES: usize = 16;
/// When the last report is older than this, the median says nothing.
const MAX_AGE: Duration = Duration::from_secs(30);

/// The run times of every function's items.
#[derive(Debug, Default)]
pub(crate) struct RunTimes {
    functions: BTreeMap<FunctionId, Reports>,
}

/// The reports on one function, in nanoseconds an item.
#[derive(Debug, Default)]
struct Reports {
    /// The moving average; at least 1.
    average: u64,
    latest: [u64; NUM_SAMPLES],
    /// The median of `latest`.
    median: u64,
    count: usize,
    last_at: Time,
}

impl RunTimes {
    /// Learns that `count` items ran for `busy` together.
    pub(crate) fn record(&mut self, now: Time, function: FunctionId, count: u32, busy: Duration) {
        if count == 0 || busy.is_zero() {
            return;
        }
        let sample = saturating_nanos(busy) / u64::from(count);
        let reports = self.functions.entry(function).or_default();
        reports.average = match reports.count {
            0 => sample.max(1),
            _ => (reports.average.saturating_mul(3).saturating_add(sample.max(1)) / 4).max(1),
        };
        reports.latest[reports.count % NUM_SAMPLES] = sample;
        reports.count += 1;
        reports.last_at = now;
        let mut sorted = reports.latest;
        reports.median = *sorted.select_nth_unstable(NUM_SAMPLES / 2).1;
    }

    /// Forgets the functions that are not needed any more.
    pub(crate) fn retain(&mut self, is_needed: impl Fn(FunctionId) -> bool) {
        self.functions.retain(|&function, _| is_needed(function));
    }

    /// Returns the average run time of one item, or `None` while nothing is known.
    pub(crate) fn average(&self, function: FunctionId) -> Option<Duration> {
        self.functions.get(&function).map(|reports| Duration::from_nanos(reports.average))
    }

    /// Returns what `count` items are expected to cost; while nothing is known, a chunk's worth.
    pub(crate) fn estimate(&self, function: FunctionId, count: u32) -> Duration {
        self.average(function).map_or(CHUNK_TARGET, |average| average.saturating_mul(count))
    }

    /// Returns how many items run within this time on average: none while nothing is known.
    pub(crate) fn items_within(&self, function: FunctionId, time: Duration) -> u32 {
        let num_items = |reports: &Reports| saturating_nanos(time) / reports.average;
        self.functions.get(&function).map_or(0, |reports| u32::try_from(num_items(reports)).unwrap_or(u32::MAX))
    }

    /// Returns how many items fill a chunk: 1 while nothing is known.
    pub(crate) fn items_per_chunk(&self, function: FunctionId) -> u32 {
        self.items_within(function, CHUNK_TARGET).max(1)
    }

    /// Returns what an item usually takes; `None` if that is not known well enough to refuse a call.
    pub(crate) fn median(&self, now: Time, function: FunctionId) -> Option<Duration> {
        let reports = self.functions.get(&function)?;
        let is_founded = reports.count >= NUM_SAMPLES && now.since(reports.last_at) <= MAX_AGE;
        is_founded.then(|| Duration::from_nanos(reports.median))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: FunctionId = FunctionId(1);
    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn an_unknown_function_gets_one_item_a_chunk() {
        let mut times = RunTimes::default();
        assert_eq!(times.items_per_chunk(FUNCTION), 1);
        times.record(Time::ZERO, FUNCTION, 1, Duration::ZERO);
        assert_eq!(times.items_per_chunk(FUNCTION), 1, "a recovered result teaches nothing");
        times.record(Time::ZERO, FUNCTION, 10, Duration::from_micros(20));
        assert_eq!(times.items_per_chunk(FUNCTION), 2000);
        times.record(Time::ZERO, FUNCTION, 1, Duration::from_secs(1));
        assert_eq!(times.items_per_chunk(FUNCTION), 1);
    }

    #[test]
    fn there_is_no_median_until_a_function_was_measured_often_and_lately() {
        let mut times = RunTimes::default();
        for _ in 0..NUM_SAMPLES - 1 {
            times.record(Time::ZERO, FUNCTION, 10, 10 * MILLISECOND);
        }
        times.record(Time::ZERO, FUNCTION, 10, Duration::ZERO);
        assert_eq!(times.median(Time::ZERO, FUNCTION), None);
        times.record(Time::ZERO, FUNCTION, 10, 10 * MILLISECOND);
        assert_eq!(times.median(Time::ZERO.after(MAX_AGE), FUNCTION), Some(MILLISECOND));
        assert_eq!(times.median(Time::ZERO.after(MAX_AGE + MILLISECOND), FUNCTION), None);
        assert_eq!(times.median(Time::ZERO, FunctionId(2)), None);
    }

    #[test]
    fn long_items_among_short_ones_leave_the_median_and_a_function_that_became_slow_is_found_out() {
        let mut times = RunTimes::default();
        let long = Duration::from_secs(10);
        for round in 0..40 {
            times.record(Time::ZERO, FUNCTION, 1, if round % 3 == 0 { long } else { MILLISECOND });
        }
        assert_eq!(times.median(Time::ZERO, FUNCTION), Some(MILLISECOND));
        for _ in 0..NUM_SAMPLES {
            times.record(Time::ZERO, FUNCTION, 1, long);
        }
        assert_eq!(times.median(Time::ZERO, FUNCTION), Some(long));
    }

    #[test]
    fn what_is_forgotten_is_forgotten_in_both() {
        let mut times = RunTimes::default();
        (0..NUM_SAMPLES).for_each(|_| times.record(Time::ZERO, FUNCTION, 1, MILLISECOND));
        times.retain(|_| false);
        assert_eq!((times.average(FUNCTION), times.median(Time::ZERO, FUNCTION)), (None, None));
    }
}
