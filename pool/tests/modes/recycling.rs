//! F19: workers that get worse are replaced in good time and between items: nothing fails.

use std::num::NonZeroU32;
use std::time::Duration;

use procpool_pool::supervisor::SpawnConfig;
use procpool_pool::{PoolConfig, WorkerState};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Accounts, PATIENCE, TestPool};

const SLOTS: u32 = 3;

/// Starts a pool with such a limit, keeps it at work until many workers were replaced, and checks that nothing has
/// failed. Returns the fewest workers that were up at a time.
async fn keep_at_work(function: &str, item: Value, limit: impl FnOnce(&mut PoolConfig, &mut SpawnConfig)) -> usize {
    let program = if function == "leak" { "leaks_memory" } else { "well_behaved" };
    let pool = TestPool::start_with(SLOTS, program, limit);
    pool.all_are_ready().await;
    let began = Instant::now();
    let mut fewest_up = SLOTS as usize;
    while Accounts::of(&pool.accounts.workers_started) < u64::from(4 * SLOTS) {
        let outcome = pool.map(function, &vec![item.clone(); 20]).await;
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        let pool = pool.snapshot().await;
        let is_up = |state| matches!(state, WorkerState::Ready | WorkerState::Busy);
        fewest_up = fewest_up.min(pool.workers.iter().filter(|worker| is_up(worker.state)).count());
        assert!(began.elapsed() < PATIENCE, "only so many workers were replaced: {pool:?}");
    }
    assert_eq!(Accounts::of(&pool.accounts.workers_lost), 0);
    pool.assert_whole_again().await;
    fewest_up
}

/// This limit is exact, so that two may come to it at the same time; to make that rare, it is up to a tenth lower for
/// each worker.
#[tokio::test(flavor = "multi_thread")]
async fn f19_after_so_many_items() {
    keep_at_work("echo", json!(1), |config, _| config.max_items_per_worker = NonZeroU32::new(100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_after_so_long_and_one_at_a_time() {
    let age = Duration::from_millis(300);
    let fewest_up = keep_at_work("echo", json!(1), |config, _| config.max_worker_age = Some(age)).await;
    assert!(fewest_up >= SLOTS as usize - 1, "{fewest_up} worked at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_when_they_hold_too_much_and_one_at_a_time() {
    let limit = Some(48 << 20);
    let fewest_up = keep_at_work("leak", json!(1 << 20), |_, spawn| spawn.memory.soft_bytes = limit).await;
    assert!(fewest_up >= SLOTS as usize - 1, "{fewest_up} worked at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_when_they_have_been_idle_for_so_long() {
    let idle_timeout = Duration::from_millis(300);
    let pool = TestPool::start_with(2, "well_behaved", |config, _| config.idle_timeout = Some(idle_timeout));
    pool.all_are_ready().await;
    let first = pool.map("pid", &[json!(0)]).await.results;
    // One that has done nothing yet would not be fresher if it were replaced.
    pool.until("it is replaced", |pool| pool.pool.workers_started_total == 3).await;
    let workers = pool.all_are_ready().await.workers;
    assert!(workers.iter().all(|worker| json!([worker.pid]) != Value::Array(first.clone())));
    assert_eq!(Accounts::of(&pool.accounts.workers_lost), 0);
    pool.assert_whole_again().await;
}
