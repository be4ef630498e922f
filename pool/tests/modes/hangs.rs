//! A worker does not go on: its item hangs, it is stopped, it is deaf, it has closed its channel, it answers too late.

use std::time::Duration;

use procpool_pool::{ItemFailure, PoolSnapshot};
use procpool_test_workers::Marker;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Accounts, GRACE, PATIENCE, TestPool, call, star_call};

/// How long an item may take here.
const LIMIT: Duration = Duration::from_millis(500);
async fn time_out(pool: &TestPool, function: &str) {
    let mut call = call(function);
    call.options.item_timeout = Some(LIMIT);
    let outcome = pool.call(call, &[json!(0)]).await;
    let (_, failure) = outcome.only_failure();
    assert!(matches!(failure, ItemFailure::ItemTimeout { limit: LIMIT, attempt: 1, .. }), "{failure}");
}

/// F4: what hangs is cut at the limit.
#[tokio::test(flavor = "multi_thread")]
async fn f4_an_item_that_hangs_is_cut() {
    let pool = TestPool::start(2, "well_behaved").await;
    let began = Instant::now();
    time_out(&pool, "hang").await;
    assert!(began.elapsed() >= LIMIT);
    pool.assert_whole_again().await;
}

/// F4: nor does what a stopped worker was handed, and has not begun, wait for ever. It runs there or elsewhere, and nothing
/// fails.
#[tokio::test(flavor = "multi_thread")]
async fn f4_a_worker_that_was_stopped_while_idle_is_found() {
    for limit in [None, Some(LIMIT)] {
        let pool = TestPool::start(1, "well_behaved").await;
        stop(pool.snapshot().await.workers[0].pid);
        let items: Vec<Value> = (0..20).map(Value::from).collect();
        let mut echo = call("echo");
        echo.options.item_timeout = limit;
        let outcome = pool.call(echo, &items).await;
        assert_eq!((outcome.results, outcome.errors.len()), (items, 0));
        pool.assert_whole_again().await;
    }
}

/// F4: a worker that is stopped within an item is not one that is slow: it is made to go on, though nothing limits the
/// item's time.
#[tokio::test(flavor = "multi_thread")]
async fn f4_a_worker_that_is_stopped_within_an_item_goes_on() {
    let pool = TestPool::start(1, "well_behaved").await;
    let (began, release) = (pool.file("began"), pool.file("release"));
    let items = [json!([began, release])];
    let (outcome, ()) = tokio::join!(pool.call(star_call("touch_and_wait", 1), &items), async {
        let marker = Marker::new(pool.directory.path(), "began");
        tokio::task::spawn_blocking(move || marker.wait()).await.unwrap();
        stop(pool.busy_worker().await);
        std::fs::write(&release, b"").unwrap();
    });
    assert_eq!(outcome.errors.len(), 0);
    assert_eq!(Accounts::of(&pool.accounts.workers_started), 1, "the worker lives on");
    pool.assert_whole_again().await;
}

fn stop(worker: u32) {
    rustix::process::kill_process(Pid::from_raw(i32::try_from(worker).unwrap()).unwrap(), Signal::STOP).unwrap();
    // The signal's sender goes on before all of its threads stand.
    let stands = |thread: std::fs::DirEntry| {
        std::fs::read_to_string(thread.path().join("stat")).unwrap().rsplit_once(") ").unwrap().1.starts_with('T')
    };
    let began = Instant::now();
    while !std::fs::read_dir(format!("/proc/{worker}/task")).unwrap().all(|thread| stands(thread.unwrap())) {
        assert!(began.elapsed() < PATIENCE, "it does not stand still");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// F4: a worker that is stopped takes no signal but SIGKILL.
#[tokio::test(flavor = "multi_thread")]
async fn f4_a_worker_that_is_stopped_is_cut() {
    let pool = TestPool::start(2, "well_behaved").await;
    let stop = async {
        stop(pool.busy_worker().await);
    };
    tokio::join!(time_out(&pool, "hang"), stop);
    pool.assert_whole_again().await;
}

/// F5: who ignores SIGTERM gets SIGKILL after the grace period.
#[tokio::test(flavor = "multi_thread")]
async fn f5_a_worker_that_ignores_sigterm_is_killed() {
    let pool = TestPool::start(2, "ignores_sigterm").await;
    let began = Instant::now();
    time_out(&pool, "hang").await;
    let has_new_worker = |snapshot: &PoolSnapshot| snapshot.pool.workers_started_total == 3;
    pool.until("the worker is replaced", has_new_worker).await;
    assert!(began.elapsed() >= LIMIT + 2 * GRACE, "it had both grace periods");
    pool.assert_whole_again().await;
}

/// F7: without its channel a worker is of no use, and is killed though it lives.
#[tokio::test(flavor = "multi_thread")]
async fn f7_a_worker_that_closes_its_channel_is_killed() {
    let pool = TestPool::start_with_one_bad(2, "closes_channel").await;
    let items: Vec<Value> = (0..20).map(Value::from).collect();
    let outcome = pool.call(one_at_a_time("echo"), &items).await;
    let (_, failure) = outcome.only_failure();
    assert!(matches!(failure, ItemFailure::WorkerProtocol { .. }), "{failure}");
    pool.assert_whole_again().await;
}

/// F22: the late answer of an item that was given up reaches nobody, and its worker goes on.
#[tokio::test(flavor = "multi_thread")]
async fn f22_a_late_answer_is_nobodys() {
    let pool = TestPool::start_with(1, "well_behaved", |config, _| {
        config.cancel_grace_period = Duration::from_secs(60);
    });
    pool.all_are_ready().await;
    let (began, release) = (pool.file("began"), pool.file("release"));
    let mut late = star_call("touch_and_wait", 1);
    late.options.item_timeout = Some(LIMIT);
    let outcome = pool.call(late, &[json!([began, release])]).await;
    assert!(matches!(outcome.only_failure().1, ItemFailure::ItemTimeout { .. }));
    // The next call waits for the same worker, whose item has still to end.
    let items: Vec<Value> = (0..50).map(Value::from).collect();
    let (next, ()) = tokio::join!(pool.map("echo", &items), async {
        pool.until("the next call waits", |pool| pool.pool.num_queued_items > 0).await;
        std::fs::write(&release, b"").unwrap();
    });
    assert_eq!((next.results, next.errors.len()), (items, 0));
    assert_eq!(Accounts::of(&pool.accounts.workers_started), 1, "it ended by itself, and was kept");
    pool.assert_whole_again().await;
}

/// All slots hang at once: the pool is of use again within the limit and the grace periods.
#[tokio::test(flavor = "multi_thread")]
async fn when_all_slots_hang_the_pool_recovers() {
    let pool = TestPool::start(3, "ignores_sigterm").await;
    tokio::join!(time_out(&pool, "hang"), time_out(&pool, "hang"), time_out(&pool, "hang"));
    pool.assert_whole_again().await;
}

fn one_at_a_time(function: &str) -> procpool_pool::Call {
    let mut call = call(function);
    call.options.chunk_size = std::num::NonZeroU32::new(1);
    call
}
