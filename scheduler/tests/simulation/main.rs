//! The scheduler against a naive model of the world: random jobs, workers that crash, hang, recall late and lie in the
//! past, callers that come and go. After every event the model checks what the scheduler did; at the end, with the
//! faults over, everything must come to rest and nothing be held.
//!
//! A seed is one run. A long run that failed once stays in `proptest-regressions/`.

#![expect(clippy::unwrap_used, reason = "a broken model fails the test")]
#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]

mod model;
mod world;

use proptest::prelude::*;
use world::World;

#[test]
fn the_first_ten_thousand_seeds_pass() {
    for seed in 0..10_000 {
        World::new(seed).run(150);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn long_runs_of_any_seed_pass(seed in any::<u64>()) {
        World::new(seed).run(1500);
    }
}
