//! What results take of this process's memory, as the system sees it. A program of its own, since it measures itself.

#![expect(clippy::unwrap_used, reason = "what should not happen fails the test")]
#![expect(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]

use std::num::NonZeroU32;
use std::sync::Arc;

use procpool_items::value::{NonFinite, list_to_bytes};
use procpool_items::{ItemKind, ItemSlab};
use procpool_pool::supervisor::{ProcessSpawner, SpawnConfig};
use procpool_pool::{Call, CallOptions, MapOutput, PoolConfig, PoolHandle, ResultStream, StreamOptions};

/// As many frames come with a small result, each among those with large ones: up to 64 KiB were kept for each.
const NUM_SMALL: usize = 10_000;
const LARGE_BYTES: usize = 100_000;
/// What the small results may take, with all that goes with them, and what is on its way of the others. They have 130 KB.
const MAX_GROWTH: usize = 24 << 20;

/// What the allocator may keep beyond a tenth: this process has so few bytes that its arenas show.
const ALLOCATOR_SLACK: usize = 4 << 20;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

fn call(function: &str, options: CallOptions) -> Call {
    Call { options, ..Call::new(function) }
}

fn numbers(numbers: impl Iterator<Item = usize>) -> ItemSlab {
    ItemSlab::parse(ItemKind::Values, list_to_bytes(numbers, NonFinite::Error).unwrap()).unwrap()
}

/// Takes results until there are no more.
async fn read_all(mut results: ResultStream) {
    let mut taken = 0;
    while let Some(output) = results.next().await {
        taken += output.unwrap().run.map_or(0, |run| run.count);
        results.set_taken(taken);
    }
}

/// Maps one by one beside a stream of large results.
async fn map_beside_a_stream(pool: &PoolHandle) -> MapOutput {
    // More than there will be time for.
    let large = numbers(std::iter::repeat_n(LARGE_BYTES, 50_000));
    // However late their reader is, few are there at a time.
    let few = StreamOptions { window: NonZeroU32::new(4), ..StreamOptions::default() };
    let large = pool.imap(call("repeat", CallOptions::default()), large, few).await.unwrap();
    let large = tokio::spawn(read_all(large));
    let one_by_one = CallOptions { chunk_size: NonZeroU32::new(1), ..CallOptions::default() };
    let small = pool.map(call("echo", one_by_one), numbers(0..NUM_SMALL)).await.unwrap();
    large.abort();
    assert!(large.await.unwrap_err().is_cancelled(), "there was a stream beside it all the time");
    small
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_results_among_large_ones_take_what_they_are_and_nothing_is_left_of_them() {
    let spawn = SpawnConfig::new(procpool_test_workers::path("well_behaved"), std::env::vars_os().collect());
    let spawner = Arc::new(ProcessSpawner::new(spawn).unwrap());
    let (pool, task) = PoolHandle::start(PoolConfig::new(NonZeroU32::MIN), spawner.clone());
    pool.started(None).await.unwrap();
    let mut at_rest = Vec::new();
    for _ in 0..2 {
        let before = resident_bytes();
        let results = map_beside_a_stream(&pool).await;
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < MAX_GROWTH, "{NUM_SMALL} small results take {grown} bytes");
        drop(results);
        // With nothing in progress, the pool answers.
        while pool.snapshot().await.unwrap().pool.num_jobs > 0 {}
        at_rest.push(resident_bytes());
    }
    let [first, second] = at_rest[..] else { unreachable!("it ran twice") };
    assert!(second <= first + first / 10 + ALLOCATOR_SLACK, "{first} bytes at rest, and later {second}");
    pool.stop_now();
    task.join().await;
    spawner.closed().await;
}
