//! Workers that do not start: the pool backs off, says so, stays up, and heals.

use std::time::Duration;

use procpool_pool::{CallError, PoolState};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Accounts, TestPool, call, shell};

/// The promise is about these seconds.
const LOOKED_AT: Duration = Duration::from_secs(6);

/// F10: the pool is degraded, does not spin, refuses with the reason, and is whole soon after the cause is gone.
#[tokio::test(flavor = "multi_thread")]
async fn f10_workers_that_cannot_start_are_not_started_again_at_once() {
    let script = r#"test -e healed && exec "$0"; echo "no database" >&2; exit 3"#;
    let pool = TestPool::start_with(2, "well_behaved", |_, spawn| {
        (spawn.program, spawn.args) = shell(script, "well_behaved");
    });
    let began = Instant::now();
    pool.until("the pool is degraded", |pool| pool.pool.readiness == PoolState::Degraded).await;
    let refusal = pool.try_call(call("echo"), &[json!(1)]).await.unwrap_err();
    let CallError::Degraded { reason, started: false, .. } = &refusal else { panic!("{refusal}") };
    assert!(reason.contains("no database"), "{reason}");
    tokio::time::sleep(LOOKED_AT.saturating_sub(began.elapsed())).await;
    let spawns = Accounts::of(&pool.accounts.workers_started);
    let seconds = began.elapsed().as_secs();
    assert!(spawns <= 10 + seconds, "{spawns} starts in {seconds} s");
    std::fs::write(pool.file("healed"), b"").unwrap();
    let healed = Instant::now();
    pool.all_are_ready().await;
    // By then the next attempt may be far away.
    pool.assert_whole_again(healed, Duration::from_secs(30)).await;
}
