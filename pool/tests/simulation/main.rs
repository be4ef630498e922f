//! The pool's driver in a simulated world: virtual time, one thread, workers and callers that do whatever a seed says.
//! What the scheduler's own simulation checks event by event is checked here from outside, through everything between a
//! caller and a worker: channels, mailbox, admission, outlets.
//!
//! - Every call ends, and every item of it has one outcome, which agrees with what ran.
//! - An item runs in one place at a time, no more often than it may, and not at all once its call has ended.
//! - When the faults are over, the pool heals, holds nothing, and takes as much as at its start.
//!
//! The same seed is the same run: `cargo xtask simulate --seeds 17..18` replays one.

#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]
#![expect(clippy::unwrap_used, reason = "what should not happen fails the test")]
#![expect(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime; seeds come from outside")]

mod caller;
mod ledger;
#[path = "../../../scheduler/tests/simulation/random.rs"]
mod random;
mod upset;
mod worker;
mod world;

use std::ops::Range;

use upset::Upsets;

/// Which seeds to run instead of the usual ones: `FIRST..END`.
const SEEDS: &str = "PROCPOOL_SEEDS";

/// Seeds that found something, each one time in a few: what the clock reads has a say in how timers are rounded. They did
/// so before there were upsets, and are run without.
const FOUND: [u64; 3] = [100_808, 105_740, 127_995];

/// Those that did so since there are upsets.
const FOUND_WITH_UPSETS: [u64; 10] = [
    61_007_546,
    61_008_388,
    71_012_872,
    71_114_850,
    90_026_319,
    130_638_383,
    170_061_362,
    180_109_095,
    190_135_171,
    400_014_706,
];

/// How many seeds produce every kind of upset many times over.
const MANY_SEEDS: u64 = 10_000;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var(SEEDS) else { return 0..MANY_SEEDS };
    let range = text.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    range.unwrap_or_else(|| panic!("{SEEDS} is {text:?}: it should be FIRST..END"))
}

/// Runs the world of a seed.
fn run(seed: u64, is_traced: bool, has_upsets: bool) -> Upsets {
    let result = std::panic::catch_unwind(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(world::run(seed, is_traced, has_upsets))
    });
    result.unwrap_or_else(|_| panic!("replay it with: cargo xtask simulate --seeds {seed}..{}", seed + 1))
}

#[test]
fn every_schedule_keeps_every_promise() {
    let seeds = seeds();
    // One alone is replayed, to be looked at.
    let is_traced = seeds.end - seeds.start == 1;
    let are_many = seeds.end - seeds.start >= MANY_SEEDS;
    let mut upsets = Upsets::default();
    for seed in seeds {
        upsets.add(&run(seed, is_traced, true));
    }
    let missing = upsets.missing();
    assert!(!are_many || missing.is_empty(), "{missing:?} never happened: {upsets:#?}");
}

#[test]
fn what_was_found_stays_mended() {
    for seed in FOUND {
        run(seed, false, false);
    }
    for seed in FOUND_WITH_UPSETS {
        run(seed, false, true);
    }
}
