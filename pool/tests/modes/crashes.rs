//! A worker dies: of a signal, of its own exit, in the middle of a frame, of too much memory, of the same item again.

use std::num::NonZeroU32;

use procpool_pool::{ItemFailure, WorkerExit};
use procpool_test_workers::Marker;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::support::{Accounts, TestPool, call, star_call};

/// F1: only the item that ran fails. What was behind it in its chunk runs elsewhere, and other calls notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn f1_a_sigkill_takes_one_item() {
    let pool = TestPool::start(2, "well_behaved").await;
    let [began, never, there] = ["began", "never", "there"].map(|name| pool.file(name));
    std::fs::write(&there, b"").unwrap();
    let mut items = vec![json!([began, never])];
    items.extend((1..6).map(|item| json!([pool.file(&format!("item-{item}")), there])));
    let others: Vec<Value> = (0..500).map(Value::from).collect();
    let victim = async {
        let marker = Marker::new(pool.directory.path(), "began");
        tokio::task::spawn_blocking(move || marker.wait()).await.unwrap();
        // The other slot may be busy with the other call.
        let pid = pool.until("the item runs", |pool| running(pool, "touch_and_wait").is_some()).await;
        let pid = running(&pid, "touch_and_wait").unwrap();
        rustix::process::kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    };
    let (outcome, other, ()) =
        tokio::join!(pool.call(star_call("touch_and_wait", 6), &items), pool.map("echo", &others), victim);
    let (index, failure) = outcome.only_failure();
    assert_eq!(index, 0);
    assert!(matches!(failure, ItemFailure::WorkerCrashed { exit: WorkerExit::Signal(9), attempt: 1, .. }), "{failure}");
    assert_eq!((other.results, other.errors.len()), (others, 0));
    assert_eq!(Accounts::of(&pool.accounts.workers_lost), 1);
    pool.assert_whole_again().await;
}

fn running(pool: &procpool_pool::PoolSnapshot, function: &str) -> Option<u32> {
    pool.workers.iter().find(|worker| worker.function == function).map(|worker| worker.pid)
}

/// F2 is told apart from other kills where the kernel kills (`pool/tests/supervisor/memory.rs`); here our own monitor is
/// first, and says how much the worker held.
#[tokio::test(flavor = "multi_thread")]
async fn f2_a_worker_that_takes_too_much_memory_is_killed_for_that() {
    const LIMIT: u64 = 64 << 20;
    let pool = TestPool::start_with(2, "leaks_memory", |_, spawn| spawn.memory.hard_bytes = Some(LIMIT));
    pool.all_are_ready().await;
    let outcome = pool.map("leak_and_wait", &[json!(100 << 20)]).await;
    let (_, failure) = outcome.only_failure();
    let ItemFailure::WorkerCrashed { exit: WorkerExit::MemoryLimit { rss_bytes, limit_bytes }, .. } = failure else {
        panic!("{failure}")
    };
    assert!(*rss_bytes > LIMIT && *limit_bytes == LIMIT);
    pool.assert_whole_again().await;
}

/// F3: an exit is a crash, with code 0 as well.
#[tokio::test(flavor = "multi_thread")]
async fn f3_every_way_to_die_takes_one_item_and_is_told() {
    let pool = TestPool::start(2, "well_behaved").await;
    let ways = [
        ("crash", json!(0), WorkerExit::Signal(9)),
        ("segfault", json!(0), WorkerExit::Signal(11)),
        ("abort", json!(0), WorkerExit::Signal(6)),
        ("exit_zero", json!(0), WorkerExit::Code(0)),
        ("exit", json!(7), WorkerExit::Code(7)),
    ];
    let num_ways = u32::try_from(ways.len()).unwrap();
    for (function, item, expected) in ways {
        let outcome = pool.map(function, &[item]).await;
        let (_, failure) = outcome.only_failure();
        let ItemFailure::WorkerCrashed { exit, .. } = failure else { panic!("{function}: {failure}") };
        assert_eq!(*exit, expected, "{function}");
    }
    assert_eq!(Accounts::of(&pool.accounts.workers_lost), u64::from(num_ways));
    pool.assert_whole_again().await;
}

/// F12: an item that kills its workers is given up after three, and it alone is blamed.
#[tokio::test(flavor = "multi_thread")]
async fn f12_a_poison_item_kills_three_workers_and_no_more() {
    let pool = TestPool::start(2, "well_behaved").await;
    let mut items = vec![json!(false); 30];
    items[12] = json!(true);
    let mut call = call("crash_if");
    call.options.max_attempts = NonZeroU32::new(10);
    call.options.chunk_size = NonZeroU32::new(5);
    let outcome = pool.call(call, &items).await;
    let (index, failure) = outcome.only_failure();
    assert_eq!(index, 12);
    assert!(matches!(failure, ItemFailure::CrashLimit { attempts: 3, .. }), "{failure}");
    assert_eq!(Accounts::of(&pool.accounts.workers_lost), 3);
    pool.assert_whole_again().await;
}

/// F24: half a frame is never a result.
#[tokio::test(flavor = "multi_thread")]
async fn f24_a_torn_frame_is_no_result() {
    let pool = TestPool::start_with_one_bad(2, "half_frame").await;
    let items: Vec<Value> = (0..20).map(Value::from).collect();
    let mut call = call("echo");
    call.options.chunk_size = NonZeroU32::new(1);
    let outcome = pool.call(call, &items).await;
    let (_, failure) = outcome.only_failure();
    assert!(matches!(failure, ItemFailure::WorkerCrashed { exit: WorkerExit::Code(0), .. }), "{failure}");
    assert_eq!(outcome.results.iter().zip(&items).filter(|(result, item)| result == item).count(), 19);
    pool.assert_whole_again().await;
}
