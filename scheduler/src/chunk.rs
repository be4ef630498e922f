//! How many items a chunk has, and what a function's items have been costing.
//!
//! A chunk aims at a few milliseconds of work, and never takes more than its share of what remains (guided
//! self-scheduling), so that the tail balances itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::FunctionId;
use crate::time::saturating_nanos;

/// The work in one frame: long beside the round trip of a frame, short beside a person's patience.
pub(crate) const CHUNK_TARGET: Duration = Duration::from_millis(4);
/// A worker with less than this to do may be given the next chunk ahead: about a round trip on a busy machine.
pub(crate) const AHEAD: Duration = Duration::from_millis(1);
/// The default look-ahead of a stream is at most this many items.
pub(crate) const MAX_DEFAULT_WINDOW: u64 = 1024;

/// An adaptive chunk has about this many bytes of items at most.
pub(crate) const MAX_CHUNK_BYTES: u64 = 1 << 20;
/// A chunk whose size the caller chose has about this many bytes of items at most: a frame has to end somewhere.
pub(crate) const MAX_FIXED_CHUNK_BYTES: u64 = 16 << 20;

/// A moving average of the run time of each function's items.
#[derive(Debug, Default)]
pub(crate) struct RunTimes {
    nanos: BTreeMap<FunctionId, u64>,
}

impl RunTimes {
    /// Learns that `count` items ran for `busy` together.
    pub(crate) fn record(&mut self, function: FunctionId, count: u32, busy: Duration) {
        if count == 0 || busy.is_zero() {
            return;
        }
        let sample = (saturating_nanos(busy) / u64::from(count)).max(1);
        self.nanos
            .entry(function)
            .and_modify(|average| *average = (average.saturating_mul(3).saturating_add(sample) / 4).max(1))
            .or_insert(sample);
    }

    /// Forgets the functions that are not needed any more.
    pub(crate) fn retain(&mut self, is_needed: impl Fn(FunctionId) -> bool) {
        self.nanos.retain(|&function, _| is_needed(function));
    }

    /// Returns the average run time of one item, or `None` while nothing is known.
    pub(crate) fn of(&self, function: FunctionId) -> Option<Duration> {
        self.nanos.get(&function).copied().map(Duration::from_nanos)
    }

    /// Returns what `count` items are expected to cost; while nothing is known, a chunk's worth.
    pub(crate) fn estimate(&self, function: FunctionId, count: u32) -> Duration {
        self.of(function).map_or(CHUNK_TARGET, |average| average.saturating_mul(count))
    }

    /// Returns how many items fill a frame: 1 while nothing is known.
    pub(crate) fn items_per_chunk(&self, function: FunctionId) -> u32 {
        let Some(average) = self.of(function) else { return 1 };
        u32::try_from(CHUNK_TARGET.as_nanos() / average.as_nanos().max(1)).unwrap_or(u32::MAX).max(1)
    }
}

/// Returns a job's share of `remaining` items for one chunk: half of what each slot would get.
pub(crate) fn guided_share(remaining: u64, slots: u32) -> u32 {
    u32::try_from(remaining.div_ceil(2 * u64::from(slots))).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{RunTimes, guided_share};
    use crate::id::FunctionId;

    const FUNCTION: FunctionId = FunctionId(1);

    #[test]
    fn an_unknown_function_gets_one_item_a_chunk() {
        let mut times = RunTimes::default();
        assert_eq!(times.items_per_chunk(FUNCTION), 1);
        times.record(FUNCTION, 1, Duration::ZERO);
        assert_eq!(times.items_per_chunk(FUNCTION), 1, "a recovered result teaches nothing");
        times.record(FUNCTION, 10, Duration::from_micros(20));
        assert_eq!(times.items_per_chunk(FUNCTION), 2000);
        times.record(FUNCTION, 1, Duration::from_secs(1));
        assert_eq!(times.items_per_chunk(FUNCTION), 1);
    }

    #[test]
    fn the_tail_is_cut_ever_smaller() {
        let (mut remaining, mut chunks) = (100, Vec::new());
        while remaining > 0 {
            let share = guided_share(remaining, 4);
            chunks.push(share);
            remaining -= u64::from(share);
        }
        assert_eq!(chunks[0], 13);
        assert_eq!(*chunks.last().unwrap(), 1);
        assert!(chunks.windows(2).all(|pair| pair[1] <= pair[0]));
    }
}
