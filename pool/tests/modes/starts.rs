//! Workers that do not start, or die as soon as they have: the pool backs off, says so, stays up, and heals.

use std::time::Duration;

use procpool_pool::{CallError, Readiness};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Accounts, TestPool, call, shell};

/// So many fail, and one tries for all.
const SLOTS: u32 = 8;
/// The promise is about these seconds.
const LOOKED_AT: Duration = Duration::from_secs(6);

/// F10: the pool is degraded, does not spin, refuses with the reason, and is whole soon after the cause is gone.
#[tokio::test(flavor = "multi_thread")]
async fn f10_workers_that_cannot_start_are_not_started_again_at_once() {
    let script = r#"test -e healed && exec "$0"; echo "no database" >&2; exit 3"#;
    let pool = TestPool::start_with(SLOTS, "well_behaved", |_, spawn| {
        (spawn.program, spawn.args) = shell(script, "well_behaved");
    });
    backs_off_and_heals(pool, "exited with code 3: no database", u64::from(SLOTS)).await;
}

/// R8: as much is true of workers that are ready, and die before they have done anything.
#[tokio::test(flavor = "multi_thread")]
async fn r8_workers_that_die_as_soon_as_they_are_ready_are_as_bad() {
    let pool = TestPool::start_with(SLOTS, "dies_young", |_, _| {});
    // The first time it could have been anything: each slot starts another one at once.
    let reason = "exited with code 7 before it had finished anything: lost the database";
    backs_off_and_heals(pool, reason, 2 * u64::from(SLOTS)).await;
}

/// `at_once`: how many starts cost nothing but their own time.
async fn backs_off_and_heals(pool: TestPool, expected: &str, at_once: u64) {
    let began = Instant::now();
    pool.until("the pool is degraded", |pool| pool.pool.readiness == Readiness::Degraded).await;
    let refusal = pool.try_call(call("echo"), &[json!(1)]).await.unwrap_err();
    let CallError::Degraded { reason, started: false, .. } = &refusal else { panic!("{refusal}") };
    assert!(reason.ends_with(expected), "{reason}");
    tokio::time::sleep(LOOKED_AT.saturating_sub(began.elapsed())).await;
    let spawns = Accounts::of(&pool.accounts.workers_started);
    assert!(spawns < at_once + 10, "{spawns} starts");
    assert_eq!(pool.snapshot().await.pool.readiness, Readiness::Degraded, "it does not change its mind all the time");
    std::fs::write(pool.file("healed"), b"").unwrap();
    pool.all_are_ready().await;
    pool.assert_whole_again().await;
}
