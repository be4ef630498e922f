//! How many items a chunk has.
//!
//! A chunk aims at a few milliseconds of work, and never takes more than its share of what remains (guided
//! self-scheduling), so that the tail balances itself.

use std::time::Duration;

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

/// Returns a job's share of `remaining` items for one chunk: half of what each slot would get.
pub(crate) fn guided_share(remaining: u64, slots: u32) -> u32 {
    u32::try_from(remaining.div_ceil(2 * u64::from(slots))).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::guided_share;

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
