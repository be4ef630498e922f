//! The scheduler against a naive model of the world: random jobs, workers that crash, hang, recall late and lie in the
//! past, callers that come and go. After every event the model checks what the scheduler did; at the end, with the
//! faults over, everything must come to rest and nothing be held.
//!
//! A seed is one run, and the same seed is always the same run: what fails once can be replayed.

#![expect(clippy::unwrap_used, reason = "a broken model fails the test")]
#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]

mod model;
mod random;
mod results;
mod upset;
mod world;

use upset::Upsets;
use world::World;

/// How many seeds produce everything many times over.
const MANY_SEEDS: u64 = 10_000;

/// Runs the world of each seed; says which one failed. Returns what befell workers.
fn run_all(seeds: std::ops::Range<u64>, steps: u32, start: fn(u64) -> World) -> Upsets {
    let mut upsets = Upsets::default();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| start(seed).run(steps));
        upsets.add(&result.unwrap_or_else(|_| panic!("replay it with the world of {seed} and {steps} steps")));
    }
    upsets
}

/// Returns the seeds that `cargo xtask simulate` asks for, `FIRST..END`, or else the usual ones.
#[expect(clippy::disallowed_methods, reason = "seeds come from outside")]
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("PROCPOOL_SEEDS") else { return 0..MANY_SEEDS };
    let range = text.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    range.unwrap_or_else(|| panic!("PROCPOOL_SEEDS is {text:?}: it should be FIRST..END"))
}

#[test]
fn short_runs_keep_every_promise() {
    let seeds = seeds();
    let are_many = seeds.end - seeds.start >= MANY_SEEDS;
    let upsets = run_all(seeds, 150, World::with_upsets);
    let missing = upsets.missing();
    assert!(!are_many || missing.is_empty(), "{missing:?} never happened: {upsets:#?}");
}

/// Seeds that found something before there were upsets, and are run without.
#[test]
fn what_was_found_stays_mended() {
    for seed in [7_070_578, 9_064_124] {
        run_all(seed..seed + 1, 150, World::new);
    }
    run_all(71_639_388..71_639_389, 150, World::with_upsets);
}

#[test]
fn long_runs_keep_every_promise() {
    run_all(10_000..10_200, 1500, World::with_upsets);
}
